"""Statements that run for every message or in every round, in the driver's own words.

A Core statement is built, hashed, bound and given a result of its own each time it runs: 60 to 200 us of CPU, where SQLite
itself needs 10. These are texts, made once for each store; what is read comes back as named tuples.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_NAME = re.compile(r"(\bIN )?(?<!:):([a-z_]+)\b")
_LOCK = re.compile(r"\s+FOR (?:UPDATE|SHARE)(?: OF [a-z]+)?(?: SKIP LOCKED)?")

Row = tuple[Any, ...]


class Words:
    """One statement. `:name` is a value; `IN :name` takes a list, and nothing is in an empty one.

    Locks (FOR UPDATE, FOR SHARE) are PostgreSQL's: SQLite's one write transaction is the lock.
    """

    def __init__(self, text: str) -> None:
        self._text = " ".join(text.split())
        self._made: dict[tuple[object, ...], tuple[str, tuple[str, ...]]] = {}
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def rows(self, connection: Connection, **values: Any) -> list[Any]:
        """What it selects or returns. Raises: SQLAlchemy's errors, as any other statement."""
        if any(type(value) is list and not value for value in values.values()):
            return []
        cursor = self._execute(connection, values)
        found = cursor.fetchall()
        if self._row is None:
            names = [column[0] for column in cursor.description]
            kind: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
            self._row = kind._make
        cursor.close()
        return list(map(self._row, found))

    def first(self, connection: Connection, **values: Any) -> Any:
        """The first row, or None."""
        found = self.rows(connection, **values)
        return found[0] if found else None

    def firsts(self, connection: Connection, **values: Any) -> list[Any]:
        """The first column."""
        if any(type(value) is list and not value for value in values.values()):
            return []
        cursor = self._execute(connection, values)
        found = [row[0] for row in cursor.fetchall()]
        cursor.close()
        return found

    def run(self, connection: Connection, **values: Any) -> int:
        """Change what it changes; returns how many rows."""
        if any(type(value) is list and not value for value in values.values()):
            return 0
        cursor = self._execute(connection, values)
        count = int(cursor.rowcount)
        cursor.close()
        return count

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Once for each row, in their order."""
        if not rows:
            return
        sqlite = connection.dialect.name == "sqlite"
        text, names = self._made.get((sqlite,)) or self._make((sqlite,), sqlite, {})
        raw = _raw(connection)
        cursor = raw.cursor()
        try:
            cursor.executemany(text, [tuple([row[name] for name in names]) for row in rows])
        except Exception as error:
            raise _told(connection, text, error) from error
        finally:
            cursor.close()

    def _execute(self, connection: Connection, values: dict[str, Any]) -> Any:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            lengths: tuple[object, ...] = tuple([_padded(len(v)) for v in values.values() if type(v) is list])
            shape = (sqlite, *lengths)
        else:
            shape = (sqlite,)
        text, names = self._made.get(shape) or self._make(shape, sqlite, values)
        parameters: list[Any] = []
        for name in names:
            value = values[name]
            if sqlite and type(value) is list:
                parameters += value
                parameters += [value[-1]] * (_padded(len(value)) - len(value))
            else:
                parameters.append(value)
        cursor = _raw(connection).cursor()
        try:
            cursor.execute(text, parameters)
        except Exception as error:
            cursor.close()
            raise _told(connection, text, error) from error
        return cursor

    def _make(self, shape: tuple[object, ...], sqlite: bool, values: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        names: list[str] = []

        def place(found: re.Match[str]) -> str:
            names.append(found[2])
            if not found[1]:
                return "?" if sqlite else "%s"
            if not sqlite:
                return "= ANY(%s)"
            return f"IN ({','.join('?' * _padded(len(values[found[2]])))})"

        text = _NAME.sub(place, _LOCK.sub("", self._text) if sqlite else self._text)
        self._made[shape] = text, tuple(names)
        return self._made[shape]


def _padded(length: int) -> int:
    """Lists are filled up to a power of two with their last value, so that a handful of texts serves all lengths."""
    return 1 << (length - 1).bit_length()


def _raw(connection: Connection) -> Any:
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.dbapi_connection


def _told(connection: Connection, text: str, error: Exception) -> BaseException:
    """The driver's error as SQLAlchemy would have raised it."""
    dialect = connection.dialect
    base = dialect.loaded_dbapi.Error
    if not isinstance(error, base):
        return error
    lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    told = DBAPIError.instance(
        text, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=dialect
    )
    if lost:
        connection.invalidate(error)
    return told
