"""What happens at an EHR before an event: invented people, and the versions of one resource that lead to it. Pure."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bridge.mappers.events import RESOURCES

Resource = dict[str, Any]

EVENTS = tuple(name for resource in RESOURCES.values() for name in resource.names)
AHEAD = timedelta(days=10)  # of a visit: beyond every reminder, so that booking one is told at once
_CODES = "http://terminology.hl7.org/CodeSystem"


@dataclass(frozen=True, slots=True)
class Story:
    """Pushed in order; the last version is the event, those before it are what makes it one."""

    people: tuple[Resource, ...]  # and places: what the EHR must hold for it to be read
    versions: tuple[Resource, ...]
    consent: Resource | None = None  # of the patient, told before everything else

    @property
    def reference(self) -> str:
        return f"{self.versions[-1]['resourceType']}/{self.versions[-1]['id']}"

    @property
    def patient(self) -> Resource | None:
        """None where it is somebody whom the EHR holds already."""
        return next((each for each in self.people if each["resourceType"] == "Patient"), None)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks of the story."""

    now: datetime  # business time, in the site's zone
    phone: str  # E.164, of who reads
    fhir_version: str
    category: str | None  # `system|code` of a Consent that the site recognises
    language: str = "es"
    patient: str | None = None  # "Patient/p1" whom the EHR holds, instead of an invented one
    minor: bool = False
    refuses: bool = False  # a Consent that denies
    changes: Mapping[str, Any] = field(default_factory=dict)  # "patient.name.given" -> value


def tell(event: str, id: str, wishes: Wishes) -> Story:  # noqa: A002 - FHIR's name
    """A story of our own for one of `EVENTS`.

    Raises:
        ValueError: a change whose path leads nowhere, or a Consent at a site that recognises none.
    """
    kind = event.partition(".")[0]
    people = _people(kind, wishes)
    who = wishes.patient or f"Patient/{people[-1]['id']}"
    if kind == "appointment":
        versions = _visit(event, id, who, wishes)
    elif kind == "diagnosticreport":
        versions = _report(event, id, who, wishes)
    else:
        decision = _consent(id, who, wishes, permit=event == "consent.granted")
        opposite = _consent(id, who, wishes, permit=event != "consent.granted", before=True)
        versions = [opposite, decision]
    decided = None  # results leave only to who has agreed to them
    if wishes.refuses or (kind == "diagnosticreport" and wishes.category is not None):
        decided = _consent(f"{id}-consent", who, wishes, permit=not wishes.refuses, before=True)
    return changed(Story(people, tuple(versions), decided), wishes.changes)


def retold(bundle: Mapping[str, Any], id: str | None, changes: Mapping[str, Any]) -> Story:  # noqa: A002
    """The story in a file: a resource, or a Bundle as mappings use it: the focus first, its previous version and people after.

    Raises:
        ValueError: nothing in it that bridge has events for, or a change whose path leads nowhere.
    """
    entries = bundle.get("entry") if bundle.get("resourceType") == "Bundle" else [{"resource": bundle}]
    listed = [each.get("resource") for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    resources = [copy.deepcopy(each) for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]
    if not resources or resources[0].get("resourceType") not in RESOURCES:
        raise ValueError(f"the file must begin with one of {', '.join(RESOURCES)}, with an id")
    focus = resources[0]
    previous = [each for each in resources[1:] if each.get("resourceType") == focus["resourceType"]]
    people = [each for each in resources[1:] if each not in previous]
    versions = [*previous, focus]
    for version in versions:
        version["id"] = id or focus["id"]
    return changed(Story(tuple(people), tuple(versions)), changes)


def changed(story: Story, changes: Mapping[str, Any]) -> Story:
    """The same with values set: `patient.name.given` of the Patient, `appointment.start` of the last version."""
    told = copy.deepcopy(story)
    for path, value in changes.items():
        kind, _, rest = path.partition(".")
        held = [told.versions[-1], *told.people]
        target = next((each for each in held if each["resourceType"].lower() == kind.lower()), None)
        if target is None or not rest:
            named = ", ".join(sorted({each["resourceType"].lower() for each in held}))
            raise ValueError(f"{path}: begin with one of {named}, then a dot and an element")
        _set(target, rest.split("."), value, path)
    return told


def _set(target: Any, steps: Sequence[str], value: Any, path: str) -> None:
    """A step into a list is a number, or goes into its first; a value for a list of texts is put into one."""
    if isinstance(target, list):
        if steps[0].isdecimal():
            index, steps = int(steps[0]), steps[1:]
        else:
            index = 0
        if index >= len(target):
            raise ValueError(f"{path}: the list has {len(target)}")
        if not steps:
            target[index] = value
            return
        target = target[index]
    if not isinstance(target, dict):
        raise ValueError(f"{path}: {steps[0]} stands below a value")  # noqa: TRY004 - the path is what is wrong
    held = target.get(steps[0])
    if len(steps) == 1:
        plain = isinstance(held, list) and not isinstance(value, list) and all(isinstance(each, str) for each in held)
        target[steps[0]] = [value] if plain else value
    elif held is None:
        _set(target.setdefault(steps[0], {}), steps[1:], value, path)
    else:
        _set(held, steps[1:], value, path)


# --- people ------------------------------------------------------------------------------------------------------------


def _people(kind: str, wishes: Wishes) -> tuple[Resource, ...]:
    """Places and helpers first, the patient last; no patient where the EHR holds one."""
    zone = [{"url": "http://hl7.org/fhir/StructureDefinition/timezone", "valueCode": str(wishes.now.tzinfo)}]
    spoken = [
        {
            "language": {"coding": [{"system": "urn:ietf:bcp:47", "code": wishes.language.replace("_", "-")}]},
            "preferred": True,
        }
    ]
    phone = [{"system": "phone", "value": wishes.phone, "use": "mobile", "rank": 1}]
    born = wishes.now.date().replace(month=1, day=2, year=wishes.now.year - (9 if wishes.minor else 41))
    patient: Resource = {
        "resourceType": "Patient", "active": True, "birthDate": born.isoformat(), "communication": spoken,
        "name": [{"use": "official", "family": "Prueba", "given": ["Mateo" if wishes.minor else "Ana"]}],
    }  # fmt: skip
    if not wishes.minor:
        patient["telecom"] = phone
    asked = [patient, kind, wishes.refuses, wishes.phone, sorted(wishes.changes.items())]
    # a patient of its own for each wish: what the engine has read or learned of another one does not count here
    patient["id"] = f"bridge-trigger-{hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:10]}"
    practitioner: Resource = {
        "resourceType": "Practitioner", "id": "bridge-trigger", "active": True,
        "name": [{"use": "official", "text": "Dra. Ruiz", "family": "Ruiz", "given": ["Carmen"], "prefix": ["Dra."]}],
    }  # fmt: skip
    location: Resource = {
        "resourceType": "Location", "id": "bridge-trigger", "status": "active", "name": "Consultas externas, planta 2", "extension": zone,
    }  # fmt: skip
    guardian: Resource = {
        "resourceType": "RelatedPerson", "id": f"{patient['id']}-father", "active": True, "telecom": phone, "communication": spoken,
        "patient": {"reference": f"Patient/{patient['id']}"}, "name": [{"use": "official", "family": "Prueba", "given": ["Luis"]}],
        "relationship": [{"coding": [{"system": f"{_CODES}/v3-RoleCode", "code": "FTH"}]}],
    }  # fmt: skip
    if wishes.patient is not None:
        return practitioner, location
    return (practitioner, location, *([guardian] if wishes.minor else []), patient)


# --- resources ---------------------------------------------------------------------------------------------------------


def _visit(event: str, id: str, patient: str, wishes: Wishes) -> list[Resource]:  # noqa: A002
    zone = ZoneInfo(str(wishes.now.tzinfo))
    start = (wishes.now + AHEAD).astimezone(zone).replace(hour=15, minute=30, second=0, microsecond=0)
    booked: Resource = {
        "resourceType": "Appointment", "id": id, "status": "booked", "start": start.isoformat(),
        "identifier": [{"system": "https://bridge.example/trigger", "value": id}],
        "end": (start + timedelta(minutes=30)).isoformat(), "minutesDuration": 30,
        "participant": [
            {"actor": {"reference": patient}, "required": "required", "status": "needs-action"},
            {"actor": {"reference": "Practitioner/bridge-trigger", "display": "Dra. Ruiz"}, "status": "accepted"},
            {"actor": {"reference": "Location/bridge-trigger"}, "status": "accepted"},
        ],
    }  # fmt: skip
    if wishes.fhir_version not in {"R4", "R4B"}:
        booked["participant"][0]["required"] = True  # R5: a boolean
    moved = start + timedelta(days=2)
    later: dict[str, Callable[[], Resource]] = {
        "appointment.rescheduled": lambda: {
            "start": moved.isoformat(),
            "end": (moved + timedelta(minutes=30)).isoformat(),
        },
        "appointment.changed": lambda: {"end": (start + timedelta(minutes=45)).isoformat(), "minutesDuration": 45},
        "appointment.cancelled": lambda: {"status": "cancelled"},
        "appointment.noshow": lambda: {"status": "noshow"},
        "appointment.fulfilled": lambda: {"status": "fulfilled"},
    }
    return [booked, booked | later[event]()] if event in later else [booked]


def _report(event: str, id: str, patient: str, wishes: Wishes) -> list[Resource]:  # noqa: A002
    final: Resource = {
        "resourceType": "DiagnosticReport", "id": id, "status": "final", "subject": {"reference": patient},
        "category": [{"coding": [{"system": f"{_CODES}/v2-0074", "code": "LAB"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "58410-2"}]},
        "effectiveDateTime": wishes.now.isoformat(timespec="seconds"), "issued": wishes.now.isoformat(timespec="seconds"),
    }  # fmt: skip
    return [final, final | {"status": "amended"}] if event == "diagnosticreport.amended" else [final]


def _consent(id: str, patient: str, wishes: Wishes, *, permit: bool, before: bool = False) -> Resource:  # noqa: A002
    if wishes.category is None:
        raise ValueError("the site recognises no Consent: see consent.recognise")
    system, _, code = wishes.category.rpartition("|")
    decided = (wishes.now - (timedelta(days=1) if before else timedelta(0))).isoformat(timespec="seconds")
    says = "permit" if permit else "deny"
    common: Resource = {
        "resourceType": "Consent", "id": id, "status": "active",
        "category": [{"coding": [{"system": system, "code": code} if system else {"code": code}]}],
    }  # fmt: skip
    if wishes.fhir_version == "R5":
        return common | {"subject": {"reference": patient}, "date": decided[:10], "decision": says}
    return common | {
        "scope": {"coding": [{"system": f"{_CODES}/consentscope", "code": "patient-privacy"}]},
        "patient": {"reference": patient}, "dateTime": decided, "provision": {"type": says},
        "policyRule": {"coding": [{"system": f"{_CODES}/v3-ActCode", "code": "OPTIN" if permit else "OPTOUT"}]},
    }  # fmt: skip
