"""The EHR's door: size, proof, split, commit, answer. No call, no mapping before the answer; 503 while it cannot commit."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence

from flask import Blueprint, Response, request

from bridge.errors import SignatureMismatch
from bridge.fhir.dialects import DIALECTS
from bridge.fhir.door import authenticate, needs_body, split_tail
from bridge.fhir.notification import answer, read, split
from bridge.fhir.pieces import Piece
from bridge.fhir.shapes import Notification, Push
from bridge.fhir.versions import patient_of
from bridge.http import read_body
from bridge.ledger import keys
from bridge.ledger.inbox import Entry, Inbox
from bridge.metrics import counters
from bridge.settings import Ehr, Settings
from bridge.straight import Asked, Keep, Said, asked_of, response
from bridge.verified import VerifiedBody

log = logging.getLogger(__name__)

MAX_BODY = 5 * 1024 * 1024
FHIR_JSON = "application/fhir+json"
BUSY = Said(503, headers=(("Retry-After", "2"),))
TRIPPED = "our reader broke on it: report it with this event's id"


def ehr_door(settings: Settings, inbox: Inbox) -> Blueprint:
    """The routes of `listen.doors` that EHRs call."""
    door = Blueprint("ehr", __name__)

    @door.route("/ehr/<ehr>/<subscription>", defaults={"tail": ""}, methods=["GET", "POST", "PUT", "DELETE"])
    @door.route("/ehr/<ehr>/<subscription>/", defaults={"tail": ""}, methods=["GET", "POST", "PUT", "DELETE"])
    @door.route("/ehr/<ehr>/<subscription>/<path:tail>", methods=["GET", "POST", "PUT", "DELETE"])
    def push(ehr: str, subscription: str, tail: str) -> Response:
        return response(inbox, pushed(settings, asked_of(request, read_body), ehr, subscription, tail))

    return door


def pushed(settings: Settings, asked: Asked, ehr: str, subscription: str, tail: str) -> Said | Keep:
    """The answer to one request of an EHR, and what must be committed before it."""
    configured = settings.ehrs.get(ehr)
    if configured is None or subscription not in configured.subscriptions:
        return Said(404)
    if asked.method in ("GET", "HEAD"):
        return Said(200)
    token, named = split_tail(tail)
    try:
        if not needs_body(configured.door):
            authenticate(configured.door, asked.headers, token, b"")
        body = asked.body(MAX_BODY)
        if body is None:
            return Said(413)
        if needs_body(configured.door):
            authenticate(configured.door, asked.headers, token, body)
    except SignatureMismatch:
        counters.refused("ehr", ehr)
        return Said(401)
    plain = inflated(body, asked.headers.get("content-encoding", ""))
    push = Push(asked.method, named, asked.content_type, asked.headers, VerifiedBody(plain))
    try:
        notification = read(push, DIALECTS[configured.dialect])
        rows = entries(configured, subscription, split(notification, configured.subscriptions[subscription].resource))
        said = answer(notification)
    except Exception:  # a body that trips us would come again for days: it is kept, and shown
        log.exception("a push tripped the reader")
        rows = [unread(configured, subscription, push)]
        said = b""
    return Keep(rows, Said(200, said, FHIR_JSON), BUSY)


def inflated(body: bytes, encoding: str) -> bytes:
    """What a sender compressed as its `Content-Encoding` says; as it came where that is not so, or would be too much."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either header
    try:
        plain = unpacking.decompress(body, MAX_BODY)
    except zlib.error:
        return body
    return plain if unpacking.eof else body


def unread(ehr: Ehr, subscription: str, pushed: Push) -> Entry:
    """The row of a push that broke the reader: a fault of ours, which must not cost the event."""
    whole = Notification(klass="unusable", method=pushed.method, reason=TRIPPED, raw=bytes(pushed.body))
    return entries(ehr, subscription, split(whole, ehr.subscriptions[subscription].resource))[0]


def entries(ehr: Ehr, subscription: str, pieces: Sequence[Piece]) -> list[Entry]:
    """Rows of one push."""
    return [
        Entry(
            source=f"ehr:{ehr.key}",
            door=subscription,
            kind=piece.kind,
            body=piece.body,
            key=keys.resource(ehr.key, piece.reference) if piece.reference is not None else None,
            subject=_subject(ehr.key, piece, ehr.subscriptions[subscription].resource) if piece.fate is None else None,
            sender_key=piece.sender_key,
            fate=piece.fate,
            reason=piece.reason,
        )
        for piece in pieces
    ]


def _subject(ehr: str, piece: Piece, subscribed: str) -> str | None:
    """Whom or what this may silence, so that nothing leaves before it is applied; its own resource is its key already."""
    kind = (piece.reference or "").split("/")[0] or piece.search or subscribed
    if kind in ("Patient", "RelatedPerson"):
        return keys.person(ehr, piece.reference) if piece.reference is not None else keys.anyone(ehr)
    if kind == "Consent":
        patient = patient_of(piece.resource) if isinstance(piece.resource, Mapping) else None
        return keys.person(ehr, patient) if patient is not None else keys.anyone(ehr)
    return keys.anything(ehr) if piece.reference is None else None
