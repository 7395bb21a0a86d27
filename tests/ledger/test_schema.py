"""The migrations make exactly what `tables.py` says, on both stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from bridge.ledger.schema import HEAD, current, migrate
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
