"""Find and read the status of a notification: `Parameters` (R4 backport) or `SubscriptionStatus` (R4B, R5, drafts). Pure.

Parameters are read by name with any `value[x]`: senders write counters as valueString, valueUnsignedInt or
valueInteger, the subscription as valueReference or valueString, the topic as valueCanonical or valueUri.

Source: https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription-status-r4.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.fhir.salvage import Unreadable
from bridge.fhir.shapes import Resource, items, mapping, text

MAX_EVENTS = 5_000  # of one push, each a row; athenahealth sends up to 1,000, Aidbox 100. One more is read, to tell
TYPES = {"handshake", "heartbeat", "event-notification", "query-status", "query-event"}
DRAFT_ERRORS = "http://hl7.org/fhir/uv/subscriptions-backport/CodeSystem/backport-notification-error-code-system"


@dataclass(frozen=True, slots=True)
class Status:
    """The status entry, whichever resource it came as; `events` in SubscriptionStatus terms, `context` made a list."""

    dialect: str
    source: Resource  # the entry's resource itself, to tell it from the others
    type: str | None
    status: str | None
    subscription: str | None  # reference as sent
    topic: str | None
    events_since_start: str | None
    events: tuple[Mapping[str, Any] | Unreadable, ...]  # eventNumber, timestamp, focus, context, id


def find_status(value: Resource) -> tuple[Status, Resource, str | None] | None:
    """(status, the Bundle whose entries belong to it, "message" when it lay inside one), None for anything else."""
    if value["resourceType"] != "Bundle":
        status = _status(value, bundle_type=None)
        return (status, {}, None) if status else None
    for entry in items(value.get("entry")):
        resource = mapping(entry.get("resource"))
        status = _status(resource, text(value.get("type")))
        if status is not None:
            return status, value, "message" if value.get("type") == "message" else None
        if value.get("type") == "message" and resource.get("resourceType") == "Bundle":
            for inner in items(resource.get("entry")):
                status = _status(mapping(inner.get("resource")), text(resource.get("type")))
                if status is not None:
                    return status, resource, "message"
    return None


def _status(resource: Resource, bundle_type: str | None) -> Status | None:
    kind = resource.get("resourceType")
    if kind == "SubscriptionStatus":
        return _core(resource, bundle_type)
    return _parameters(resource) if kind == "Parameters" else None


def _core(resource: Resource, bundle_type: str | None) -> Status:
    errors = [coding.get("system") for error in items(resource.get("error")) for coding in items(error.get("coding"))]
    draft = "eventsInNotification" in resource or DRAFT_ERRORS in errors
    events = resource.get("notificationEvent")
    listed = events if isinstance(events, list) else [] if events is None else [events]
    return Status(
        dialect="r5" if bundle_type == "subscription-notification" else "r4b-draft" if draft else "r4b",
        source=resource,
        type=text(resource.get("type")),
        status=text(resource.get("status")),
        subscription=_reference(resource.get("subscription")),
        topic=text(resource.get("topic")),
        events_since_start=text(resource.get("eventsSinceSubscriptionStart")),
        events=tuple(_event(event) for event in listed[: MAX_EVENTS + 1]),
    )


def _event(event: Any) -> Mapping[str, Any] | Unreadable:
    if isinstance(event, Unreadable):
        return event
    if not isinstance(event, dict):
        return Unreadable("the event is not an object", b"")
    return {**event, "context": items(event.get("additionalContext"))}


def _parameters(resource: Resource) -> Status | None:
    named: dict[str, Any] = {}
    events: list[Mapping[str, Any] | Unreadable] = []
    listed = resource.get("parameter")
    broken = [item for item in listed if isinstance(item, Unreadable)] if isinstance(listed, list) else []
    for parameter in items(listed):
        name = parameter.get("name")
        if name == "notification-event":
            if len(events) > MAX_EVENTS:
                break
            events.append(_event_of_parts(parameter))
        elif isinstance(name, str):
            named.setdefault(name, _value(parameter))
    kind = text(named.get("type"))
    if "subscription" not in named or (kind not in TYPES and not events):
        return None  # some other operation's Parameters
    return Status(
        dialect="r4-backport",
        source=resource,
        type=kind,
        status=text(named.get("status")),
        subscription=_reference(named.get("subscription")),
        topic=text(named.get("topic")),
        events_since_start=text(named.get("events-since-subscription-start")),
        events=(*events, *broken),
    )


def _event_of_parts(parameter: Mapping[str, Any]) -> Mapping[str, Any]:
    context: list[Any] = []
    event: dict[str, Any] = {"context": context}
    for part in items(parameter.get("part")):
        value = _value(part)
        match part.get("name"):
            case "event-number":
                event["eventNumber"] = value
            case "timestamp":
                event["timestamp"] = value
            case "focus":
                event["focus"] = {"reference": value} if isinstance(value, str) else value
            case "additional-context":
                context.append({"reference": value} if isinstance(value, str) else mapping(value))
    if isinstance(parameter.get("id"), str):
        event["id"] = parameter["id"]
    return event


def _value(parameter: Mapping[str, Any]) -> Any:
    """Whatever `value[x]` it is, or None."""
    return next((value for key, value in parameter.items() if key.startswith("value")), None)


def _reference(value: Any) -> str | None:
    return text(mapping(value).get("reference")) if isinstance(value, dict) else text(value)
