"""Which nodes live, as rows of `mark` that each of them renews: `node:<name>` -> its roles, at machine time.

Nothing is decided by it that a transaction does not check again: it shares work out, so that two nodes seldom reach for
the same rows, and it tells people who is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, text

from bridge.ledger import lanes
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import mark

BEAT = 2.0  # seconds between two signs of life
GONE = 7 * SECOND  # a node not heard of for so long has no share any more
FORGOTTEN = 24 * 3600 * SECOND  # its row goes
PREFIX = "node:"


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    roles: frozenset[str]
    at: int  # machine


def beat(connection: Connection, name: str, roles: Collection[str], now: int) -> None:
    """This node lives and fills these roles."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SET LOCAL synchronous_commit TO off"))  # the next one comes in a moment
    statement = lanes.upsert(connection.dialect.name)(mark).values(
        key=PREFIX + name, value=",".join(sorted(roles)), at=now
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["key"], set_={"value": statement.excluded.value, "at": statement.excluded.at}
        )
    )


def alive(connection: Connection, now: int) -> list[Node]:
    """Nodes heard of lately, by name: every node sees them in the same order."""
    rows = connection.execute(
        select(mark.c.key, mark.c.value, mark.c.at).where(mark.c.key.startswith(PREFIX), mark.c.at > now - GONE)
    )
    found = [Node(row.key.removeprefix(PREFIX), frozenset(row.value.split(",")) - {""}, row.at) for row in rows]
    return sorted(found, key=lambda node: node.name)


def forget(connection: Connection, name: str) -> None:
    """It said goodbye: its share is free at once."""
    connection.execute(delete(mark).where(mark.c.key == PREFIX + name))


def forget_old(connection: Connection, now: int) -> None:
    """Names that never come back: containers get a new one each time."""
    connection.execute(delete(mark).where(mark.c.key.startswith(PREFIX), mark.c.at < now - FORGOTTEN))
