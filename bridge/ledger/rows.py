"""Many rows in one statement: rows of the same columns share one, whatever order they come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite

from bridge.ledger.words import Words

Rows = Iterable[Mapping[str, Any]]

_quoted = sqlite.dialect().identifier_preparer.quote  # "offset", "until": PostgreSQL takes the same quotes
_made: dict[
    tuple[object, ...], Words
] = {}  # by table, key and columns: as many as there are shapes of rows in the code


def _by_shape(rows: Rows) -> list[tuple[tuple[str, ...], list[Mapping[str, Any]]]]:
    shapes: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        shapes.setdefault(tuple(row), []).append(row)
    return sorted(shapes.items(), key=lambda item: item[0])


def insert_many(
    connection: Connection, table: Table, rows: Rows, *, unless: str | tuple[str, ...] | None = None
) -> None:
    """INSERT; with `unless` a row whose value in that column (or those) is there already is left out."""
    for shape, alike in _by_shape(rows):
        words = _made.get((table.name, unless, shape))
        if words is None:
            columns, values = ", ".join(map(_quoted, shape)), ", ".join(f":{name}" for name in shape)
            text = f"INSERT INTO {_quoted(table.name)} ({columns}) VALUES ({values})"  # noqa: S608
            if unless is not None:
                text += f" ON CONFLICT ({', '.join([unless] if isinstance(unless, str) else unless)}) DO NOTHING"
            words = _made[(table.name, unless, shape)] = Words(text)
        words.many(connection, alike)


def update_many(connection: Connection, table: Table, key: str, rows: Rows, *, where: str = "TRUE") -> None:
    """UPDATE by one column, and only where a further condition holds; each row holds the key and the columns to set."""
    for shape, alike in _by_shape(rows):
        columns = [name for name in shape if name != key]
        if not columns:
            continue
        words = _made.get((table.name, key, shape, where))
        if words is None:
            changes = ", ".join(f"{_quoted(name)} = :{name}" for name in columns)
            text = f"UPDATE {_quoted(table.name)} SET {changes} WHERE {_quoted(key)} = :{key} AND {where}"  # noqa: S608
            words = _made[(table.name, key, shape, where)] = Words(text)
        words.many(connection, alike)
