"""The end of an event: written once, in the transaction that applied it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from bridge.ledger import rows
from bridge.ledger.tables import beside
from bridge.ledger.words import Words


@dataclass(slots=True)
class Fate:
    event: int  # inbox.id
    fate: str  # states.EVENT_FATES
    reason: str | None = None
    planned: int | None = None
    subject: str | None = None  # key of the patient it is about: how `bridge why` finds what came to no message
    others: tuple[str, ...] = ()  # keys of the other patients of a visit for several


_SETTLE = Words(
    "UPDATE inbox SET fate = :fate, reason = :reason, planned = :planned, settled_at = :now, next_try = NULL, "
    "subject = COALESCE(:subject, subject) WHERE id = :event AND fate IS NULL"
)
_UNSETTLED = Words("SELECT id FROM inbox WHERE id IN :events AND fate IS NULL ORDER BY id FOR UPDATE")
_WAIT = Words("UPDATE inbox SET reason = :reason, next_try = :until, tries = :tries WHERE id = :event AND fate IS NULL")


def settle(connection: Connection, fates: Sequence[Fate], now: int) -> int:
    """Write fates; a row that has one keeps it."""
    _SETTLE.many(
        connection,
        [
            {
                "event": f.event,
                "fate": f.fate,
                "reason": f.reason,
                "planned": f.planned,
                "subject": f.subject,
                "now": now,
            }
            for f in fates
        ],
    )
    others = [{"subject": key, "event": f.event} for f in fates for key in f.others]
    if others:
        rows.insert_many(
            connection, beside, sorted(others, key=lambda row: row["subject"]), unless=("subject", "event")
        )
    return len(fates)


def unsettled(connection: Connection, events: Sequence[int]) -> set[int]:
    """Those that still have no fate, their rows locked: another node that applies the same events waits here, and finds
    them settled."""
    found: set[int] = set()
    for start in range(0, len(events), 500):
        found.update(_UNSETTLED.firsts(connection, events=list(events[start : start + 500])))
    return found


def wait(connection: Connection, rows: Sequence[tuple[int, int]], reason: str, until: int) -> None:
    """(event, tries so far) pairs that cannot be applied now keep the reason and their next try."""
    _WAIT.many(
        connection, [{"event": event, "tries": tries + 1, "reason": reason, "until": until} for event, tries in rows]
    )
