"""The FHIR REST interactions of the pretend EHR as one function: method, path, headers, body in; an answer out.

A Bundle's entries go through the same function as requests of their own, so the two cannot differ.
Source: https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from bridge.sandbox.ehr import capability, rawjson
from bridge.sandbox.ehr.search import DEFAULT_COUNT, Query, included, search, split
from bridge.sandbox.ehr.store import Change, Refusal, Store, Version

ID = re.compile(r"[A-Za-z0-9.-]{1,64}\Z")
TYPE = re.compile(r"[A-Z][A-Za-z]{1,40}\Z")
_encode = msgspec.json.encode


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)  # "Appointment/a1/_history/3", for the journal


@dataclass(slots=True)
class Service:
    """`publish` is called with each change after it holds; `before_write` may change the resource first (a second writer)."""

    store: Store
    base: Callable[[], str]  # "http://127.0.0.1:8800/fhir"
    publish: Callable[[Change], None]
    before_write: Callable[[str], None]
    stale_status: int = 412  # what a stale If-Match gets: 412 by the specification, 409 by HAPI
    as_hapi: bool = False  # no ETag on a PATCH, a bare one in a Bundle, no version where nothing changed
    fhir_version: str = "4.0.1"
    _pending: list[Change] | None = None

    def perform(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One interaction. `target` is relative to the base: "Appointment/a1", "Appointment?patient=x"; headers lower-case."""
        parts = urlsplit(target)
        segments = [unquote(segment) for segment in parts.path.strip("/").split("/") if segment]
        query = split(parts.query)
        try:
            return self._route(method, segments, query, headers, body)
        except Refusal as refusal:
            return outcome(refusal)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return outcome(
                Refusal(400, "invalid", f"HAPI-1861: Failed to parse request body as JSON resource: {error}")
            )

    def _route(self, method: str, segments: list[str], query: Query, headers: Mapping[str, str], body: bytes) -> Answer:
        match method, segments:
            case "GET", ["metadata"]:
                return Answer(200, _encode(capability.statement(self.store.types(), self.fhir_version, self.base())))
            case "GET", [kind]:
                return self._search(_type(kind), query)
            case "POST", [kind, "_search"]:
                return self._search(_type(kind), list(query) + parse_qsl(body.decode(), keep_blank_values=True))
            case "POST", [kind]:
                return self._create(_type(kind), body, headers)
            case "PUT", [kind] if query:
                return self._conditional_update(_type(kind), query, body, headers)
            case "GET", [kind, id]:
                return self._read(_type(kind), id, headers)
            case "PUT", [kind, id]:
                return self._update(_type(kind), id, body, headers)
            case "PATCH", [kind, id]:
                return self._patch(_type(kind), id, body, headers)
            case "DELETE", [kind, id]:
                return self._delete(_type(kind), id)
            case "GET", [kind, id, "_history"]:
                return self._history(_type(kind), id)
            case "GET", [kind, id, "_history", number]:
                return self._vread(_type(kind), id, number)
        raise Refusal(404, "not-found", f"{method} /{'/'.join(segments)} is nothing this server knows")

    # --- reading

    def _read(self, kind: str, id: str, headers: Mapping[str, str]) -> Answer:  # noqa: A002
        version = self.store.current(kind, id)
        if version is None:
            raise Refusal(404, "not-found", f"HAPI-2001: Resource {kind}/{id} is not known")
        if version.deleted:
            gone = f"{self.base()}/{version.reference}/_history/{version.version}"
            raise Refusal(410, "deleted", f"Resource was deleted at {version.updated}", {"Location": gone})
        if headers.get("if-none-match", "") == version.etag:
            return Answer(304, b"", {"ETag": version.etag})
        return Answer(200, version.raw, self._about(version))

    def _vread(self, kind: str, id: str, number: str) -> Answer:  # noqa: A002
        for version in self.store.history(kind, id):
            if version.version == number:
                if version.deleted:
                    raise Refusal(410, "deleted", "This version is a deletion")
                return Answer(200, version.raw, self._about(version))
        raise Refusal(404, "not-found", f"{kind}/{id} has no version {number}")

    def _history(self, kind: str, id: str) -> Answer:  # noqa: A002
        versions = self.store.history(kind, id)
        if not versions:
            raise Refusal(404, "not-found", f"Resource {kind}/{id} is not known")
        entries = [
            {"fullUrl": f"{self.base()}/{version.reference}"}
            | ({} if version.deleted else {"resource": msgspec.Raw(version.raw)})
            | {"request": {"method": version.method, "url": kind if version.method == "POST" else version.reference},
               "response": {"status": "201" if version.method == "POST" else "200", "etag": version.etag,
                            "lastModified": version.updated}}
            for version in reversed(versions)
        ]  # fmt: skip
        return Answer(
            200, _encode({"resourceType": "Bundle", "type": "history", "total": len(entries), "entry": entries})
        )

    def _search(self, kind: str, query: Query) -> Answer:
        found = search(self.store, kind, query)
        named = dict(query)
        count, offset = int(named.get("_count", DEFAULT_COUNT)), int(named.get("_offset", 0))
        page = found[offset : offset + count]
        entries: list[dict[str, Any]] = [self._found(version, "match") for version in page]
        entries += [self._found(version, "include") for version in included(self.store, page, query)]
        rest = [(name, value) for name, value in query if name != "_offset"]
        links = [{"relation": "self", "url": f"{self.base()}/{kind}?{urlencode(query)}"}]
        if offset + count < len(found) and count:
            links.append(
                {"relation": "next", "url": f"{self.base()}/{kind}?{urlencode([*rest, ('_offset', offset + count)])}"}
            )
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
        return Answer(200, _encode(bundle | ({"entry": entries} if entries else {})))

    def _found(self, version: Version, mode: str) -> dict[str, Any]:
        return {
            "fullUrl": f"{self.base()}/{version.reference}",
            "resource": msgspec.Raw(version.raw),
            "search": {"mode": mode},
        }

    # --- writing

    def _create(self, kind: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        _check_type(kind, body)
        if condition := headers.get("if-none-exist"):
            found = search(self.store, kind, split(condition.split("?", 1)[-1]))
            if len(found) > 1:
                raise Refusal(412, "multiple-matches", f"{len(found)} resources match If-None-Exist")
            if found:
                return Answer(200, found[0].raw, self._about(found[0]))
        return self._write(kind, self.store.new_id(kind), body, "POST", headers)

    def _update(self, kind: str, id: str, body: bytes, headers: Mapping[str, str]) -> Answer:  # noqa: A002
        _check_type(kind, body)
        if not ID.match(id):
            raise Refusal(400, "invalid", "Not a resource id")
        if msgspec.json.decode(body).get("id") != id:
            raise Refusal(400, "invalid", "HAPI-0420: Resource body must contain the ID of the URL")
        self.before_write(f"{kind}/{id}")
        self._check_match(kind, id, headers)
        return self._write(kind, id, body, "PUT", headers)

    def _conditional_update(self, kind: str, query: Query, body: bytes, headers: Mapping[str, str]) -> Answer:
        _check_type(kind, body)
        found = search(self.store, kind, query)
        if len(found) > 1:
            raise Refusal(412, "multiple-matches", f"{len(found)} resources match")
        if found:
            return self._write(kind, found[0].reference.split("/")[1], body, "PUT", headers)
        return self._write(kind, self.store.new_id(kind), body, "POST", headers)

    def _patch(self, kind: str, id: str, body: bytes, headers: Mapping[str, str]) -> Answer:  # noqa: A002
        if "json-patch" not in headers.get("content-type", ""):
            raise Refusal(415, "not-supported", "PATCH takes application/json-patch+json")
        self.before_write(f"{kind}/{id}")
        version = self.store.current(kind, id)
        if version is None or version.deleted:
            raise Refusal(404, "not-found", f"Resource {kind}/{id} is not known")
        self._check_match(kind, id, headers)
        try:
            changed = rawjson.patch(version.raw, msgspec.json.decode(body, type=list[dict[str, Any]]))
        except rawjson.BadPatch as error:
            raise Refusal(400, "processing", f"HAPI-1272: Failed to apply JSON patch: {error}") from error
        return self._write(kind, id, changed, "PATCH", headers)

    def _delete(self, kind: str, id: str) -> Answer:  # noqa: A002
        version = self.store.current(kind, id)
        if version is None:
            raise Refusal(404, "not-found", f"Resource {kind}/{id} is not known")
        if version.deleted:
            return Answer(204)
        now, before = self.store.write(kind, id, b"", "DELETE")
        self._tell(Change(now, before, "client"))
        return Answer(204, b"", {"ETag": now.etag}, [f"{now.reference}/_history/{now.version}"])

    def _check_match(self, kind: str, id: str, headers: Mapping[str, str]) -> None:  # noqa: A002
        wanted = headers.get("if-match")
        version = self.store.current(kind, id)
        if wanted is not None and (version is None or version.etag != wanted):
            text = f"HAPI-0550: HAPI-0989: Trying to update {kind}/{id} but {wanted} is not the current version"
            raise Refusal(self.stale_status, "processing" if self.stale_status == 409 else "conflict", text)

    def _write(self, kind: str, id: str, body: bytes, method: str, headers: Mapping[str, str]) -> Answer:  # noqa: A002
        if self.as_hapi and method != "POST" and (same := self.store.unchanged(kind, id, body)):
            return Answer(200, same.raw, self._about(same))
        held = self.store.current(kind, id)
        now, before = self.store.write(kind, id, body, method)
        self._tell(Change(now, before, "client"))
        created = held is None or held.deleted
        about = self._about(now) | {"Location": f"{self.base()}/{now.reference}/_history/{now.version}"}
        if method == "PATCH" and self.as_hapi:
            del about["ETag"]
        minimal = "return=minimal" in headers.get("prefer", "")
        return Answer(
            201 if created else 200, b"" if minimal else now.raw, about, [f"{now.reference}/_history/{now.version}"]
        )

    def _about(self, version: Version) -> dict[str, str]:
        return {
            "ETag": version.etag,
            "Content-Location": f"{self.base()}/{version.reference}/_history/{version.version}",
        }

    def _tell(self, change: Change) -> None:
        if self._pending is None:
            self.publish(change)
        else:
            self._pending.append(change)

    # --- held together

    def begin(self) -> None:
        """From here until `commit` or `rollback` changes hold together and nobody is told of them."""
        self.store.begin()
        self._pending = []

    def commit(self) -> None:
        self.store.commit()
        pending, self._pending = self._pending or [], None
        for change in pending:
            self.publish(change)

    def rollback(self) -> None:
        self.store.rollback()
        self._pending = None


def outcome(refusal: Refusal) -> Answer:
    issue = {"severity": "error", "code": refusal.code, "diagnostics": refusal.diagnostics}
    return Answer(refusal.status, _encode({"resourceType": "OperationOutcome", "issue": [issue]}), refusal.headers)


def _type(name: str) -> str:
    if not TYPE.match(name):
        raise Refusal(404, "not-found", f"Unknown resource type {name!r}")
    return name


def _check_type(kind: str, body: bytes) -> None:
    resource = msgspec.json.decode(body)
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        raise Refusal(400, "invalid", f"HAPI-1838: Expected a resource of type {kind}")
