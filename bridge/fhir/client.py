"""HTTP towards one EHR: reads, searches and guarded writes, never beyond the configured base.

Every answer becomes a value or one of two errors: `EhrUnreachable` (wait; `unknown` when a write may have arrived) and
`EhrRefused` (for good). Bodies are the EHR's own JSON (`rawjson`), never a model's round trip. Messages name `Type/id`,
statuses and issue codes; diagnostics stay out, they quote patients.

Source: https://hl7.org/fhir/R4/http.html (versions, conditional create, paging), reference/fhir.md §11 for what servers do.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

import requests
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir import rawjson, together
from bridge.fhir.answers import (
    REFERENCE,
    REFERENCE_AT_END,
    Answer,
    Conflict,
    Deleted,
    Entry,
    Missing,
    NotModified,
    Resource,
    Written,
    bare,
    dicts,
    etag_of,
    issue_codes,
    may_have_arrived,
    origin,
    retry_after_seconds,
    to_entry,
    to_resource,
    version_of,
)
from bridge.fhir.auth import authorizer
from bridge.fhir.together import Told
from bridge.settings import Ehr

__all__ = ["Conflict", "Deleted", "EhrClient", "Entry", "Missing", "NotModified", "Resource", "Written"]

FHIR_JSON: Final = "application/fhir+json"
CONNECT, READ = 3.0, 10.0  # s; READ is between two packets
DEADLINE: Final = 30.0  # s for a whole body: a server that trickles must not hold a thread
MAX_BODY: Final = 20 * 1024 * 1024  # bytes, unpacked: reports carry their PDF inside
PAGES: Final = 500  # of one search: beyond it the server is paging in circles, or the query is not meant for us

_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~:/?@!$&'()*+,;=%-]*)?")  # needs no quoting
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_MAYBE_DONE = frozenset({500, 502, 504})  # the server, or the gateway before it, lost track of a write


class EhrClient:
    """Speaks with one EHR; usable from several threads."""

    def __init__(
        self,
        ehr: Ehr,
        *,
        session: Callable[[], requests.Session] = requests.Session,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open nothing yet.

        Args:
            ehr: base URL and how we prove who we are.
            session: one session per host comes from here.
            clock: seconds since the epoch, machine time.
        """
        if not ehr.base_url:
            raise EhrRefused(f"{ehr.key}: no base_url, so nothing can be read or written")
        self.key = ehr.key
        self.base = ehr.base_url.rstrip("/")
        self._origin = origin(self.base)
        self._path = urlsplit(self.base).path
        self._auth = authorizer(ehr.auth, self.base, session=session, clock=clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._make = session
        self._session: requests.Session | None = None
        self._environment: dict[str, Any] | None = None  # proxies and certificates, as the environment has them

    # --- names -----------------------------------------------------------------------------------------------------

    def local(self, reference: str) -> str | None:
        """`Type/id` of a reference that is this EHR's own; None for another host's, a URN, a contained or odd one.

        The only way from outside data to a URL: what is not `Type/id` under the configured base is never fetched.
        """
        rest = reference
        if "://" in reference:
            if origin(reference) != self._origin:
                return None
            path = urlsplit(reference).path
            if urlsplit(reference).query or not path.startswith(f"{self._path}/"):
                return None
            rest = path.removeprefix(f"{self._path}/")
        found = REFERENCE.fullmatch(rest)
        return found.group(1) if found and not found.group(1).endswith(("/.", "/..")) else None

    def _url(self, reference: str) -> str:
        local = self.local(reference)
        if local is None:
            raise EhrRefused("a reference that is not Type/id under the configured base is never fetched")
        return f"{self.base}/{local}"

    # --- reading ---------------------------------------------------------------------------------------------------

    def read(self, reference: str, etag: str | None = None) -> Resource | NotModified | Missing | Deleted:
        """Read `Type/id` as it is now.

        Args:
            reference: `Type/id`, or absolute under the base.
            etag: of the version we hold; unchanged → `NotModified`.
        """
        url = self._url(reference)
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._send("GET", url, headers=headers)
        if answer.status == 304 and etag:
            return NotModified()
        if answer.status in {404, 410}:
            if answer.html:
                raise EhrUnreachable(f"{self._name(url)}: {answer.status} by something that is not the EHR")
            return Missing() if answer.status == 404 else Deleted()
        self._check(answer, self._name(url))
        found = self._fhir(answer, self._name(url))
        if f"{found['resourceType']}/{found.get('id')}" != self.local(reference):
            raise EhrRefused(f"{self._name(url)}: the answer is another resource", codes=issue_codes(found))
        return to_resource(found, answer)

    def search(self, resource_type: str, params: Mapping[str, str] | Sequence[tuple[str, str]]) -> Iterator[Resource]:
        """All matches and includes, page after page; entries that are outcomes of the search itself are left out.

        Raises:
            EhrRefused: a next page outside the configured base, or more pages than `PAGES`: a silent cut would lose
                patients.
        """
        if not _TYPE.fullmatch(resource_type):
            raise EhrRefused("not a resource type")
        url = f"{self.base}/{resource_type}?{urlencode(params)}"
        for _ in range(PAGES):
            answer = self._send("GET", url)
            self._check(answer, resource_type)
            bundle = self._fhir(answer, resource_type)
            if bundle["resourceType"] != "Bundle":
                raise EhrRefused(f"{resource_type}: the answer to a search is no Bundle", codes=issue_codes(bundle))
            for entry in dicts(bundle.get("entry")):
                for resource in dicts([entry.get("resource")]):
                    kind = resource.get("resourceType")
                    if isinstance(kind, str) and kind != "OperationOutcome":  # an outcome of the search itself
                        yield to_resource(resource, None)
            following = [link.get("url") for link in dicts(bundle.get("link")) if link.get("relation") == "next"]
            if not following:
                return
            url = self._inside(url, following[0], resource_type)
        raise EhrRefused(f"{resource_type}: more than {PAGES} pages")

    def find_by_identifier(self, resource_type: str, system: str, value: str) -> Resource | None:
        """The resource that carries our identifier: what a create whose answer was lost has left behind, if anything."""
        for found in self.search(resource_type, {"identifier": f"{system}|{value}"}):
            if any(
                identifier.get("system") == system and identifier.get("value") == value
                for identifier in dicts(found.resource.get("identifier"))
            ):
                return found
        return None

    def together(self, whats: Sequence[str]) -> list[Told | None]:
        """Reads (`Patient/p1`) and searches (`Consent?patient=Patient/p1`) in one request; None for one that must be asked alone.

        Raises:
            EhrRefused: this EHR takes no batch, or does not answer it in order.
        """
        if any(self.local(what) != what for what in whats if "?" not in what):
            raise EhrRefused("a reference that is not Type/id under the configured base is never fetched")
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [together.entry(what) for what in whats]}
        answer = self._send("POST", self.base, body=rawjson.dumps(bundle), headers={"Content-Type": FHIR_JSON})
        self._check(answer, "batch of reads", write=True)
        answers = dicts(self._fhir(answer, "batch of reads", write=True).get("entry"))
        if len(answers) != len(whats) or together.mixed_up(whats, answers):
            raise EhrRefused("batch of reads: the answers are not those to what was asked", status=answer.status)
        return [together.told(what, each) for what, each in zip(whats, answers, strict=True)]

    def metadata(self) -> dict[str, Any]:
        """The CapabilityStatement."""
        answer = self._send("GET", f"{self.base}/metadata")
        self._check(answer, "metadata")
        return self._fhir(answer, "metadata")

    # --- writing ---------------------------------------------------------------------------------------------------

    def update(self, reference: str, body: bytes, if_match: str | None) -> Written | Conflict:
        """PUT the whole resource, if it is still the version in `if_match`."""
        return self._change("PUT", reference, body, FHIR_JSON, if_match)

    def patch(self, reference: str, ops: Sequence[Mapping[str, Any]], if_match: str | None) -> Written | Conflict:
        """JSON Patch; a failed `test` is the server's 400, an `EhrRefused` with that status."""
        return self._change("PATCH", reference, rawjson.dumps(list(ops)), "application/json-patch+json", if_match)

    def _change(self, method: str, reference: str, body: bytes, mime: str, if_match: str | None) -> Written | Conflict:
        url = self._url(reference)
        headers = {"Content-Type": mime, "Prefer": "return=representation"}
        if if_match:
            headers["If-Match"] = if_match
        answer = self._send(method, url, body=body, headers=headers)
        if answer.status in {409, 412}:
            return Conflict(answer.status)
        self._check(answer, self._name(url), write=True)
        return self._written(answer, self.local(reference) or "", self._name(url))

    def create(self, resource_type: str, body: bytes, identifier: tuple[str, str] | None = None) -> Written:
        """POST, unless one with our identifier is there already (If-None-Exist).

        If-None-Exist is not safe under concurrency on most servers: one create per identifier at a time, and after an
        `EhrUnreachable` with `unknown` look with `find_by_identifier` before trying again.
        """
        headers = {"Content-Type": FHIR_JSON, "Prefer": "return=representation"}
        if identifier:
            headers["If-None-Exist"] = f"identifier={quote('|'.join(identifier), safe=':|/')}"
        answer = self._send("POST", f"{self.base}/{resource_type}", body=body, headers=headers)
        if answer.status in {409, 412}:
            raise EhrRefused(
                f"{resource_type}: several carry this identifier already", status=answer.status, codes=answer.codes()
            )
        self._check(answer, resource_type, write=True)
        written = self._written(answer, "", resource_type)
        if not written.reference and identifier:  # 200 to a conditional create, and neither Location nor body
            found = self.find_by_identifier(resource_type, *identifier)
            if found is not None:
                return Written(found.reference, found.etag, found.version, found.resource)
        if not written.reference.startswith(f"{resource_type}/"):
            raise EhrUnreachable(f"{resource_type}: written, but the answer names no id", unknown=True)
        return written

    def batch(self, entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
        """POST a batch Bundle; answers in the order of `entries` (each `{"request": …, "resource": …}`)."""
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": list(entries)}
        answer = self._send("POST", self.base, body=rawjson.dumps(bundle), headers={"Content-Type": FHIR_JSON})
        self._check(answer, "batch", write=True)
        found = self._fhir(answer, "batch", write=True)
        answers = dicts(found.get("entry"))
        if found["resourceType"] != "Bundle" or len(answers) != len(entries):
            raise EhrUnreachable("batch: the answer does not match what was asked", unknown=True)
        return tuple(to_entry(item) for item in answers)

    # --- the wire --------------------------------------------------------------------------------------------------

    def _send(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; a second one only after a 401 with a fresh token, after a GET whose connection had gone stale,
        and after a redirect of a GET that stays under the base."""
        name = self._name(url)
        fresh = stale = False
        for _ in range(5):
            try:
                answer = self._once(method, url, body, headers or {})
            except requests.RequestException as exc:
                if (
                    method == "GET"
                    and not stale
                    and isinstance(exc, requests.ConnectionError)
                    and may_have_arrived(exc)
                ):
                    stale = True
                    continue
                raise EhrUnreachable(
                    f"{name}: {type(exc).__name__}", unknown=method != "GET" and may_have_arrived(exc)
                ) from None  # its text holds the URL and may hold more
            if answer.status == 401 and not fresh and self._auth.drop():
                fresh = True
                continue
            if answer.status in {301, 302, 303, 307, 308}:
                if method != "GET":
                    raise EhrRefused(f"{name}: a redirect of a write is not followed", status=answer.status)
                url = self._inside(url, answer.headers.get("Location"), name)
                continue
            return answer
        raise EhrRefused(f"{name}: redirected in circles")

    def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        sent = {"Accept": FHIR_JSON, **headers, **self._auth.headers()}
        start = time.monotonic()
        with self._exchange(method, url, body, sent) as reply:
            parts: list[bytes] = []
            size = 0
            for part in reply.iter_content(65536):
                parts.append(part)
                size += len(part)
                if size > MAX_BODY:
                    raise EhrRefused(f"{self._name(url)}: an answer over {MAX_BODY >> 20} MB")
                if time.monotonic() - start > DEADLINE:
                    raise requests.ReadTimeout
        return Answer(reply.status_code, reply.headers, b"".join(parts))

    def _exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> requests.Response:
        """`Session.request` without what never changes here: proxies and CA bundle of the environment are asked for once,
        not per request, and nothing is encoded, hooked or followed. Half its CPU, over the same adapters."""
        session = self._http()
        request = requests.PreparedRequest()
        request.method = method
        if _PLAIN_URL.fullmatch(url):
            request.url = url
        else:
            request.prepare_url(url, None)
        request.headers = CaseInsensitiveDict({**session.headers, **headers})  # type: ignore[arg-type]
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            request.headers["Content-Length"] = str(len(body or b""))
        request.body = body
        request.hooks = {"response": []}
        request.prepare_cookies(session.cookies)
        if self._environment is None:
            self._environment = dict(session.merge_environment_settings(self.base, {}, True, None, None))
        reply = session.get_adapter(url).send(request, timeout=(CONNECT, READ), **self._environment)
        if "Set-Cookie" in reply.headers:  # a balancer that keeps us on one of its servers
            extract_cookies_to_jar(session.cookies, request, reply.raw)  # type: ignore[no-untyped-call]
        return reply

    def _http(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = self._make()
                self._auth.prepare(self._session)
            return self._session

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    # --- answers ---------------------------------------------------------------------------------------------------

    def _check(self, answer: Answer, name: str, *, write: bool = False) -> None:
        """2xx passes; the rest is wait or no."""
        status = answer.status
        if 200 <= status < 300:
            return
        if status == 429 or (status >= 500 and status not in {501, 505}):
            raise EhrUnreachable(
                f"{name}: {status}",
                retry_after=retry_after_seconds(answer.headers.get("Retry-After"), self._clock()),
                unknown=write and status in _MAYBE_DONE,
            )
        raise EhrRefused(f"{name}: {status}", status=status, codes=answer.codes())

    def _fhir(self, answer: Answer, name: str, *, write: bool = False) -> dict[str, Any]:
        try:
            found = rawjson.loads(answer.body)
        except rawjson.Unfaithful as exc:
            raise EhrRefused(f"{name}: {exc}", status=answer.status) from None
        except ValueError as exc:
            raise EhrUnreachable(f"{name}: {answer.status}, but {exc}", unknown=write) from None
        if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
            raise EhrUnreachable(f"{name}: {answer.status}, but no FHIR resource", unknown=write)
        return found

    def _written(self, answer: Answer, reference: str, name: str) -> Written:
        resource: dict[str, Any] | None = None
        if answer.body.strip():
            found = self._fhir(answer, name, write=True)
            if found["resourceType"] != "OperationOutcome":
                resource = found
        location = REFERENCE_AT_END.search(urlsplit(answer.headers.get("Location") or "").path)
        if resource is not None:
            said = f"{resource['resourceType']}/{resource.get('id')}"
            if reference and said != reference:
                raise EhrUnreachable(f"{name}: {answer.status}, but the answer is another resource", unknown=True)
            reference = said
        elif not reference and location:
            reference = location.group(1)
        version = version_of(resource)
        etag = etag_of(answer.headers.get("ETag"), version)
        if etag is None and location and location.group(1) == reference:
            version = version or location.group(2)
            etag = etag_of(None, version)
        return Written(reference, etag, version or bare(etag), resource, created=answer.status == 201)

    def _inside(self, current: str, link: object, name: str) -> str:
        """A link the server gave, if it stays under the base."""
        url = urljoin(current, link) if isinstance(link, str) else ""
        path = urlsplit(url).path
        inside = path in {self._path, f"{self._path}/"} or path.startswith(f"{self._path}/")
        if origin(url) != self._origin or not inside or "/.." in path:
            raise EhrRefused(f"{name}: the EHR points outside the configured base")
        return url

    def _name(self, url: str) -> str:
        """What the URL asks for without its query: ids only."""
        return urlsplit(url).path.removeprefix(self._path).strip("/") or self.key
