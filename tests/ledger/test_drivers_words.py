"""Statements in the driver's own words: lists, nothing in an empty one, and errors as SQLAlchemy would tell them."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from bridge.ledger.rows import insert_many, update_many
from bridge.ledger.tables import mark
from bridge.ledger.words import Words
from tests.ledger.kit import Ledger

ALL = Words("SELECT key, value, at FROM mark WHERE key IN :keys AND at >= :since ORDER BY key FOR UPDATE")


def rows(count: int) -> list[dict[str, object]]:
    return [{"key": f"k{n:03d}", "value": "v", "at": n} for n in range(count)]


def test_lists_of_every_length(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        insert_many(connection, mark, rows(70))
        for count in (0, 1, 2, 3, 5, 8, 33, 70):
            found = ALL.rows(connection, keys=[f"k{n:03d}" for n in range(count)], since=0)
            assert [row.at for row in found] == list(range(count))
        assert ALL.firsts(connection, keys=["k001", "k002"], since=2) == ["k002"]
        assert ALL.first(connection, keys=["none"], since=0) is None


def test_what_is_there_already_stays(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        insert_many(connection, mark, rows(2))
        insert_many(connection, mark, [row | {"value": "other"} for row in rows(3)], unless="key")
        update_many(
            connection, mark, "key", [{"key": "k001", "value": "new"}, {"key": "k002", "value": "new"}], where="at > 1"
        )
        values = Words("SELECT value FROM mark ORDER BY key").firsts(connection)
        assert values == ["v", "v", "new"]
        gone = Words("DELETE FROM mark WHERE key IN :keys")
        assert gone.run(connection, keys=["k000", "k002"]) == 2
        assert gone.run(connection, keys=[]) == 0


def test_errors_are_sqlalchemys(ledger: Ledger) -> None:
    with pytest.raises(IntegrityError) as told, ledger.store.write() as connection:
        insert_many(connection, mark, [*rows(1), *rows(1)])
    assert told.value.orig is not None
    assert "k000" not in str(told.value.statement)
    with pytest.raises(SQLAlchemyError) as wrong, ledger.store.write() as connection:
        Words("SELECT nothing FROM nowhere WHERE a = :a").rows(connection, a="secret")
    assert isinstance(wrong.value, ProgrammingError) or ledger.store.dialect == "sqlite"
    assert "secret" not in str(wrong.value)
    with ledger.store.write() as connection:  # and the store goes on
        insert_many(connection, mark, rows(1))


def test_a_read_is_one_snapshot(ledger: Ledger) -> None:
    with ledger.store.read() as connection:
        assert ALL.rows(connection, keys=["k000"], since=0) == []
        assert connection.in_transaction()
