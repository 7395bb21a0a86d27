"""A Patient or RelatedPerson -> whom we may write to, where, and in which language.

Sources: https://hl7.org/fhir/R4/patient.html, https://hl7.org/fhir/R4/relatedperson.html (the elements used are the
same in R4B and R5); reference/fhir.md §13 (minors and proxies, merged records, animals).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from babel.core import get_global

from bridge.errors import UnreadableResource
from bridge.mappers import zones
from bridge.mappers.contact import Phone, phones
from bridge.mappers.tolerant import (
    Period,
    code,
    codings,
    extensions,
    false,
    mapping,
    objects,
    own_reference,
    partial_date,
    period,
    reference,
    text,
    texts,
    true,
)

LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z]{4})?(?:[-_]([A-Za-z]{2}|\d{3}))?(?:[-_].*)?")  # BCP-47: pt-BR
BCP47 = {"urn:ietf:bcp:47", "urn:ietf:rfc:3066", ""}  # a local code system's "es" may mean anything


@dataclass(frozen=True, slots=True)
class Person:
    """What of a person decides whether, where and how we write. Nothing of it belongs in a log line."""

    reference: str  # "Patient/p1", "RelatedPerson/r1"
    kind: Literal["patient", "related"]
    active: bool
    deceased: bool
    replaced_by: str | None  # "Patient/p2", or "another record" when the EHR names none
    human: bool
    birth_date: date | None = field(repr=False)  # a partial date is its last day: the youngest the person can be
    birth_precision: str | None  # day | month | year
    language: str | None  # "es", "pt_BR", as the site's languages are spelt
    zone: str | None  # of the tz database
    names: tuple[Mapping[str, Any], ...] = field(repr=False)  # HumanName as written
    phones: tuple[Phone, ...] = field(repr=False)  # best first
    patient: str | None  # whose RelatedPerson this is
    relationship: tuple[str, ...]  # codes, upper case, of any system; also the words written beside them, lower case
    period: Period  # of the relationship
    current: bool  # the period covers `now`

    def age(self, today: date) -> int | None:
        """Completed years, at least; None when the birth date is unknown."""
        if self.birth_date is None:
            return None
        born = self.birth_date
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def read_person(resource: Mapping[str, Any], *, region: str, now: datetime) -> Person:
    """Read one Patient or RelatedPerson.

    Args:
        resource: raw JSON as the EHR sent it.
        region: of the site (ISO 3166), for national numbers.
        now: business time; telecoms and relationships have periods.

    Raises:
        UnreadableResource: another resource type, or no id.
    """
    own = own_reference(resource, "Patient") or own_reference(resource, "RelatedPerson")
    if own is None:
        raise UnreadableResource("neither a Patient nor a RelatedPerson with an id")
    born = partial_date(resource.get("birthDate"))
    relation = resource.get("relationship")
    held = period(resource.get("period"))
    return Person(
        reference=own,
        kind="patient" if own.startswith("Patient/") else "related",
        active=not false(resource.get("active")),
        deceased=_deceased(resource),
        replaced_by=_replaced_by(resource),
        human=not (any(extensions(resource, "patient-animal")) or mapping(resource.get("animal"))),
        birth_date=born[0] if born else None,
        birth_precision=born[1] if born else None,
        language=_language(resource.get("communication")),
        zone=_zone(resource),
        names=tuple(objects(resource.get("name"))),
        phones=phones(resource.get("telecom"), region=region, now=now),
        patient=reference(resource.get("patient")) if own.startswith("RelatedPerson/") else None,
        relationship=tuple(
            dict.fromkeys(
                [value.upper() for _, value in codings(relation)] + [word.lower() for word in texts(relation)]
            )
        ),
        period=held,
        current=held.covers(now),
    )


def refusal(person: Person) -> str | None:
    """Why nobody may write to this person, in no mapping's power; None when one may."""
    who = "the patient" if person.kind == "patient" else "the related person"
    if person.deceased:
        return f"{who} has died"
    if not person.human:
        return f"{who} is an animal"
    if person.replaced_by:
        return f"{who}'s record was replaced by {person.replaced_by}"
    if not person.active:
        return f"{who}'s record is not active"
    return None


def _deceased(resource: Mapping[str, Any]) -> bool:
    """`deceasedBoolean: false` is alive, and several EHRs write it on everyone living; a date of unknown value is a death."""
    return (
        true(resource.get("deceasedBoolean"))
        or bool(resource.get("deceasedDateTime"))
        or bool(mapping(resource.get("_deceasedDateTime")))
    )


def _replaced_by(resource: Mapping[str, Any]) -> str | None:
    for link in objects(resource.get("link")):
        if code(link.get("type")) == "replaced-by":
            return reference(link.get("other")) or "another record"
    return None


def _language(communication: Any) -> str | None:
    """The preferred language; the only one listed counts as preferred."""
    listed = objects(communication)
    preferred = [entry for entry in listed if true(entry.get("preferred"))] or (listed if len(listed) == 1 else [])
    for entry in preferred:
        for system, value in codings(entry.get("language")):
            found = LANGUAGE.fullmatch(value) if system in BCP47 or system.startswith("http://hl7.org/fhir") else None
            if found:
                base = found[1].lower()
                if len(base) == 3:  # "spa" is "es"
                    base = str(get_global("language_aliases").get(base, base)).split("_")[0]
                return f"{base}_{found[2].upper()}" if found[2] else base
    return None


def _zone(resource: Mapping[str, Any]) -> str | None:
    """Extension `timezone` of the person, or of an address in use (https://hl7.org/fhir/extensions/StructureDefinition-timezone.html)."""
    for element in _placed(resource):
        for extension in extensions(element, "StructureDefinition/timezone"):
            name = text(extension.get("valueCode")) or text(extension.get("valueString"))
            if name and (zone := zones.known(name)):
                return zone
    return None


def _placed(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield resource
    current = [address for address in objects(resource.get("address")) if code(address.get("use")) != "old"]
    yield from sorted(current, key=lambda address: code(address.get("use")) != "home")
