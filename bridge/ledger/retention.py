"""What stays readable, and for how long: encrypted columns older than `retention.bodies` are emptied; the rows stay.

Kept whatever its age: what has not ended yet, and the state that later news is told against (`resource.projection`, and
`outbox.after` of what a patient was told), which says when a visit is and nothing of what was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, or_, select, tuple_, update

from bridge.ledger import audit
from bridge.ledger.clock import SECOND, Ids
from bridge.ledger.inbox import STATUS_KEYS
from bridge.ledger.store import Store
from bridge.ledger.tables import attempt, inbox, media, outbox, question, seen, turn, write

DAY = 86_400 * SECOND
SEEN = 400 * DAY  # how long a sender's own key keeps a repeated event out
SEEN_STATUS = (
    14 * DAY
)  # of a status, three for each message: Meta redelivers for 7 days, and one told twice changes nothing
MANY = 500  # rows of one transaction: SQLite's write connection is held for a moment only
UNDER_WAY = ("planned", "ready", "sending", "doubt", "held")


@dataclass(frozen=True, slots=True)
class _Rule:
    table: Table
    columns: tuple[str, ...]
    age: Any  # a column in microseconds
    ended: ColumnElement[bool]

    def where(self, before: int) -> ColumnElement[bool]:
        full = or_(*(self.table.c[name].is_not(None) for name in self.columns))
        return and_(self.age < before, self.ended, full)


_to_be_written = exists().where(write.c.message_id == outbox.c.id, write.c.state.in_(("asked", "sending", "held")))
RULES = (
    _Rule(inbox, ("body",), inbox.c.received_at, inbox.c.fate.is_not(None)),
    _Rule(outbox, ("content", "before"), outbox.c.changed_at, outbox.c.state.not_in(UNDER_WAY) & ~_to_be_written),
    _Rule(attempt, ("body",), attempt.c.ended_at, attempt.c.outcome.is_not(None)),
    _Rule(turn, ("body",), turn.c.at, turn.c.open.is_(False)),
    _Rule(question, ("body",), question.c.until, question.c.id.is_not(None)),
    _Rule(write, ("wanted", "echo"), write.c.settled_at, write.c.state.in_(("done", "merged", "refused"))),
    _Rule(media, ("body",), media.c.at, media.c.id.is_not(None)),
)


def sweep(store: Store, ids: Ids, age: int) -> Mapping[str, int]:
    """Empty what is older than `age` (µs); returns rows by table. Doing it twice, or on two nodes, is harmless."""
    counts = {rule.table.name: _empty(store, rule, age) for rule in RULES}
    counts["seen"] = _forget(store)
    with store.write() as connection:
        audit.record(
            connection, row=ids(), at=store.now(connection), action="retention", count=sum(counts.values()), detail=counts
        )  # fmt: skip
    return counts


def _empty(store: Store, rule: _Rule, age: int) -> int:
    key = tuple_(*rule.table.primary_key)
    done = 0
    while True:
        with store.read() as connection:
            wanted = rule.where(store.now(connection) - age)
            rows = [tuple(row) for row in connection.execute(select(*rule.table.primary_key).where(wanted).limit(MANY))]
        if not rows:
            return done
        with store.write() as connection:
            emptied = update(rule.table).where(key.in_(rows), wanted).values(dict.fromkeys(rule.columns))
            changed = connection.execute(emptied).rowcount
        done += changed
        if not changed:
            return done  # another node was faster, or they came to life again


def _forget(store: Store) -> int:
    key = tuple_(*seen.primary_key)
    done = 0
    while True:
        with store.read() as connection:
            now = store.now(connection)
            status = and_(seen.c.source.endswith(STATUS_KEYS), seen.c.at < now - SEEN_STATUS)
            old = select(*seen.primary_key).where(or_(seen.c.at < now - SEEN, status)).limit(MANY)
            rows = [tuple(row) for row in connection.execute(old)]
        if not rows:
            return done
        with store.write() as connection:
            done += connection.execute(delete(seen).where(key.in_(rows))).rowcount
