"""The fence: in one transaction every claimed message is asked once more, and what may leave is `sending` with an attempt.

A message leaves when this transaction commits. Whatever a door acknowledged before it began is honoured here: an
unapplied inbound message of the conversation, or an unapplied event of the resource or the person, holds it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from bridge.ledger import keys, lanes, outbox
from bridge.ledger.clock import SECOND
from bridge.ledger.crypto import Crypto
from bridge.ledger.lanes import Claimed
from bridge.ledger.states import REMINDER
from bridge.ledger.words import Words
from bridge.outbound import facts, limits
from bridge.outbound.facts import World
from bridge.outbound.policy import Facts, Later, Leave, Never, may_leave
from bridge.settings import Settings

SLOT_AHEAD = 250_000  # µs: the fence is at most this long before the message's slot
FAR_AHEAD = 600 * SECOND  # µs: a stored time further ahead was written by a broken clock, and counts as now
LOOK_AGAIN = 40_000  # µs: an event in front of it is being applied
EHR_LOOK_AGAIN = 2 * SECOND  # µs: it cannot be applied because the EHR cannot be read
HOLD_LOOK_AGAIN = 5 * SECOND

ASKING = "consent.ask"  # the event of a message that asks for a consent
_MINE = Words("SELECT id, epoch FROM lane WHERE id IN :lanes AND owner = :node")
_TRIES = Words("SELECT message, max(n) AS n FROM attempt WHERE message IN :messages GROUP BY message")
_NUMBERS = Words("SELECT key, free_at, paused_until, reason FROM number")
_ATTEMPT = Words("INSERT INTO attempt (message, n, node, epoch, fenced_at) VALUES (:message, :n, :node, :epoch, :now)")
_SPEND_LANE = Words("UPDATE lane SET free_at = :free WHERE id = :lane")
_SPEND_NUMBER = Words(
    "INSERT INTO number (key, free_at, paused_until) VALUES (:key, :free, 0) "
    "ON CONFLICT (key) DO UPDATE SET free_at = excluded.free_at"
)

QuietUntil = Callable[[int, str | None], int | None]  # business time, zone -> end of the quiet hours we are in


@dataclass(frozen=True, slots=True)
class Fenced:
    """May leave: POST it at `slot` (machine time), as attempt `n`."""

    message: int
    n: int
    lane: Claimed
    slot: int
    fenced_at: int


@dataclass(slots=True)
class Outcome:
    """What one fence transaction decided."""

    fenced: list[Fenced] = field(default_factory=list)
    deferred: dict[int, int] = field(default_factory=dict)  # lane id -> machine time
    ended: dict[int, tuple[str, str]] = field(default_factory=dict)  # message id -> (state, reason)


class Fence:
    """Asks policy, spends rates, writes `sending` and the attempt."""

    def __init__(self, settings: Settings, crypto: Crypto, node: str, quiet_until: QuietUntil) -> None:
        self._settings = settings
        self._node = node
        self._quiet_until = quiet_until
        self._all_of = {
            ehr: {crypto.index(keys.anyone(ehr)), crypto.index(keys.anything(ehr))} for ehr in settings.ehrs
        }

    def run(self, connection: Connection, chosen: Sequence[tuple[Claimed, int]], *, now: int, business: int) -> Outcome:
        """Decide for (lane, message) pairs; one message a lane."""
        result = Outcome()
        lanes.lock(connection, sorted(claimed.id for claimed, _ in chosen))
        mine = set(_MINE.rows(connection, lanes=[c.id for c, _ in chosen], node=self._node))
        ids = [message for _, message in chosen]
        world = facts.load(connection, ids, {claimed.id: claimed.key for claimed, _ in chosen})
        waiting = facts.unapplied(connection, self._keys(world, [claimed for claimed, _ in chosen]))
        facts.decisions(connection, world, business)
        tries = dict(_TRIES.rows(connection, messages=ids))
        free = {
            key: max(row.free_at, now) if row.free_at < now + FAR_AHEAD else now for key, row in world.numbers.items()
        }
        spent: dict[str, int] = {}
        moved: dict[int, int] = {}
        tiers = self._tiers(connection, world, chosen, business)
        written: list[tuple[str, str]] = []
        for claimed, message in chosen:
            row = world.messages.get(message)
            if (claimed.id, claimed.epoch) not in mine:
                continue
            if row is None or row.state != "ready":
                result.deferred[claimed.id] = now
                continue
            hold = self._waits(row, claimed, world, waiting, business)
            if isinstance(hold, int):
                result.deferred[claimed.id] = now + hold
                continue
            if hold is not None:
                result.ended[message] = hold
                result.deferred[claimed.id] = now
                continue
            verdict = may_leave(self._facts(row, claimed, world, now=now, business=business))
            if isinstance(verdict, Never):
                result.ended[message] = (verdict.state, verdict.reason)
                result.deferred[claimed.id] = now
            elif isinstance(verdict, Later):
                if verdict.until is not None:
                    moved[message] = verdict.until
                    result.deferred[claimed.id] = now
                else:
                    result.deferred[claimed.id] = now + HOLD_LOOK_AGAIN
            elif isinstance(verdict, Leave):
                slot = max(
                    free.get(row.number, now),
                    lanes.pair_slot(claimed.free_at, now, burst=1 if row.kind == "template" else lanes.PAIR_BURST),
                )
                if slot > now + SLOT_AHEAD:
                    result.deferred[claimed.id] = slot - SLOT_AHEAD // 2
                    continue
                if row.kind == "template":
                    user = self._user(row, claimed, world)
                    if not tiers.take(*user):
                        result.deferred[claimed.id] = now + limits.LOOK_AGAIN
                        continue
                    written.append(user)
                free[row.number] = spent[row.number] = slot + self._interval(row.number, world.numbers.get(row.number))
                result.fenced.append(Fenced(message, tries.get(message, 0) + 1, claimed, slot, now))
        limits.note(connection, written, business)
        self._apply(connection, result, spent, moved, now)
        self._give_back(connection, result, chosen, world, now)
        return result

    def _tiers(
        self, connection: Connection, world: World, chosen: Sequence[tuple[Claimed, int]], business: int
    ) -> limits.Tiers:
        wanted: dict[str, set[str]] = {}
        for claimed, message in chosen:
            row = world.messages.get(message)
            if row is not None and row.kind == "template":
                name, user = self._user(row, claimed, world)
                wanted.setdefault(name, set()).add(user)
        return limits.Tiers(connection, wanted, business)

    def _user(self, row: Any, claimed: Claimed, world: World) -> tuple[str, str]:
        """(portfolio, whom it counts as): the identity, whichever of our numbers writes."""
        holder = world.identities.get(row.identity_id) if row.identity_id is not None else None
        return self._settings.numbers[row.number].portfolio, holder.key if holder is not None else claimed.key

    def room(self, connection: Connection, now: int, most: int) -> dict[str, int]:
        """How many messages of each number may get a slot now; 0 for one that is paused or has spent its rate."""
        rows = {row.key: row for row in _NUMBERS.rows(connection)}
        found: dict[str, int] = {}
        for name in self._settings.numbers:
            row = rows.get(name)
            if row is None:
                found[name] = most
                continue
            if now < row.paused_until < now + FAR_AHEAD:
                found[name] = 0
                continue
            free_at = max(row.free_at, now) if row.free_at < now + FAR_AHEAD else now
            if free_at > now + SLOT_AHEAD // 2:  # a handful at a time, not one by one
                found[name] = 0
                continue
            found[name] = max(0, min(most, (now + SLOT_AHEAD - free_at) // self._interval(name, row) + 1))
        return found

    def _interval(self, name: str, row: Any | None) -> int:
        """Microseconds between two sends of this number; after a refusal of the number one probe a second."""
        if row is not None and row.reason is not None:
            return SECOND
        return limits.interval(self._settings.numbers[name].rate)

    def _keys(self, world: World, claimed: Sequence[Claimed]) -> set[str]:
        found = {one.key for one in claimed}
        for row in world.messages.values():
            if row.resource_key is not None:
                found.add(row.resource_key)
            found |= self._person_keys(world, row)
            if row.ehr is not None:
                found |= self._all_of.get(row.ehr, set())
        return found

    def _person_keys(self, world: World, row: Any) -> set[str]:
        found: set[str] = set()
        for person_id in (row.person_id, row.patient_id):
            if person_id is not None and person_id in world.persons:
                found.add(world.persons[person_id].key)
                found |= world.keys_of[person_id]
        return found

    def _waits(
        self, row: Any, claimed: Claimed, world: World, waiting: dict[str, Any], business: int
    ) -> int | tuple[str, str] | None:
        """Microseconds to wait, a fate, or None: nothing unapplied stands in front of it."""
        mine = {claimed.key, row.resource_key, *self._all_of.get(row.ehr or "", ()), *self._person_keys(world, row)}
        in_front = [waiting[key] for key in mine if key in waiting]
        if not in_front:
            return None
        unreadable = all(event.tries > 0 and event.kind in ("notification", "hint") for event in in_front)
        if not unreadable:
            return LOOK_AGAIN
        if row.answers is not None:
            return None  # an answer to what the patient wrote does not speak of the resource's news
        since = row.not_before or row.planned_at
        half = since + ((row.not_after or since) - since) // 2
        if business < half:
            return EHR_LOOK_AGAIN
        if row.cls == REMINDER:
            if self._settings.reminders.unconfirmed == "send":
                return None
            return ("suppressed", "the EHR could not be read to confirm this reminder")
        return ("held", "an event of this resource could not be applied because the EHR cannot be read")

    def _facts(self, row: Any, claimed: Claimed, world: World, *, now: int, business: int) -> Facts:
        settings = self._settings
        person = world.persons.get(row.person_id) if row.person_id is not None else None
        patient = world.persons.get(row.patient_id) if row.patient_id is not None else None
        refusal = next((p.refusal for p in (person, patient) if p is not None and p.refusal is not None), None)
        if person is not None and person.kind == "related" and person.patient_id != row.patient_id:
            refusal = refusal or "the related person is not this patient's guardian any more"
        holder = world.identities.get(row.identity_id) if row.identity_id is not None else None
        keys_held = set(world.keys_of.get(row.person_id, set()))
        if holder is not None:
            keys_held.add(holder.key)
        purpose = settings.consent.purposes.get(row.purpose) if row.purpose is not None else None
        number_row = world.numbers.get(row.number)
        zone = patient.zone if patient is not None and patient.zone is not None else None
        waba = settings.numbers[row.number].waba_id
        decision, _ = world.consents.get((row.patient_id, row.purpose), (None, 0))
        # a STOP is of the identity: only a decision of the person it belongs to, for themselves, comes after it
        permitted_at = (
            facts.permitted_at(world, row.patient_id, row.purpose) if row.person_id == row.patient_id else None
        )
        return Facts(
            now=business,
            is_template=row.kind == "template",
            cls=row.cls,
            answers=row.answers is not None,
            blocked=facts.stopped(world, keys_held, permitted_at),
            refusal=refusal,
            link_ended=person is not None and person.link_ended_at is not None,
            identity_current=row.identity_id is None or (holder is not None and holder.until is None),
            purpose=row.purpose if row.event != ASKING else None,  # to ask for a consent needs none
            consent=decision if decision in ("permit", "deny") else None,  # type: ignore[arg-type]
            without_decision=purpose.without_decision if purpose is not None else "block",
            revision=row.revision if row.answers is None else None,
            current_revision=world.revisions.get(row.resource_key) if row.resource_key is not None else None,
            not_after=row.not_after,
            quiet_until=self._quiet_until(business, zone) if row.quiet else None,
            window_until=world.windows.get(claimed.key, 0),
            template_status=world.templates.get((waba, row.template or "", row.language or "")),
            in_pilot=not settings.pilot.enabled or row.cohort or row.answers is not None,
            number_paused=(number_row.reason or "paused")
            if number_row is not None and now < min(number_row.paused_until, now + 600 * SECOND)
            else None,
            optout=facts.optout_key(world, row) in world.blocked,
            missing=row.missing,
        )

    def _apply(
        self, connection: Connection, result: Outcome, spent: dict[str, int], moved: dict[int, int], now: int
    ) -> None:
        by_fate: dict[tuple[str, str], list[int]] = {}
        for message, fate in result.ended.items():
            by_fate.setdefault(fate, []).append(message)
        for (state, reason), ids in by_fate.items():
            outbox.move(connection, ids, state, now, reason=reason, only_from=("ready",))
        if moved:
            outbox.move(connection, moved, "planned", now, reason="quiet hours", only_from=("ready",))
            rows = [{"id": i, "not_before": at, "attempted": True} for i, at in moved.items()]
            outbox.set_many(connection, rows, ["not_before", "attempted"])
        gone = {f.message for f in result.fenced}
        if gone:
            left = outbox.move(connection, gone, "sending", now, only_from=("ready",))
            result.deferred |= {f.lane.id: now for f in result.fenced if f.message not in left}  # somebody was first
            result.fenced = [f for f in result.fenced if f.message in left]
        if result.fenced:
            _ATTEMPT.many(
                connection,
                [
                    {"message": f.message, "n": f.n, "node": self._node, "epoch": f.lane.epoch, "now": now}
                    for f in result.fenced
                ],
            )
            _SPEND_LANE.many(
                connection,
                [{"lane": f.lane.id, "free": lanes.pair_spend(f.lane.free_at, f.slot)} for f in result.fenced],
            )
            _SPEND_NUMBER.many(connection, [{"key": key, "free": free} for key, free in sorted(spent.items())])

    def _give_back(
        self, connection: Connection, result: Outcome, chosen: Sequence[tuple[Claimed, int]], world: World, now: int
    ) -> None:
        """Lanes of which nothing leaves now. One that waits for its message's time is woken all the same when something
        more urgent became ready between the claim and this transaction: the wake-up that told of it met our lease."""
        epochs = {claimed.id: claimed.epoch for claimed, _ in chosen}
        classes = {claimed.id: world.messages[message].cls for claimed, message in chosen if message in world.messages}
        later = {i: at for i, at in result.deferred.items() if at > now}
        ready = lanes.most_urgent_ready(connection, sorted(later))
        overtaken = {i for i in later if i in ready and ready[i] < classes[i]}
        lanes.release(
            connection, self._node, {i: epochs[i] for i in result.deferred if i not in later or i in overtaken}, now
        )
        lanes.defer(connection, self._node, {(i, epochs[i]): at for i, at in later.items() if i not in overtaken})
