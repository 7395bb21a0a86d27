"""Two versions of an Appointment -> what happened, in words a mapping can name. Pure: no HTTP, database, clock or config.

Source: https://hl7.org/fhir/R4/appointment.html, https://hl7.org/fhir/R5/appointment.html; reference/fhir.md §6, §13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.errors import UnreadableResource
from bridge.mappers.tolerant import code, codings, instant, mapping, objects, own_reference, reference, shown, text

EVENTS = (
    "appointment.booked",
    "appointment.rescheduled",
    "appointment.changed",
    "appointment.cancelled",
    "appointment.noshow",
    "appointment.fulfilled",
)
# entered-in-error reads to a patient as a cancellation. noshow is its own event: most sites stay silent, it reads as a reproach.
ENDS = {
    "cancelled": "appointment.cancelled",
    "entered-in-error": "appointment.cancelled",
    "noshow": "appointment.noshow",
    "fulfilled": "appointment.fulfilled",
}
PROMISED = {"booked", "pending"}  # proposed and waitlist promise nothing yet
ARRIVED = {"arrived", "checked-in"}  # the patient stands at the desk
SPELLINGS = {"canceled": "cancelled", "no-show": "noshow"}  # R4's own invariant app-4 writes no-show

PROFESSIONALS = {"Practitioner", "PractitionerRole", "CareTeam", "HealthcareService"}
PLACE_TYPES = {"LOC", "LOCATION"}  # participant.type of actors that are display or identifier only
PROFESSIONAL_TYPES = {"PPRF", "SPRF", "PRF", "ATND", "CON", "ADM", "DIS"}  # v3-ParticipationType


@dataclass(frozen=True, slots=True)
class Appointment:
    """What a patient would notice of a visit."""

    reference: str  # "Appointment/a1"
    status: str  # lower case
    start: datetime | None
    end: datetime | None
    place: tuple[str, ...]  # "Location/x", else what is written of it; sorted, for EHRs reorder participants
    with_whom: tuple[str, ...]  # "Practitioner/x", else what is written of them; sorted
    patients: tuple[str, ...]  # "Patient/x"; sorted


def project(
    resource: Mapping[str, Any],
    fhir_version: str,  # R4's and R5's names are both read: EHRs mix them
    *,
    zone: str | None = None,
    recognise: Sequence[Any] = (),
    now: datetime | None = None,
) -> Appointment:
    """Read the elements we use.

    Args:
        resource: raw JSON.
        fhir_version: R4, R4B or R5.
        zone: of the site's EHR when it writes times without offset; without it such a time is unreadable.
        recognise: not used.
        now: not used.

    Raises:
        UnreadableResource: not an Appointment, no id, no status, or a promised visit whose start nobody can place.
    """
    own = own_reference(resource, "Appointment")
    if own is None:
        raise UnreadableResource("not an Appointment with an id: nothing can be tracked")
    status = SPELLINGS.get(code(resource.get("status")), code(resource.get("status")))
    if not status:
        raise UnreadableResource(f"{shown(own)}: without status")
    start = instant(resource.get("start"), zone)
    if start is None and resource.get("start") and status in PROMISED | ARRIVED:
        # an ended visit may have any start: its end must reach the patient all the same
        raise UnreadableResource(f"{shown(own)}: its start is no instant with an offset")
    places, people, patients = _actors(resource)
    subject = reference(resource.get("subject"))  # R5: may be the only mention of the patient
    if subject and subject.startswith("Patient/"):
        patients.add(subject)
    return Appointment(
        reference=own,
        status=status,
        start=start,
        end=instant(resource.get("end"), zone),
        place=tuple(sorted(places)),
        with_whom=tuple(sorted(people)),
        patients=tuple(sorted(patients)),
    )


def events(before: Appointment | None, now: Appointment) -> tuple[str, ...]:
    """Name what changed between what the patient was told and what holds now.

    Args:
        before: the projection the patient's last news was computed against, None for a resource never seen.
        now: as the EHR holds it; `start` is an instant, so its offset is the EHR's, not the clinic's.

    Returns:
        Event names, most specific first; empty when nothing a patient would notice has changed.

    Raises:
        UnreadableResource: a promised visit without `start`, which no mapping can put into words.
    """
    known = before is not None and before.status in PROMISED | ARRIVED
    if now.status in ENDS:
        return (ENDS[now.status],) if known else ()  # never heard of, so nothing to take back
    if now.status not in PROMISED:
        return ()
    if now.start is None:
        raise UnreadableResource(f"{shown(now.reference)}: {now.status} without start")
    if before is None or not known:
        return ("appointment.booked",)
    if (before.start, before.place) != (now.start, now.place):
        return ("appointment.rescheduled",)
    return ("appointment.changed",) if (before.end, before.with_whom) != (now.end, now.with_whom) else ()


def patients(appointment: Appointment) -> tuple[str, ...]:
    """Whom it is about; participants that are RelatedPersons and logical references are left out."""
    return appointment.patients


def gone(appointment: Appointment) -> Appointment:
    """Deleted in the EHR: to the patient, as if it had been entered in error."""
    return replace(appointment, status="entered-in-error")


def seen_by(appointment: Appointment | None, patient: str) -> Appointment | None:
    """As far as one patient is concerned: before they were in it there was nothing, and taken out of it is cancelled.

    Ask it for both sides (`events(seen_by(before, p), seen_by(now, p))`) for every patient of either.
    """
    if appointment is None:
        return None
    return appointment if patient in appointment.patients else replace(appointment, status="cancelled")


def to_json(appointment: Appointment) -> dict[str, Any]:
    """For the ledger; `from_json` gives back an equal one."""
    return {
        "reference": appointment.reference,
        "status": appointment.status,
        "start": appointment.start.isoformat() if appointment.start else None,
        "end": appointment.end.isoformat() if appointment.end else None,
        "place": list(appointment.place),
        "with_whom": list(appointment.with_whom),
        "patients": list(appointment.patients),
    }


def from_json(stored: Mapping[str, Any]) -> Appointment:
    """As `to_json` wrote it."""
    return Appointment(
        reference=stored["reference"],
        status=stored["status"],
        start=datetime.fromisoformat(stored["start"]) if stored["start"] else None,
        end=datetime.fromisoformat(stored["end"]) if stored["end"] else None,
        place=tuple(stored["place"]),
        with_whom=tuple(stored["with_whom"]),
        patients=tuple(stored["patients"]),
    )


def _actors(resource: Mapping[str, Any]) -> tuple[set[str], set[str], set[str]]:
    """Places, professionals and patients among the participants."""
    places: set[str] = set()
    people: set[str] = set()
    found: set[str] = set()
    contained = {text(item.get("id")): item for item in objects(resource.get("contained"))}
    for participant in objects(resource.get("participant")):
        actor = mapping(participant.get("actor"))
        literal = reference(actor)
        inside = contained.get((text(actor.get("reference")) or "").removeprefix("#"), {})
        kind = literal.split("/")[0] if literal else text(inside.get("resourceType")) or text(actor.get("type")) or ""
        kind = kind or _kind(participant)
        if kind == "Patient":
            found.update({literal} if literal else ())
        elif code(participant.get("status")) == "declined":
            continue  # a professional or room that will not be there
        elif label := literal or _label(actor, inside):
            if kind == "Location":
                places.add(label)
            elif kind in PROFESSIONALS:
                people.add(label)
    return places, people, found


def _kind(participant: Mapping[str, Any]) -> str:
    """What an actor without reference is, from participant.type; unknown ones are left out: it may be the patient's name."""
    types = {value.upper() for _, value in codings(participant.get("type"))}
    if types & PLACE_TYPES:
        return "Location"
    return "Practitioner" if types & PROFESSIONAL_TYPES else ""


def _label(actor: Mapping[str, Any], inside: Mapping[str, Any]) -> str | None:
    """A logical reference by its identifier, which is steadier than what is written beside it."""
    identifier = mapping(actor.get("identifier"))
    if value := text(identifier.get("value")):
        return f"{text(identifier.get('system')) or ''}|{value}"
    return text(actor.get("display")) or text(inside.get("name"))
