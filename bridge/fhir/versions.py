"""Where R4, R4B and R5 put the same thing, read tolerantly; and what makes a push newer than what we hold. Pure.

R4 and R4B are identical in everything here. Accessors look for both spellings instead of asking for the version: the
config may say R4 while one feed of the EHR is R5 already.

Sources: https://hl7.org/fhir/R4/consent.html · https://hl7.org/fhir/R5/consent.html · https://hl7.org/fhir/R5/appointment.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from bridge.fhir.shapes import items, mapping, reduce, text

_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Version:
    """What `meta` says; either may be missing, and a versionId need not be a number (Medplum: a UUID)."""

    last_updated: datetime | None
    version_id: str | None


def version_of(resource: Mapping[str, Any]) -> Version:
    meta = mapping(resource.get("meta"))
    return Version(instant(meta.get("lastUpdated")), text(meta.get("versionId")))


def instant(value: object) -> datetime | None:
    """An instant with its zone; None without one. Seven digits of a second occur; six are kept."""
    found = _INSTANT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    try:
        return datetime.fromisoformat(f"{seconds}{(fraction or '')[:7]}{zone}")
    except ValueError:  # a 31st of February, a 61st second
        return None


def freshness(held: Version | None, pushed: Version) -> Literal["newer", "hint"]:
    """Is the push itself proof enough, or only a hint to read? (design, "Same or newer")

    Args:
        held: the version last applied, None for a resource never seen.
        pushed: of the resource in the push.

    Returns:
        "newer" when its lastUpdated is later than what we hold, or the same instant with a higher integer versionId;
        "hint" for everything else, older ones included: a read decides, and it may be right (restored backup).
    """
    if pushed.last_updated is None:
        return "hint"
    if held is None:
        return "newer"
    if held.last_updated is None or pushed.last_updated < held.last_updated:
        return "hint"
    if pushed.last_updated > held.last_updated:
        return "newer"
    ours, theirs = number(held.version_id), number(pushed.version_id)
    return "newer" if ours is not None and theirs is not None and theirs > ours else "hint"


def number(version_id: str | None) -> int | None:
    """A versionId that counts; Oracle's 3423957v2380283 and UUIDs do not."""
    return int(version_id) if version_id and re.fullmatch(r"[0-9]{1,18}", version_id) else None


# --- Consent --------------------------------------------------------------------------------------------------------


def patient_of(consent: Mapping[str, Any]) -> str | None:
    """Whom it is about: R4 `patient`, R5 `subject`. "Patient/p1", None for a logical reference."""
    return reduce(mapping(consent.get("patient") or consent.get("subject")).get("reference"))


def decision_time(consent: Mapping[str, Any]) -> str | None:
    """When it was said, as written (may be a day): R4 `dateTime`, R5 `date`. Never `meta.lastUpdated`."""
    return text(consent.get("dateTime")) or text(consent.get("date"))


def decision_type(consent: Mapping[str, Any]) -> str | None:
    """ "permit" or "deny" where it is said: R5 `decision`, R4 `provision.type`. R5 provisions are exceptions only."""
    provision = consent.get("provision")
    return text(consent.get("decision")) or (text(provision.get("type")) if isinstance(provision, dict) else None)


# --- Appointment ----------------------------------------------------------------------------------------------------


def _concepts(value: object) -> list[Mapping[str, Any]]:
    """R4 CodeableConcepts, or the `concept` of R5 CodeableReferences."""
    return [mapping(item["concept"]) if "concept" in item else item for item in items(value)]


def _codes(concepts: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """ "system|code" of every coding that has both; "|code" where the sender gave no system."""
    codings = [coding for concept in concepts for coding in items(concept.get("coding"))]
    return tuple(f"{text(c.get('system')) or ''}|{text(c.get('code'))}" for c in codings if text(c.get("code")))


def patients_of(appointment: Mapping[str, Any]) -> tuple[str, ...]:
    """ "Patient/p1" of every participant, and of R5's `subject`; RelatedPersons and logical references are left out."""
    actors = [mapping(item.get("actor")) for item in items(appointment.get("participant"))]
    named = [reduce(actor.get("reference")) for actor in [*actors, mapping(appointment.get("subject"))]]
    return tuple(dict.fromkeys(name for name in named if name and name.startswith("Patient/")))


def service_codes(appointment: Mapping[str, Any]) -> tuple[str, ...]:
    """`serviceType`: CodeableConcept in R4, CodeableReference(HealthcareService) in R5."""
    return _codes(_concepts(appointment.get("serviceType")))


def reason_codes(appointment: Mapping[str, Any]) -> tuple[str, ...]:
    """R4 `reasonCode`, R5 `reason[].concept`."""
    return _codes(_concepts(appointment.get("reasonCode")) + _concepts(appointment.get("reason")))


def cancellation_codes(appointment: Mapping[str, Any]) -> tuple[str, ...]:
    """R4 writes it with one l, R5 with two."""
    reason = appointment.get("cancelationReason") or appointment.get("cancellationReason")
    return _codes(_concepts(reason))


def cancellation_element(fhir_version: str) -> str:
    """The element to write: `cancelationReason` up to R4B."""
    return "cancellationReason" if fhir_version == "R5" else "cancelationReason"


def replaces(appointment: Mapping[str, Any]) -> tuple[str, ...]:
    """R5 names the Appointment this one stands in for; R4 has no such element."""
    named = items(appointment.get("replaces")) + items(appointment.get("previousAppointment"))
    return tuple(name for item in named if (name := reduce(item.get("reference"))))
