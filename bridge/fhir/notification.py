"""Bytes of an authenticated EHR -> Notification, in every dialect. Pure; any bytes give a Notification, never an error.

Bundles are read by content, not by position: the status entry may be `Parameters` (R4) or `SubscriptionStatus` (R4B,
R5), anywhere in a `history`, `subscription-notification`, `searchset` or `message` Bundle, or stand alone.

Sources: https://hl7.org/fhir/R4/subscription.html · https://hl7.org/fhir/R5/subscriptions.html ·
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge.errors import Unusable
from bridge.fhir.dialects import Dialect
from bridge.fhir.pieces import Piece, parse_piece, split
from bridge.fhir.salvage import broken_entries, salvage
from bridge.fhir.shapes import (
    PEOPLE,
    Event,
    Notification,
    Push,
    Resource,
    bad_id,
    is_type,
    items,
    mapping,
    name_of,
    reduce,
    text,
    version_id,
)
from bridge.fhir.status import MAX_EVENTS, find_status
from bridge.fhir.strict_json import BOM, read_json
from bridge.fhir.topics import notification

__all__ = ["Event", "Notification", "Piece", "Push", "answer", "parse_piece", "read", "split"]

MAX_ENTRIES = 10_000  # of one Bundle: the events' resources and what is included beside them
TRANSACTIONS = {"transaction", "batch"}

# Resources that are about subscriptions or about answers: well-formed, but no news of a patient.
NOT_FOR_THE_DOOR = {
    "Subscription": "a Subscription itself: register it at the EHR, not here",
    "SubscriptionTopic": "a SubscriptionTopic: load it into the EHR, not here",
    "OperationOutcome": "an OperationOutcome: an answer that belongs to the request it answers",
    "CapabilityStatement": "a CapabilityStatement: read it from the EHR, nobody has to push it",
    "Parameters": "Parameters that are no subscription status",
    "JSON Patch": "a JSON Patch: push the patched resource; we do not keep a copy to patch",
}


def read(request: Push, dialect: Dialect) -> Notification:
    """Classify one push.

    Args:
        request: verified; `tail` is what the server appended to its endpoint, "Appointment/a1" or None.
        dialect: the EHR family of the door; it decides what its marks and ids are worth.
    """
    focus = reduce(request.tail)
    about = Notification(klass="unusable", method=request.method, raw=bytes(request.body))
    if request.tail and focus is None:
        return replace(about, reason="the path after the subscription is not Type/id")
    body = request.body.removeprefix(BOM).strip()
    if dialect.marks_delete(request.headers):
        return _deleted(about, reduce(dialect.deleted_reference(request.headers)) or focus or _name_in(body))
    if request.method == "DELETE":
        return _deleted(about, focus or _name_in(body))
    if not body:
        return _names_only(about, focus)
    if body[:1] == b"<" or ("xml" in request.content_type.lower() and body[:1] not in b"{["):
        return replace(about, reason="XML: set the Subscription's payload to application/fhir+json")
    try:
        value = read_json(body)
    except Unusable as exc:
        value = salvage(body)
        if value is None or not _worth_salvaging(value):
            return replace(about, reason=str(exc))
    if isinstance(value, list) and value and all(isinstance(op, dict) and {"op", "path"} <= op.keys() for op in value):
        return _not_for_the_door(about, "JSON Patch")
    if not isinstance(value, dict) or not is_type(value.get("resourceType")):
        return replace(about, reason="JSON without a resourceType: not FHIR")
    if _entries(value) > MAX_ENTRIES:
        return replace(
            about, reason=f"a Bundle of more than {MAX_ENTRIES:,} entries: have the server send fewer at a time"
        )
    found = find_status(value)
    if found is not None:
        status, bundle, wrapped = found
        if len(status.events) > MAX_EVENTS or _entries(bundle) > MAX_ENTRIES:
            return replace(about, reason=f"more than {MAX_EVENTS:,} events: have the server send fewer at a time")
        return notification(about, status, bundle, wrapped, dialect)
    kind = _kind(value)
    if kind in NOT_FOR_THE_DOOR:
        return _not_for_the_door(about, kind)
    return _bundle(about, value) if kind == "Bundle" else _resource(about, value, focus)


def _entries(bundle: Resource) -> int:
    entries = bundle.get("entry")
    return len(entries) if isinstance(entries, list) else 0


def answer(notification: Notification) -> bytes:
    """The body of our 200, `application/fhir+json`: senders that use a FHIR client (HAPI) parse it, and try again if they
    cannot. A Bundle wants a Bundle back; a resource, a delete and an empty push are content with nothing.
    """
    if notification.klass in {"resource", "delete", "poke"} or notification.method != "POST":
        return b""
    return b'{"resourceType":"Bundle","type":"transaction-response"}'


def _worth_salvaging(value: Any) -> bool:
    """Of a Bundle with a broken part only events and a transaction's resources go on; the rest was nobody's news."""
    if not isinstance(value, dict) or not is_type(value.get("resourceType")):
        return False
    return find_status(value) is not None or text(value.get("type")) in TRANSACTIONS


def _kind(resource: Resource) -> str:
    """Its type; R4 keeps a SubscriptionTopic in a Basic."""
    kind: str = resource["resourceType"]
    if kind == "Basic":
        codes = [text(coding.get("code")) for coding in items(mapping(resource.get("code")).get("coding"))]
        return "SubscriptionTopic" if "SubscriptionTopic" in codes else kind
    return kind


def _name_in(body: bytes) -> str | None:
    """What a delete's body names, where a server sends the last version along."""
    try:
        value = read_json(body) if body else None
    except Unusable:
        return None
    return name_of(value) if isinstance(value, dict) else None


def _deleted(about: Notification, focus: str | None) -> Notification:
    if focus is None:
        return replace(about, reason="a delete that names nothing: add the resource to the path or the header")
    event = Event(focus=focus, deleted=True, unusable=bad_id(focus))
    return replace(about, klass="delete", dialect="rest-hook", content="id-only", events=(event,))


def _names_only(about: Notification, focus: str | None) -> Notification:
    """An empty body: Firely and FHIR Works name the resource in the path, HAPI without payload names nothing."""
    if focus is None:
        return replace(about, klass="poke", dialect="rest-hook", content="empty", events=(Event(focus=None),))
    event = Event(focus=focus, unusable=bad_id(focus))
    kind = focus.partition("/")[0]
    return replace(about, klass="resource", dialect="rest-hook", type=kind, content="id-only", events=(event,))


def _not_for_the_door(about: Notification, what: str) -> Notification:
    return replace(about, klass="not-for-the-door", what=what, reason=NOT_FOR_THE_DOOR[what])


# --- R4 rest-hook: the resource itself, or a transaction of them --------------------------------------------------------


def _resource(about: Notification, resource: Resource, tail: str | None) -> Notification:
    kind: str = resource["resourceType"]
    base = replace(
        about,
        klass="resource",
        dialect="rest-hook",
        type=kind,
        status=text(resource.get("status")) if isinstance(resource.get("status"), str) else None,
    )
    name = name_of(resource)
    if name is None and tail is not None and tail.startswith(f"{kind}/") and resource.get("id") is None:
        event = Event(focus=tail, unusable=bad_id(tail))  # the path names it, its content is read back
        return replace(base, content="id-only", events=(event,))
    trouble = None
    if name is None:
        trouble = (
            "no id: a create request, not a stored resource, so nothing can be tracked"
            if resource.get("id") is None
            else "its id is not a string"
        )
    elif tail is not None and tail != name:
        trouble = "the path names one resource and the body another"
    event = Event(
        focus=name,
        resource=resource,
        version=version_id(resource),
        unusable=trouble or (bad_id(name) if name is not None else None),
    )
    return replace(base, content="full-resource", events=(event,))


def _bundle(about: Notification, bundle: Resource) -> Notification:
    """A transaction of PUTs is HAPI's payload by search; any other Bundle is nobody's news."""
    entries = items(bundle.get("entry"))
    held = [mapping(entry.get("resource")) for entry in entries]
    names = [name for name in map(name_of, held) if name is not None]
    base = replace(about, klass="bundle", type=text(bundle.get("type")), resources=tuple(sorted(names)))
    if text(bundle.get("type")) not in TRANSACTIONS or not entries:
        return replace(base, reason="a Bundle that is no notification")
    for entry, resource in zip(entries, held, strict=True):
        request = mapping(entry.get("request"))
        name = name_of(resource)
        if name is None or request.get("method") != "PUT" or reduce(request.get("url")) != name:
            return replace(base, reason="a transaction that is not only PUTs of the resources it holds")
    by_name = {str(name_of(resource)): resource for resource in held}
    # The people in it came along with what the search was about; they are the news only when there is nothing else.
    news = [name for name in by_name if name.partition("/")[0] not in PEOPLE] or list(by_name)
    events = tuple(
        Event(focus=name, resource=by_name[name], version=version_id(by_name[name]), unusable=bad_id(name))
        for name in news
    )
    events += tuple(Event(focus=None, unusable=broken.reason, raw=broken.raw) for broken in broken_entries(bundle))
    included = {name: resource for name, resource in by_name.items() if name not in news}
    return replace(
        base, klass="resources", dialect="rest-hook", content="full-resource", events=events, included=included
    )
