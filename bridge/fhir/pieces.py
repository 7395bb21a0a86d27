"""What the door stores of a Notification: one Piece per event, each small, each enough to apply and to explain. Pure.

A piece whose fate is known already (handshake, no news for us, unusable) is stored all the same: everything
acknowledged is a row. Nothing is taken from an entry that the content level does not promise: people are kept beside a
resource only in `full-resource`, although HAPI sends them in `empty` and `id-only` too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from bridge.fhir.shapes import READ, Event, Identifier, Notification, Resource, is_type, reduce

Kind = Literal["notification", "hint"]
_REFERENCES = re.compile(rb'"reference":"([^"\\]{1,512})"')
_NOTHING_TO_DO = {"handshake": "handshake", "heartbeat": "heartbeat", "query-status": "query-status"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One row of `inbox`. `notification` carries the resource (or a fate); `hint` asks for a read, or for a search."""

    kind: Kind
    reference: str | None = None  # "Appointment/a1", clean enough for a clear column; None: search, or unusable
    sender_key: str | None = None  # the sender guarantees it: goes into `seen`
    fate: str | None = None  # known at the door: "applied" | "merged" | "ignored" | "unusable"
    reason: str | None = None
    resource: Resource | None = None
    included: Mapping[str, Resource] = field(default_factory=dict)  # "Patient/p1" -> resource, of full-resource only
    version: str | None = None
    number: str | None = None
    deleted: bool = False  # the sender says it is gone: a read answers 404 or 410
    search: str | None = None  # resource type to search by the Subscription's criteria, when nothing is named
    identifier: Identifier | None = None  # resource to search by this, when it is named logically
    method: str = "POST"
    dialect: str | None = None
    subscription_status: str | None = None  # "error" and "off" ask for recovery
    events_since_start: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)  # what the push was classified as, for the trace and tests
    raw: bytes = b""  # what came, when a fate is known and nothing else keeps it
    body: bytes = b""  # all of the above as JSON: what is stored


def split(notification: Notification, subscription_resource: str) -> tuple[Piece, ...]:
    """The rows of one push, in the order of its events; at least one.

    Args:
        notification: as `read` gave it.
        subscription_resource: "Appointment", from `ehrs.<key>.subscriptions.<key>.resource`: what to search for when
            the sender names nothing.
    """
    head = Piece(
        kind="notification",
        method=notification.method,
        dialect=notification.dialect,
        subscription_status=notification.status if notification.klass == "notification" else None,
        events_since_start=notification.events_since_start,
    )
    pieces = _of_whole(notification, head, subscription_resource)
    if pieces is None:
        pieces = []
        searching = False
        for event in notification.events:
            piece = _of_event(notification, event, head, subscription_resource)
            if piece.search and piece.identifier is None:
                # One search answers every event that names nothing: a forged flood of them must not storm the EHR.
                piece = (
                    replace(piece, fate="merged", reason="one search answers all", search=None) if searching else piece
                )
                searching = True
            pieces.append(piece)
    count = len(pieces)
    events: Sequence[Event | None] = notification.events or (None,) * count
    return tuple(
        _stored(replace(piece, summary=summarise(notification, event, index, count)))
        for index, (piece, event) in enumerate(zip(pieces, events, strict=True))
    )


def _of_whole(notification: Notification, head: Piece, subscription_resource: str) -> list[Piece] | None:
    """The single piece of a push that names no event; None when there are events."""
    if notification.klass == "unusable":
        return [replace(head, fate="unusable", reason=notification.reason, raw=notification.raw)]
    if notification.klass in {"not-for-the-door", "bundle"}:
        return [replace(head, fate="ignored", reason=notification.reason, raw=notification.raw)]
    if notification.events:
        return None
    if notification.type in _NOTHING_TO_DO:
        return [replace(head, fate="applied", reason=_NOTHING_TO_DO[notification.type], raw=notification.raw)]
    return [replace(head, kind="hint", search=subscription_resource)]  # something happened and nobody says what


def _of_event(notification: Notification, event: Event, head: Piece, subscription_resource: str) -> Piece:
    piece = replace(
        head,
        reference=event.focus if event.focus and event.unusable is None else None,
        sender_key=event.event_id,
        version=event.version,
        number=event.number,
        deleted=event.deleted,
        identifier=event.identifier,
    )
    if event.unusable is not None:
        raw = event.raw or msgspec.json.encode(
            {"focus": event.focus, "number": event.number, "resource": event.resource}
        )
        return replace(piece, fate="unusable", reason=event.unusable, raw=raw)
    kind = event.focus.partition("/")[0] if event.focus else event.identifier.type if event.identifier else None
    if kind is not None and kind not in READ:
        named = kind if is_type(kind) else "this type"  # it becomes a clear column
        return replace(piece, fate="ignored", reason=f"{named}: nothing here reads it", resource=event.resource)
    if event.focus is None:
        return replace(piece, kind="hint", search=kind or subscription_resource)
    if event.deleted or event.resource is None:
        return replace(piece, kind="hint")
    return replace(piece, resource=event.resource, included=_beside(notification, event))


def _beside(notification: Notification, event: Event) -> Mapping[str, Resource]:
    """The included resources that this event speaks of."""
    if not notification.included:
        return {}
    named = {reduce(found.decode()) for found in _REFERENCES.findall(msgspec.json.encode(event.resource))}
    named.update(event.additional)
    return {name: resource for name, resource in notification.included.items() if name in named}


def summarise(notification: Notification, event: Event | None, index: int, count: int) -> dict[str, Any]:
    """The classification in corpus words: the head in every piece, the long lists only in the first."""
    summary: dict[str, Any] = {"class": notification.klass, "index": index, "count": count}
    for name in (
        "dialect",
        "type",
        "status",
        "subscription",
        "topic",
        "content",
        "events_since_start",
        "wrapped",
        "what",
    ):
        value = getattr(notification, name)
        if value is not None:
            summary[name] = value
    if index == 0:
        summary["included"] = list(notification.included)
        summary["resources"] = list(notification.resources)
    if event is not None:
        summary["event"] = {
            "number": event.number,
            "focus": event.focus,
            "additional": list(event.additional),
            "resource": event.resource is not None,
            "version": event.version,
            "deleted": event.deleted,
            "unusable": event.unusable,
            "timestamp": event.timestamp,
        }
    return summary


_PLAIN = (
    "kind", "reference", "sender_key", "fate", "reason", "resource", "included", "version", "number", "deleted", "search",
    "method", "dialect", "subscription_status", "events_since_start", "summary",
)  # fmt: skip


def _stored(piece: Piece) -> Piece:
    """The piece with its bytes; absent and empty values are left out to keep rows small."""
    data = {name: value for name in _PLAIN if (value := getattr(piece, name)) not in (None, {}, False)}
    if piece.identifier is not None:
        ident = piece.identifier
        data["identifier"] = {"system": ident.system, "value": ident.value, "type": ident.type}
    if piece.raw:
        data["raw"] = base64.b64encode(piece.raw).decode()
    return replace(piece, body=msgspec.json.encode(data))


def parse_piece(body: bytes) -> Piece:
    """The piece that `split` stored: equal to it in every field."""
    data = msgspec.json.decode(body)
    identifier = data.pop("identifier", None)
    return Piece(
        **{name: data[name] for name in _PLAIN if name in data},
        identifier=Identifier(**identifier) if identifier is not None else None,
        raw=base64.b64decode(data.get("raw", "")),
        body=body,
    )


def hint_piece(reference: str) -> Piece:
    """A piece that asks for a read of `reference`, made by ourselves after a search."""
    return _stored(Piece(kind="hint", reference=reference))
