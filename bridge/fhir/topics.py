"""A topic-based notification: its events, each with what the Bundle really carries for it. Pure.

Entries and events are matched by `Type/id`, never by place: HAPI's first entry has no request, the guide's id-only
example has no second entry, and servers leave out what they may not show.

Sources: https://hl7.org/fhir/R5/subscriptions.html · https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.fhir.dialects import Dialect
from bridge.fhir.salvage import Unreadable, broken_entries
from bridge.fhir.shapes import (
    Event,
    Identifier,
    Notification,
    Resource,
    bad_id,
    items,
    mapping,
    name_of,
    reduce,
    text,
    version_id,
)
from bridge.fhir.status import Status

CARRIES_EVENTS = {"event-notification", "query-event"}


@dataclass(frozen=True, slots=True)
class _Entry:
    resource: Resource | None
    deleted: bool


def notification(
    about: Notification, status: Status, bundle: Resource, wrapped: str | None, dialect: Dialect
) -> Notification:
    entries = items(bundle.get("entry"))
    by_name, by_url = _index(entries, status.source)
    events = _with_broken(_events(status.events, by_name, by_url, dialect), broken_entries(bundle))
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
                version=version_id(resource),
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
        return bad_id(focus)
    if identifier is None and event.get("focus") is not None:
        return "its focus names no Type/id and no identifier"
    return None
