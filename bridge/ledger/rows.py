"""Many rows in one statement: rows of the same columns share one, whatever order they come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

from bridge.ledger.lanes import upsert

Rows = Iterable[Mapping[str, Any]]


def _by_shape(rows: Rows) -> list[tuple[tuple[str, ...], list[Mapping[str, Any]]]]:
    shapes: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        shapes.setdefault(tuple(row), []).append(row)
    return sorted(shapes.items(), key=lambda item: item[0])


def insert_many(connection: Connection, table: Table, rows: Rows, *, unless: str | None = None) -> None:
    """INSERT; with `unless` a row whose value in that column is there already is left out."""
    for _, alike in _by_shape(rows):
        statement = upsert(connection.dialect.name)(table)
        connection.execute(
            statement.on_conflict_do_nothing(index_elements=[unless]) if unless is not None else statement,
            [dict(row) for row in alike],
        )


def update_many(connection: Connection, table: Table, key: str, rows: Rows) -> None:
    """UPDATE by one column; each row holds the key and the columns to set."""
    for shape, alike in _by_shape(rows):
        columns = [name for name in shape if name != key]
        if columns:
            connection.execute(
                update(table)
                .where(table.c[key] == bindparam("k_"))
                .values({name: bindparam(f"v_{name}") for name in columns}),
                [{"k_": row[key], **{f"v_{name}": row[name] for name in columns}} for row in alike],
            )
