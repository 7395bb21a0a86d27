"""One resource and everything a message about it is made of, read from the EHR at once and for a person who looks.

The apply loop reads the same things a few at a time, through `reads`; this is for verbs that wait for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from bridge.errors import EhrRefused, UnreadableResource
from bridge.fhir.client import Resource
from bridge.mappers import tolerant
from bridge.mappers.examples import context_of
from bridge.mappers.person import Person, read_person
from bridge.mappers.recipient import Recipient, Refusal, is_minor, recipients
from bridge.mappers.render import Context
from bridge.settings import Settings

Raw = Mapping[str, Any]


class Client(Protocol):
    """As much of `EhrClient` as looking takes."""

    def read(self, reference: str, etag: str | None = None) -> Any: ...
    def search(self, resource_type: str, params: Any) -> Any: ...


@dataclass(slots=True)
class Glance:
    """What one look found. Raw JSON."""

    resource: Raw
    patient: Raw | None = None
    person: Person | None = None
    guardian: Raw | None = None  # the one chosen, where a guardian is written to
    practitioner: Raw | None = None
    location: Raw | None = None
    chosen: Recipient | Refusal | None = None
    notes: list[str] = field(default_factory=list)  # what could not be read, and stays empty in the message


def look(
    client: Client | None,
    settings: Settings,
    resource: Raw,
    *,
    who: str,
    now: datetime,
    included: Mapping[str, Raw] | None = None,
    patient: str | None = None,
) -> Glance:
    """Complete a resource as the engine would.

    Args:
        client: of the EHR that holds it; None reads nothing, and what is not in `included` stays empty.
        settings: the site's: ages, region.
        resource: what it is about.
        who: `recipient.who` of the mapping.
        now: business time.
        included: what came beside the resource; asked before the EHR is.
        patient: which one, of a visit for several; else the first.

    Raises: EhrUnreachable.
    """
    found = Glance(resource)
    beside = dict(included or {})

    def get(reference: str | None) -> Raw | None:
        if reference is None:
            return None
        if reference in beside:
            return beside[reference]
        if client is None:
            found.notes.append(f"{reference} is not beside the resource, and there is no EHR to read it from")
            return None
        try:
            answer = client.read(reference)
        except EhrRefused as error:
            found.notes.append(f"the EHR does not let us read {reference} ({error.status or 'refused'})")
            return None
        if not isinstance(answer, Resource):
            found.notes.append(f"the EHR does not have {reference}")
            return None
        beside[reference] = answer.resource
        return answer.resource

    _around(found, get)
    _persons(found, get, client, settings, who, now, patient)
    return found


def in_context(
    glance: Glance,
    settings: Settings,
    *,
    ehr: str,
    now: datetime,
    previous: Raw | None = None,
    offset: str | None = None,
) -> tuple[Context, str | None]:
    """What a mapping's paths would see of it, in the language of the one written to; and why nobody is, if so."""
    beside = (glance.patient, glance.guardian, glance.practitioner, glance.location, previous)
    zone = (glance.person.zone if glance.person and glance.location is None else None) or settings.ehrs[ehr].zone
    context = context_of(
        {"entry": [{"resource": each} for each in (glance.resource, *beside) if each is not None]},
        at=now.isoformat(),
        zone=zone or settings.site.zone,
        site_languages=settings.site.languages,
        site_policy=settings.site.policy,
        offset=offset,
    )
    context = replace(context, fhir_version=settings.ehrs[ehr].fhir_version)
    chosen = glance.chosen
    if isinstance(chosen, Recipient) and chosen.person.language is not None:
        context = replace(context, language=chosen.person.language)
    return context, chosen.reason if isinstance(chosen, Refusal) else None


def _around(found: Glance, get: Any) -> None:
    """Who treats, and where."""
    for participant in tolerant.objects(found.resource.get("participant")):
        actor = tolerant.mapping(participant.get("actor"))
        reference = tolerant.reference(actor)
        kind = (reference or "").split("/")[0] or (tolerant.text(actor.get("type")) or "")
        display = tolerant.text(actor.get("display"))
        if kind == "Location" and found.location is None:
            found.location = get(reference) or ({"resourceType": "Location", "name": display} if display else None)
        elif kind in {"Practitioner", "PractitionerRole"} and found.practitioner is None:
            held = get(reference)
            if held is not None and held.get("resourceType") == "PractitionerRole":
                inner = tolerant.mapping(held.get("practitioner"))
                display = tolerant.text(inner.get("display")) or display
                held = get(tolerant.reference(inner))
            named = {"resourceType": "Practitioner", "name": [{"text": display}]} if display else None
            found.practitioner = held or named


def _persons(
    found: Glance, get: Any, client: Client | None, settings: Settings, who: str, now: datetime, wanted: str | None
) -> None:
    several = patients_of(found.resource)
    reference = wanted or next(iter(several), None)
    if len(several) > 1:
        rest = ", ".join(each for each in several if each != reference)
        message = f"this is about {len(several)} patients, and each has a message of their own: shown is {reference}'s"
        found.notes.append(f"{message}; --patient shows that of {rest}")
    found.patient = get(reference)
    if found.patient is None:
        found.chosen = Refusal("no patient is named in it" if reference is None else "the patient cannot be read")
        return
    site = settings.site
    try:
        found.person = read_person(found.patient, region=site.region, now=now)
    except UnreadableResource as error:
        found.chosen = Refusal(str(error))
        return
    today = now.astimezone(ZoneInfo(found.person.zone or site.zone)).date()
    raws: dict[str, Raw] = {}
    related: list[Person] = []
    if client is not None and (
        who == "guardian-only" or is_minor(found.person, minor_under=site.own_voice_from, today=today)
    ):
        for each in client.search("RelatedPerson", {"patient": found.person.reference}):
            if each.resource.get("resourceType") != "RelatedPerson":
                continue
            try:
                one = read_person(each.resource, region=site.region, now=now)
            except UnreadableResource:
                continue
            related.append(one)
            raws[one.reference] = each.resource
    ages = {"minor_under": site.minor_under, "own_voice_from": site.own_voice_from}
    found.chosen = recipients(who, found.person, related, today=today, **ages)  # type: ignore[arg-type]
    if isinstance(found.chosen, Recipient) and found.chosen.role == "guardian":
        found.guardian = raws.get(found.chosen.reference)


def patients_of(resource: Raw) -> list[str]:
    """Everybody it is about, as it names them: "Patient/ana"."""
    named = [tolerant.mapping(each.get("actor")) for each in tolerant.objects(resource.get("participant"))]
    named += [tolerant.mapping(resource.get(name)) for name in ("subject", "patient")]
    references = (tolerant.reference(each) for each in named)
    return list(dict.fromkeys(each for each in references if each is not None and each.startswith("Patient/")))
