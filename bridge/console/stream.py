"""What happens in an engine, as it happens: events and their fates, sends and what became of them, replies, writes to the EHR.

Read from the ledger without a key, as traces are: ids, states and reasons. Each look asks four questions that indexes answer,
so that following a large ledger costs nothing: what came in since, what of the events we watch is settled, which messages
were touched since (on their way, or among those we watch), and which writes of theirs changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, or_, select

from bridge.console.trace import Event, Message, Trace, Turn, Write, by_ids, events, latest, number, traces, writes_of
from bridge.ledger.clock import first_id
from bridge.ledger.tables import outbox, person

WATCHED = 1000  # messages and events that are kept an eye on
OVERLAP = 5_000_000  # µs: a transaction may become visible later than the time it wrote down
ON_THE_WAY = ("sending", "doubt")
UNSETTLED = ("accepted", "sent")


@dataclass(frozen=True, slots=True)
class Hop:
    """One thing that happened. `of` is what it happened to."""

    at: str  # ISO 8601, UTC
    id: str
    of: Event | Message | Turn | Write
    trace: Trace | None = None  # of an event: all that came of it so far


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters; an empty one lets everything pass. A hop passes when every filter that can be asked of it says yes."""

    events: frozenset[str] = frozenset()  # "appointment.booked"
    mappings: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()  # an event's fate, `waiting`, or a message's or write's state
    references: frozenset[str] = frozenset()  # "Appointment/a1", or a patient's

    def passes(self, hop: Hop, patients: dict[int, str]) -> bool:
        messages = [hop.of] if isinstance(hop.of, Message) else list(hop.trace.messages) if hop.trace else []
        if self.events and not any(one.event in self.events for one in messages):
            return False
        if self.mappings and not any(one.mapping in self.mappings for one in messages):
            return False
        if self.states and _state(hop.of) not in self.states:
            return False
        if self.references:
            about = {one.about for one in messages} | {patients.get(number(one.id)) for one in messages}
            about |= {hop.of.about} if isinstance(hop.of, Event) else set()
            return bool(self.references & about)
        return True


def _state(of: Event | Message | Turn | Write) -> str:
    if isinstance(of, Event):
        return of.fate or "waiting"
    return "waiting" if isinstance(of, Turn) and of.waits_for_person else getattr(of, "state", "applied")


@dataclass(slots=True)
class Stream:
    """Follows one ledger; each `look` yields what happened since the last one, in order."""

    wanted: Wanted = field(default_factory=Wanted)
    newest: int = 0  # inbox id
    since: int = 0  # µs of the machine clock: what was touched before the last look is known
    _waiting: set[int] = field(default_factory=set)  # events without a fate
    _states: dict[int, str] = field(default_factory=dict)  # messages: the state that was told last
    _writes: dict[str, str] = field(default_factory=dict)

    def begin(self, connection: Connection, now: int, *, last: int, since: int | None = None) -> Iterator[Hop]:
        """The last so many events, or those since a time; from here on what is new."""
        if since is not None:
            found = list(reversed(latest(connection, limit=WATCHED, after=first_id(since))))
        else:
            found = list(reversed(latest(connection, limit=last))) if last else []
        self.newest = max((number(one.id) for one in latest(connection, limit=1)), default=0)
        self.since = now
        yield from self._told(connection, self._new(connection, found))

    def look(self, connection: Connection, now: int) -> Iterator[Hop]:
        fresh = list(reversed(latest(connection, limit=WATCHED, after=self.newest)))
        self.newest = max((number(one.id) for one in fresh), default=self.newest)
        settled = [one for one in events(connection, sorted(self._waiting)) if one.fate is not None]
        hops = self._new(connection, [*settled, *fresh])
        hops += self._moved(connection)
        self.since = now
        yield from self._told(connection, hops)

    def _new(self, connection: Connection, found: Sequence[Event]) -> list[Hop]:
        hops = []
        for trace in traces(connection, found):
            event = trace.event
            assert event is not None
            if event.fate is None:
                self._waiting.add(number(event.id))
            else:
                self._waiting.discard(number(event.id))
            hops.append(Hop(event.settled_at or event.received_at, event.id, event, trace))
            hops += [Hop(one.at, one.id, one) for one in trace.turns]
            hops += self._messages(trace.messages) + self._write(trace.writes)
        self._waiting = set(sorted(self._waiting)[-WATCHED:])
        return hops

    def _moved(self, connection: Connection) -> list[Hop]:
        """Messages that were touched since, and the writes of those we watch."""
        since = self.since - OVERLAP
        touched = select(outbox.c.id).where(
            or_(
                outbox.c.state.in_(ON_THE_WAY) & (outbox.c.changed_at > since),
                outbox.c.state.in_(UNSETTLED) & (outbox.c.changed_at > since),
            )
        )
        ids = set(connection.execute(touched.order_by(outbox.c.changed_at).limit(WATCHED)).scalars()) | set(
            self._states
        )
        hops = self._messages(by_ids(connection, sorted(ids)))
        return hops + self._write(writes_of(connection, sorted(self._states)))

    def _messages(self, messages: Sequence[Message]) -> list[Hop]:
        changed = [one for one in messages if self._states.get(number(one.id)) != one.state]
        for one in changed:
            self._states[number(one.id)] = one.state
        for old in sorted(self._states)[: max(0, len(self._states) - WATCHED)]:
            del self._states[old]
        return [Hop(one.changed_at, one.id, one) for one in changed]

    def _write(self, writes: Sequence[Write]) -> list[Hop]:
        changed = [one for one in writes if self._writes.get(one.id) != one.state]
        self._writes |= {one.id: one.state for one in changed}
        for old in list(self._writes)[: max(0, len(self._writes) - WATCHED)]:
            del self._writes[old]
        return [Hop(one.settled_at or one.asked_at, one.id, one) for one in changed]

    def _told(self, connection: Connection, hops: Sequence[Hop]) -> Iterator[Hop]:
        patients = _patients(connection, hops) if self.wanted.references else {}
        for hop in sorted(hops, key=lambda each: each.at):
            if self.wanted.passes(hop, patients):
                yield hop


def _patients(connection: Connection, hops: Sequence[Hop]) -> dict[int, str]:
    """Message -> the reference of whom it is about."""
    messages = {number(one.id) for hop in hops for one in ([hop.of] if isinstance(hop.of, Message) else ())}
    messages |= {number(one.id) for hop in hops if hop.trace is not None for one in hop.trace.messages}
    rows = connection.execute(
        select(outbox.c.id, person.c.ref)
        .join(person, person.c.id == outbox.c.patient_id)
        .where(outbox.c.id.in_(sorted(messages)[-WATCHED:]))
    )
    return {row.id: row.ref for row in rows}
