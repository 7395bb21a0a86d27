"""What is thrown at the doors, as bytes made beforehand: full R4 Appointments, and WhatsApp statuses. Everybody is invented."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.sandbox import people

WABA, PNID, DISPLAY = "102290129340398", "106540352242922", "15550783881"
PLACES, DOCTORS = 20, 40  # a hospital's: few enough that reading them is shared
GIVEN = ("Ana", "Bea", "Carla", "Diego", "Elena", "Fermín", "Gala", "Hugo", "Inés", "Joel")
FAMILY = ("Prats", "Soto", "Lemos", "Ibarra", "Vidal", "Quiroga", "Salvat", "Ferrer")


def phone(number: int) -> str:
    """A wa_id of its own for everybody, so that the pair rate (one template in 6 s to one person) never binds."""
    return f"346{10_000_000 + number:08d}"


def people_and_places(first: int, count: int, *, consents: bool) -> list[dict[str, Any]]:
    """What the pretend EHR holds before the run."""
    seeds = [people.organization()]
    seeds += [people.location() | {"id": f"room{n}", "name": f"Consulta {n}, planta {n % 4}"} for n in range(PLACES)]
    seeds += [people.practitioner() | {"id": f"doc{n}"} for n in range(DOCTORS)]
    decided = datetime.now(UTC) - timedelta(days=30)
    for n in range(first, first + count):
        seeds.append(
            people.patient(
                f"p{n}", GIVEN[n % 10], f"{FAMILY[n % 8]} {FAMILY[n // 8 % 8]}", phone(n), zone="Europe/Madrid"
            )
        )
        if consents:
            seeds.append(people.consent(f"c{n}", f"Patient/p{n}", decided))
    return seeds


def appointments(run: str, first: int, count: int, start: datetime) -> list[tuple[str, bytes]]:
    """(id, JSON) of whole Appointments as a server pushes them: about 1.3 kB each, one patient each."""
    marks = {"id": "@ID@", "n": "@N@", "doc": "@DOC@", "room": "@ROOM@"}
    whole = people.appointment(
        marks["id"], start, patient=f"Patient/p{marks['n']}", place=f"Location/room{marks['room']}"
    )
    whole["participant"][1]["actor"]["reference"] = f"Practitioner/doc{marks['doc']}"
    whole |= {
        "meta": {"versionId": "1", "lastUpdated": datetime.now(UTC).isoformat(timespec="milliseconds")},
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">Consulta de seguimiento</div>',
        },
        "serviceCategory": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/service-category", "code": "17"}]}
        ],
        "serviceType": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124"}]}],
        "appointmentType": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0276", "code": "FOLLOWUP"}]
        },
        "reasonCode": [{"text": "Revisión"}],
        "priority": 5,
        "description": "Consulta de seguimiento",
    }
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    made = []
    for n in range(first, first + count):
        name = f"{run}-{n}"
        body = text.replace("@ID@", name).replace("@N@", str(n))
        body = body.replace("@DOC@", str(n % DOCTORS)).replace("@ROOM@", str(n % PLACES))
        made.append((name, body.encode()))
    return made


def request(method: str, path: str, host: str, body: bytes, headers: dict[str, str]) -> bytes:
    """One HTTP/1.1 request, whole."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def pushes(host: str, secret: str, made: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Requests at the EHR's door, as an R4 rest-hook with payload makes them."""
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/fhir+json"}
    return [request("PUT", f"/ehr/main/appointments/Appointment/{name}", host, body, headers) for name, body in made]


def statuses(sent: Sequence[Sequence[str]], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`statuses[]` of (wamid, callback, wa_id), for each of `names` in turn."""
    at = str(int(datetime.now(UTC).timestamp()))
    for name in names:
        for wamid, callback, wa_id in sent:
            item: dict[str, Any] = {
                "id": wamid, "status": name, "timestamp": at, "recipient_id": wa_id,
                "biz_opaque_callback_data": callback,
            }  # fmt: skip
            if name != "read":
                item["pricing"] = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
            yield item


def webhooks(host: str, secret: str, items: Iterator[dict[str, Any]], size: int) -> list[bytes]:
    """Signed requests at WhatsApp's door, `size` statuses in each."""
    made: list[bytes] = []
    batch: list[dict[str, Any]] = []

    def close() -> None:
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": DISPLAY, "phone_number_id": PNID},
            "statuses": list(batch),
        }
        entry = {"id": WABA, "time": 1, "changes": [{"value": value, "field": "messages"}]}
        body = json.dumps({"object": "whatsapp_business_account", "entry": [entry]}, separators=(",", ":")).encode()
        signed = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": signed, "Content-Type": "application/json"}
        made.append(request("POST", "/whatsapp/hospital/webhook", host, body, headers))
        batch.clear()

    for item in items:
        batch.append(item)
        if len(batch) == size:
            close()
    if batch:
        close()
    return made
