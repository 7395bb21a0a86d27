"""Years of work put into a store at once: rows such as the engine writes, made by the database itself.

One old message = its event (body emptied by retention), the message (read), its attempt, its write. Beside them lanes asleep,
and reminders armed for the coming year with the content they keep until they are rendered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

from bridge.ledger.clock import SECOND
from bridge.ledger.store import Store

DAY = 86_400 * SECOND
CHUNK = 200_000  # rows of one statement
AGE = 300  # days over which old messages are spread


@dataclass(frozen=True, slots=True)
class Size:
    """Rows in a store."""

    lanes: int
    reminders: int
    old: int

    def __str__(self) -> str:
        return f"{short(self.lanes)} lanes, {short(self.reminders)} reminders, {short(self.old)} old messages"


def short(count: int) -> str:
    return f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1000} k" if count >= 1000 else str(count)


class _Words:
    """The two dialects' words for the same things; `i` counts rows."""

    def __init__(self, dialect: str) -> None:
        self.sqlite = dialect == "sqlite"

    def key(self, what: str, i: str = "i") -> str:
        """32 hex digits, as a blind index: the same for the same number."""
        if self.sqlite:  # no md5 there: a number scattered over the whole range
            return f"printf('%016x%016x', ({i} * 7046029254386353131) & 9223372036854775807, {i} + {len(what)} * 1000000007)"
        return f"md5('{what}' || ({i})::text)"

    def blob(self, size: int) -> str:
        if self.sqlite:
            return f"randomblob({size})"
        return f"decode(repeat(md5(i::text), {size // 16}), 'hex')"

    def rows(self, first: int, last: int) -> str:
        if self.sqlite:
            return f"(WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n)"
        return f"generate_series({first}::bigint, {last}::bigint) AS n(i)"

    def id(self, base: int, step: int) -> str:
        """Ids of the past, in order: milliseconds in the upper bits."""
        return f"({base} + i * {step}) * 4194304 + i % 4096"


def fill(store: Store, have: Size, want: Size, number: str = "front_desk") -> float:
    """From one size to a larger one; returns seconds."""
    begun = time.monotonic()
    words = _Words(store.dialect)
    now = time.time_ns() // 1000
    epoch = now // 1000 - 1_735_689_600_000 - AGE * 86_400_000  # ms, as ids count
    with store.write() as connection:
        if store.dialect != "sqlite":
            connection.execute(text("SET LOCAL statement_timeout TO 0"))
            connection.execute(text("SET LOCAL synchronous_commit TO off"))
    for first, last in _chunks(have.lanes, want.lanes):
        _insert(store, "lane", {
            "id": words.id(epoch, 1), "kind": "'conversation'", "key": words.key("lane"), "number": f"'{number}'",
        }, words.rows(first, last))  # fmt: skip
        _insert(store, "conversation", {
            "id": words.id(epoch, 1), "number": f"'{number}'", "key": words.key("lane"),
        }, words.rows(first, last))  # fmt: skip
        _insert(store, "person", {
            "id": words.id(epoch, 1), "ehr": "'main'", "key": words.key("person"), "kind": "'patient'",
        }, words.rows(first, last))  # fmt: skip
        _insert(store, "resource", {
            "key": words.key("resource"), "ehr": "'main'", "type": "'Appointment'", "revision": "1", "version": "'1'",
            "key_id": "'k1'", "projection": words.blob(160), "changed_at": str(now - DAY),
        }, words.rows(first, last))  # fmt: skip
    people = max(1, want.lanes)
    common = {
        "number": f"'{number}'", "kind": "'template'", "ehr": "'main'", "revision": "1", "config_version": "'0123456789ab'",
        "lane_id": f"({epoch} + i % {people}) * 4194304 + (i % {people}) % 4096",
        "resource_key": words.key("resource", f"i % {people}"), "person_id": f"({epoch} + i % {people}) * 4194304",
        "patient_id": f"({epoch} + i % {people}) * 4194304", "language": "'es'", "zone": "'Europe/Madrid'",
        "purpose": "'appointments'", "key_id": "'k1'", "after": words.blob(160), "mapping_version": "'0123456789ab'",
    }  # fmt: skip
    year = 365 * DAY
    for first, last in _chunks(have.reminders, want.reminders):
        due = f"{now + 20 * DAY} + (i * 7919 % 1000000) * {year // 1_000_000}"
        _insert(store, "outbox", common | {
            "id": words.id(epoch - 10**9, 1), "effect_key": f"'r|' || {words.key('reminder')}", "cls": "4",
            "state": "'planned'", "event": "'appointment.reminder'", '"offset"': "'24h'", "mapping": "'appointment-reminder'",
            "not_before": due, "not_after": f"{due} + {DAY}", "planned_at": str(now), "added_at": str(now - DAY),
            "changed_at": str(now - DAY), "content": words.blob(320),
        }, words.rows(first, last))  # fmt: skip
    step = max(1, AGE * 86_400_000 // max(1, want.old))
    at = f"{now - AGE * DAY} + i * {step * 1000}"
    for first, last in _chunks(have.old, want.old):
        rows, row = words.rows(first, last), words.id(epoch - 2 * 10**9 - want.old, step)
        _insert(store, "inbox", {
            "id": row, "source": "'ehr:main'", "door": "'appointments'", "kind": "'notification'",
            "key": words.key("resource", f"i % {people}"), "received_at": at, "key_id": "'k1'", "fate": "'planned'",
            "planned": "1", "config_version": "'0123456789ab'", "settled_at": at,
        }, rows)  # fmt: skip
        _insert(store, "outbox", common | {
            "id": row, "effect_key": f"'o|' || {words.key('old')}", "cls": "3", "state": "'read'", "cause": row,
            "event": "'appointment.booked'", "mapping": "'appointment-booked'", "template": "'appointment_booked'",
            "planned_at": at, "added_at": at, "ready_at": at, "changed_at": at, "accepted_at": at, "sent_at": at,
            "delivered_at": at, "read_at": at,
        }, rows)  # fmt: skip
        _insert(store, "attempt", {
            "message": row, "n": "1", "node": "'0123456789ab'", "epoch": "1", "fenced_at": at, "ended_at": at,
            "outcome": "'accepted'", "http": "200", "wamid": words.key("wamid"), "key_id": "'k1'",
        }, rows)  # fmt: skip
        _insert(store, "write", {
            "id": row, "kind": "'projection'", "verb": "'communication'", "ehr": "'main'",
            "resource_key": words.key("message"), "message_id": row, "state": "'done'", "next_at": at, "asked_at": at,
            "settled_at": at, "key_id": "'k1'",
        }, rows)  # fmt: skip
        _insert(store, "mark", {
            "key": f"'communication:' || ({row})", "value": "'Communication/' || i", "at": at,
        }, rows)  # fmt: skip
    with store.write() as connection:
        connection.execute(text("ANALYZE"))
    return time.monotonic() - begun


def _chunks(have: int, want: int) -> list[tuple[int, int]]:
    return [(first, min(first + CHUNK, want + 1) - 1) for first in range(have + 1, want + 1, CHUNK)]


def _insert(store: Store, table: str, values: dict[str, str], rows: str) -> None:
    statement = f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {rows}"
    with store.write() as connection:
        _no_hurry(connection)
        connection.exec_driver_sql(statement.replace("%", "%%") if store.dialect != "sqlite" else statement)


def _no_hurry(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        connection.execute(text("SET LOCAL statement_timeout TO 0"))
        connection.execute(text("SET LOCAL synchronous_commit TO off"))


def bytes_of(store: Store) -> int:
    """What the store weighs, its indexes included."""
    with store.read() as connection:
        if store.dialect == "sqlite":
            pages, size = (
                connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size")
            )
            return int(pages) * int(size)
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
