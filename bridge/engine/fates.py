"""The end of an event: written once, in the transaction that applied it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, bindparam, func, select, update

from bridge.ledger.tables import inbox


@dataclass(slots=True)
class Fate:
    event: int  # inbox.id
    fate: str  # states.EVENT_FATES
    reason: str | None = None
    planned: int | None = None
    subject: str | None = None  # key of the patient it is about: how `bridge why` finds what came to no message


def settle(connection: Connection, fates: Sequence[Fate], now: int) -> int:
    """Write fates; a row that has one keeps it."""
    if fates:
        connection.execute(
            update(inbox)
            .where(inbox.c.id == bindparam("b"), inbox.c.fate.is_(None))
            .values(
                fate=bindparam("f"),
                reason=bindparam("r"),
                planned=bindparam("p"),
                settled_at=now,
                next_try=None,
                subject=func.coalesce(bindparam("s", type_=Text), inbox.c.subject),
            ),
            [{"b": f.event, "f": f.fate, "r": f.reason, "p": f.planned, "s": f.subject} for f in fates],
        )
    return len(fates)


def unsettled(connection: Connection, events: Sequence[int]) -> set[int]:
    """Those that still have no fate, their rows locked: another node that applies the same events waits here, and finds
    them settled."""
    found: set[int] = set()
    for start in range(0, len(events), 500):
        rows = select(inbox.c.id).where(inbox.c.id.in_(events[start : start + 500]), inbox.c.fate.is_(None))
        found.update(connection.execute(rows.order_by(inbox.c.id).with_for_update()).scalars())
    return found


def wait(connection: Connection, rows: Sequence[tuple[int, int]], reason: str, until: int) -> None:
    """(event, tries so far) pairs that cannot be applied now keep the reason and their next try."""
    if rows:
        connection.execute(
            update(inbox)
            .where(inbox.c.id == bindparam("b"), inbox.c.fate.is_(None))
            .values(reason=reason, next_try=until, tries=bindparam("t")),
            [{"b": event, "t": tries + 1} for event, tries in rows],
        )
