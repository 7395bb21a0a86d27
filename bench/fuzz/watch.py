"""What the engine does meanwhile: memory, rows that wait, exceptions in its log; and in the end its ledger and the phones."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import requests
from sqlalchemy import ColumnElement, func, or_, select

from bench import machine
from bridge.fhir.routes import TRIPPED
from bridge.ledger.store import Store
from bridge.ledger.tables import inbox
from bridge.sandbox.world import World

EVERY = 1.0  # seconds
STRANGER = "names no message of ours yet"  # the reason of such a status
MOST_SENT = 20_000  # messages to remember for statuses
BACKLOG = 6_000  # unapplied events at which the load waits
RESUME = 3_000


@dataclass(frozen=True, slots=True)
class Failure:
    """An event that the engine could not do, with the bytes to do it again."""

    event: int
    source: str
    kind: str
    reason: str
    body: bytes = field(repr=False)


class Watch:
    """A thread that looks once a second; `holding` tells the load to wait."""

    def __init__(self, world: World, sent: list[tuple[str, str, str]]) -> None:
        """`sent` is filled with what leaves to the mutants' people."""
        self._world, self._sent = world, sent
        self._journal = world.whatsapp.journal.open("rb")
        assert world.engine is not None
        self._engine = world.engine
        self.pid = world.engine.pid
        self.samples: list[tuple[float, float]] = []  # (monotonic, MB)
        self.waiting = 0
        self.most_waiting = 0
        self._holding = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._journal.close()

    def holding(self) -> bool:
        return self._holding

    def alive(self) -> bool:
        """The same process, and it answers."""
        if self._engine.poll() is not None:
            return False
        try:
            return requests.get(f"{self._world.console}/healthz", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def _run(self) -> None:
        store = Store(self._world.store or f"sqlite:///{self._world.folder / 'data' / 'bridge.db'}", readonly=True)
        try:
            while not self._stop.wait(EVERY):
                if self._engine.poll() is not None:
                    self._holding = False
                    return
                self.samples.append((time.monotonic(), machine.used(self.pid).rss))
                self._learn()
                with (
                    store.read() as connection
                ):  # what waits for its next try is nothing that the engine lags behind with
                    waiting = select(func.count()).where(inbox.c.fate.is_(None), inbox.c.tries == 0)
                    self.waiting = int(connection.execute(waiting).scalar_one())
                self.most_waiting = max(self.most_waiting, self.waiting)
                self._holding = self.waiting > (RESUME if self._holding else BACKLOG)
        finally:
            store.close()

    def _learn(self) -> None:
        """New lines of WhatsApp's journal: messages that left, to people of the mutants."""
        while (line := self._journal.readline()).endswith(b"\n"):
            if (len(self._sent) < MOST_SENT and b'"effect": "message"' in line) or b'"effect":"message"' in line:
                ids = json.loads(line)["ids"]
                who = str(ids.get("to") or "").lstrip("+")
                if who.startswith("3462") and ids.get("callback"):
                    self._sent.append((ids["wamid"], ids["callback"], who))
        self._journal.seek(-len(line), 1)  # one that is still being written

    def memory(self, since: float, until: float) -> tuple[float, float, float]:
        """(settled, last, peak) in MB: medians of the second tenth of the time, and of the last tenth."""
        span = until - since
        first = [mb for at, mb in self.samples if since + 0.1 * span <= at < since + 0.2 * span]
        last = [mb for at, mb in self.samples if until - 0.1 * span <= at <= until]
        every = [mb for at, mb in self.samples]
        if not first or not last:
            return (every[0], every[-1], max(every)) if every else (0.0, 0.0, 0.0)
        return median(first), median(last), max(every)


def log_lines(folder: Path) -> Counter[str]:
    """Lines of the engine's log that tell of an exception or an error, by phrase, exception and place."""
    found: Counter[str] = Counter()
    for line in (folder / "engine.log").read_text("utf-8", "replace").splitlines():
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            found[f"not a line of ours: {line[:120]}"] += 1
            continue
        if said.get("level") in ("error", "critical") or "exception" in said:
            found[f"{said.get('message')} {said.get('exception', '')} {said.get('where', '')}".strip()] += 1
    return found


def count_waiting(world: World, *, but_strangers: bool = False) -> int:
    """Events without a fate; `but_strangers`: those left out that are given a minute for their message to be known."""
    where: list[ColumnElement[bool]] = [inbox.c.fate.is_(None)]
    if but_strangers:
        where.append(func.coalesce(inbox.c.reason, "") != STRANGER)
    store = Store(world.store, readonly=True)
    try:
        with store.read() as connection:
            return int(connection.execute(select(func.count()).where(*where)).scalar_one())
    finally:
        store.close()


def fates(world: World) -> Counter[str]:
    store = Store(world.store, readonly=True)
    try:
        with store.read() as connection:
            rows = connection.execute(select(inbox.c.fate, func.count()).group_by(inbox.c.fate))
            return Counter({row[0] or "waiting": row[1] for row in rows})
    finally:
        store.close()


def why(world: World, most: int = 12) -> Counter[str]:
    """The commonest reasons, to see how deep the mutants went."""
    store = Store(world.store, readonly=True)
    try:
        with store.read() as connection:
            rows = connection.execute(
                select(inbox.c.kind, inbox.c.fate, inbox.c.reason, func.count().label("n"))
                .group_by(inbox.c.kind, inbox.c.fate, inbox.c.reason).order_by(func.count().desc()).limit(most)
            )  # fmt: skip
            return Counter({f"{row.kind}: {row.fate or 'waiting'} ({row.reason or ''})": row.n for row in rows})
    finally:
        store.close()


def failures(world: World, most: int = 40) -> list[Failure]:
    """Events that ended as failed, that still wait, or whose body tripped a reader."""
    from bridge.ledger.crypto import Crypto

    crypto = Crypto({"k1": base64.b64decode(world.environment["BRIDGE_DATA_KEY"])}, b"only decrypts")
    store = Store(world.store, readonly=True)
    try:
        with store.read() as connection:
            bad = or_(inbox.c.fate == "failed", inbox.c.fate.is_(None), inbox.c.reason == TRIPPED)
            rows = connection.execute(select(inbox).where(bad).order_by(inbox.c.id).limit(most)).all()
        return [
            Failure(
                row.id, row.source, row.kind, f"{row.fate or 'waiting'}: {row.reason or ''}",
                crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id) if row.body is not None else b"",
            )
            for row in rows
        ]  # fmt: skip
    finally:
        store.close()


def shown(world: World) -> dict[str, list[str]]:
    """wa_id -> what its phone got: names of templates, and words."""
    found: dict[str, list[str]] = {}
    for line in world.accepted():
        body = line["body"]
        what = (
            body["template"]["name"]
            if body.get("type") == "template"
            else json.dumps(body.get(body.get("type", ""), ""), ensure_ascii=False)
        )
        found.setdefault(str(line["ids"]["to"]).lstrip("+"), []).append(what)
    return found
