"""A pretend EHR behind `EhrClient`'s surface and a pretend WhatsApp behind the carrier: in memory, on the caller's thread."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir import rawjson
from bridge.fhir.answers import Conflict, Deleted, Entry, Missing, NotModified, Resource, Written
from bridge.fhir.together import Told

Raw = dict[str, Any]


def _nothing(_: str) -> None: ...


class Shelf(dict[str, Raw | None]):
    """What an EHR holds by reference, None: deleted; what is of one type is found without walking through the others."""

    def __init__(self) -> None:
        super().__init__()
        self.names: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def __setitem__(self, reference: str, held: Raw | None) -> None:
        self.names[reference.partition("/")[0]][reference] = None
        super().__setitem__(reference, held)


class FakeEhr:
    """Resources with versions, ETags and If-Match. Hooks run inside a call, where the world would have gone on."""

    def __init__(self) -> None:
        self.held = Shelf()
        self.version: dict[str, int] = {}
        self.at = datetime(2026, 11, 1, tzinfo=UTC)
        self.down = False
        self.refuses: set[str] = set()  # references that answer 403
        self.lose_answers = 0  # so many writes arrive and their answers do not
        self.conflicts = 0  # so many writes meet somebody faster
        self.conflict_status = 412
        self.before_write: Callable[[str], None] = _nothing
        self.after_write: Callable[[str], None] = _nothing  # the write stands, its answer is not out yet
        self.during_read: Callable[[str], None] = _nothing  # after the answer was fixed, before it arrives
        self.reads: list[str] = []
        self.writes: list[tuple[str, str]] = []  # (method, reference)
        self.searches: list[str] = []

    # --- as a clerk sees it ----------------------------------------------------------------------------------------

    def put(self, resource: Mapping[str, Any], *, version: int | None = None, stamp: bool = True) -> Raw:
        """Save; returns what a notification would carry."""
        reference = f"{resource['resourceType']}/{resource['id']}"
        self.version[reference] = version if version is not None else self.version.get(reference, 0) + 1
        self.at += timedelta(seconds=1)
        saved = copy.deepcopy(dict(resource))
        saved.pop("meta", None)
        if stamp:
            saved["meta"] = {"versionId": str(self.version[reference]), "lastUpdated": self.at.isoformat()}
        self.held[reference] = saved
        return copy.deepcopy(saved)

    def change(self, reference: str, **values: Any) -> Raw:
        held = self.held[reference]
        assert held is not None
        return self.put(held | values)

    def get(self, reference: str) -> Raw:
        held = self.held[reference]
        assert held is not None
        return held

    def of(self, kind: str) -> list[Raw]:
        return [held for name in self.held.names[kind] if (held := self.held.get(name)) is not None]

    # --- as EhrClient ----------------------------------------------------------------------------------------------

    def local(self, reference: str) -> str | None:
        rest = reference.removeprefix("https://ehr.example/fhir/").partition("/_history/")[0]
        return rest if "/" in rest and "://" not in rest else None

    def read(self, reference: str, etag: str | None = None) -> Resource | NotModified | Missing | Deleted:
        self.reads.append(reference)
        self._up()
        if reference in self.refuses:
            raise EhrRefused(f"{reference}: forbidden", status=403)
        if reference not in self.held:
            return Missing()
        held = copy.deepcopy(self.held[reference])
        found = Deleted() if held is None else self._resource(held)
        self.during_read(reference)
        return found

    def search(self, resource_type: str, params: Sequence[tuple[str, str]] | Mapping[str, str]) -> Iterator[Resource]:
        pairs = dict(params)
        self.searches.append(f"{resource_type}?{'&'.join(f'{k}={v}' for k, v in pairs.items())}")
        self._up()
        for held in self.of(resource_type):
            if "patient" in pairs and (held.get("patient") or {}).get("reference") != pairs["patient"]:
                continue
            if "identifier" in pairs and pairs["identifier"] not in [
                f"{one.get('system')}|{one.get('value')}" for one in held.get("identifier", [])
            ]:
                continue
            since = pairs.get("_lastUpdated", "ge").removeprefix("ge")
            if since and datetime.fromisoformat((held.get("meta") or {})["lastUpdated"]) < datetime.fromisoformat(
                since
            ):
                continue
            yield self._resource(copy.deepcopy(held))

    def together(self, whats: Sequence[str]) -> list[Told | None]:
        """As many GETs of their own."""
        self._up()
        found: list[Told | None] = []
        for what in whats:
            kind, asks, query = what.partition("?")
            if asks:
                pairs = [(name, value) for name, _, value in (each.partition("=") for each in query.split("&"))]
                found.append(Told([one.resource for one in self.search(kind, pairs)]))
                continue
            try:
                answer = self.read(what)
            except EhrRefused:
                found.append(None)
                continue
            found.append(Told(answer.resource, answer.etag) if isinstance(answer, Resource) else None)
        return found

    def find_by_identifier(self, resource_type: str, system: str, value: str) -> Resource | None:
        return next(iter(self.search(resource_type, {"identifier": f"{system}|{value}"})), None)

    def update(self, reference: str, body: bytes, if_match: str | None) -> Written | Conflict:
        self._up()
        self.before_write(reference)
        held = self.held.get(reference)
        if self.conflicts > 0:
            self.conflicts -= 1
            return Conflict(self.conflict_status)
        if held is None or if_match != f'W/"{self.version[reference]}"':
            return Conflict(self.conflict_status)
        self.writes.append(("PUT", reference))
        return self._answer(self.put(rawjson.loads(body)), created=False)

    def patch(self, reference: str, ops: Any, if_match: str | None) -> Written | Conflict:
        raise AssertionError("these tests write with PUT")

    def create(self, resource_type: str, body: bytes, identifier: tuple[str, str] | None = None) -> Written:
        self._up()
        self.before_write(resource_type)
        if identifier is not None:
            there = [
                held
                for held in self.of(resource_type)
                if any((one.get("system"), one.get("value")) == identifier for one in held.get("identifier", []))
            ]
            if there:
                return self._answer(there[0], created=False)
        resource = rawjson.loads(body) | {"id": f"{resource_type.lower()}-{len(self.held)}"}
        self.writes.append(("POST", resource_type))
        return self._answer(self.put(resource), created=True)

    def batch(self, entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
        """Creates of a batch Bundle, each with its `ifNoneExist`."""
        answers = []
        for entry in entries:
            system, _, value = str(entry["request"]["ifNoneExist"]).removeprefix("identifier=").partition("|")
            made = self.create(entry["resource"]["resourceType"], rawjson.dumps(entry["resource"]), (system, value))
            answers.append(Entry(201 if made.created else 200, made.reference, made.etag, ()))
        return tuple(answers)

    def close(self) -> None: ...

    def _up(self) -> None:
        if self.down:
            raise EhrUnreachable("connection refused")

    def _resource(self, held: Raw) -> Resource:
        reference = f"{held['resourceType']}/{held['id']}"
        version = str(self.version[reference])
        return Resource(held, f'W/"{version}"', version, self.at, b"")

    def _answer(self, saved: Raw, *, created: bool) -> Written:
        reference = f"{saved['resourceType']}/{saved['id']}"
        version = str(self.version[reference])
        self.after_write(reference)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise EhrUnreachable("no answer", unknown=True)
        return Written(reference, f'W/"{version}"', version, copy.deepcopy(saved), created)


@dataclass(slots=True)
class Bubble:
    """One message that WhatsApp took: what the phone shows, and what its buttons carry."""

    wamid: str
    to: str  # wa_id, or the user id where there is none
    template: str | None
    params: dict[str, str]
    text: str | None
    buttons: tuple[str, ...]  # payloads or reply ids
    callback: str
    body: Raw


@dataclass(slots=True)
class FakeWhatsApp:
    """Takes POSTs and answers as told: `answers` first come first served, then accepted."""

    bubbles: list[Bubble] = field(default_factory=list)
    posts: list[Raw] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)  # carrier outcomes, or "lost": taken, and the answer is not heard
    names_user_ids: bool = False
    user_ids: dict[str, str] = field(default_factory=dict)  # by phone, where a test gives them

    def take(self, body: bytes) -> Bubble:
        sent = json.loads(body)
        template = sent.get("template")
        params: dict[str, str] = {}
        buttons: list[str] = []
        for component in (template or {}).get("components", ()):
            for parameter in component["parameters"]:
                if component["type"] == "body":
                    params[parameter.get("parameter_name", str(len(params)))] = parameter["text"]
                else:
                    buttons.append(parameter["payload"])
        for button in sent.get("interactive", {}).get("action", {}).get("buttons", ()):
            buttons.append(button["reply"]["id"])
        document = sent.get("document", {})
        text = document.get("caption") or (sent.get("text") or sent.get("interactive", {}).get("body") or {}).get(
            "body" if "text" in sent else "text"
        )
        bubble = Bubble(
            f"wamid.{len(self.posts):06d}",
            sent.get("to", "").removeprefix("+") or sent.get("recipient", ""),
            template["name"] if template else None,
            params,
            text,
            tuple(buttons),
            sent["biz_opaque_callback_data"],
            sent,
        )
        self.bubbles.append(bubble)
        return bubble

    def of(self, who: str) -> list[Bubble]:
        return [bubble for bubble in self.bubbles if bubble.to == who]
