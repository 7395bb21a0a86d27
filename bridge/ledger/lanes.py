"""Lanes: order lock, recipient rate, lease and ready-queue in one row.

Only `ready` messages queue. To wake or free a lane its row is locked, then a *second* statement reads the earliest
ready row and sets `next_at`: a subquery in the same UPDATE would lose wake-ups under READ COMMITTED.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from bridge.ledger.clock import SECOND, Ids
from bridge.ledger.states import URGENT
from bridge.ledger.tables import lane
from bridge.ledger.words import Words

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

LEASE = 60 * SECOND
DOUBT_BLOCKS = 60 * SECOND  # a doubt holds its lane's less urgent news back this long, never longer
PAIR_INTERVAL = 6 * SECOND  # Meta: one message per 6 s to one user (whatsapp.md §4)
PAIR_BURST = 10  # free text inside an open window; templates get 1
_KNOWN = Words("SELECT key, id FROM lane WHERE kind = :kind AND key IN :keys")
_NEW = Words(
    "INSERT INTO lane (id, kind, key, number) VALUES (:id, :kind, :key, :number) ON CONFLICT (kind, key) DO NOTHING"
)
_LOCK = Words("SELECT id FROM lane WHERE id IN :lanes ORDER BY id FOR UPDATE")
_IN_LANES = Words(
    "SELECT lane_id, state, min(cls) AS cls, max(changed_at) AS newest FROM outbox "
    "WHERE lane_id IN :lanes AND state IN ('ready','sending','doubt') GROUP BY lane_id, state"
)
_READY = Words(
    "SELECT lane_id, min(cls) AS cls FROM outbox WHERE lane_id IN :lanes AND state = 'ready' GROUP BY lane_id"
)
_WAKE = Words("UPDATE lane SET cls = :cls, next_at = :next WHERE id = :lane")
_RELEASE = Words("UPDATE lane SET owner = NULL, lease_until = 0 WHERE id = :lane AND owner = :node AND epoch = :epoch")
_CLAIM = Words(
    "UPDATE lane SET owner = :node, epoch = epoch + 1, lease_until = :until WHERE id IN ("
    "SELECT id FROM lane WHERE kind = 'conversation' AND next_at <= :now AND lease_until <= :now AND number IN :numbers "
    "ORDER BY cls, next_at LIMIT :most FOR UPDATE SKIP LOCKED) RETURNING id, key, number, cls, epoch, free_at"
)
_DEFER = Words(
    "UPDATE lane SET owner = NULL, lease_until = 0, next_at = :next WHERE id = :lane AND owner = :node AND epoch = :epoch"
)
_DOUBTED = Words("SELECT lane_id FROM outbox WHERE lane_id IN :lanes AND state = 'doubt' AND changed_at > :since")

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
    known = dict(_KNOWN.rows(connection, kind=kind, keys=list(wanted)))
    missing = sorted(set(wanted) - set(known))
    if missing:
        _NEW.many(connection, [{"id": ids(), "kind": kind, "key": key, "number": wanted[key]} for key in missing])
        known |= dict(_KNOWN.rows(connection, kind=kind, keys=missing))
    return known


def lock(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Row locks in id order (PostgreSQL); SQLite's write transaction is the lock."""
    if connection.dialect.name != "sqlite" and lane_ids:
        _LOCK.run(connection, lanes=list(lane_ids))


def wake(connection: Connection, lane_ids: Iterable[int], now: int) -> None:
    """Set each lane's next time from what is ready in it. Its lease, if somebody holds one, stays.

    A lane with a message in `sending` stays due: while its holder lives the lease keeps others away, and when the holder
    is dead it must be claimed again for that message to become a doubt, whether or not anything else is ready.
    """
    ids = sorted(set(lane_ids))
    if not ids:
        return
    lock(connection, ids)
    found = {(row.lane_id, row.state): row for row in _IN_LANES.rows(connection, lanes=ids)}
    changes = []
    for lane_id in ids:
        ready, sending, doubt = (found.get((lane_id, state)) for state in ("ready", "sending", "doubt"))
        cls = ready.cls if ready is not None else None
        next_at: int | None = now if cls is not None else None
        if cls is not None and cls > URGENT and doubt is not None and doubt.newest > now - DOUBT_BLOCKS:
            next_at = min(doubt.newest, now) + DOUBT_BLOCKS
        if sending is not None:
            cls, next_at = min(sending.cls, cls if cls is not None else sending.cls), now
        changes.append({"lane": lane_id, "cls": cls, "next": next_at})
    _WAKE.many(connection, changes)


def most_urgent_ready(connection: Connection, lane_ids: Sequence[int]) -> dict[int, int]:
    """The most urgent class of each lane's ready messages; lanes without any are left out."""
    return dict(_READY.rows(connection, lanes=list(lane_ids)))


def release(connection: Connection, node: str, epochs: Mapping[int, int], now: int) -> None:
    """Give leases back and look what is next. Lane id -> the epoch it was claimed with: a lane that somebody has taken
    over since is not ours to free."""
    if epochs:
        lock(connection, sorted(epochs))
        _RELEASE.many(
            connection, [{"lane": lane_id, "epoch": epoch, "node": node} for lane_id, epoch in sorted(epochs.items())]
        )
        wake(connection, epochs, now)


def claim(connection: Connection, node: str, now: int, room: Mapping[str, int]) -> list[Claimed]:
    """Take due lanes, most urgent class first; a dead owner's lease is taken over when it has run out.

    Args:
        room: our number (config key) -> how many of its messages may get a slot now. Lanes of a number without room are
            left alone: fifty thousand reminders must not be claimed and put back all the time.
    """
    names = sorted(name for name, free in room.items() if free > 0)
    rows = _CLAIM.rows(
        connection, node=node, until=now + LEASE, now=now, numbers=names, most=sum(room[name] for name in names)
    )
    lanes = [
        Claimed(row[0], row[1], row[2], row[3] if row[3] is not None else 9, row[4], min(row[5], now + HORIZON))
        for row in rows
    ]
    return sorted(lanes, key=lambda claimed: (claimed.cls, claimed.id))


def defer(connection: Connection, node: str, until: Mapping[tuple[int, int], int]) -> None:
    """Give claimed lanes back to be looked at again at a machine time: (lane id, epoch) -> when."""
    _DEFER.many(
        connection,
        [{"lane": lane_id, "epoch": epoch, "node": node, "next": at} for (lane_id, epoch), at in sorted(until.items())],
    )


def doubted(connection: Connection, lane_ids: Sequence[int], now: int) -> set[int]:
    """Lanes whose less urgent messages wait because the outcome of one is unknown."""
    return set(_DOUBTED.firsts(connection, lanes=list(lane_ids), since=now - DOUBT_BLOCKS))


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
