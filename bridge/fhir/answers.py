"""What an EHR's answer says, as values: outcomes, versions, issue codes. Pure: bytes and headers in, no network.

Source: https://hl7.org/fhir/R4/http.html#versioning, https://hl7.org/fhir/R4/operationoutcome.html, reference/fhir.md §11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from bridge.fhir import rawjson

REFERENCE = re.compile(r"([A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?")
REFERENCE_AT_END = re.compile(r"(?:^|/)" + REFERENCE.pattern + r"/?$")


@dataclass(frozen=True, slots=True)
class Resource:
    """One version of a resource as the EHR holds it."""

    resource: dict[str, Any]
    etag: str | None  # to echo in If-Match, verbatim: W/"3"
    version: str | None  # meta.versionId: opaque
    last_updated: datetime | None
    body: bytes  # as received; empty for an entry of a Bundle

    @property
    def reference(self) -> str:
        """`Type/id`."""
        return f"{self.resource['resourceType']}/{self.resource.get('id')}"


@dataclass(frozen=True, slots=True)
class NotModified:
    """304: what we hold is current."""


@dataclass(frozen=True, slots=True)
class Missing:
    """404 by the EHR itself."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """410."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """409 or 412: somebody wrote first (HAPI says 409). Read, decide again."""

    status: int


@dataclass(frozen=True, slots=True)
class Written:
    """2xx to a write. `resource` is the EHR's own copy where it sent one."""

    reference: str
    etag: str | None
    version: str | None
    resource: dict[str, Any] | None
    created: bool = False  # 201; a conditional create that found ours answers 200


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer inside a batch: 2xx, or why not. A batch of 200 may hold failures."""

    status: int
    reference: str | None
    etag: str | None
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and whole body of one reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def html(self) -> bool:
        """Did a gateway answer?"""
        return "html" in (self.headers.get("Content-Type") or "").lower() or self.body.lstrip()[:1] == b"<"

    def codes(self) -> tuple[str, ...]:
        """OperationOutcome.issue.code; empty when the body is none."""
        try:
            found = rawjson.loads(self.body)
        except ValueError:
            return ()
        return issue_codes(found) if isinstance(found, dict) else ()


def may_have_arrived(exc: requests.RequestException) -> bool:
    """May the request have arrived? Only a connection that never stood says no."""
    if isinstance(exc, requests.ConnectTimeout):
        return False
    inner: object = exc.args[0] if exc.args else None
    if isinstance(inner, MaxRetryError):
        inner = inner.reason
    return not isinstance(inner, NewConnectionError | ConnectTimeoutError)


def origin(url: str) -> str:
    """`scheme://host:port`, lower case, port spelt out; empty for what is no plain http(s) URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}"


def dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def issue_codes(outcome: Mapping[str, Any]) -> tuple[str, ...]:
    found = (issue.get("code") for issue in dicts(outcome.get("issue")))
    return tuple(code for code in found if isinstance(code, str) and re.fullmatch(r"[a-z-]{1,40}", code))


def version_of(resource: Mapping[str, Any] | None) -> str | None:
    meta = resource.get("meta") if resource else None
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return str(version) if isinstance(version, str | int) and version != "" else None


def etag_of(header: str | None, version: str | None) -> str | None:
    """The header verbatim; quoted where a server sends a bare `1`; else made of the version."""
    if header:
        return header if header.startswith(('"', 'W/"')) else f'W/"{header}"'
    return f'W/"{version}"' if version else None


def bare(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') if etag else None


def to_resource(resource: dict[str, Any], answer: Answer | None) -> Resource:
    meta = resource.get("meta")
    updated = meta.get("lastUpdated") if isinstance(meta, dict) else None
    try:
        last = datetime.fromisoformat(updated) if isinstance(updated, str) else None
    except ValueError:
        last = None
    if last is not None and last.tzinfo is None:
        last = None  # an instant without zone says nothing about order
    version = version_of(resource)
    etag = etag_of(answer.headers.get("ETag") if answer else None, version)
    return Resource(resource, etag, version or bare(etag), last, answer.body if answer else b"")


def to_entry(item: Mapping[str, Any]) -> Entry:
    response = item.get("response")
    said: Mapping[str, Any] = response if isinstance(response, dict) else {}
    status = re.match(r"\d{3}", str(said.get("status", "")))
    location = REFERENCE_AT_END.search(urlsplit(str(said.get("location") or "")).path)
    outcome = said.get("outcome")
    etag = said.get("etag")
    return Entry(
        int(status.group()) if status else 0,
        location.group(1) if location else None,
        etag_of(etag if isinstance(etag, str) else None, location.group(2) if location else None),
        issue_codes(outcome) if isinstance(outcome, dict) else (),
    )


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds: the header holds seconds or a date."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return None
