"""How PostgreSQL keeps the tables that change most: vacuumed by the rows that changed, not by the rows there are.

By default a table is vacuumed once a fifth of it has changed. The queues here are the thin end of tables that keep years:
with ten million old messages that would be two million dead rows, which every walk of a partial index over what waits,
is due or is ready must step over. Numbers of rows below are some seconds of work at 1,000 events/s.
"""

from __future__ import annotations

from collections.abc import Mapping

_QUEUE = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_cost_limit": "1000",  # five times the default: it must keep up with the sends
}
_FEW_ROWS = {  # changed at every fence: its one page must not become a thousand
    "fillfactor": "20",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "500",
}
STORAGE: Mapping[str, Mapping[str, str]] = {
    "inbox": _QUEUE,
    "outbox": _QUEUE | {"fillfactor": "85"},  # half a dozen changes each, most of them on the page it was born on
    "lane": _QUEUE | {"fillfactor": "70"},
    "attempt": _QUEUE | {"fillfactor": "90"},
    "write": _QUEUE | {"fillfactor": "85"},
    "resource": _QUEUE,
    "seen": {"autovacuum_vacuum_insert_scale_factor": "0.05", "autovacuum_analyze_scale_factor": "0.05"},
    "mark": {"autovacuum_vacuum_insert_scale_factor": "0.05"},
    "number": _FEW_ROWS,
}


def statements() -> list[str]:
    """What a migration executes on PostgreSQL."""
    return [
        f'ALTER TABLE "{table}" SET ({", ".join(f"{name} = {value}" for name, value in parameters.items())})'
        for table, parameters in STORAGE.items()
    ]
