"""No stored machine time reaches further ahead than anything of ours writes it: what a broken clock wrote is brought back.

A database that failed over to a machine an hour behind, or a step of the system clock between two starts, would else leave
lanes leased, numbers paused and rows waiting for that hour. Brought back once, it counts down from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, select, update

from bridge.ledger.clock import SECOND
from bridge.ledger.store import Store
from bridge.ledger.tables import inbox, lane, number, outbox, write

RATE = 2 * SECOND
LEASE = 60 * SECOND
WRITE_LEASE = 120 * SECOND
BACKOFF = 600 * SECOND
MANY = 500  # rows of one statement


@dataclass(frozen=True, slots=True)
class _Horizon:
    table: Table
    column: Column[Any]
    reach: int  # µs
    live: ColumnElement[bool] | None = None  # of other rows the time no longer matters

    def where(self, now: int) -> ColumnElement[bool]:
        far = self.column > now + self.reach
        return far if self.live is None else far & self.live


HORIZONS = (
    _Horizon(lane, lane.c.lease_until, LEASE),
    _Horizon(lane, lane.c.next_at, BACKOFF),
    _Horizon(lane, lane.c.free_at, BACKOFF),
    _Horizon(number, number.c.free_at, RATE),
    _Horizon(number, number.c.paused_until, BACKOFF),
    _Horizon(inbox, inbox.c.next_try, BACKOFF, inbox.c.fate.is_(None)),
    _Horizon(outbox, outbox.c.retry_at, BACKOFF, outbox.c.state == "planned"),
    _Horizon(write, write.c.next_at, BACKOFF, write.c.state.in_(("asked", "sending"))),
    _Horizon(write, write.c.lease_until, WRITE_LEASE, write.c.state == "sending"),
)


def clamp(store: Store) -> int:
    """Bring back what reaches too far; returns how many times it did. Looks without a lock, and writes only if it must."""
    done = 0
    for horizon in HORIZONS:
        key = next(iter(horizon.table.primary_key))
        with store.read() as connection:
            wanted = select(key).where(horizon.where(store.now(connection))).order_by(key).limit(MANY)
            rows = connection.execute(wanted).scalars().all()
        if not rows:
            continue
        with store.write() as connection:
            now = store.now(connection)
            done += connection.execute(
                update(horizon.table)
                .where(key.in_(rows), horizon.where(now))
                .values({horizon.column.name: now + horizon.reach})
            ).rowcount
    return done
