"""Who gets the message: the patient, or the guardian of a minor. A minor is never messaged directly.

Source: reference/patients.md §C.5 (minors and caregivers), design §5 (refused by the engine, in no mapping's power).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from bridge.mappers.person import Person, refusal

# v3-RoleCode parents, foster and adoptive ones, guardian, responsible party, health care attorney; v2-0063's spellings;
# SNOMED CT mother, father, parent, legal guardian. Not here on purpose: next of kin (N), emergency contact (C),
# step-parents, siblings, grandparents: kin is not custody.
GUARDIANS = {
    *("PRN", "MTH", "FTH", "NPRN", "NMTH", "NFTH", "ADOPTP", "ADOPTM", "ADOPTF", "PRNFOST", "MTHFOST", "FTHFOST"),
    *("GUARD", "GRD", "PAR", "RESPRSN", "HPOWATT"),
    *("72705000", "66839005", "40683002", "58626002"),
}
# Some EHRs write the relationship in words only; whole words, nothing guessed.
GUARDIAN_WORDS = {
    *("mother", "natural mother", "father", "natural father", "parent", "guardian", "legal guardian"),
    *("madre", "padre", "tutor", "tutora", "tutor legal", "tutora legal"),
    *("mãe", "pai", "responsável legal", "tutor legal"),
}

Who = Literal["patient", "guardian-if-minor", "guardian-only"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """The person addressed, and the patient it is about."""

    reference: str  # "Patient/p1" or "RelatedPerson/r1"; part of the effect key
    role: Literal["self", "guardian"]
    person: Person
    patient: Person


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody may be written to; the reason is for the trace, in plain words."""

    reason: str


def is_minor(patient: Person, *, minor_under: int, today: date) -> bool:
    """Whether the patient is, or can be, under age; without a birth date nothing says so, and it is read as no."""
    age = patient.age(today)
    return age is not None and age < minor_under


def recipients(
    who: Who,
    patient: Person,
    related: Sequence[Person],
    *,
    minor_under: int,
    today: date,
    reachable: Collection[str] = (),
    own_voice_from: int | None = None,
) -> Recipient | Refusal:
    """Decide who is addressed.

    Args:
        who: `recipient.who` of the mapping.
        patient: whom the resource is about.
        related: every RelatedPerson known of the patient; others are left aside.
        minor_under: the site's age, in completed years.
        today: the date where the patient is.
        reachable: references that WhatsApp reaches by a linked identity though the EHR holds no number.
        own_voice_from: the age from which a minor is written to themselves; without one, that of adults.
    """
    if reason := refusal(patient):
        return Refusal(reason)
    spoken_for = minor_under if own_voice_from is None else own_voice_from
    minor = is_minor(patient, minor_under=spoken_for, today=today)
    if who == "guardian-only" or (who == "guardian-if-minor" and minor):
        return _guardian(patient, related, minor=minor, minor_under=minor_under, today=today, reachable=reachable)
    if minor:
        return Refusal("the patient is a minor and this mapping writes to patients only")
    if not patient.phones and patient.reference not in reachable:
        return Refusal("the patient has no phone number that WhatsApp could reach")
    return Recipient(patient.reference, "self", patient, patient)


def _guardian(
    patient: Person,
    related: Sequence[Person],
    *,
    minor: bool,
    minor_under: int,
    today: date,
    reachable: Collection[str],
) -> Recipient | Refusal:
    """The one guardian who is written to: with a number, and of several the lowest reference, so that it is always the same."""
    what = "minor without a guardian we may write to" if minor else "patient without a guardian we may write to"
    guardians = sorted(
        (person for person in related if person.patient == patient.reference and _cares_for(person)),
        key=lambda person: person.reference,
    )
    if not guardians:
        return Refusal(what)
    hindrances = []
    for person in guardians:
        reason = unfit(person)
        if reason is None and is_minor(person, minor_under=minor_under, today=today):
            reason = "is a minor too"
        if reason is None and not person.phones and person.reference not in reachable:
            reason = "has no phone number that WhatsApp could reach"
        if reason is None:
            return Recipient(person.reference, "guardian", person, patient)
        hindrances.append(f"{person.reference}: {reason}")
    return Refusal(f"{what} ({'; '.join(hindrances)})")


def unfit(person: Person) -> str | None:
    """Why this related person speaks for nobody (any more), whatever number they have; None when nothing says so."""
    if reason := refusal(person):
        return reason
    if not person.current:
        return "the relationship is not current"
    return None if _cares_for(person) else "the related person is not a guardian"


def _cares_for(person: Person) -> bool:
    return person.kind == "related" and bool(
        GUARDIANS.intersection(person.relationship) or GUARDIAN_WORDS.intersection(person.relationship)
    )
