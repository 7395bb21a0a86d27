"""Scale-out on PostgreSQL: roles in several processes, hosts in network namespaces, failover, and cost as rows and nodes grow."""
