"""What a push was read as, in the words of the corpora's `expect`, and how two such readings differ.

Used twice: by the unit tests on `Notification` values, and by `make corpus` on the pieces that the running doors stored.
`index.json`'s `about` in ../shared/corpus/fhir defines every key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.fhir.notification import Notification, Piece, Push
from bridge.fhir.shapes import CLINICAL, items, mapping, reduce
from bridge.fhir.versions import patient_of, patients_of
from bridge.mappers.consent import in_force, read_statement
from bridge.verified import VerifiedBody

CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).resolve().parents[3] / "shared" / "corpus"))
NOT_COMPARED = {"why", "door", "ambiguous", "accept"}  # about the row, not about the reading
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)  # the corpus says which periods are past, so they must stay past


@dataclass(frozen=True)
class Recognised:
    """A row of a site's `consent.recognise`."""

    category: str
    purposes: tuple[str, ...] = ("appointments",)


TEXT_MESSAGES = (Recognised("http://loinc.org|89057-4"),)  # what the corpus' site recognises, and nothing else


@dataclass(frozen=True)
class Row:
    """One corpus file with the request it makes and what that must be read as."""

    name: str  # "hapi/r4-create-full.json"
    expect: Mapping[str, Any]
    method: str
    tail: str | None
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def ambiguous(self) -> str | None:
        return self.expect.get("ambiguous")

    def push(self) -> Push:
        """As the door hands it to `read`: names in lower case, equal names joined."""
        headers: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Push(self.method, self.tail, headers.get("content-type", ""), headers, VerifiedBody(self.body))


def rows(corpus: Path = CORPUS) -> Iterator[Row]:
    """Every file of corpus/fhir (as a POST) and corpus/hapi (as HAPI sent it); none when the corpus is not there."""
    for folder in ("fhir", "hapi"):
        index = corpus / folder / "index.json"
        if not index.exists():
            continue
        for entry in json.loads(index.read_text(encoding="utf-8"))["files"]:
            content = (corpus / folder / entry["file"]).read_bytes()
            name = f"{folder}/{entry['file']}"
            if folder == "fhir":
                yield Row(name, entry["expect"], "POST", None, (("Content-Type", "application/fhir+json"),), content)
                continue
            sent = json.loads(content)
            last = "/".join(sent["path"].rsplit("/", 2)[-2:])
            tail = last if reduce(last) == last and last.count("/") == 1 and sent["path"].count("/") > 1 else None
            body = sent["body"].encode()
            yield Row(name, entry["expect"], sent["method"], tail, tuple((k, v) for k, v in sent["headers"]), body)


def observe(notification: Notification) -> dict[str, Any]:
    """A Notification in the words of `expect`."""
    seen: dict[str, Any] = {
        "class": notification.klass,
        "dialect": notification.dialect,
        "type": notification.type,
        "status": notification.status,
        "subscription": notification.subscription,
        "topic": notification.topic,
        "content": notification.content,
        "events_since_start": notification.events_since_start,
        "wrapped": notification.wrapped,
        "what": notification.what,
        "included": list(notification.included),
        "resources": list(notification.resources),
    }
    events = [
        {
            "number": event.number,
            "focus": event.focus,
            "additional": list(event.additional),
            "resource": event.resource is not None,
            "version": event.version,
            "deleted": event.deleted,
            "unusable": event.unusable,
        }
        for event in notification.events
    ]
    return _complete(seen, events, [event.resource or {} for event in notification.events])


def observe_pieces(pieces: Sequence[Piece]) -> dict[str, Any]:
    """The same, rebuilt from the rows that the door stored for one push."""
    ordered = sorted(pieces, key=lambda piece: piece.summary["index"])
    if [piece.summary["index"] for piece in ordered] != list(range(ordered[0].summary["count"])):
        return {"class": f"{len(pieces)} pieces of {ordered[0].summary['count']}"}
    seen = dict(ordered[0].summary)
    events = [piece.summary["event"] for piece in ordered if "event" in piece.summary]
    return _complete(seen, events, [piece.resource or _kept(piece) for piece in ordered])


def _kept(piece: Piece) -> Mapping[str, Any]:
    """The resource of an event that could not be used, as its row still holds it."""
    if not piece.raw or "event" not in piece.summary or not piece.raw.startswith(b'{"focus":'):
        return {}
    return mapping(mapping(json.loads(piece.raw)).get("resource"))


def _complete(
    seen: dict[str, Any], events: list[dict[str, Any]], resources: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    seen["events"] = events
    if seen["class"] == "delete":
        seen["focus"] = events[0]["focus"]
    if seen["class"] == "bundle":
        seen["supported"] = False
    if seen["class"] == "resource":
        resource = resources[0]
        seen["id"] = (events[0]["focus"] or "/").partition("/")[2] or None
        seen["version"] = events[0]["version"]
        seen["supported"] = seen["type"] in CLINICAL and events[0]["unusable"] is None
        seen["patients"] = list(patients_of(resource))
        seen["start"] = resource.get("start")
        seen["subject"] = patient_of(resource)
        if seen["type"] == "Consent" and resource.get("id"):
            own = [coding for item in items(resource.get("category")) for coding in items(item.get("coding"))]
            seen["messaging"] = _says(resource, TEXT_MESSAGES)
            seen["if_recognised"] = _says(resource, [Recognised(f"{c.get('system', '')}|{c.get('code')}") for c in own])
    return seen


def _says(consent: Mapping[str, Any], recognise: Sequence[Recognised]) -> str:
    version = "R5" if "subject" in consent else "R4"
    return in_force(read_statement(consent, recognise, fhir_version=version), NOW)[0]


def differences(expect: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Each disagreement as one line "key: expected ..., got ..."; empty when the reading is as expected.

    A key that `expect` leaves out of a notification (included, wrapped) must be absent or empty in what was seen.
    """
    wanted = {key: value for key, value in expect.items() if key not in NOT_COMPARED}
    if expect["class"] == "notification":
        wanted = {"included": [], "wrapped": None, **wanted}
    found = []
    for key, value in wanted.items():
        got = seen.get(key)
        if key == "events":
            found += _event_differences(value, got or [])
        elif key in {"included", "resources"}:
            if sorted(value) != sorted(got or []):
                found.append(f"{key}: expected {value}, got {got}")
        elif got != value:
            found.append(f"{key}: expected {value!r}, got {got!r}")
    return found


def _event_differences(expected: Sequence[Mapping[str, Any]], got: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(expected) != len(got):
        return [f"events: expected {len(expected)}, got {len(got)}"]
    found = []
    for place, (want, event) in enumerate(zip(expected, got, strict=True)):
        full = {"deleted": False, "version": None, **want}
        found += [
            f"events[{place}].{key}: expected {value!r}, got {event.get(key)!r}"
            for key, value in full.items()
            if event.get(key) != value
        ]
    return found


def compare(expect: Mapping[str, Any], notification: Notification) -> list[str]:
    """Differences between what a corpus row expects and how its push was read."""
    return differences(expect, observe(notification))
