"""Delivering notifications as a real server does: workers per Subscription, no order kept, tried again for a minute.

HAPI 8.8.0 (observed): 21 attempts, 1 s growing by x1.1 until 60.5 s, then lost for good; the Subscription stays active.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
import msgspec
from multidict import CIMultiDict

from bridge.sandbox.ehr.faults import Faults
from bridge.sandbox.ehr.notifications import Dialect, Request, criteria_request, topic_request
from bridge.sandbox.ehr.store import Change, Version
from bridge.sandbox.ehr.subscriptions import Standing
from bridge.sandbox.journal import Journal, as_json

ANSWER_SECONDS = 10.0  # HAPI sends again when no answer came in about this time


@dataclass(slots=True)
class Retry:
    base: float = 1.0  # seconds before the second attempt
    growth: float = 1.1
    span: float = 60.5  # seconds from the first attempt on after which it is lost


@dataclass(slots=True)
class _Parcel:
    changes: list[Change]
    request: Request | None = None  # built when first taken up, so that events can share a Bundle
    attempt: int = 0
    waited: float = 0.0
    first: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Delivery:
    """Owns a queue and workers per Subscription."""

    def __init__(
        self,
        journal: Journal,
        faults: Faults,
        *,
        dialect: Callable[[], Dialect],
        now: Callable[[], datetime],
        included: Callable[[Change], list[Version]],
        retry: Retry,
        rng: random.Random,
        workers: int,
    ) -> None:
        self._journal, self._faults, self._dialect, self.retry, self._rng = journal, faults, dialect, retry, rng
        self._now, self._included = now, included
        self._workers = workers  # 2 in HAPI: two events of one Subscription overtake each other; 1 keeps order
        self._queues: dict[str, asyncio.Queue[_Parcel]] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.standings: dict[str, Standing] = {}
        self.pending = 0
        self.lost = 0

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=64, force_close=False)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True)

    async def stop(self) -> None:
        for name in list(self._tasks):
            self.remove(name)
        for task in self._background:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def add(self, standing: Standing) -> None:
        """Start (or replace) a standing order. Topics are greeted with a handshake, except by HAPI, which sends none."""
        self.remove(standing.id)
        self.standings[standing.id] = standing
        self._queues[standing.id] = asyncio.Queue()
        self._tasks[standing.id] = [asyncio.create_task(self._work(standing)) for _ in range(self._workers)]
        if standing.kind == "criteria" or self._dialect().name in {"hapi", "athenahealth"}:
            standing.status = "active"
        else:
            self.spawn(self._handshake(standing))
        if standing.heartbeat and self._dialect().name != "hapi":
            self._tasks[standing.id].append(asyncio.create_task(self._beat(standing)))

    def remove(self, name: str) -> None:
        self.standings.pop(name, None)
        queue = self._queues.pop(name, None)
        if queue is not None:
            self.pending -= queue.qsize()
        for task in self._tasks.pop(name, ()):
            task.cancel()

    def spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def publish(self, change: Change) -> list[asyncio.Future[None]]:
        """Queue a change for everyone who asked for it; the futures are done after each one's first attempt."""
        firsts = []
        for standing in self.standings.values():
            if standing.status not in {"active", "requested"} or not standing.wants(change):
                continue
            if self._rng.random() < self._faults.drop:
                self._journal.record("note", event="notification dropped", ids={"focus": change.now.reference})
                continue
            for _ in range(2 if self._rng.random() < self._faults.duplicate else 1):
                parcel = _Parcel([change])
                firsts.append(parcel.first)
                self._put(standing, parcel, self._delay())
        return firsts

    def resend(self, standing: Standing, change: Change) -> None:
        """Send one change again, however old: what a queue somewhere on the way may do."""
        self._put(standing, _Parcel([change]), 0.0)

    def _delay(self) -> float:
        late = self._rng.uniform(0.05, 1.0) if self._rng.random() < self._faults.reorder else 0.0
        return self._faults.delay + late

    def _put(self, standing: Standing, parcel: _Parcel, delay: float) -> None:
        self.pending += 1
        if delay:
            asyncio.get_running_loop().call_later(delay, self._arrive, standing.id, parcel)
        else:
            self._arrive(standing.id, parcel)

    def _arrive(self, name: str, parcel: _Parcel) -> None:
        queue = self._queues.get(name)
        if queue is None:  # the Subscription went away meanwhile
            self.pending -= 1
        else:
            queue.put_nowait(parcel)

    async def _work(self, standing: Standing) -> None:
        queue = self._queues[standing.id]
        while True:
            parcel = await queue.get()
            while (
                parcel.request is None
                and standing.kind != "criteria"
                and len(parcel.changes) < standing.max_count
                and not queue.empty()
            ):
                follower = queue.get_nowait()
                if follower.request is not None:
                    queue.put_nowait(follower)
                    break
                parcel.changes += follower.changes
                follower.first.set_result(None)
                self.pending -= 1
            if parcel.request is None:
                parcel.request = self._build(standing, parcel.changes)
            delivered = await self.send(parcel.request, parcel.attempt + 1, standing)
            if not parcel.first.done():
                parcel.first.set_result(None)
            self.pending -= 1
            if not delivered:
                self._again(standing, parcel)

    def _build(self, standing: Standing, changes: list[Change]) -> Request:
        if standing.kind == "criteria":
            return criteria_request(standing, changes[0], self._dialect())
        included = {version.reference: version for change in changes for version in self._included(change)}
        return self._topic(standing, "event-notification", changes, list(included.values()))

    def _topic(
        self, standing: Standing, kind: str, changes: Sequence[Change] = (), included: Sequence[Version] = ()
    ) -> Request:
        at = self._now().isoformat(timespec="milliseconds")
        return topic_request(standing, kind, changes, self._dialect(), at=at, included=included)

    def _again(self, standing: Standing, parcel: _Parcel) -> None:
        assert parcel.request is not None
        wait = self.retry.base * self.retry.growth**parcel.attempt
        empty = standing.kind == "criteria" and not standing.payload  # HAPI never tries an empty POST again
        if parcel.waited + wait > self.retry.span or (empty and self._dialect().name == "hapi"):
            self.lost += 1
            self._journal.record("note", event="notification lost", ids=parcel.request.ids)
            return
        parcel.attempt += 1
        parcel.waited += wait
        self._put(standing, parcel, wait)

    async def send(self, request: Request, attempt: int, standing: Standing) -> bool:
        """One attempt; true when this dialect would count it as delivered."""
        assert self._session is not None
        sent_headers = {name: value for name, value in request.headers if name.lower() not in {"authorization"}}
        of = self._journal.record("out", now=True, method=request.method, path=request.url, headers=sent_headers,
                                  body=as_json(request.body), ids=request.ids | {"attempt": attempt})  # fmt: skip
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers=CIMultiDict(request.headers),
                allow_redirects=False,
            ) as response:
                body = await response.read()
                delivered = 200 <= response.status < 300 and self._readable(body, response.content_type, standing)
                self._journal.record("answer", of=of, status=response.status, delivered=delivered)
                return delivered
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._journal.record("answer", of=of, status=None, delivered=False, error=type(error).__name__)
            return False

    def _readable(self, body: bytes, content_type: str, standing: Standing) -> bool:
        """HAPI parses the answer: to a Bundle it needs FHIR back, to a PUT any JSON that comes must be FHIR."""
        if self._dialect().name != "hapi":
            return True
        if not body or (standing.kind == "criteria" and "json" not in content_type):
            return standing.kind == "criteria"
        try:
            parsed = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return isinstance(parsed, dict) and "resourceType" in parsed

    async def _handshake(self, standing: Standing) -> None:
        delivered = await self.send(self._topic(standing, "handshake"), 1, standing)
        standing.status = "active" if delivered else "error"

    async def heartbeat(self, standing: Standing) -> bool:
        return await self.send(self._topic(standing, "heartbeat"), 1, standing)

    async def _beat(self, standing: Standing) -> None:
        while True:
            await asyncio.sleep(standing.heartbeat)
            await self.heartbeat(standing)
