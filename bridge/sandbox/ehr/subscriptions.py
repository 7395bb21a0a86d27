"""A Subscription resource as a standing order: where to send, what about, in which of the three generations' shapes.

Sources: https://hl7.org/fhir/R4/subscription.html · https://hl7.org/fhir/uv/subscriptions-backport/ ·
https://hl7.org/fhir/R5/subscription.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.sandbox.ehr.search import Query, matches, split
from bridge.sandbox.ehr.store import Change, Refusal

HAPI = "http://hapifhir.io/fhir/StructureDefinition/"
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
MEDPLUM_SECRET = "https://www.medplum.com/fhir/StructureDefinition/subscription-secret"  # noqa: S105 - a URL
KNOWN_TYPES = (
    "AppointmentResponse",
    "Appointment",
    "DiagnosticReport",
    "Consent",
    "Patient",
    "RelatedPerson",
    "Slot",
    "Communication",
    "Encounter",
)


@dataclass(slots=True)
class Standing:
    """One active standing order. `delivered` counts events and is kept in memory only where the dialect is HAPI's."""

    id: str
    kind: str  # "criteria" (R4 core), "backport" (R4, R4B), "r5"
    endpoint: str
    resource_type: str
    query: Query = ()
    payload: str = "application/fhir+json"  # "" = none: an empty POST that names nothing
    content: str = "full-resource"  # topics: "empty" | "id-only" | "full-resource"
    topic: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    heartbeat: int = 0  # seconds; 0 = none asked for
    max_count: int = 1  # events a Bundle may hold
    send_deletes: bool = False
    strip_version: bool = False
    secret: str = ""  # signs the raw body (Medplum, athenahealth)
    status: str = "requested"
    delivered: int = 0

    def wants(self, change: Change) -> bool:
        """R4 tests the new value only: a deletion tells nobody unless an extension (or a topic) asks for it."""
        if change.now.reference.split("/")[0] != self.resource_type:
            return False
        if change.now.deleted:
            return self.kind != "criteria" or self.send_deletes
        return matches(change.now, self.query)


def read(resource: Mapping[str, Any], topics: Mapping[str, str]) -> Standing:
    """The standing order in a Subscription of R4, R4B or R5.

    Args:
        topics: canonical URL of a topic -> resource type it is about.

    Raises:
        Refusal: no criteria and no topic, a channel that is not rest-hook, an endpoint that is not http(s), an unknown topic.
    """
    standing = _read_r5(resource, topics) if "topic" in resource else _read_r4(resource, topics)
    if not standing.endpoint.startswith(("http://", "https://")):
        raise Refusal(422, "value", "Subscription endpoint must be http or https")
    return standing


def _read_r4(resource: Mapping[str, Any], topics: Mapping[str, str]) -> Standing:
    channel = resource.get("channel") or {}
    criteria = str(resource.get("criteria", ""))
    if channel.get("type") != "rest-hook":
        raise Refusal(422, "business-rule", "Only rest-hook channels are sent")
    if not criteria:
        raise Refusal(422, "required", "Subscription.criteria is missing")
    headers = [_header(str(line)) for line in channel.get("header", ())]
    common: dict[str, Any] = {
        "id": str(resource.get("id", "")),
        "endpoint": str(channel.get("endpoint", "")),
        "headers": headers,
        "payload": str(channel.get("payload", "")),
        "secret": _extension(resource, MEDPLUM_SECRET, "valueString") or "",
    }
    if not criteria.startswith(("http://", "https://")):
        kind, _, query = criteria.partition("?")
        return Standing(
            kind="criteria",
            resource_type=kind,
            query=split(query),
            send_deletes=bool(_extension(channel, HAPI + "subscription-send-delete-messages", "valueBoolean")),
            strip_version=bool(_extension(channel, HAPI + "subscription-resthook-strip-version-ids", "valueBoolean")),
            **common,
        )
    resource_type = _topic_type(criteria, topics)
    filters = _extensions(resource.get("_criteria") or {}, BACKPORT + "backport-filter-criteria", "valueString")
    return Standing(
        kind="backport",
        resource_type=resource_type,
        topic=criteria,
        query=_filters(filters, resource_type),
        content=_extension(channel.get("_payload") or {}, BACKPORT + "backport-payload-content", "valueCode")
        or "id-only",
        heartbeat=int(_extension(channel, BACKPORT + "backport-heartbeat-period", "valueUnsignedInt") or 0),
        max_count=int(_extension(channel, BACKPORT + "backport-max-count", "valuePositiveInt") or 1),
        **common,
    )


def _read_r5(resource: Mapping[str, Any], topics: Mapping[str, str]) -> Standing:
    if (resource.get("channelType") or {}).get("code") != "rest-hook":
        raise Refusal(422, "business-rule", "Only rest-hook channels are sent")
    resource_type = _topic_type(str(resource["topic"]), topics)
    filters = [
        f"{item.get('filterParameter')}{':' + item['modifier'] if 'modifier' in item else ''}={item.get('value', '')}"
        for item in resource.get("filterBy", ())
    ]
    return Standing(
        id=str(resource.get("id", "")),
        kind="r5",
        endpoint=str(resource.get("endpoint", "")),
        resource_type=resource_type,
        topic=str(resource["topic"]),
        query=_filters(filters, resource_type),
        headers=[(str(item["name"]), str(item["value"])) for item in resource.get("parameter", ()) if "name" in item],
        payload=str(resource.get("contentType", "application/fhir+json")),
        content=str(resource.get("content", "id-only")),
        heartbeat=int(resource.get("heartbeatPeriod", 0)),
        max_count=int(resource.get("maxCount", 1)),
    )


def _topic_type(topic: str, topics: Mapping[str, str]) -> str:
    if topic in topics:
        return topics[topic]
    words = re.sub(r"[^a-z]", "", topic.rsplit("/", 1)[-1].lower())  # "appointment-any": a topic nobody defined here
    for name in KNOWN_TYPES:
        if name.lower() in words:
            return name
    raise Refusal(422, "not-found", f"Unknown topic {topic}")


def _filters(filters: Iterable[str], resource_type: str) -> Query:
    """`Appointment?status=booked`, `Appointment.status=booked` and `status=booked`, all meant alike."""
    query: list[tuple[str, str]] = []
    for text in filters:
        query += split(text.removeprefix(f"{resource_type}?").removeprefix(f"{resource_type}."))
    return query


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _extension(node: Mapping[str, Any], url: str, value: str) -> Any:
    return next(iter(_extensions(node, url, value)), None)


def _extensions(node: Mapping[str, Any], url: str, value: str) -> list[Any]:
    return [item.get(value) for item in node.get("extension", ()) if item.get("url") == url and value in item]
