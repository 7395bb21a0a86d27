"""Which messages a patient got or did not get, and why, in sentences that a nurse lead can read out on the phone.

Read from the ledger by the patient's blind index: no body is decrypted, and no name, number or text is shown. What a
mapping's author wrote beside a condition is quoted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, or_, select

from bridge.console import trace
from bridge.console.reasons import NOTHING, Told, by_patient, told
from bridge.console.trace import Event, Message, Trace, Turn, Write
from bridge.ledger import keys
from bridge.ledger.clock import first_id, from_us
from bridge.ledger.crypto import Crypto
from bridge.ledger.tables import beside, block, conversation, identity, inbox, lane, outbox, person, turn

MOST = 200  # events of one answer, the newest
GOT = ("accepted", "sent", "delivered", "read", "played")
NOT_GOT = ("failed", "superseded", "cancelled", "suppressed", "expired")  # and will not; of the rest nobody can say yet
VERBS = {
    "confirm": "The confirmation of the visit",
    "cancel": "The cancellation of the visit",
    "stop": "The patient's refusal (Consent)",
    "start": "The patient's permission (Consent)",
    "communication": "A note of the message",
    "communication-in": "A note of what the patient said",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One sentence about one thing, and what to do."""

    id: str  # evt_…, msg_…, turn_…, write_…
    got: (
        bool | None
    )  # of a message: whether the patient got it, as far as anyone knows; None: not a message, or unknown
    happened: str
    todo: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One event and what came of it."""

    event: str | None
    at: str  # wall clock of the site, "2026-11-24 15:02"
    title: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """All of it, oldest first."""

    patient: str
    ehr: str
    known: bool  # whether any event has ever named this person
    standing: tuple[Item, ...]  # what keeps every message back, whatever happens
    chapters: tuple[Chapter, ...]
    more: bool  # older ones were left out

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Window:
    """From and until, in microseconds, until excluded. One of both clocks suffices: a message counts by any of its times."""

    since: int
    until: int

    def holds(self, *times: int | None) -> bool:
        return any(at is not None and self.since <= at < self.until for at in times)


def why(
    connection: Connection,
    crypto: Crypto,
    ehr: str,
    reference: str,
    window: Window,
    *,
    zone: str,
    authors: Mapping[str, str] | None = None,
) -> Answer:
    """Everything about one person within a window.

    Args:
        connection: to read from.
        crypto: for blind indexes only.
        ehr: key of the EHR that holds them.
        reference: "Patient/ana", "RelatedPerson/luis".
        window: of the events and messages wanted.
        zone: that times are told in.
        authors: a mapping's sentence -> the mapping's id, for reasons in an author's words.
    """
    key = crypto.index(keys.person(ehr, reference))
    held = connection.execute(select(person).where(person.c.key == key)).first()
    mine = _messages_of(connection, held)
    found = _events(connection, key, crypto.index(keys.resource(ehr, reference)), mine, window)
    more, found = len(found) > MOST, found[-MOST:]
    told_of = {f"msg_{row.id}" for row in mine}
    tell = _Telling(ZoneInfo(zone), authors or {}, reference)
    chapters = tuple(tell.chapter(each, told_of) for each in trace.traces(connection, found))
    known = held is not None or bool(chapters)
    return Answer(reference, ehr, known, _standing(connection, held), chapters, more)


# --- what there is -----------------------------------------------------------------------------------------------------


def _messages_of(connection: Connection, held: Any) -> Sequence[Any]:
    """Clear columns of every message about a patient, or to a guardian."""
    if held is None:
        return ()
    whose = outbox.c.patient_id if held.kind == "patient" else outbox.c.person_id
    columns = (outbox.c.id, outbox.c.cause, outbox.c.lane_id, outbox.c.resource_key, outbox.c.planned_at,
               outbox.c.not_before, outbox.c.accepted_at, outbox.c.changed_at)  # fmt: skip
    return connection.execute(select(*columns).where(whose == held.id)).all()


def _events(connection: Connection, key: str, own: str, mine: Sequence[Any], window: Window) -> list[Event]:
    """The events of the window that are about them, and those that messages of the window came from."""
    causes = {
        row.cause
        for row in mine
        if row.cause is not None and window.holds(row.planned_at, row.not_before, row.accepted_at, row.changed_at)
    }
    within = (inbox.c.id >= first_id(window.since), inbox.c.id < min(first_id(window.until), 2**63 - 1))
    columns = (inbox.c.id, inbox.c.key, inbox.c.received_at)
    first = select(*columns).where(*within, or_(inbox.c.subject == key, inbox.c.key == own))
    other = select(*columns).join(beside, beside.c.event == inbox.c.id).where(*within, beside.c.subject == key)
    named = [row for query in (first, other) for row in connection.execute(query)]
    resources = {row.resource_key for row in mine} | {row.key for row in named}
    resources -= {None}
    for row in connection.execute(
        select(inbox.c.id).where(
            *within, inbox.c.kind.in_(("notification", "hint")), inbox.c.key.in_(sorted(resources))
        )
    ):
        causes.add(row.id)
    causes |= {row.id for row in named} | _said(connection, mine, window)
    return list(trace.events(connection, sorted(causes)[-(MOST + 1) :]))


def _said(connection: Connection, mine: Sequence[Any], window: Window) -> set[int]:
    """What was written on the phones that got these messages."""
    ids = sorted({row.lane_id for row in mine})
    talks = select(conversation.c.id).join(lane, lane.c.key == conversation.c.key).where(lane.c.id.in_(ids))
    rows = connection.execute(
        select(turn.c.cause).where(
            turn.c.conversation_id.in_(talks),
            turn.c.cause.is_not(None),
            turn.c.at >= window.since,
            turn.c.at < window.until,
        )
    )
    return {row.cause for row in rows}


def _standing(connection: Connection, held: Any) -> tuple[Item, ...]:
    """What holds for them now, whatever the EHR pushes."""
    if held is None:
        return ()
    found = []
    if held.refusal is not None:
        (said,) = told("message", "suppressed", held.refusal)[:1]
        found.append(Item("", None, said.happened, said.todo))
    if held.link_ended_at is not None:
        (said,) = told("message", "suppressed", "this guardian asked us to stop")
        found.append(Item("", None, said.happened, said.todo))
    phones = select(identity.c.key).where(identity.c.person_id == held.id, identity.c.until.is_(None))
    stopped = connection.execute(
        select(block.c.since).where(block.c.key.in_(phones), block.c.lifted_at.is_(None)).order_by(block.c.since)
    ).first()
    if stopped is not None:
        (said,) = told("message", "suppressed", "the patient stopped messages on this phone")
        day = from_us(stopped.since).date().isoformat()
        found.append(Item("", None, f"{said.happened.removesuffix('.')} on {day}.", said.todo))
    return tuple(found)


# --- in sentences ------------------------------------------------------------------------------------------------------


class _Telling:
    """Turns traces into chapters."""

    def __init__(self, zone: ZoneInfo, authors: Mapping[str, str], reference: str) -> None:
        self._zone = zone
        self._authors = authors
        self._reference = reference

    def chapter(self, one: Trace, mine: set[str]) -> Chapter:
        event = one.event
        assert event is not None
        of_ehr = event.kind in ("notification", "hint")
        messages = [each for each in one.messages if not of_ehr or each.id in mine]
        items = [self._turn(each) for each in one.turns]
        own = self._own(event.reason)
        if event.fate != "planned" or own:
            items += self._event(event, own, silent=not messages)
        for each in messages:
            items += self._message(each)
        items += [
            self._write(each) for each in one.writes if each.kind == "command" or each.state in ("refused", "held")
        ]
        return Chapter(event.id, self._at(event.received_at) or "", self._title(event), tuple(items))

    def _title(self, event: Event) -> str:
        about = f" about {event.about}" if event.about else ""
        source = event.source.partition(":")[2]
        return {
            "notification": f"the EHR {source} told bridge{about}",
            "hint": f"the EHR {source} said that something changed{about}",
            "message": "something was written on the patient's phone",
            "status": "WhatsApp told how a message fares",
        }.get(event.kind, f"WhatsApp told bridge ({event.kind})")

    def _event(self, event: Event, reason: str | None, *, silent: bool) -> list[Item]:
        found = []
        for said in told("event", event.fate, reason):
            happened, todo = self._words(said, reason, event.id)
            none = event.fate in ("suppressed", "failed", "unusable") or (event.fate == "planned" and reason)
            nobody = "No message came of it. " if silent and none else ""
            found.append(Item(event.id, None, nobody + happened, todo))
        return found

    def _own(self, reason: str | None) -> str | None:
        """Of a visit for several patients, the reasons of the one asked about; for their guardian, all."""
        parts = by_patient(reason) if reason is not None else []
        if not any(part.startswith("Patient/") for part in parts) or not self._reference.startswith("Patient/"):
            return reason
        mine = [part.partition(": ")[2] for part in parts if part.startswith(f"{self._reference}: ")]
        return "; ".join(mine) or None

    def _message(self, message: Message) -> list[Item]:
        what = f"“{message.mapping}”" if message.mapping else "An answer"
        if message.offset is not None:
            what = f"The reminder {what} ({message.offset} before)"
        elif message.mapping is not None:
            what = f"The message {what}"
        if message.state in GOT:
            return [Item(message.id, True, f"{what} was sent{self._ticks(message)}.", NOTHING)]
        got = False if message.state in NOT_GOT else None
        due = f", due {self._at(message.not_before)}" if message.state == "planned" and message.not_before else ""
        found = []
        for said in told("message", message.state, message.reason):
            happened, todo = self._words(said, message.reason, message.cause)
            outcome = {"planned": "has not left yet", "ready": "has not left yet", "sending": "is leaving now"}.get(
                message.state, "may have arrived" if got is None and message.posts else "was not sent"
            )
            if message.state == "failed" and message.posts:
                outcome = "did not arrive"
            todo = (
                todo.replace("wa:CODE", f"wa:{message.posts[-1].code}")
                if message.posts and message.posts[-1].code
                else todo
            )
            found.append(Item(message.id, got, f"{what} {outcome}{due}. {happened}", todo))
        return found

    def _ticks(self, message: Message) -> str:
        times = (
            (" at", message.accepted_at),
            ("reached the phone at", message.delivered_at),
            ("was read at", message.read_at),
        )
        said = [f"{word} {self._at(at)}" for word, at in times if at is not None]
        return " and ".join(said) if said else ", and WhatsApp took it"

    def _turn(self, turn: Turn) -> Item:
        said = {
            "tap": "The patient tapped a button",
            "answer": "The patient answered our question",
            "text": "The patient wrote a text",
        }
        happened = said.get(turn.kind, f"The patient sent something else ({turn.kind})")
        if turn.tapped is not None:
            happened += f" of {turn.tapped}"
        if turn.waits_for_person:
            return Item(
                turn.id,
                None,
                f"{happened}; it waits for a person: {turn.reason}.",
                "Read and answer it: `bridge show --reveal` has the words.",
            )
        return Item(turn.id, None, f"{happened}.", NOTHING)

    def _write(self, write: Write) -> Item:
        (said, *_) = told("write", write.state, write.reason)
        return Item(write.id, None, f"{VERBS.get(write.verb, write.verb)}: {said.happened}", said.todo)

    def _words(self, said: Told, reason: str | None, event: str | None) -> tuple[str, str]:
        """An author's own words with the mapping that has them."""
        if said.known or reason is None:
            return said.happened, said.todo
        for part in (reason, *reason.split("; ")):
            bare = part.partition(" (")[0]
            mapping = self._authors.get(part) or self._authors.get(bare)
            if mapping is not None and f"“{part}”" in said.happened:
                todo = f"Nothing, if that is meant; `bridge preview {mapping} {event or 'evt_…'}` shows each condition with its value."
                return f"The mapping “{mapping}” says: {part}.", todo
        return said.happened, said.todo

    def _at(self, written: str | None) -> str | None:
        if written is None:
            return None
        return datetime.fromisoformat(written).astimezone(self._zone).strftime("%Y-%m-%d %H:%M")


def authors_of(mappings: Sequence[Any]) -> dict[str, str]:
    """Every sentence of a mapping's conditions -> the mapping's id."""
    found: dict[str, str] = {}
    for mapping in mappings:
        for condition in (*mapping.when, *(mapping.gate.hold if mapping.gate is not None else ())):
            found.setdefault(condition.sentence, mapping.id)
    return found
