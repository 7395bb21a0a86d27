"""Does the ledger balance? What was counted where it came in, against what became of it, in one snapshot.

The counts on the left are `audit` entries, written in the transaction that made the rows but not derived from them:
a row that vanished, or that got a state nobody knows, shows here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from bridge.ledger import audit, states
from bridge.ledger.store import Store
from bridge.ledger.tables import audit as audit_table
from bridge.ledger.tables import inbox, outbox, write


@dataclass(frozen=True, slots=True)
class Line:
    """One equation: counted = Σ ended + Σ open, with nothing in a state that the tables do not know."""

    name: str
    counted: Mapping[str, int]  # audit action -> rows
    ended: Mapping[str, int]  # fate or terminal state -> rows
    open: Mapping[str, int]
    unknown: Mapping[str, int]

    @property
    def holds(self) -> bool:
        return not self.unknown and sum(self.counted.values()) == sum(self.ended.values()) + sum(self.open.values())

    def __str__(self) -> str:
        left = " + ".join(f"{count} {name}" for name, count in self.counted.items())
        right = [f"{count} {name}" for part in (self.ended, self.open, self.unknown) for name, count in part.items()]
        sign = "=" if self.holds else "≠"
        return f"{self.name}: {left} {sign} {' + '.join(right) or '0'}"

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "holds": self.holds,
            "counted": dict(self.counted),
            "ended": dict(self.ended),
            "open": dict(self.open),
            "unknown": dict(self.unknown),
        }


def balance(store: Store, since: int = 0) -> tuple[Line, Line, Line]:
    """Events, messages and writes that came to be at `since` (machine time, µs) or later."""
    with store.read() as connection:
        if connection.dialect.name != "sqlite":  # one snapshot for all three; a read of SQLite is one anyway
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        counts = _audit(connection, since)
        fates = _count(connection, inbox.c.fate, inbox.c.received_at, since)
        messages = _count(connection, outbox.c.state, outbox.c.added_at, since)
        writes = _count(connection, write.c.state, write.c.asked_at, since)
    return (
        _line("events", counts, (audit.ACKNOWLEDGED, audit.FOUND), fates, states.EVENT_FATES, ("waiting",)),
        _line(
            "messages", counts, (audit.PLANNED,), messages, states.TERMINAL, set(states.MESSAGE) - states.TERMINAL
        ),
        _line("writes", counts, (audit.ASKED,), writes, states.WRITE_FATES, set(states.WRITE) - {*states.WRITE_FATES}),
    )  # fmt: skip


def _line(
    name: str,
    counts: Mapping[str, int],
    actions: tuple[str, ...],
    found: Mapping[str, int],
    ends: Collection[str],
    lives: Collection[str],
) -> Line:
    order = dict.fromkeys((*states.EVENT_FATES, "waiting", *states.MESSAGE, *states.WRITE))
    known = [each for each in order if each in found]
    return Line(
        name,
        {action: counts.get(action, 0) for action in actions},
        {each: found[each] for each in known if each in ends},
        {each: found[each] for each in known if each in lives},
        {each: count for each, count in found.items() if each not in ends and each not in lives},
    )


def _audit(connection: Connection, since: int) -> dict[str, int]:
    actions = (audit.ACKNOWLEDGED, audit.FOUND, audit.PLANNED, audit.ASKED)
    rows = connection.execute(
        select(audit_table.c.action, func.sum(audit_table.c.count))
        .where(audit_table.c.action.in_(actions), audit_table.c.at >= since)
        .group_by(audit_table.c.action)
    )
    return {row[0]: int(row[1]) for row in rows}


def _count(connection: Connection, state: Any, at: Any, since: int) -> dict[str, int]:
    rows = connection.execute(select(state, func.count()).where(at >= since).group_by(state))
    return {row[0] or "waiting": int(row[1]) for row in rows}
