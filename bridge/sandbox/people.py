"""Invented people and places: seeds for the demo and the tests. Nobody here exists, and no number is anybody's.

Appointments are built, not listed: a test says when, who and where, and what the engine is told is a whole resource.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

Resource = dict[str, Any]

ZONE = "http://hl7.org/fhir/StructureDefinition/timezone"
CONSENT_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"

ANA_PHONE = "34612000101"  # wa_id
BEATRIZ_PHONE = "5511912345678"
FATHER_PHONE = "34612000103"  # Mateo's father
DECEASED_PHONE = "34612000104"
UNASKED_PHONE = "34612000105"  # somebody of whom no consent is known
LUCIA_PHONE = "34612000106"


def patient(
    id: str,  # noqa: A002 - FHIR's name
    given: str,
    family: str,
    phone: str | None,
    *,
    language: str = "es",
    birth_date: str = "1985-03-12",
    zone: str | None = None,
    **more: Any,
) -> Resource:
    """A Patient with one mobile phone (digits, country code first) and a preferred language."""
    resource: Resource = {
        "resourceType": "Patient",
        "id": id,
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given]}],
        "birthDate": birth_date,
        "communication": [
            {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}, "preferred": True}
        ],
    }
    if phone:
        resource["telecom"] = [{"system": "phone", "value": f"+{phone}", "use": "mobile", "rank": 1}]
    if zone:
        resource["extension"] = [{"url": ZONE, "valueCode": zone}]
    return resource | more


def ana() -> Resource:
    return patient("ana", "Ana", "Gómez Prats", ANA_PHONE, zone="Europe/Madrid")


def beatriz() -> Resource:
    return patient(
        "beatriz",
        "Beatriz",
        "Nogueira",
        BEATRIZ_PHONE,
        language="pt-BR",
        birth_date="1979-08-02",
        zone="America/Sao_Paulo",
    )


def lucia() -> Resource:
    return patient("lucia", "Lucía", "Ferrer Soto", LUCIA_PHONE, birth_date="1992-11-30", zone="Europe/Madrid")


def mateo() -> Resource:
    """Nine years old, without a phone of his own: news go to his father."""
    return patient("mateo", "Mateo", "Ibarra León", None, birth_date="2017-05-20", zone="Europe/Madrid")


def mateo_father() -> Resource:
    return {
        "resourceType": "RelatedPerson",
        "id": "mateo-father",
        "active": True,
        "patient": {"reference": "Patient/mateo"},
        "relationship": [{"coding": [{"system": ROLE, "code": "FTH", "display": "father"}]}],
        "name": [{"use": "official", "family": "Ibarra Sanz", "given": ["Julián"]}],
        "telecom": [{"system": "phone", "value": f"+{FATHER_PHONE}", "use": "mobile", "rank": 1}],
        "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "es"}]}, "preferred": True}],
    }


def ernesto() -> Resource:
    """Deceased: nobody may ever write to him again."""
    return patient(
        "ernesto", "Ernesto", "Valdés", DECEASED_PHONE, birth_date="1941-01-09", deceasedDateTime="2026-09-30"
    )


def irene() -> Resource:
    """Nothing is known of her consent."""
    return patient("irene", "Irene", "Quiroga Lemos", UNASKED_PHONE, birth_date="1966-06-06", zone="Europe/Madrid")


def practitioner() -> Resource:
    return {
        "resourceType": "Practitioner",
        "id": "ruiz",
        "active": True,
        "name": [
            {"use": "official", "text": "Dra. Ruiz", "family": "Ruiz Salvat", "given": ["Carmen"], "prefix": ["Dra."]}
        ],
    }


def location() -> Resource:
    return {
        "resourceType": "Location",
        "id": "consultas",
        "status": "active",
        "name": "Consultas externas, planta 2",
        "extension": [{"url": ZONE, "valueCode": "Europe/Madrid"}],
        "address": {"line": ["Calle Inventada 1"], "city": "Madrid", "country": "ES"},
    }


def sao_paulo() -> Resource:
    return {
        "resourceType": "Location",
        "id": "paulista",
        "status": "active",
        "name": "Clínica Paulista, sala 4",
        "extension": [{"url": ZONE, "valueCode": "America/Sao_Paulo"}],
        "address": {"city": "São Paulo", "country": "BR"},
    }


def organization() -> Resource:
    return {"resourceType": "Organization", "id": "hospital", "active": True, "name": "Hospital Demo"}


def everybody() -> list[Resource]:
    """Every person and place, in an order that leaves no reference dangling."""
    return [
        organization(),
        location(),
        sao_paulo(),
        practitioner(),
        ana(),
        beatriz(),
        lucia(),
        mateo(),
        mateo_father(),
        ernesto(),
        irene(),
    ]


def appointment(
    id: str,  # noqa: A002
    start: datetime,
    *,
    patient: str = "Patient/ana",
    place: str = "Location/consultas",
    status: str = "booked",
    minutes: int = 30,
    **more: Any,
) -> Resource:
    """An Appointment with patient, Dra. Ruiz and a place; `start` must know its offset."""
    return {
        "resourceType": "Appointment",
        "id": id,
        "identifier": [{"system": "https://ehr.example/appointments", "value": f"cita-{id}"}],
        "status": status,
        "start": start.isoformat(),
        "end": (start + timedelta(minutes=minutes)).isoformat(),
        "minutesDuration": minutes,
        "created": (start - timedelta(days=30)).date().isoformat(),
        "participant": [
            {"actor": {"reference": patient}, "required": "required", "status": "needs-action"},
            {"actor": {"reference": "Practitioner/ruiz", "display": "Dra. Ruiz"}, "status": "accepted"},
            {"actor": {"reference": place}, "status": "accepted"},
        ],
    } | more


def consent(id: str, patient: str, decided_at: datetime, *, permit: bool = True, **more: Any) -> Resource:  # noqa: A002
    """An R4 Consent about text messages (LOINC 89057-4), as `consent.recognise` of the default config reads it."""
    return {
        "resourceType": "Consent",
        "id": id,
        "status": "active",
        "scope": {"coding": [{"system": CONSENT_SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "89057-4"}]}],
        "patient": {"reference": patient},
        "dateTime": decided_at.isoformat(),
        "policyRule": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN" if permit else "OPTOUT"}
            ]
        },
        "provision": {"type": "permit" if permit else "deny"},
    } | more


def report(id: str, patient: str, issued: datetime, *, status: str = "final", **more: Any) -> Resource:  # noqa: A002
    """A DiagnosticReport whose text must never reach a lock screen."""
    return {
        "resourceType": "DiagnosticReport",
        "id": id,
        "status": status,
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "58410-2"}], "text": "Hemograma"},
        "subject": {"reference": patient},
        "effectiveDateTime": issued.isoformat(),
        "issued": issued.isoformat(),
        "conclusion": "Texto clínico inventado que ningún mensaje puede llevar.",
    } | more


def slots(schedule: str, first: datetime, count: int, *, minutes: int = 30) -> list[Resource]:
    """Free Slots one after another."""
    return [
        {
            "resourceType": "Slot",
            "id": f"{schedule}-{number}",
            "schedule": {"reference": f"Schedule/{schedule}"},
            "status": "free",
            "start": (first + timedelta(minutes=minutes * number)).isoformat(),
            "end": (first + timedelta(minutes=minutes * (number + 1))).isoformat(),
        }
        for number in range(count)
    ]


def subscription(
    id: str,  # noqa: A002
    criteria: str,
    endpoint: str,
    *,
    header: str | None = None,
    payload: str | None = "application/fhir+json",
) -> Resource:
    """An R4 rest-hook Subscription; criteria "Appointment?" means all of them (a status filter would hide cancellations)."""
    channel: Resource = {"type": "rest-hook", "endpoint": endpoint}
    if payload:
        channel["payload"] = payload
    if header:
        channel["header"] = [header]
    return {
        "resourceType": "Subscription",
        "id": id,
        "status": "requested",
        "reason": "WhatsApp messages",
        "criteria": criteria,
        "channel": channel,
    }


def topic_subscription(
    id: str,  # noqa: A002
    topic: str,
    endpoint: str,
    *,
    content: str = "id-only",
    header: str | None = None,
    r5: bool = False,
    max_count: int = 1,
    heartbeat: int = 0,
) -> Resource:
    """A topic-based Subscription, as the R4/R4B backport or as R5 writes it."""
    if r5:
        parameter = [dict(zip(("name", "value"), header.split(": ", 1), strict=True))] if header else []
        return {"resourceType": "Subscription", "id": id, "status": "requested", "topic": topic, "channelType": {"code": "rest-hook"},
                "endpoint": endpoint, "parameter": parameter, "contentType": "application/fhir+json", "content": content,
                "maxCount": max_count, **({"heartbeatPeriod": heartbeat} if heartbeat else {})}  # fmt: skip
    base = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
    extension: list[Resource] = [{"url": base + "backport-max-count", "valuePositiveInt": max_count}]
    if heartbeat:
        extension.append({"url": base + "backport-heartbeat-period", "valueUnsignedInt": heartbeat})
    resource = subscription(id, topic, endpoint, header=header)
    resource["channel"] |= {
        "extension": extension,
        "_payload": {"extension": [{"url": base + "backport-payload-content", "valueCode": content}]},
    }
    return resource
