"""Several processes and nodes on one PostgreSQL."""
