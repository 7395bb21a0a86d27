"""Which nodes live: a row of `lane` each (kind `node`), whose lease it renews; `owner` names its roles.

Nothing is decided by it that a transaction does not check again: it shares work out, so that two nodes seldom reach for
the same rows, and it tells people who is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, text

from bridge.ledger import lanes
from bridge.ledger.clock import SECOND, Ids
from bridge.ledger.tables import lane

KIND = "node"
BEAT = 2.0  # seconds between two signs of life
GONE = 7 * SECOND  # a node not heard of for so long has no share any more
FORGOTTEN = 24 * 3600 * SECOND  # its row goes


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    roles: frozenset[str]


def beat(connection: Connection, ids: Ids, name: str, roles: Collection[str], now: int) -> None:
    """This node lives and fills these roles."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SET LOCAL synchronous_commit TO off"))  # the next one comes in a moment
    statement = lanes.upsert(connection.dialect.name)(lane).values(
        id=ids(), kind=KIND, key=name, owner=",".join(sorted(roles)), lease_until=now + GONE
    )
    renewed = {"owner": statement.excluded.owner, "lease_until": statement.excluded.lease_until}
    connection.execute(statement.on_conflict_do_update(index_elements=["kind", "key"], set_=renewed))


def alive(connection: Connection, now: int) -> list[Node]:
    """Nodes heard of lately, by name: every node sees them in the same order."""
    rows = connection.execute(select(lane.c.key, lane.c.owner).where(lane.c.kind == KIND, lane.c.lease_until > now))
    found = [Node(row.key, frozenset((row.owner or "").split(",")) - {""}) for row in rows]
    return sorted(found, key=lambda node: node.name)


def forget(connection: Connection, name: str) -> None:
    """It said goodbye: its share is free at once."""
    connection.execute(delete(lane).where(lane.c.kind == KIND, lane.c.key == name))


def forget_old(connection: Connection, now: int) -> None:
    """Names that never come back: containers get a new one each time."""
    connection.execute(delete(lane).where(lane.c.kind == KIND, lane.c.lease_until < now - FORGOTTEN))
