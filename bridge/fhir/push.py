"""A resource as an EHR would push it to our door: the counterpart of `notification.read`, for `bridge trigger`. Pure.

Sources: https://hl7.org/fhir/R4/subscription.html · https://hl7.org/fhir/R5/subscriptions.html · reference/fhir.md §1, §2
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.fhir.door import TOKEN
from bridge.settings import Door

Resource = Mapping[str, Any]

FHIR_JSON = "application/fhir+json"
DIALECTS = ("r4", "hapi-r4", "r4b", "r5", "athenahealth", "medplum")


@dataclass(frozen=True, slots=True)
class Pushed:
    """One request to `/ehr/<ehr>/<subscription>`."""

    method: str
    tail: str  # behind the subscription: "" or "/Appointment/a1"
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def push(
    dialect: str, resource: Resource, *, base: str, created: bool, at: str, included: Sequence[Resource] = ()
) -> Pushed:
    """One resource in the shape of one family of servers.

    Args:
        dialect: one of `DIALECTS`.
        resource: the focus, with its id and meta.
        base: the EHR's FHIR base, for absolute references.
        created: whether it is its first version.
        at: the EHR's clock, an instant.
        included: what a topic's notification carries beside the focus; the other dialects send the focus alone.
    """
    name = f"{resource['resourceType']}/{resource['id']}"
    version = resource.get("meta", {}).get("versionId", "1")
    if dialect == "r4":
        return Pushed("POST", "", {"Content-Type": FHIR_JSON}, _json(resource))
    if dialect == "hapi-r4":
        return Pushed(
            "PUT",
            f"/{name}",
            {"Content-Type": f"{FHIR_JSON};charset=UTF-8", "If-Match": f'W/"{version}"'},
            _json(resource),
        )
    if dialect == "medplum":
        headers = {"Content-Type": FHIR_JSON, "X-Medplum-Interaction": "create" if created else "update"}
        return Pushed("POST", "", headers, _json(resource))
    status: dict[str, Any] = {
        "resourceType": "SubscriptionStatus", "id": str(uuid.uuid4()), "status": "active", "type": "event-notification",
        "eventsSinceSubscriptionStart": "1", "subscription": {"reference": f"{base}/Subscription/bridge-trigger"},
        "notificationEvent": [{"eventNumber": "1", "timestamp": at, "focus": {"reference": f"{base}/{name}"}}],
    }  # fmt: skip
    if dialect == "athenahealth":  # ids only, and an event id that is the same for the same version sent again
        status["eventsInNotification"] = 1
        status["notificationEvent"][0]["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{base}/{name}/{version}"))
    entries: list[dict[str, Any]] = [{"fullUrl": f"urn:uuid:{status['id']}", "resource": status}]
    if dialect != "athenahealth":
        asked = {"method": "POST", "url": resource["resourceType"]} if created else {"method": "PUT", "url": name}
        entries.append({"fullUrl": f"{base}/{name}", "resource": resource, "request": asked})
        entries += [{"fullUrl": f"{base}/{each['resourceType']}/{each['id']}", "resource": each} for each in included]
    kind = "subscription-notification" if dialect == "r5" else "history"
    bundle = {"resourceType": "Bundle", "id": str(uuid.uuid4()), "type": kind, "timestamp": at, "entry": entries}
    return Pushed("POST", "", {"Content-Type": FHIR_JSON}, _json(bundle))


def proven(pushed: Pushed, door: Door) -> Pushed:
    """The same request with the proof that this door asks for; the first of several secrets."""
    headers = dict(pushed.headers)
    secret = door.secrets[0] if door.secrets else ""
    if door.kind == "bearer":
        headers[door.header or "Authorization"] = f"Bearer {secret}"
    elif door.kind == "basic":
        headers["Authorization"] = "Basic " + base64.b64encode(f"{door.user or ''}:{secret}".encode()).decode()
    elif door.kind == "path":
        return replace(pushed, tail=f"/{TOKEN}{secret}{pushed.tail}")
    elif door.kind == "mtls_header":  # what the proxy would write after it verified the certificate
        headers[door.header or ""] = door.identities[0] if door.identities else ""
    else:
        digest = hmac.new(secret.encode(), pushed.body, hashlib.sha256).hexdigest()
        headers[door.header or "X-Hub-Signature-256"] = f"sha256={digest}"
    return replace(pushed, headers=headers)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
