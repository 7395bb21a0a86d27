"""A reminder's second look: before it leaves, Appointment and Patient are read again.

A difference goes the normal way first, as an event; the reminder is then superseded and armed anew. An EHR that cannot
be read holds it back until half of its expiry is over; then the site's `reminders.unconfirmed` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select

from bridge.engine.compose import Draft
from bridge.engine.pokes import hint_row
from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.site import Site
from bridge.engine.truth import Judge
from bridge.errors import UnreadableResource
from bridge.ledger import audit, keys
from bridge.ledger.clock import SECOND, to_us
from bridge.ledger.tables import identity, inbox, person, resource
from bridge.mappers.contact import canonical
from bridge.mappers.events import same
from bridge.mappers.person import Person, read_person, refusal
from bridge.mappers.recipient import unfit
from bridge.mappers.reminders import LAST_CALL

RECENT = 15 * 60 * SECOND  # a read not older than this confirms a reminder
LOOK_AGAIN = 5 * SECOND  # while the EHR cannot be read


@dataclass(frozen=True, slots=True)
class Postponed:
    """Not now. Times of the row, as they are to be from now on."""

    not_before: int
    not_after: int | None
    reason: str
    retry_at: int | None = None


class SecondLook:
    """Asked by the pump for each reminder that is due."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._judge = Judge(site, reader)
        self._pushed, self._since = site.clock.offset, 0
        self._asked: dict[int, tuple[str, list[str]]] = {}  # message -> the reads it waits for

    def waiting(self, ids: Iterable[int]) -> set[int]:
        """Those of these messages whose reads are still on their way; what others waited for is forgotten."""
        asked = {i: self._asked[i] for i in ids if i in self._asked}
        self._asked = {i: held for i, held in asked.items() if self._reader.awaited(*held)}
        return set(self._asked)

    def again(self, row: Any, draft: Draft, business: int) -> Draft | Postponed | str | None:
        """The draft as the EHR holds it now; a reason against it; None: something is being read or applied."""
        held, addressed, patient_zone = self._held(row)
        quiet = self._quiet(row, draft, business, patient_zone)
        if quiet is not None:
            return quiet
        if row.resource_ref is None or not self._reader.can_read(row.ehr):
            return draft
        since = self._recent()
        whats = [row.resource_ref, f"Patient/{draft.scene.patient.get('id')}"]
        if addressed is not None and addressed.kind == "related" and addressed.ref is not None:
            whats.append(addressed.ref)
        state = self._reader.need(row.ehr, whats, begun_after=since)
        if isinstance(state, Failed):
            return self._unconfirmed(row, draft, business)
        visit = self._reader.get(row.ehr, whats[0], begun_after=since)
        patient = self._reader.get(row.ehr, whats[1], begun_after=since)
        guardian = self._reader.get(row.ehr, whats[2], begun_after=since) if len(whats) > 2 else None
        found = [visit, patient, *([guardian] if len(whats) > 2 else [])]
        if state == "pending" or not all(isinstance(one, Found) for one in found):
            return None
        if any(one.state == "refused" for one in found if isinstance(one, Found)):
            return self._unconfirmed(row, draft, business)
        assert isinstance(visit, Found) and isinstance(patient, Found)
        compared = self._compare(row, draft, held, addressed, visit.value, patient.value)
        if isinstance(compared, Draft) and isinstance(guardian, Found):
            return self._guardian(row, compared, guardian.value)
        return compared

    def _guardian(self, row: Any, draft: Draft, raw: Mapping[str, Any] | None) -> Draft | str | None:
        """The guardian as the EHR has them now: whether they still are, of this patient, and at which number."""
        if raw is None:
            return "the EHR does not show the guardian any more"
        read = read_person(raw, region=self._site.settings.site.region, now=self._site.now())
        why = unfit(read)
        if why is None and read.patient != f"Patient/{draft.scene.patient.get('id')}":
            why = "the related person is not this patient's guardian any more"
        if why is None and not read.phones:
            why = "the guardian has no phone number that WhatsApp could reach"
        if why is not None:
            self._event(row, read.reference)  # for everything else that waits to leave to them
            return why
        if not self._linked(row, read):
            self._event(row, read.reference)
            return None
        return replace(draft, wa_id=read.phones[0].wa_id, scene=replace(draft.scene, guardian=raw))

    def _recent(self) -> int:
        """Machine time from which on a read is recent on both clocks: business time that was pushed ages what was read."""
        now = self._site.store.now()
        if self._site.clock.offset != self._pushed:
            self._pushed, self._since = self._site.clock.offset, now
        return max(0, now - RECENT, self._since)

    def _held(self, row: Any) -> tuple[Any, Any, str | None]:
        """The resource, the person addressed and the patient's zone, as the ledger has them."""
        with self._site.store.read() as connection:
            held = connection.execute(select(resource).where(resource.c.key == row.resource_key)).first()
            addressed = connection.execute(select(person).where(person.c.id == row.person_id)).first()
            zone = connection.execute(select(person.c.zone).where(person.c.id == row.patient_id)).scalar()
        return held, addressed, zone

    def _compare(
        self,
        row: Any,
        draft: Draft,
        held: Any,
        addressed: Any,
        visit: Mapping[str, Any] | None,
        patient: Mapping[str, Any] | None,
    ) -> Draft | str | None:
        try:
            now = self._judge.project(row.ehr, visit) if visit is not None else None
        except UnreadableResource:
            return "the EHR holds this visit in a form that cannot be read"
        if held is None or now is None or visit is None or not same(self._judge.held(held, held.type), now):
            self._event(row, row.resource_ref)
            return None
        if patient is None:
            return "the EHR does not show the patient any more"
        read = read_person(patient, region=self._site.settings.site.region, now=self._site.now())
        if (why := refusal(read)) is not None:
            self._event(row, read.reference)  # for everything else that waits to leave to them
            return why
        wa_id = draft.wa_id
        if addressed is not None and addressed.kind == "patient":
            if not read.phones:
                return "the patient has no phone number that WhatsApp could reach"
            wa_id = read.phones[0].wa_id
            if not self._linked(row, read):
                self._event(row, read.reference)  # whether that number stopped messages is asked of its own identity
                return None
        return replace(draft, wa_id=wa_id, scene=replace(draft.scene, resource=visit, patient=patient))

    def _linked(self, row: Any, read: Person) -> bool:
        """Whether the number that counts now is an identity of the person addressed already."""
        key = self._site.crypto.index(keys.identity(canonical(read.phones[0].wa_id)))
        with self._site.store.read() as connection:
            found = select(identity.c.id).where(
                identity.c.person_id == row.person_id, identity.c.key == key, identity.c.until.is_(None)
            )
            return connection.execute(found).first() is not None

    def _quiet(self, row: Any, draft: Draft, business: int, patient_zone: str | None) -> Postponed | str | None:
        """It could not leave before the quiet hours: their end, and `expires` counts from there (design §3)."""
        mapping = self._site.content.mappings.get(row.mapping)
        if mapping is None or mapping.delivery.quiet_hours != "respect":
            return None
        until = self._site.quiet_until(business, patient_zone)
        if until is None:
            return None
        not_after = until + ((row.not_after or row.not_before) - row.not_before)
        start = draft.scene.resource.get("start")
        if isinstance(start, str) and (latest := _instant(start)) is not None:
            not_after = min(not_after, latest - int(LAST_CALL.total_seconds() * SECOND))
        if not_after <= until:
            return "quiet hours last until less than 1 h before the visit"
        return Postponed(until, not_after, "quiet hours")

    def _unconfirmed(self, row: Any, draft: Draft, business: int) -> Draft | Postponed | str:
        """The EHR cannot be read: wait until half of the expiry is over, then as the site says."""
        site = self._site
        half = row.not_before + ((row.not_after or row.not_before) - row.not_before) // 2
        if business < half:
            again = site.store.now() + LOOK_AGAIN
            return Postponed(row.not_before, row.not_after, "the EHR cannot be read to confirm it", again)
        if site.settings.reminders.unconfirmed == "suppress":
            return "the EHR could not be read to confirm this reminder"
        with site.store.write() as connection:
            audit.record(
                connection, row=site.ids(), at=site.store.now(connection), action="unconfirmed",
                subject=f"msg_{row.id}", detail={"why": "sent though the EHR could not be read to confirm it"},
            )  # fmt: skip
        return draft

    def _event(self, row: Any, reference: str) -> None:
        """What was read differs from what we hold: it is applied as an event before anything is sent."""
        site = self._site
        key = site.crypto.index(keys.resource(row.ehr, reference))
        with site.store.write() as connection:
            waiting = select(inbox.c.id).where(inbox.c.fate.is_(None), inbox.c.key == key).limit(1)
            if connection.execute(waiting).first() is not None:
                return
            now = site.store.now(connection)
            connection.execute(inbox.insert().values(**hint_row(site, row.ehr, "reminder", reference, now)))
            audit.record(connection, row=site.ids(), at=now, action=audit.FOUND, count=1)
        site.wake_apply.set()


def _instant(written: str) -> int | None:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return to_us(moment) if moment.tzinfo is not None else None
