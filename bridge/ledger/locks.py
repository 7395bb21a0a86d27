"""Advisory locks of PostgreSQL, by number: what no row stands for. Each ends with its transaction."""

from __future__ import annotations

from sqlalchemy import Connection, text

MIGRATION = 0x6272696467650001  # "bridge" and a count
BRAKE_COUNT = 0x6272696467650002  # who counts what may still be planned
BRAKE_GATE = 0x6272696467650003  # shared: adds campaign messages; alone: puts the brake on


def take(connection: Connection, key: int, *, shared: bool = False) -> None:
    """Wait for it; it is held until the transaction ends. SQLite's write transaction is every lock."""
    if connection.dialect.name == "sqlite":
        return
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    connection.execute(text(f"SELECT {function}(:key)"), {"key": key})
