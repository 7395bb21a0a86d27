"""From one event to everything it caused, as `bridge show`, `bridge tail`, the API and the demo's page tell it.

Read from the ledger without a key: ids, states, reasons and times, never what was said or to whom. Times are ISO 8601 in
UTC; those of the patient's world (`planned_at`, `not_before`, `not_after`, `accepted_at`, a turn's `at`) are business time, the
others machine time: a pushed clock moves the first only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from bridge.ledger import states
from bridge.ledger.clock import from_us
from bridge.ledger.tables import attempt, inbox, outbox, resource, turn, write

LOUD = ("notification", "hint", "message", "account")  # what a feed shows; statuses show on their messages
PREFIXES = {"evt": "event", "msg": "message", "turn": "turn", "write": "write"}
MANY = 500  # ids of one statement


@dataclass(frozen=True, slots=True)
class Event:
    """A row of `inbox`."""

    id: str
    source: str  # "ehr:main"
    door: str  # subscription or number
    kind: str  # states of inbox: notification, hint, message, status, account
    about: str | None  # "Appointment/a1", where we hold it
    received_at: str
    fate: str | None  # None: waiting
    planned: int | None
    reason: str | None
    tries: int
    next_try: str | None
    settled_at: str | None
    config_version: str


@dataclass(frozen=True, slots=True)
class Post:
    """A row of `attempt`."""

    n: int
    node: str
    fenced_at: str
    outcome: str | None  # None: in flight
    milliseconds: int | None
    http: int | None
    code: str | None  # WhatsApp's error


@dataclass(frozen=True, slots=True)
class Message:
    """A row of `outbox` with its POSTs."""

    id: str
    cause: str | None
    answers: str | None
    state: str
    reason: str | None
    cls: str
    kind: str
    event: str | None
    offset: str | None
    mapping: str | None
    mapping_version: str | None
    template: str | None
    language: str | None
    zone: str | None
    purpose: str | None
    about: str | None
    revision: int | None
    tries: int
    cost: str | None
    planned_at: str
    not_before: str | None
    not_after: str | None
    accepted_at: str | None
    changed_at: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    posts: tuple[Post, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """Something a patient said or tapped, without its words."""

    id: str
    cause: str | None
    kind: str
    at: str
    tapped: str | None  # the message whose button it was
    waits_for_person: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Write:
    """A row of `write`."""

    id: str
    kind: str
    verb: str
    ehr: str
    state: str
    reason: str | None
    attempts: int
    told: str | None
    message: str | None
    turn: str | None
    asked_at: str
    next_at: str | None  # only while it waits
    settled_at: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """An event and what came of it. `event` is None for what nothing from outside caused, or what was purged."""

    event: Event | None
    turns: tuple[Turn, ...] = ()
    messages: tuple[Message, ...] = ()
    writes: tuple[Write, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# --- reading -----------------------------------------------------------------------------------------------------------


def latest(
    connection: Connection, *, limit: int = 20, kinds: Sequence[str] = LOUD, before: int | None = None, after: int = 0
) -> tuple[Event, ...]:
    """The newest events, newest first; `before` and `after` are inbox ids to page or follow with."""
    wanted = _events().where(inbox.c.kind.in_(kinds), inbox.c.id > after)
    if before is not None:
        wanted = wanted.where(inbox.c.id < before)
    return tuple(_event(row) for row in connection.execute(wanted.order_by(inbox.c.id.desc()).limit(limit)))


def events(connection: Connection, ids: Sequence[int]) -> tuple[Event, ...]:
    """These events as far as they are there, oldest first."""
    return tuple(_event(row) for row in _rows(connection, _events().order_by(inbox.c.id), inbox.c.id, sorted(ids)))


def traces(connection: Connection, events: Sequence[Event]) -> tuple[Trace, ...]:
    """The traces of these events, in their order, with a handful of statements for all."""
    ids = [number(event.id) for event in events]
    turns = _turns(connection, turn.c.cause, ids)
    said = {number(one.id): one.cause for one in turns}
    messages = _messages(connection, outbox.c.cause, ids) + _messages(connection, outbox.c.answers, list(said))
    messages = list({one.id: one for one in messages}.values())
    writes = _writes(connection, [number(one.id) for one in messages], list(said))
    owner = {one.id: one.cause or said.get(number(one.answers or "")) for one in messages}
    by_event: dict[str | None, tuple[list[Turn], list[Message], list[Write]]] = defaultdict(lambda: ([], [], []))
    for one in turns:
        by_event[one.cause][0].append(one)
    for message in messages:
        by_event[owner[message.id]][1].append(message)
    for each in writes:
        cause = said.get(number(each.turn)) if each.turn is not None else owner.get(each.message or "")
        by_event[cause][2].append(each)
    found = []
    for event in events:
        mine = by_event[event.id]
        found.append(Trace(event, tuple(mine[0]), tuple(mine[1]), tuple(mine[2])))
    return tuple(found)


def find(connection: Connection, name: str) -> Trace | None:
    """The trace of `evt_…`, `msg_…`, `turn_…` or `write_…`; None when there is none of that id.

    Of a message: itself, the event that caused it, taps on it, and what is written of it to the EHR.
    """
    prefix, _, digits = name.partition("_")
    if prefix not in PREFIXES or not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        return None
    row = int(digits)
    if prefix == "evt":
        event = _one_event(connection, row)
        return traces(connection, [event])[0] if event is not None else None
    if prefix == "msg":
        return _of_message(connection, row)
    if prefix == "turn":
        turns = _turns(connection, turn.c.id, [row])
        return _of_cause(connection, turns[0].cause) if turns else None
    found = connection.execute(select(write).where(write.c.id == row)).first()
    if found is None:
        return None
    if found.turn_id is not None:
        turns = _turns(connection, turn.c.id, [found.turn_id])
        return _of_cause(connection, turns[0].cause) if turns else Trace(None, (), (), (_write(found),))
    return _of_message(connection, found.message_id) if found.message_id is not None else None


def by_ids(connection: Connection, ids: Sequence[int]) -> list[Message]:
    """These messages as far as they are there, with their POSTs."""
    return _messages(connection, outbox.c.id, ids)


def writes_of(connection: Connection, messages: Sequence[int]) -> list[Write]:
    """What is written to the EHR of these messages."""
    return _writes(connection, messages, ())


def number(name: str | None) -> int:
    """The integer inside `msg_…`; 0 for none."""
    return int(name.rpartition("_")[2]) if name else 0


def _of_cause(connection: Connection, cause: str | None) -> Trace | None:
    return find(connection, cause) if cause is not None else None


def _of_message(connection: Connection, row: int) -> Trace | None:
    found = _messages(connection, outbox.c.id, [row])
    if not found:
        return None
    message = found[0]
    event = _one_event(connection, number(message.cause)) if message.cause else None
    taps = _turns(connection, turn.c.message_id, [row])
    writes = _writes(connection, [row], [number(one.id) for one in taps])
    return Trace(event, tuple(taps), tuple(found), tuple(writes))


def _one_event(connection: Connection, row: int) -> Event | None:
    found = connection.execute(_events().where(inbox.c.id == row)).first()
    return _event(found) if found is not None else None


def _events() -> Any:
    columns = [c for c in inbox.c if c.name != "body"]
    return select(*columns, resource.c.ref).outerjoin(resource, resource.c.key == inbox.c.key)


def _rows(connection: Connection, wanted: Any, column: ColumnElement[Any], ids: Sequence[int]) -> list[Any]:
    rows: list[Any] = []
    for start in range(0, len(ids), MANY):
        rows += connection.execute(wanted.where(column.in_(ids[start : start + MANY]))).all()
    return rows


def _turns(connection: Connection, column: ColumnElement[Any], ids: Sequence[int]) -> list[Turn]:
    wanted = select(*(c for c in turn.c if c.name != "body")).order_by(turn.c.id)
    return [_turn(row) for row in _rows(connection, wanted, column, ids)]


def _messages(connection: Connection, column: ColumnElement[Any], ids: Sequence[int]) -> list[Message]:
    columns = [c for c in outbox.c if c.name not in {"before", "after", "content"}]
    rows = _rows(connection, select(*columns).order_by(outbox.c.id), column, ids)
    posts: dict[int, list[Post]] = defaultdict(list)
    tried = select(*(c for c in attempt.c if c.name != "body")).order_by(attempt.c.message, attempt.c.n)
    for row in _rows(connection, tried, attempt.c.message, [row.id for row in rows]):
        posts[row.message].append(_post(row))
    return [_message(row, posts[row.id]) for row in rows]


def _writes(connection: Connection, messages: Sequence[int], turns: Sequence[int]) -> list[Write]:
    """A projection's id is its message's or turn's own; commands name their turn."""
    wanted = select(*(c for c in write.c if c.name not in {"wanted", "echo"})).order_by(write.c.id)
    rows = _rows(connection, wanted, write.c.id, [*messages, *turns])
    rows += _rows(connection, wanted.where(write.c.kind == "command"), write.c.turn_id, turns)
    return [_write(row) for row in rows]


# --- rows to views -----------------------------------------------------------------------------------------------------


def _at(value: int | None) -> str | None:
    return from_us(value).isoformat(timespec="milliseconds").replace("+00:00", "Z") if value else None


def _id(prefix: str, value: int | None) -> str | None:
    return f"{prefix}_{value}" if value is not None else None


def _event(row: Any) -> Event:
    return Event(
        id=f"evt_{row.id}", source=row.source, door=row.door, kind=row.kind, about=row.ref,
        received_at=_at(row.received_at) or "", fate=row.fate, planned=row.planned, reason=row.reason, tries=row.tries,
        next_try=_at(row.next_try), settled_at=_at(row.settled_at), config_version=row.config_version,
    )  # fmt: skip


def _post(row: Any) -> Post:
    took = (row.ended_at - row.fenced_at) // 1000 if row.ended_at is not None else None
    return Post(row.n, row.node, _at(row.fenced_at) or "", row.outcome, took, row.http, row.code)


def _message(row: Any, posts: Sequence[Post]) -> Message:
    return Message(
        id=f"msg_{row.id}", cause=_id("evt", row.cause), answers=_id("turn", row.answers), state=row.state,
        reason=row.reason, cls=states.CLASSES[row.cls], kind=row.kind, event=row.event, offset=row.offset,
        mapping=row.mapping, mapping_version=row.mapping_version, template=row.template, language=row.language,
        zone=row.zone, purpose=row.purpose, about=row.resource_ref, revision=row.revision, tries=row.tries, cost=row.cost,
        planned_at=_at(row.planned_at) or "", not_before=_at(row.not_before), not_after=_at(row.not_after),
        accepted_at=_at(row.accepted_at), changed_at=_at(row.changed_at) or "", sent_at=_at(row.sent_at),
        delivered_at=_at(row.delivered_at), read_at=_at(row.read_at), posts=tuple(posts),
    )  # fmt: skip


def _turn(row: Any) -> Turn:
    return Turn(
        f"turn_{row.id}", _id("evt", row.cause), row.kind, _at(row.at) or "", _id("msg", row.message_id), row.open, row.reason
    )  # fmt: skip


def _write(row: Any) -> Write:
    live = row.state in ("asked", "sending")
    return Write(
        id=f"write_{row.id}", kind=row.kind, verb=row.verb, ehr=row.ehr, state=row.state, reason=row.reason,
        attempts=row.attempts, told=row.told, message=_id("msg", row.message_id), turn=_id("turn", row.turn_id),
        asked_at=_at(row.asked_at) or "", next_at=_at(row.next_at) if live else None, settled_at=_at(row.settled_at),
    )  # fmt: skip
