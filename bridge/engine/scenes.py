"""What a message may be made of, from answers at hand: patient, guardians, professional, place. What is missing is asked for
and stops the decision here (`NeedReads`); it is taken up again when the answer is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bridge.engine import persons
from bridge.engine.compose import Scene
from bridge.engine.foreign import without_foreign
from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.site import Site
from bridge.engine.truth import Pending, Truth, Waiting
from bridge.errors import UnreadableResource
from bridge.ledger import keys
from bridge.mappers import tolerant
from bridge.mappers.events.appointment import PROMISED
from bridge.mappers.person import Person, read_person
from bridge.mappers.recipient import is_minor

BESIDE = frozenset({"Practitioner", "PractitionerRole", "Location"})


class NeedReads(Exception):
    """The decision cannot be made yet: `state` says what it waits for."""

    def __init__(self, state: Pending | Waiting) -> None:
        self.state = state
        super().__init__("reads")


class Scenes:
    """Reads for the decisions of one batch."""

    def __init__(self, site: Site, reader: Reader, people: persons.People) -> None:
        self._site = site
        self._reader = reader
        self._people = people

    def read(self, ehr: str, what: str) -> Found:
        """An answer at hand; asks for it and stops here when it is not."""
        state = self._reader.need(ehr, [what])
        if isinstance(state, Failed):
            raise NeedReads(Waiting(state.reason, 2.0))
        answer = self._reader.get(ehr, what)
        if not isinstance(answer, Found):
            raise NeedReads(Pending(ehr, (what,)))
        return answer

    def ahead(self, ehr: str, patient: str, truth: Truth) -> None:
        """Ask for everything a message about this patient is made of at once, rather than one after another."""
        if not self._reader.can_read(ehr):
            return
        whats = self._made_of(ehr, patient, truth.raw or {}, truth.included)
        if self._reader.need(ehr, whats) == "pending":
            raise NeedReads(Pending(ehr, tuple(whats)))

    def beforehand(self, ehr: str, raw: Mapping[str, Any], included: Mapping[str, Any]) -> Pending | None:
        """Ask for what news of a visit nobody has heard of is made of; None when that is at hand, or cannot be had now: the
        decision will say so. It is as good as decided, but for what its reads say."""
        if not self._reader.can_read(ehr) or tolerant.code(raw.get("status")) not in PROMISED:
            return None
        client = self._site.clients.get(ehr)
        raw = without_foreign(raw, client.local if client is not None else None)
        actors = [tolerant.reference(one.get("actor")) for one in tolerant.objects(raw.get("participant"))]
        patients = [actor for actor in actors if actor is not None and actor.startswith("Patient/")]
        whats = tuple(what for patient in patients for what in self._made_of(ehr, patient, raw, included))
        return Pending(ehr, whats) if self._reader.need(ehr, whats) == "pending" else None

    def _made_of(self, ehr: str, patient: str, raw: Mapping[str, Any], included: Mapping[str, Any]) -> list[str]:
        whats = [patient] if patient not in included else []
        if self._consents_unread(ehr, patient):
            whats.append(f"Consent?patient={patient}")
        for participant in tolerant.objects(raw.get("participant")):
            reference = tolerant.reference(participant.get("actor"))
            if reference is not None and reference.split("/")[0] in BESIDE and reference not in included:
                whats.append(reference)
        return whats

    def _consents_unread(self, ehr: str, patient: str) -> bool:
        if not self._site.settings.consent.recognise or not patient.startswith("Patient/"):
            return False
        held = self._people.get(self._site.crypto.index(keys.person(ehr, patient)))
        return held is None or not held.row.consents_read_at

    def person(self, ehr: str, reference: str, included: Mapping[str, Any]) -> Mapping[str, Any] | str:
        """The Patient, or why there is none."""
        if reference in included:
            return dict(included[reference])
        if not self._reader.can_read(ehr):
            return "the patient cannot be read: this EHR has no base_url"
        answer = self.read(ehr, reference)
        if answer.value is None:
            return f"the EHR does not show the patient ({answer.state})"
        return dict(answer.value)

    def related(self, ehr: str, patient: str, person: Person) -> list[tuple[Person, Mapping[str, Any]]]:
        """RelatedPersons, asked for only where one may be addressed."""
        site = self._site
        always = any(m.recipient == "guardian-only" for m in site.content.mappings.mappings)
        today = site.now().date() - timedelta(days=1)
        if not (always or is_minor(person, minor_under=site.settings.site.own_voice_from, today=today)):
            return []
        if not self._reader.can_read(ehr):
            return []
        found = self.read(ehr, f"RelatedPerson?patient={patient}")
        related = []
        for raw in found.value or []:
            if raw.get("resourceType") != "RelatedPerson":
                continue
            try:
                related.append((read_person(raw, region=site.settings.site.region, now=site.now()), raw))
            except UnreadableResource:
                continue
        return related

    def scene(
        self,
        ehr: str,
        truth: Truth,
        patient: Mapping[str, Any],
        guardian: Mapping[str, Any] | None,
        before: Any,
    ) -> Scene:
        raw = truth.raw if truth.raw is not None else as_raw(truth.projection)
        practitioner = location = None
        for participant in tolerant.objects(raw.get("participant")):
            actor = tolerant.mapping(participant.get("actor"))
            reference = tolerant.reference(actor)
            kind = (reference or "").split("/")[0] or (tolerant.text(actor.get("type")) or "")
            if kind == "Location" and location is None:
                location = self._beside(ehr, reference, actor, truth.included, "Location")
            elif kind in {"Practitioner", "PractitionerRole"} and practitioner is None:
                practitioner = self._practitioner(ehr, reference, actor, truth.included)
        topics = tuple(getattr(truth.projection, "purposes", ()))
        return Scene(
            resource=raw,
            patient=patient,
            guardian=guardian,
            practitioner=practitioner,
            location=location,
            previous=as_raw(before) if before is not None else None,
            topics=topics,
        )

    def _practitioner(
        self, ehr: str, reference: str | None, actor: Mapping[str, Any], included: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        found = self._beside(ehr, reference, actor, included, "Practitioner")
        if found is not None and found.get("resourceType") == "PractitionerRole":
            inner = tolerant.mapping(found.get("practitioner"))
            return self._beside(ehr, tolerant.reference(inner), inner, included, "Practitioner")
        return found

    def _beside(
        self, ehr: str, reference: str | None, actor: Mapping[str, Any], included: Mapping[str, Any], kind: str
    ) -> Mapping[str, Any] | None:
        """A place or professional as read, else as far as the reference itself shows it."""
        if reference is not None and reference in included:
            return dict(included[reference])
        if reference is not None and self._reader.can_read(ehr):
            answer = self.read(ehr, reference)
            if answer.value is not None:
                return dict(answer.value)
        display = tolerant.text(actor.get("display"))
        if display is None:
            return None
        if kind == "Location":
            return {"resourceType": "Location", "name": display}
        return {"resourceType": "Practitioner", "name": [{"text": display}]}


def as_raw(projection: Any) -> dict[str, Any]:
    """A projection in FHIR's words, for `%previous` and for a resource that was deleted."""
    kind, _, identity = projection.reference.partition("/")
    raw: dict[str, Any] = {"resourceType": kind, "id": identity, "status": projection.status}
    for name in ("start", "end"):
        value = getattr(projection, name, None)
        if value is not None:
            raw[name] = value.isoformat()
    return raw
