"""From changes to the one HTTP request a server of this dialect would send. Pure; shapes as in `corpus/hapi` and the guides.

generic: as the specifications say. hapi: what HAPI 8.8.0 was seen sending. athenahealth: numbers that restart at 1 in
every Bundle, and an event id that is theirs to guarantee. medplum: POST with headers, signed.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.sandbox.ehr import rawjson
from bridge.sandbox.ehr.store import Change, Version, identifiers
from bridge.sandbox.ehr.subscriptions import Standing

FHIR_JSON = "application/fhir+json; charset=UTF-8"
STATUS_R4 = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription-status-r4"

_encode = msgspec.json.encode


@dataclass(slots=True)
class Request:
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    ids: dict[str, Any] = field(default_factory=dict)  # for the journal


@dataclass(frozen=True, slots=True)
class Dialect:
    name: str = "generic"  # generic | hapi | athenahealth | medplum
    fhir_version: str = "R4"  # R4 | R4B | R5: which topic shapes
    base: str = ""  # for absolute references; HAPI's are relative
    logical_focus: bool = False  # athenahealth: the focus is an identifier, no URL to read


def criteria_request(standing: Standing, change: Change, dialect: Dialect) -> Request:
    """R4 core rest-hook: an update (PUT) below the endpoint, or a POST that names nothing, or Medplum's POST."""
    version = change.now
    ids = {"subscription": standing.id, "focus": version.reference, "version": version.version}
    if dialect.name == "medplum":
        return _medplum(standing, change, ids)
    agent = [("User-Agent", "HAPI-FHIR/8.8.0 (FHIR Client; FHIR 4.0.1/R4; apache)")] if dialect.name == "hapi" else []
    if not standing.payload:
        probe = [("If-None-Exist", standing.endpoint), ("If-None-Exist", standing.endpoint + "?")] if agent else []
        content = [("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")]
        return Request("POST", standing.endpoint, standing.headers + agent + probe + content, b"", ids)
    url = f"{standing.endpoint.rstrip('/')}/{version.reference}"
    if version.deleted:
        return Request("DELETE", url, agent + standing.headers, b"", ids)
    match = [] if standing.strip_version else [("If-Match", version.etag)]
    body = rawjson.strip_version(version.raw) if standing.strip_version else version.raw
    return Request("PUT", url, match + agent + [("Content-Type", FHIR_JSON)] + standing.headers, body, ids)


def _medplum(standing: Standing, change: Change, ids: dict[str, Any]) -> Request:
    version = change.now
    interaction = "delete" if version.deleted else "create" if change.before is None else "update"
    body = version.raw or b"{}"
    headers = [("Content-Type", "application/fhir+json"), ("X-Medplum-Subscription", standing.id),
               ("X-Medplum-Interaction", interaction), ("x-trace-id", str(uuid.uuid4()))]  # fmt: skip
    if version.deleted:
        headers.append(("X-Medplum-Deleted-Resource", version.reference))
    if standing.secret:
        headers.append(("X-Signature", hmac.new(standing.secret.encode(), body, hashlib.sha256).hexdigest()))
    return Request("POST", standing.endpoint, headers + standing.headers, body, ids)


def topic_request(
    standing: Standing,
    kind: str,
    changes: Sequence[Change],
    dialect: Dialect,
    *,
    at: str,
    included: Sequence[Version] = (),
) -> Request:
    """A notification Bundle, and one step of the Subscription's count.

    Args:
        kind: handshake, heartbeat or event-notification.
        at: the EHR's clock, for `Bundle.timestamp`.
        included: what the topic's notificationShape adds; HAPI sends it whatever the content level promises.
    """
    standing.delivered += len(changes)
    last = len(changes) if dialect.name == "athenahealth" else standing.delivered
    first = last - len(changes) + 1
    events = [_event(standing, change, first + at, dialect) for at, change in enumerate(changes)]
    as_parameters = standing.kind == "backport" and dialect.fhir_version == "R4" and dialect.name != "athenahealth"
    make = _parameters if as_parameters else _subscription_status
    status = make(standing, kind, last, events, dialect)
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "type": "subscription-notification" if standing.kind == "r5" else "history",
    }
    if dialect.name != "hapi":
        bundle["timestamp"] = at
    entries = [_status_entry(standing, status, dialect)]
    if standing.content != "empty":
        entries += [_focus_entry(standing, change, dialect) for change in changes]
    if dialect.name == "hapi" or standing.content == "full-resource":
        entries += [_included_entry(version, dialect) for version in included]
    body = _encode(bundle | {"entry": entries})
    headers = [("Content-Type", FHIR_JSON)]
    if not (dialect.name == "hapi" and standing.kind == "r5"):  # HAPI's R5 client copies none of them
        headers += standing.headers
    if dialect.name == "athenahealth" and standing.secret:
        headers.append(
            ("X-Hub-Signature", "sha256=" + hmac.new(standing.secret.encode(), body, hashlib.sha256).hexdigest())
        )
    ids = {"subscription": standing.id, "type": kind, "events": [event["number"] for event in events],
           "focus": [change.now.reference for change in changes], "version": [change.now.version for change in changes]}  # fmt: skip
    return Request("POST", standing.endpoint, headers, body, ids)


def _event(standing: Standing, change: Change, number: int, dialect: Dialect) -> dict[str, Any]:
    version = change.now
    focus: dict[str, Any] = {
        "reference": version.reference if dialect.name == "hapi" else f"{dialect.base}/{version.reference}"
    }
    if dialect.logical_focus:
        system, value = next(identifiers(version.data), ("", version.reference))
        focus = {"type": version.reference.split("/")[0], "identifier": {"system": system, "value": value}}
    event: dict[str, Any] = {"number": number, "timestamp": version.updated}
    if standing.content != "empty":
        event["focus"] = focus
    if dialect.name == "athenahealth":  # the sender guarantees it: the same event sent again has the same id
        event["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{standing.id}/{version.reference}/{version.version}"))
    return event


def _parameters(
    standing: Standing, kind: str, count: int, events: list[dict[str, Any]], dialect: Dialect
) -> dict[str, Any]:
    parameter: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": _subscription(standing, dialect)}}
    ]
    if standing.content != "empty" or dialect.name == "hapi":
        parameter.append({"name": "topic", "valueCanonical": standing.topic})
    parameter += [
        {"name": "status", "valueCode": standing.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(count)},
    ]
    for event in events:
        stamp = (
            {"valueDate": event["timestamp"][:10]} if dialect.name == "hapi" else {"valueInstant": event["timestamp"]}
        )
        part = [{"name": "event-number", "valueString": str(event["number"])}, {"name": "timestamp"} | stamp]
        if "focus" in event:
            part.append({"name": "focus", "valueReference": event["focus"]})
        parameter.append({"name": "notification-event", "part": part})
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [STATUS_R4]},
        "parameter": parameter,
    }


def _subscription_status(
    standing: Standing, kind: str, count: int, events: list[dict[str, Any]], dialect: Dialect
) -> dict[str, Any]:
    hapi_r5 = (
        dialect.name == "hapi" and standing.kind == "r5"
    )  # HAPI writes R5's integer64 as a number, against the JSON rules

    def number(value: int) -> int | str:
        return value if hapi_r5 else str(value)

    listed = []
    for event in events:
        item: dict[str, Any] = {"id": event["id"]} if "id" in event else {}
        item["eventNumber"] = number(event["number"])
        if dialect.name != "hapi":
            item["timestamp"] = event["timestamp"]
        listed.append(item | ({"focus": event["focus"]} if "focus" in event else {}))
    status: dict[str, Any] = {"resourceType": "SubscriptionStatus", "id": str(uuid.uuid4()), "status": standing.status, "type": kind,
                              "eventsSinceSubscriptionStart": number(count)}  # fmt: skip
    if dialect.name == "athenahealth":
        status["eventsInNotification"] = len(events)  # pre-release element that they still send
    if listed:
        status["notificationEvent"] = listed
    status["subscription"] = {"reference": _subscription(standing, dialect)}
    return status | ({"topic": standing.topic} if standing.content != "empty" or dialect.name == "hapi" else {})


def _status_entry(standing: Standing, status: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    if dialect.name == "hapi":  # no request although bdl-3 wants one, and no urn:
        prefix = "Parameters/" if status["resourceType"] == "Parameters" else ""
        return {"fullUrl": prefix + status["id"], "resource": status}
    request = {"method": "GET", "url": f"{_subscription(standing, dialect)}/$status"}
    return {
        "fullUrl": f"urn:uuid:{status['id']}",
        "resource": status,
        "request": request,
        "response": {"status": "200"},
    }


def _focus_entry(standing: Standing, change: Change, dialect: Dialect) -> dict[str, Any]:
    version = change.now
    kind = version.reference.split("/")[0]
    created = change.before is None and not version.deleted
    request = {
        "method": "DELETE" if version.deleted else "POST" if created else "PUT",
        "url": kind if created else version.reference,
    }
    if dialect.name == "hapi" and version.deleted:
        return {"request": request}
    versioned = created or standing.content == "full-resource"  # HAPI: an id-only update names no version
    relative = f"{version.reference}/_history/{version.version}" if versioned else version.reference
    entry: dict[str, Any] = {"fullUrl": relative if dialect.name == "hapi" else f"{dialect.base}/{version.reference}"}
    if standing.content == "full-resource" and not version.deleted:
        entry["resource"] = msgspec.Raw(version.raw)
    response = {} if dialect.name == "hapi" else {"response": {"status": "201" if created else "200"}}
    return entry | {"request": request} | response


def _included_entry(version: Version, dialect: Dialect) -> dict[str, Any]:
    if dialect.name == "hapi":
        return {"fullUrl": f"{version.reference}/_history/{version.version}", "resource": msgspec.Raw(version.raw)}
    request = {"request": {"method": "GET", "url": version.reference}, "response": {"status": "200"}}
    return {"fullUrl": f"{dialect.base}/{version.reference}", "resource": msgspec.Raw(version.raw)} | request


def _subscription(standing: Standing, dialect: Dialect) -> str:
    return f"Subscription/{standing.id}" if dialect.name == "hapi" else f"{dialect.base}/Subscription/{standing.id}"
