"""Carrying webhooks to the engine the way Meta does: batched, sometimes twice, late or out of order, and again after a closed door.

Redelivery waits `retry_base` seconds (Meta: about 30) and doubles; fresh updates go before redelivered ones, and of
those the newer go first. Until the engine answers 200, nothing is forgotten (Meta: 7 days).
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from bridge.sandbox.journal import Journal
from bridge.sandbox.whatsapp.webhooks import Update, envelope, signatures

TICK = 0.01  # seconds; updates due within one tick may share a POST
GIVE_UP_SECONDS = 7 * 24 * 3600.0


@dataclass(slots=True)
class Manners:
    """How updates travel. The defaults are hostile; `polite()` is for the demo's page and for judging by other parsers."""

    batch: int = 1000  # most updates in one POST; how many of those due travel together is chance
    duplicate: float = 0.05  # share delivered once more
    reorder: float = 0.1  # share held back
    late: float = 1.0  # seconds they are held back at most
    concurrency: int = 4  # POSTs at once
    retry_base: float = 30.0
    timeout: float = 20.0
    paused: bool = False  # nothing leaves (phones go on)
    sent_after: float = 0.05  # seconds after acceptance
    delivered_after: float = 0.15
    read_after: float = 0.4  # negative: nobody reads by himself


def polite() -> Manners:
    return Manners(batch=1, duplicate=0.0, reorder=0.0, concurrency=1)


class Courier:
    def __init__(
        self,
        journal: Journal,
        url: str,
        app_secret: str,
        *,
        manners: Manners,
        rng: random.Random,
        now: Callable[[], float],
    ) -> None:
        self.url, self.manners = url, manners
        self._journal, self._secret, self._rng, self._now = journal, app_secret, rng, now
        self._fresh: list[tuple[float, int, Update]] = []  # heap by due time
        self._waiting: list[tuple[float, int, Update]] = []  # heap: met a closed door
        self._ready: deque[Update] = deque()
        self._count = 0
        self._flying = 0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.delivered = 0
        self.posts = 0

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16))
        self._keep(self._pump())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def schedule(self, update: Update, delay: float = 0.0) -> None:
        """Let an update happen after `delay` seconds; hostile manners may deliver it later, and twice."""
        manners, chance = self.manners, self._rng.random
        update.created = time.monotonic() + delay
        held = self._rng.uniform(0, manners.late) if chance() < manners.reorder else 0.0
        self._push(self._fresh, update.created, update, held)
        if chance() < manners.duplicate:
            again = Update(**{name: getattr(update, name) for name in Update.__slots__} | {"happens": None})
            self._push(self._fresh, update.created, again, held + self._rng.uniform(0, manners.late))

    def retry_now(self) -> int:
        """Make everything that waits for its next attempt due at once; returns how many."""
        waiting = [(0.0, number, update) for _, number, update in self._waiting]
        heapq.heapify(waiting)
        self._waiting = waiting
        self._wake.set()
        return len(waiting)

    def counts(self) -> dict[str, Any]:
        return {"fresh": len(self._fresh) + len(self._ready), "waiting": len(self._waiting), "flying": self._flying,
                "delivered": self.delivered, "posts": self.posts}  # fmt: skip

    def wake(self) -> None:
        """Look again now: manners have changed."""
        self._wake.set()

    @property
    def idle(self) -> bool:
        return not (self._fresh or self._ready or self._waiting or self._flying)

    def _push(self, heap: list[tuple[float, int, Update]], due: float, update: Update, held: float = 0.0) -> None:
        if update.happens is not None and held:  # the phone shows it in time, only the webhook is late
            asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), update.happens)
            update.happens = None
        self._count += 1
        heapq.heappush(heap, (due + held, self._count, update))
        self._wake.set()

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self) -> None:
        while True:
            machine = time.monotonic()
            while self._fresh and self._fresh[0][0] <= machine:
                update = heapq.heappop(self._fresh)[2]
                if update.happens is not None:
                    update.happens()
                    update.happens = None
                self._ready.append(update)
            again = []
            while self._waiting and self._waiting[0][0] <= machine:
                again.append(heapq.heappop(self._waiting)[2])
            self._ready.extend(sorted(again, key=lambda update: -update.created))  # behind the fresh ones
            while self._ready and self._flying < self.manners.concurrency and not self.manners.paused:
                self._flying += 1
                self._keep(self._post(self._take()))
            self._wake.clear()
            due = min((heap[0][0] for heap in (self._fresh, self._waiting) if heap), default=machine + 3600)
            try:
                await asyncio.wait_for(self._wake.wait(), max(TICK, due - time.monotonic()))
            except TimeoutError:
                continue
            await asyncio.sleep(TICK)  # let what comes next share the POST

    def _take(self) -> list[Update]:
        """The next POST: a random part of what is due, so that an engine cannot count on either one or all."""
        most = min(self.manners.batch, len(self._ready))
        size = most if len(self._ready) > self.manners.batch else self._rng.randint(1, most)
        taken = [self._ready.popleft() for _ in range(size)]
        if self.manners.reorder:
            self._rng.shuffle(taken)
        return taken

    async def _post(self, updates: list[Update]) -> None:
        try:
            if await self._send(updates):
                self.delivered += len(updates)
                return
            machine = time.monotonic()
            for update in updates:
                wait = self.manners.retry_base * 2.0**update.attempts
                update.attempts += 1
                if wait < GIVE_UP_SECONDS:
                    self._push(self._waiting, machine + wait, update)
        finally:
            self._flying -= 1
            self._wake.set()

    async def _send(self, updates: list[Update]) -> bool:
        assert self._session is not None
        grouped = self._rng.random() < 0.5
        body = envelope(updates, grouped=grouped, now=self._now())
        signed = signatures(body, self._secret)
        self.posts += 1
        ids = {
            "updates": [update.key for update in updates],
            "attempts": max(update.attempts for update in updates) + 1,
        }
        of = self._journal.record("out", method="POST", path=self.url, headers=signed, body=msgspec.Raw(body), ids=ids)
        headers = signed | {"Content-Type": "application/json", "User-Agent": "facebookexternalua", "Accept": "*/*"}
        timeout = aiohttp.ClientTimeout(total=self.manners.timeout)
        try:
            async with self._session.post(
                self.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                await response.read()
                self._journal.record("answer", of=of, status=response.status, delivered=response.status == 200)
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._journal.record("answer", of=of, status=None, delivered=False, error=type(error).__name__)
            return False
