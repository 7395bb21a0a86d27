"""Bringing a store's schema up to date: Alembic's migrations, the same for both stores, run only when something is missing."""

from __future__ import annotations

from sqlalchemy import inspect, text

from bridge.ledger import locks
from bridge.ledger.store import Store

HEAD = "0001"  # the newest file in migrations/versions


def current(store: Store) -> str | None:
    """The revision the store is at, None for an empty one."""
    with store.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(store: Store) -> None:
    """Upgrade to HEAD; nothing is imported or locked where the store is there already."""
    if store.dialect == "sqlite" and not store.readonly:
        with store.write():
            pass  # makes the file, so that a read can look into it
    if current(store) == HEAD:
        return
    from alembic import command  # late: a third of a second that most starts need not pay
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "bridge.ledger:migrations")
    config.set_main_option("path_separator", "os")
    with store.write() as connection:
        if store.dialect != "sqlite":  # an index over ten million rows takes its time, and another node's migration too
            connection.execute(text("SET LOCAL statement_timeout TO 0"))
            connection.execute(text("SET LOCAL lock_timeout TO 0"))
        locks.take(connection, locks.MIGRATION)  # of nodes that start together one migrates, the others find it done
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
