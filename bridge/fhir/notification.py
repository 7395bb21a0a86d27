"""Bytes of an authenticated EHR -> Notification, in every dialect. Pure; any bytes give a Notification, never an error.

Bundles are read by content, not by position: the status entry may be `Parameters` (R4) or `SubscriptionStatus` (R4B,
R5), anywhere in a `history`, `subscription-notification`, `searchset` or `message` Bundle, or stand alone.

Sources: https://hl7.org/fhir/R4/subscription.html · https://hl7.org/fhir/R5/subscriptions.html ·
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import Unusable
from bridge.fhir.dialects import Dialect
from bridge.fhir.pieces import Piece, parse_piece, split
from bridge.fhir.salvage import Unreadable, salvage
from bridge.fhir.shapes import (
    PEOPLE,
    Event,
    Identifier,
    Notification,
    Push,
    Resource,
    is_id,
    is_type,
    items,
    mapping,
    name_of,
    reduce,
    text,
)
from bridge.fhir.status import Status, find_status
from bridge.fhir.strict_json import BOM, read_json

__all__ = ["Event", "Notification", "Piece", "Push", "answer", "parse_piece", "read", "split"]

CARRIES_EVENTS = {"event-notification", "query-event"}
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
    found = find_status(value)
    if found is not None:
        return _notification(about, *found, dialect)
    kind = _kind(value)
    if kind in NOT_FOR_THE_DOOR:
        return _not_for_the_door(about, kind)
    return _bundle(about, value) if kind == "Bundle" else _resource(about, value, focus)


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
    return find_status(value) is not None or value.get("type") in TRANSACTIONS


def _broken(bundle: Resource) -> list[Unreadable]:
    entries = bundle.get("entry")
    return [entry for entry in entries if isinstance(entry, Unreadable)] if isinstance(entries, list) else []


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
    event = Event(focus=focus, deleted=True, unusable=_bad_id(focus))
    return replace(about, klass="delete", dialect="rest-hook", content="id-only", events=(event,))


def _names_only(about: Notification, focus: str | None) -> Notification:
    """An empty body: Firely and FHIR Works name the resource in the path, HAPI without payload names nothing."""
    if focus is None:
        return replace(about, klass="poke", dialect="rest-hook", content="empty", events=(Event(focus=None),))
    event = Event(focus=focus, unusable=_bad_id(focus))
    kind = focus.partition("/")[0]
    return replace(about, klass="resource", dialect="rest-hook", type=kind, content="id-only", events=(event,))


def _not_for_the_door(about: Notification, what: str) -> Notification:
    return replace(about, klass="not-for-the-door", what=what, reason=NOT_FOR_THE_DOOR[what])


def _bad_id(reference: str) -> str | None:
    ident = reference.partition("/")[2]
    return None if is_id(ident) else "the id breaks FHIR's pattern [A-Za-z0-9-.]{1,64}, so it cannot be read back"


def _version(resource: Resource | None) -> str | None:
    return text(mapping(mapping(resource).get("meta")).get("versionId")) if resource is not None else None


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
        event = Event(focus=tail, unusable=_bad_id(tail))  # the path names it, its content is read back
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
        version=_version(resource),
        unusable=trouble or (_bad_id(name) if name is not None else None),
    )
    return replace(base, content="full-resource", events=(event,))


def _bundle(about: Notification, bundle: Resource) -> Notification:
    """A transaction of PUTs is HAPI's payload by search; any other Bundle is nobody's news."""
    entries = items(bundle.get("entry"))
    held = [mapping(entry.get("resource")) for entry in entries]
    names = [name for name in map(name_of, held) if name is not None]
    base = replace(about, klass="bundle", type=text(bundle.get("type")), resources=tuple(sorted(names)))
    if bundle.get("type") not in TRANSACTIONS or not entries:
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
        Event(focus=name, resource=by_name[name], version=_version(by_name[name]), unusable=_bad_id(name))
        for name in news
    )
    events += tuple(Event(focus=None, unusable=broken.reason, raw=broken.raw) for broken in _broken(bundle))
    included = {name: resource for name, resource in by_name.items() if name not in news}
    return replace(
        base, klass="resources", dialect="rest-hook", content="full-resource", events=events, included=included
    )


# --- topic-based notifications ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    resource: Resource | None
    deleted: bool


def _notification(
    about: Notification, status: Status, bundle: Resource, wrapped: str | None, dialect: Dialect
) -> Notification:
    entries = items(bundle.get("entry"))
    by_name, by_url = _index(entries, status.source)
    events = _with_broken(_events(status.events, by_name, by_url, dialect), _broken(bundle))
    foci = {event.focus for event in events}
    included = {
        name: held[-1].resource for name, held in by_name.items() if name not in foci and held[-1].resource is not None
    }
    content = None
    if events or status.type in CARRIES_EVENTS or status.type is None:
        full = any(event.resource is not None for event in events)
        named = any(event.focus or event.identifier for event in events)
        content = "full-resource" if full else "id-only" if named else "empty"
    return replace(
        about,
        klass="notification",
        dialect=status.dialect,
        type=status.type,
        status=status.status,
        subscription=reduce(status.subscription),
        topic=status.topic,
        content=content,
        events=events,
        events_since_start=status.events_since_start,
        included=included,
        wrapped=wrapped,
    )


def _index(entries: Sequence[Resource], status: Resource) -> tuple[Mapping[str, list[_Entry]], Mapping[str, str]]:
    """Entries by Type/id and, for urn:uuid foci, Type/id by fullUrl; the status entry is left out."""
    by_name: dict[str, list[_Entry]] = defaultdict(list)
    by_url: dict[str, str] = {}
    for entry in entries:
        resource = entry.get("resource")
        if resource is status:
            continue
        request = mapping(entry.get("request"))
        held = resource if isinstance(resource, dict) else None
        name = name_of(held) if held is not None else reduce(request.get("url")) or reduce(entry.get("fullUrl"))
        if name is None:
            continue
        by_name[name].append(_Entry(held, deleted=held is None and request.get("method") == "DELETE"))
        if isinstance(entry.get("fullUrl"), str):
            by_url[entry["fullUrl"]] = name
    return by_name, by_url


def _events(
    raw: Sequence[Mapping[str, Any] | Unreadable],
    by_name: Mapping[str, list[_Entry]],
    by_url: Mapping[str, str],
    dialect: Dialect,
) -> tuple[Event, ...]:
    named = [(None, None) if isinstance(event, Unreadable) else _focus(event, by_url) for event in raw]
    asked = Counter(focus for focus, _ in named)
    taken: Counter[str] = Counter()
    events = []
    for event, (focus, identifier) in zip(raw, named, strict=True):
        if isinstance(event, Unreadable):
            events.append(Event(focus=None, unusable=event.reason, raw=event.raw))
            continue
        entry = None
        if focus is not None and (held := by_name.get(focus)):
            # One entry per event: pair them off in order. Otherwise nobody says which belongs to which: the newest.
            entry = held[taken[focus]] if len(held) == asked[focus] else max(held, key=_age)
            taken[focus] += 1
        resource = entry.resource if entry is not None else None
        events.append(
            Event(
                focus=focus,
                number=text(event.get("eventNumber")),
                additional=tuple(filter(None, (reduce(item.get("reference")) for item in items(event.get("context"))))),
                resource=resource,
                version=_version(resource),
                deleted=entry is not None and entry.deleted,
                event_id=text(event.get("id")) if dialect.guarantees_event_id else None,
                identifier=identifier,
                timestamp=text(event.get("timestamp")),
                unusable=_trouble(event, focus, identifier),
            )
        )
    return tuple(events)


def _with_broken(events: tuple[Event, ...], broken: Sequence[Unreadable]) -> tuple[Event, ...]:
    """Give each broken entry to the event it was meant for, else let it stand as one of its own: it is shown."""
    if not broken:
        return events
    waiting = {event.focus: n for n, event in enumerate(events) if event.focus is not None and event.resource is None}
    mended = list(events)
    for part in broken:
        n = waiting.pop(part.name or "", None)
        if n is None:
            mended.append(Event(focus=None, unusable=part.reason, raw=part.raw))
        else:
            mended[n] = replace(mended[n], unusable=part.reason, raw=part.raw)
    return tuple(mended)


def _age(entry: _Entry) -> str:
    return text(mapping(mapping(entry.resource).get("meta")).get("lastUpdated")) or ""


def _focus(event: Mapping[str, Any], by_url: Mapping[str, str]) -> tuple[str | None, Identifier | None]:
    focus = mapping(event.get("focus"))
    reference = focus.get("reference")
    name = by_url.get(reference) if isinstance(reference, str) else None
    name = name or reduce(reference)
    identifier = mapping(focus.get("identifier"))
    value = text(identifier.get("value"))
    if name is not None or not value:
        return name, None
    return None, Identifier(text(identifier.get("system")), value, text(focus.get("type")))


def _trouble(event: Mapping[str, Any], focus: str | None, identifier: Identifier | None) -> str | None:
    if focus is not None:
        return _bad_id(focus)
    if identifier is None and event.get("focus") is not None:
        return "its focus names no Type/id and no identifier"
    return None
