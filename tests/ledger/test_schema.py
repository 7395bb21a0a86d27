"""The migrations make exactly what `tables.py` says, on both stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bridge.ledger.schema import HEAD, current, migrate
from bridge.ledger.storage import STORAGE
from bridge.ledger.store import Store
from bridge.ledger.tables import metadata
from tests.ledger.kit import Ledger
from tests.stores import store_url


def test_tables_and_migrations_say_the_same(ledger: Ledger) -> None:
    with ledger.store.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": ledger.store.dialect != "sqlite"}
        )
        assert compare_metadata(context, metadata) == []


def test_a_column_left_out_would_show(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        connection.execute(text("ALTER TABLE mark DROP COLUMN amount"))
    with ledger.store.read() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    assert [change[0] for change in found] == ["add_column"]


def test_migrating_twice_changes_nothing(kind: str, tmp_path: Path) -> None:
    store = Store(store_url(kind, tmp_path))
    with store.write():
        pass
    assert current(store) is None
    migrate(store)
    migrate(store)
    assert current(store) == HEAD
    store.close()


def test_partial_indexes_are_there(ledger: Ledger) -> None:
    """Autogenerate does not compare an index's WHERE; without it the waiting rows are found by scanning all."""
    asked = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if ledger.store.dialect == "sqlite"
        else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    )
    with ledger.store.read() as connection:
        found = {row[0]: row[1] for row in connection.execute(text(asked))}
    partial = {
        index.name
        for table in metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["postgresql"]["where"] is not None
    }
    assert len(partial) > 5
    assert {name for name in partial if " where " not in found[str(name)].lower()} == set()


def test_a_reader_cannot_write(ledger: Ledger) -> None:
    reader = ledger.open(readonly=True)
    if reader.dialect != "sqlite":
        pytest.skip("on PostgreSQL the role's rights say so")
    with reader.read() as connection, pytest.raises(DBAPIError):
        connection.execute(text("DELETE FROM audit"))


def test_hot_tables_are_vacuumed_by_what_changed(tmp_path: Path) -> None:
    """With the defaults a fifth of a table must change first: two million dead rows in front of ten that are due."""
    store = Store(store_url("postgresql", tmp_path))
    migrate(store)
    with store.read() as connection:
        rows = connection.execute(text("SELECT relname, reloptions FROM pg_class WHERE relkind = 'r'")).all()
        found = {row[0]: set(row[1] or ()) for row in rows}
    store.close()
    for table, parameters in STORAGE.items():
        assert found[table] == {f"{name}={value}" for name, value in parameters.items()}


def test_several_nodes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    stores = [Store(url) for url in [store_url("postgresql", tmp_path)] * 3]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(migrate, stores))
    assert [current(store) for store in stores] == [HEAD] * 3
    for store in stores:
        store.close()


def test_a_connection_lets_go_when_the_other_side_is_gone(tmp_path: Path) -> None:
    """Settings of each session, read back from the server; a verb that only looks may take its time."""
    url = store_url("postgresql", tmp_path)
    for readonly, statement in ((False, "1min"), (True, "0")):
        store = Store(url, readonly=readonly)
        with store.read() as connection:
            shown = {
                name: connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout", "jit")
            }
        store.close()
        assert shown == {
            "idle_in_transaction_session_timeout": "10s", "lock_timeout": "10s", "statement_timeout": statement,
            "jit": "off",
        }  # fmt: skip
