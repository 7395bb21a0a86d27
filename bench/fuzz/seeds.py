"""Valid notifications and webhooks of every shape, with invented people: what the mutations begin with. As JSON text.

Patients p0, p1 … and their phones are the mutants' own pool; the good ones that are looked for at the end have others, so
that no mutant can speak of them. `corpus` adds recorded samples where a folder of them is at hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench import bodies
from bridge.sandbox import people

POOL = 200  # patients whom mutants may name
BASE = "https://ehr.example/fhir"
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport"
FHIR_JSON = {"Content-Type": "application/fhir+json"}
NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class PushSeed:
    """One request at an EHR's door."""

    subscription: str  # appointments, consents, patients, results
    method: str
    tail: str  # "" or "Appointment/a1"
    text: str  # JSON; "" is an empty body
    headers: Mapping[str, str] = field(default_factory=lambda: FHIR_JSON)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _meta(version: str = "3") -> dict[str, Any]:
    return {"meta": {"versionId": version, "lastUpdated": "@updated@"}}


def resources() -> list[dict[str, Any]]:
    """One of each, and what real senders put around it."""
    soon, patient = NOW + timedelta(days=9), "Patient/p1"
    visit = people.appointment("v1", soon, patient=patient, place="Location/room1") | _meta()
    return [
        visit,
        people.appointment("v2", soon, patient="Patient/p2", place="Location/room2", status="cancelled") | _meta("7"),
        visit | {"id": "v3", "contained": [{"resourceType": "Location", "id": "here", "name": "Sala 1"}],
                 "participant": [*visit["participant"], {"actor": {"reference": "#here"}, "status": "accepted"}]},
        visit | {"id": "v4", "meta": {"versionId": "6f1d2c3e-0000-4000-8000-000000000001"}, "start": soon.isoformat() + "Z"},
        {"resourceType": "Appointment", "id": "v5", "status": "booked", "start": (NOW + timedelta(hours=30)).isoformat(),
         "subject": {"reference": "Patient/p5"}, "participant": [{"actor": {"reference": "Patient/p5"}, "status": "accepted"}]},
        people.report("r1", patient, NOW) | _meta(),
        people.report("r2", "Patient/p3", NOW, status="corrected"),
        people.consent("c1", patient, NOW) | _meta(),
        people.consent("c2", "Patient/p4", NOW, permit=False) | {"provision": {"type": "deny", "period": {"start": "2026-01-01"}}},
        {"resourceType": "Consent", "id": "c3", "status": "active", "decision": "permit", "subject": {"reference": "Patient/p4"},
         "category": [{"coding": [{"system": "http://loinc.org", "code": "89057-4"}]}], "date": "2026-11-01"},
        people.patient("p1", "Ana", "Prats Soto", bodies.phone(1), zone="Europe/Madrid") | _meta(),
        people.patient("p6", "Beto", "Lemos", bodies.phone(6), language="pt-BR", deceasedBoolean=False),
        people.patient("p7", "Carla", "Vidal", None) | {"link": [{"other": {"reference": "Patient/p8"}, "type": "replaced-by"}]},
        people.mateo_father() | {"id": "rp1", "patient": {"reference": patient}},
    ]  # fmt: skip


def _of(resource: Mapping[str, Any]) -> str:
    kinds = {"Appointment": "appointments", "Consent": "consents", "DiagnosticReport": "results"}
    return kinds.get(str(resource["resourceType"]), "patients")


def _name(resource: Mapping[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def status(kind: str, names: Sequence[str], *, shape: str = "r4b", counted: int = 1) -> dict[str, Any]:
    """The status entry of a notification: R4's Parameters, or a SubscriptionStatus."""
    if shape == "r4":
        parts = [
            {"name": "subscription", "valueReference": {"reference": f"{BASE}/Subscription/1"}},
            {"name": "topic", "valueCanonical": "https://ehr.example/SubscriptionTopic/visit"},
            {"name": "status", "valueCode": "active"}, {"name": "type", "valueCode": kind},
            {"name": "events-since-subscription-start", "valueString": str(counted)},
        ]  # fmt: skip
        for at, name in enumerate(names, 1):
            parts.append({"name": "notification-event", "part": [
                {"name": "event-number", "valueString": str(at)}, {"name": "timestamp", "valueInstant": NOW.isoformat()},
                {"name": "focus", "valueReference": {"reference": f"{BASE}/{name}"}},
                {"name": "additional-context", "valueReference": {"reference": f"{BASE}/Patient/p1"}},
            ]})  # fmt: skip
        return {"resourceType": "Parameters", "id": "s1", "parameter": parts}
    events = [
        {"eventNumber": str(at), "timestamp": NOW.isoformat(), "focus": {"reference": f"{BASE}/{name}"}}
        for at, name in enumerate(names, 1)
    ]
    return {
        "resourceType": "SubscriptionStatus", "id": "s1", "status": "active", "type": kind,
        "eventsSinceSubscriptionStart": str(counted), "subscription": {"reference": f"{BASE}/Subscription/1"},
        "topic": "https://ehr.example/SubscriptionTopic/visit", "notificationEvent": events,
    }  # fmt: skip


def bundle(kind: str, held: Sequence[Mapping[str, Any]], *, shape: str = "r4b", full: bool = True) -> dict[str, Any]:
    """A notification about these resources."""
    names = [_name(one) for one in held]
    entries: list[dict[str, Any]] = [
        {"fullUrl": "urn:uuid:6f1d2c3e-0000-4000-8000-0000000000aa", "resource": status(kind, names, shape=shape),
         "request": {"method": "GET", "url": f"{BASE}/Subscription/1/$status"}, "response": {"status": "200"}}
    ]  # fmt: skip
    for one, name in zip(held, names, strict=True):
        entry = {"fullUrl": f"{BASE}/{name}", "request": {"method": "PUT", "url": name}, "response": {"status": "200"}}
        entries.append(entry | ({"resource": dict(one)} if full else {}))
    return {
        "resourceType": "Bundle", "id": "n1", "type": "subscription-notification" if shape == "r5" else "history",
        "timestamp": NOW.isoformat(), "entry": entries,
    }  # fmt: skip


def pushes() -> list[PushSeed]:
    """Every shape that a server sends."""
    held = resources()
    found = [PushSeed(_of(one), "PUT", _name(one), _text(one)) for one in held]  # HAPI, Firely
    found += [
        PushSeed(_of(one), "POST", "", _text(one), FHIR_JSON | {"X-Medplum-Interaction": "update"}) for one in held
    ]
    visits = [one for one in held if one["resourceType"] == "Appointment"]
    for shape in ("r4", "r4b", "r5"):
        found += [
            PushSeed("appointments", "POST", "", _text(bundle("event-notification", visits, shape=shape))),
            PushSeed(
                "appointments", "POST", "", _text(bundle("event-notification", visits[:1], shape=shape, full=False))
            ),
            PushSeed("results", "POST", "", _text(bundle("event-notification", [held[5]], shape=shape))),
            PushSeed("appointments", "POST", "", _text(bundle("handshake", [], shape=shape))),
            PushSeed("appointments", "POST", "", _text(bundle("heartbeat", [], shape=shape))),
            PushSeed("appointments", "POST", "", _text(bundle("query-event", visits[:2], shape=shape))),
        ]
    empty = status("event-notification", [])
    empty["notificationEvent"] = [{"eventNumber": "1"}, {"eventNumber": "2"}]
    logical = status("event-notification", [])
    logical |= {"eventsInNotification": 1}
    logical["notificationEvent"] = [{"id": "e-1", "eventNumber": 1, "focus": {"type": "Appointment", "identifier": {
        "system": "https://ehr.example/appointments", "value": "cita-v1"}}}]  # fmt: skip
    for one in (empty, logical):
        found.append(
            PushSeed(
                "appointments",
                "POST",
                "",
                _text({"resourceType": "Bundle", "type": "history", "entry": [{"resource": one}]}),
            )
        )
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"fullUrl": f"{BASE}/{_name(one)}", "resource": one, "request": {"method": "PUT", "url": _name(one)}}
        for one in (*visits[:3], held[10])
    ]}  # fmt: skip
    inner = bundle("event-notification", visits[:1], shape="r5")
    message = {"resourceType": "Bundle", "type": "message", "entry": [
        {"resource": {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": BASE}}}, {"resource": inner}
    ]}  # fmt: skip
    gone = bundle("event-notification", visits[:1], shape="r4b", full=False)
    gone["entry"][1] = {"request": {"method": "DELETE", "url": "Appointment/v1"}}
    found += [PushSeed("appointments", "POST", "", _text(one)) for one in (transaction, message, gone)]
    found += [
        PushSeed("appointments", "POST", "", _text({"resourceType": "Subscription", "id": "1", "status": "error"})),
        PushSeed("appointments", "POST", "", _text({"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]})),
        PushSeed("appointments", "POST", "", _text([{"op": "replace", "path": "/status", "value": "cancelled"}])),
        PushSeed("appointments", "POST", "", "{}", FHIR_JSON | {
            "X-Medplum-Interaction": "delete", "X-Medplum-Deleted-Resource": "Appointment/v2"}),
        PushSeed("appointments", "DELETE", "Appointment/v2", ""),
        PushSeed("appointments", "PUT", "Appointment/v1", ""),
        PushSeed("appointments", "POST", "", "", {"Content-Type": "application/x-www-form-urlencoded"}),
    ]  # fmt: skip
    return found


# --- WhatsApp ------------------------------------------------------------------------------------------------------


def messages() -> list[dict[str, Any]]:
    """One of each type that people send; `who`, wamid and time are put in by the run."""
    media = {"id": "1013859600285441", "mime_type": "image/jpeg", "sha256": "c2Ft", "caption": "mi carnet"}
    nodes: list[tuple[str, Any]] = [
        ("text", {"body": "hola, no puedo ir"}), ("text", {"body": "BAJA"}), ("text", {"body": "cancelar"}),
        ("text", {"body": "ALTA"}), ("text", {"body": "sí"}),
        ("button", {"payload": "b1.confirm.1.1", "text": "Confirmar"}),
        ("interactive", {"type": "button_reply", "button_reply": {"id": "q1.yes", "title": "Sí, cancelarla"}}),
        ("interactive", {"type": "list_reply", "list_reply": {"id": "slot.1", "title": "9:30", "description": "martes"}}),
        ("interactive", {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent",
                         "response_json": "{\"flow_token\":\"t1\",\"day\":\"2026-12-01\"}"}}),
        ("interactive", {"type": "call_permission_reply", "call_permission_reply": {"response": "accept", "is_permanent": True}}),
        ("image", media), ("video", media), ("document", media | {"filename": "informe.pdf"}),
        ("sticker", media | {"animated": False}), ("audio", media | {"voice": True}),
        ("location", {"latitude": 40.4, "longitude": -3.7, "name": "Calle Inventada"}),
        ("contacts", [{"name": {"formatted_name": "Ana"}, "phones": [{"phone": "+34 612 000 101", "wa_id": "34612000101"}],
                       "origin": "contact_request"}]),
        ("reaction", {"message_id": "wamid.x", "emoji": "👍"}), ("reaction", {"message_id": "wamid.x"}),
        ("order", {"catalog_id": "1", "product_items": []}), ("unsupported", {"type": "poll_creation"}),
        ("system", {"body": "changed", "type": "user_changed_number", "wa_id": "34612000199", "customer": "34612000101"}),
        ("system", {"type": "user_changed_user_id", "user_id": "ES.2", "parent_user_id": "ES.ENT.1"}),
        ("system", {"type": "customer_identity_changed", "identity": {"hash": "x"}}),
        ("edit", {"original_message_id": "wamid.x", "text": {"body": "otra"}}), ("request_welcome", {}),
    ]  # fmt: skip
    found = [{"from": "@who@", "from_user_id": "ES.@who@", "id": "@wamid@", "timestamp": "@at@", "type": kind, kind: node}
             for kind, node in nodes]  # fmt: skip
    found[1] |= {"context": {"from": bodies.DISPLAY, "id": "wamid.earlier"}}
    found[20] |= {"errors": [{"code": 131051, "title": "Message type unknown"}]}
    found[0] |= {"referral": {"source_type": "ad", "ctwa_clid": "x"}, "identity_key_hash": "h"}
    return found


def statuses() -> list[dict[str, Any]]:
    pricing = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
    failed = {
        "code": 131026,
        "title": "Message undeliverable",
        "error_data": {"details": "x"},
        "href": "https://x.example",
    }
    common = {"id": "@wamid@", "timestamp": "@at@", "recipient_id": "@who@", "recipient_user_id": "ES.@who@"}
    return [
        common | {"status": "sent", "biz_opaque_callback_data": "b1.1.1", "pricing": pricing},
        common | {"status": "delivered", "conversation": {"id": "c", "origin": {"type": "utility"}, "pricing": pricing}},
        common | {"status": "read"}, common | {"status": "played"},
        common | {"status": "failed", "errors": [failed], "biz_opaque_callback_data": "b1.2.1"},
        common | {"status": "sent", "recipient_type": "group", "recipient_participant_id": "34612000101"},
        common | {"status": "deleted"}, common | {"status": "RINGING", "type": "call"},
    ]  # fmt: skip


def changes() -> list[dict[str, Any]]:
    """Every other field of the account, one change each."""
    template = {"event": "PAUSED", "message_template_id": 9000000001, "message_template_name": "fuzz_only",
                "message_template_language": "es", "reason": "NONE"}  # fmt: skip
    fields: list[tuple[str, dict[str, Any]]] = [
        ("message_template_status_update", template),
        ("message_template_quality_update", template | {"new_quality_score": "RED", "previous_quality_score": "GREEN"}),
        ("template_category_update", template | {"new_category": "MARKETING", "previous_category": "UTILITY"}),
        ("phone_number_quality_update", {"display_phone_number": "34910009999", "event": "UNFLAGGED", "current_limit": "TIER_10K"}),
        ("phone_number_name_update", {"display_phone_number": "34910009999", "decision": "APPROVED"}),
        ("account_update", {"event": "PARTNER_ADDED", "waba_info": {"waba_id": "9"}}),
        ("account_review_update", {"decision": "APPROVED"}), ("account_alerts", {"entity_type": "WABA", "alert_severity": "INFO"}),
        ("security", {"event": "PIN_CHANGED", "requester": "1"}),
        ("user_preferences", {"user_preferences": [{"wa_id": "34610000001", "category": "marketing_messages", "value": "stop"}]}),
        ("calls", {"calls": [{"id": "wacid.1", "from": "34610000001", "event": "connect", "timestamp": "1764572400"}]}),
        ("smb_message_echoes", {"message_echoes": [{"from": bodies.DISPLAY, "to": "34610000001", "id": "wamid.e", "type": "text"}]}),
        ("group_lifecycle_update", {"groups": [{"type": "group_create", "group_id": "g", "request_id": "r"}]}),
        ("user_id_update", {"user_id_update": [{"wa_id": "34610000001", "user_id": {"previous": "ES.1", "current": "ES.2"}}]}),
        ("automatic_events", {"automatic_events": [{"id": "a", "event_name": "LeadSubmitted", "timestamp": 1764572400}]}),
        ("messaging_handovers", {"messaging_handovers": [{"type": "pass"}]}), ("standby", {"messages": messages()[:1]}),
        ("history", {"history": [{"phase": 0}]}), ("flows", {"event": "FLOW_STATUS_CHANGE"}), ("tomorrow", {"a": 1}),
        ("messages", {"errors": [{"code": 130429, "title": "Rate limit hit"}]}), ("messages", {}),
    ]  # fmt: skip
    where = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": bodies.DISPLAY, "phone_number_id": bodies.PNID},
    }
    return [{"field": field_, "value": where | value} for field_, value in fields]


def texts(values: Sequence[Any]) -> list[str]:
    return [_text(value) for value in values]


def corpus(folder: Path) -> tuple[list[str], list[str]]:
    """(FHIR documents, WhatsApp webhooks) of a folder of recorded samples, as JSON text; nothing when it is not there."""
    found: tuple[list[str], list[str]] = ([], [])
    for held, part in zip(found, ("fhir", "whatsapp"), strict=True):
        for path in sorted((folder / part).glob("**/*.json")):
            try:
                value = json.loads(path.read_text("utf-8"))
                text = json.dumps(value)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and len(text) < 60_000:
                held.append(text)
    return found
