"""The pretend EHR put together: FHIR over HTTP, faults, the journal, and who is told of a change."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web

from bridge.sandbox.ehr import bundles, rawjson, subscriptions
from bridge.sandbox.ehr.delivery import Delivery, Retry
from bridge.sandbox.ehr.faults import Faults
from bridge.sandbox.ehr.notifications import Dialect
from bridge.sandbox.ehr.service import Answer, Service, outcome
from bridge.sandbox.ehr.store import Change, Refusal, Store, Version, references
from bridge.sandbox.journal import Journal, as_json
from bridge.sandbox.server import hang_up

VERSIONS = {"R4": "4.0.1", "R4B": "4.3.0", "R5": "5.0.0"}
KEPT_HEADERS = ("if-match", "if-none-match", "if-none-exist", "prefer", "content-type", "x-request-id", "user-agent")
FHIR_JSON = "application/fhir+json; charset=UTF-8"
GATEWAY_PAGE = (
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
)
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass(slots=True)
class Options:
    dialect: str = "generic"
    fhir_version: str = "R4"
    token: str = ""  # bearer every request must carry; "" = open
    seed: int = 1
    polite: bool = False  # notifications in order, one worker a Subscription
    workers: int = 2
    retry: Retry = field(default_factory=Retry)


class Ehr:
    """One pretend EHR. `base` is set once the port is known."""

    def __init__(self, journal: Journal, options: Options) -> None:
        self.journal, self.options = journal, options
        self.faults = Faults()
        self.base = ""
        self.clock_offset = timedelta(0)
        self.dialect = Dialect(options.dialect, options.fhir_version)
        hapi = options.dialect == "hapi"
        self.store = Store(uuid_versions=options.dialect == "medplum", rewrites_source=hapi, now=self.now)
        self.service = Service(
            store=self.store,
            base=lambda: self.base,
            publish=self._publish,
            before_write=self._before_write,
            stale_status=409 if hapi else 412,
            as_hapi=hapi,
            fhir_version=VERSIONS[options.fhir_version],
        )
        workers = 1 if options.polite else options.workers
        self.delivery = Delivery(
            journal,
            self.faults,
            dialect=lambda: self.dialect,
            now=self.now,
            included=self._included,
            retry=options.retry,
            rng=random.Random(options.seed),  # noqa: S311 - repeatable mischief, no secret
            workers=workers,
        )
        self.topics: dict[str, str] = {}
        self.second_writer: dict[str, list[dict[str, Any]]] = defaultdict(list)  # reference -> changes still to slip in
        self.include: set[str] = set()  # types that topic notifications carry besides the focus
        self._firsts: list[asyncio.Future[None]] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_offset

    def set_base(self, base: str) -> None:
        self.base = base
        self.dialect = Dialect(self.dialect.name, self.dialect.fhir_version, base, self.dialect.logical_focus)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One FHIR request: faults first, then the interaction, the journal line, and only then the answer."""
        down = self.faults.down
        if down == "close":
            self._line(request, b"", None, fault="close")
            return hang_up(request)
        body = await request.content.read()
        if self.faults.slow:
            await asyncio.sleep(self.faults.slow)
        if down:
            status = 503 if down == "503" else 502
            self._line(request, body, status, fault=down)
            return web.Response(status=status, text=GATEWAY_PAGE if down == "html" else "", content_type="text/html")
        answer = self._answer(request, body)
        firsts, self._firsts = self._firsts, []
        if self.faults.notify_first and firsts:
            await asyncio.wait(firsts, timeout=10)
        effect = "write" if answer.written else None
        if effect and self.faults.drop_answer > 0:
            self.faults.drop_answer -= 1
            self._line(request, body, None, answer, fault="drop_answer", effect=effect)
            return hang_up(request)
        self._line(request, body, answer.status, answer, effect=effect)
        headers = (
            answer.headers if answer.status == 304 or not answer.body else answer.headers | {"Content-Type": FHIR_JSON}
        )
        return web.Response(
            status=answer.status, body=b"" if request.method == "HEAD" else answer.body, headers=headers
        )

    def _answer(self, request: web.BaseRequest, body: bytes) -> Answer:
        if self.options.token and request.headers.get("Authorization", "") != f"Bearer {self.options.token}":
            return outcome(Refusal(401, "login", "Authorization header missing or wrong"))
        path = request.path_qs
        if not path.startswith("/fhir"):
            return outcome(Refusal(404, "not-found", "The FHIR base is /fhir"))
        target = path.removeprefix("/fhir").lstrip("/")
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        if request.method == "POST" and target.split("?")[0] == "":
            answer = bundles.perform(self.service, body)
        elif target.startswith("Subscription/") and target.split("?")[0].endswith("/$status"):
            return self._subscription_status(target.split("/")[1])
        else:
            answer = self.service.perform("GET" if request.method == "HEAD" else request.method, target, headers, body)
        return answer

    def _line(
        self, request: web.BaseRequest, body: bytes, status: int | None, answer: Answer | None = None, **more: Any
    ) -> None:
        headers = {name: request.headers[name] for name in KEPT_HEADERS[:4] if name in request.headers}
        written = answer.written if answer else []
        extra = {key: value for key, value in more.items() if value is not None}
        if answer is not None and request.method in WRITES:
            extra["answer"] = _shown(request.path, answer.body)
        self.journal.record("in", now=request.method in WRITES, method=request.method, path=request.path_qs, status=status,
                            headers=headers, body=_shown(request.path, body), ids={"written": written} if written else {}, **extra)  # fmt: skip

    # --- changes

    def _included(self, change: Change) -> list[Version]:
        targets = [reference for reference in references(change.now.data) if reference.split("/")[0] in self.include]
        found = (self.store.current(*reference.split("/")) for reference in dict.fromkeys(targets))
        return [version for version in found if version is not None and not version.deleted]

    def clerk(self, reference: str, raw: bytes | None, patch: list[dict[str, Any]] | None = None) -> str:
        """A change made at the EHR's own screen: the whole resource, a JSON Patch of it, or (both None) its deletion.

        Returns:
            The version id it got.
        """
        kind, id = reference.split("/")  # noqa: A001
        held = self.store.current(kind, id)
        if patch is not None:
            if held is None or held.deleted:
                raise KeyError(reference)
            raw = rawjson.patch(held.raw, patch)
        if raw and self.service.as_hapi and (same := self.store.unchanged(kind, id, raw)):
            return same.version
        method = "DELETE" if raw is None else "POST" if held is None else "PUT"
        now, before = self.store.write(kind, id, raw or b"", method)
        self.journal.record(
            "note",
            event="clerk",
            method=method,
            ids={"written": [f"{reference}/_history/{now.version}"]},
            body=_shown(reference, now.raw),
        )
        self._publish(Change(now, before, "control"))
        return now.version

    def _before_write(self, reference: str) -> None:
        if queued := self.second_writer.get(reference):
            change = queued.pop(0)
            raw = msgspec.json.encode(change["resource"]) if "resource" in change else None
            self.clerk(reference, raw, change.get("patch"))
        if status := self.faults.conflict_for(reference):
            raise Refusal(
                status,
                "processing" if status == 409 else "conflict",
                f"Injected: {reference} was changed by somebody else",
            )

    def _publish(self, change: Change) -> None:
        kind, id = change.now.reference.split("/")  # noqa: A001
        if kind == "Subscription":
            self._subscribe(id, change)
        elif kind == "SubscriptionTopic" and change.now.data:
            triggers = change.now.data.get("resourceTrigger") or [{}]
            self.topics[str(change.now.data.get("url"))] = str(triggers[0].get("resource", "")).rsplit("/", 1)[-1]
        firsts = self.delivery.publish(change)
        if change.origin == "client":
            self._firsts += firsts

    def _subscribe(self, id: str, change: Change) -> None:  # noqa: A002
        data = change.now.data
        if change.now.deleted or data.get("status") in {"off", "error"}:
            self.delivery.remove(id)
            return
        try:
            standing = subscriptions.read(data, self.topics)
        except Refusal as refusal:
            self.journal.record(
                "note", event="Subscription refused", ids={"subscription": id}, error=refusal.diagnostics
            )
            return
        self.delivery.add(standing)
        if data.get("status") == "requested" and standing.kind == "criteria":  # only the server moves it to active
            self.store.write(
                "Subscription",
                id,
                rawjson.patch(change.now.raw, [{"op": "replace", "path": "/status", "value": "active"}]),
                "PUT",
            )

    def _subscription_status(self, id: str) -> Answer:  # noqa: A002
        standing = self.delivery.standings.get(id)
        if standing is None:
            return outcome(Refusal(404, "not-found", f"Subscription/{id} is not known"))
        status = {"resourceType": "SubscriptionStatus", "status": standing.status, "type": "query-status", "subscription": {"reference": f"Subscription/{id}"},
                  "eventsSinceSubscriptionStart": str(standing.delivered)}  # fmt: skip
        return Answer(
            200,
            msgspec.json.encode(
                {"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [{"resource": status}]}
            ),
        )


def _shown(path: str, raw: bytes) -> Any:
    """A body for the journal; a Subscription's is left out, for its channel headers are the door's secret."""
    return "(Subscription)" if "Subscription/" in path + "/" and raw else as_json(raw)
