"""Lanes: order lock, recipient rate, lease and ready-queue in one row.

Only `ready` messages queue. To wake or free a lane its row is locked, then a *second* statement reads the earliest
ready row and sets `next_at`: a subquery in the same UPDATE would lose wake-ups under READ COMMITTED.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, func, select, text, update

from bridge.ledger.clock import SECOND, Ids
from bridge.ledger.states import URGENT
from bridge.ledger.tables import lane, outbox

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

LEASE = 60 * SECOND
DOUBT_BLOCKS = 60 * SECOND  # a doubt holds its lane's less urgent news back this long, never longer
PAIR_INTERVAL = 6 * SECOND  # Meta: one message per 6 s to one user (whatsapp.md §4)
PAIR_BURST = 10  # free text inside an open window; templates get 1
HORIZON = 600 * SECOND  # a stored free_at further ahead than this was written by a broken clock


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lane this node holds until `lease_until`."""

    id: int
    key: str
    number: str
    cls: int
    epoch: int
    free_at: int


def upsert(dialect: str) -> type[sqlite.Insert] | type[postgresql.Insert]:
    """The dialect's INSERT with ON CONFLICT; the other store's is not even imported."""
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.Insert
    from sqlalchemy.dialects import postgresql

    return postgresql.Insert


def ensure(connection: Connection, ids: Ids, kind: str, keys: Iterable[tuple[str, str | None]]) -> dict[str, int]:
    """Lane ids of (key, number) pairs, made where missing."""
    wanted = dict(keys)
    if not wanted:
        return {}
    known = _known(connection, kind, wanted)
    missing = sorted(set(wanted) - set(known))
    if missing:
        statement = upsert(connection.dialect.name)(lane).on_conflict_do_nothing(index_elements=["kind", "key"])
        connection.execute(
            statement, [{"id": ids(), "kind": kind, "key": key, "number": wanted[key]} for key in missing]
        )
        known |= _known(connection, kind, missing)
    return known


def _known(connection: Connection, kind: str, keys: Iterable[str]) -> dict[str, int]:
    rows = connection.execute(select(lane.c.key, lane.c.id).where(lane.c.kind == kind, lane.c.key.in_(list(keys))))
    return {row[0]: row[1] for row in rows}


def lock(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Row locks in id order (PostgreSQL); SQLite's write transaction is the lock."""
    if connection.dialect.name != "sqlite" and lane_ids:
        connection.execute(select(lane.c.id).where(lane.c.id.in_(lane_ids)).order_by(lane.c.id).with_for_update())


def wake(connection: Connection, lane_ids: Iterable[int], now: int) -> None:
    """Set each lane's next time from what is ready in it. Its lease, if somebody holds one, stays.

    A lane with a message in `sending` stays due: while its holder lives the lease keeps others away, and when the holder
    is dead it must be claimed again for that message to become a doubt, whether or not anything else is ready.
    """
    ids = sorted(set(lane_ids))
    if not ids:
        return
    lock(connection, ids)
    ready = most_urgent(connection, ids, ("ready",))
    sending = most_urgent(connection, ids, ("sending",))
    doubts = {
        row[0]: row[1]
        for row in connection.execute(
            select(outbox.c.lane_id, func.max(outbox.c.changed_at))
            .where(outbox.c.lane_id.in_(ids), outbox.c.state == "doubt", outbox.c.changed_at > now - DOUBT_BLOCKS)
            .group_by(outbox.c.lane_id)
        )
    }
    changes = []
    for lane_id in ids:
        cls = ready.get(lane_id)
        next_at: int | None = now if cls is not None else None
        if cls is not None and cls > URGENT and lane_id in doubts:
            next_at = min(doubts[lane_id], now) + DOUBT_BLOCKS
        if lane_id in sending:
            cls, next_at = min(sending[lane_id], cls if cls is not None else sending[lane_id]), now
        changes.append({"l": lane_id, "c": cls, "n": next_at})
    values: dict[str, object] = {"cls": bindparam("c"), "next_at": bindparam("n")}
    connection.execute(update(lane).where(lane.c.id == bindparam("l")).values(values), changes)


def most_urgent(connection: Connection, lane_ids: Sequence[int], states: Sequence[str]) -> dict[int, int]:
    """The most urgent class of each lane's messages in these states; lanes without any are left out."""
    rows = connection.execute(
        select(outbox.c.lane_id, func.min(outbox.c.cls))
        .where(outbox.c.lane_id.in_(lane_ids), outbox.c.state.in_(states))
        .group_by(outbox.c.lane_id)
    )
    return {row[0]: row[1] for row in rows}


def release(connection: Connection, node: str, epochs: Mapping[int, int], now: int) -> None:
    """Give leases back and look what is next. Lane id -> the epoch it was claimed with: a lane that somebody has taken
    over since is not ours to free."""
    if epochs:
        lock(connection, sorted(epochs))
        connection.execute(
            update(lane)
            .where(lane.c.id == bindparam("l"), lane.c.owner == node, lane.c.epoch == bindparam("e"))
            .values(owner=None, lease_until=0),
            [{"l": lane_id, "e": epoch} for lane_id, epoch in sorted(epochs.items())],
        )
        wake(connection, epochs, now)


def claim(connection: Connection, node: str, now: int, room: Mapping[str, int]) -> list[Claimed]:
    """Take due lanes, most urgent class first; a dead owner's lease is taken over when it has run out.

    Args:
        room: our number (config key) -> how many of its messages may get a slot now. Lanes of a number without room are
            left alone: fifty thousand reminders must not be claimed and put back all the time.
    """
    skip = "" if connection.dialect.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
    names = sorted(name for name, free in room.items() if free > 0)
    if not names:
        return []
    ours = ", ".join(f":n{i}" for i in range(len(names)))
    rows = connection.execute(
        text(
            "UPDATE lane SET owner = :node, epoch = epoch + 1, lease_until = :until WHERE id IN ("  # noqa: S608
            "SELECT id FROM lane WHERE kind = 'conversation' AND next_at <= :now AND lease_until <= :now "
            f"AND number IN ({ours}) "
            f"ORDER BY cls, next_at LIMIT :limit{skip}) "
            "RETURNING id, key, number, cls, epoch, free_at"
        ),
        {"node": node, "until": now + LEASE, "now": now, "limit": sum(room[name] for name in names)}
        | {f"n{i}": name for i, name in enumerate(names)},
    )
    lanes = [
        Claimed(row[0], row[1], row[2], row[3] if row[3] is not None else 9, row[4], min(row[5], now + HORIZON))
        for row in rows
    ]
    return sorted(lanes, key=lambda claimed: (claimed.cls, claimed.id))


def defer(connection: Connection, node: str, until: Mapping[tuple[int, int], int]) -> None:
    """Give claimed lanes back to be looked at again at a machine time: (lane id, epoch) -> when."""
    if until:
        connection.execute(
            update(lane)
            .where(lane.c.id == bindparam("l"), lane.c.owner == node, lane.c.epoch == bindparam("e"))
            .values(owner=None, lease_until=0, next_at=bindparam("n")),
            [{"l": lane_id, "e": epoch, "n": at} for (lane_id, epoch), at in sorted(until.items())],
        )


def doubted(connection: Connection, lane_ids: Sequence[int], now: int) -> set[int]:
    """Lanes whose less urgent messages wait because the outcome of one is unknown."""
    return set(
        connection.execute(
            select(outbox.c.lane_id).where(
                outbox.c.lane_id.in_(lane_ids), outbox.c.state == "doubt", outbox.c.changed_at > now - DOUBT_BLOCKS
            )
        ).scalars()
    )


def forget_node(connection: Connection, node: str, *, keep: Collection[int] = ()) -> int:
    """Leases of an earlier life of this node end at once, or those that it holds without knowing: all but `keep`."""
    held = connection.execute(select(lane.c.id).where(lane.c.owner == node).order_by(lane.c.id)).scalars()
    gone = [lane_id for lane_id in held if lane_id not in keep]
    for start in range(0, len(gone), 500):
        connection.execute(
            update(lane)
            .where(lane.c.id.in_(gone[start : start + 500]), lane.c.owner == node)
            .values(owner=None, lease_until=0)
        )
    return len(gone)


def pair_slot(free_at: int, now: int, *, burst: int) -> int:
    """When the recipient may get the next message: GCRA, `free_at` is the theoretical arrival time."""
    return max(now, min(free_at, now + HORIZON) - (burst - 1) * PAIR_INTERVAL)


def pair_spend(free_at: int, slot: int) -> int:
    return max(free_at, slot) + PAIR_INTERVAL
