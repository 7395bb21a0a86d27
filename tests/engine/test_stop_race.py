"""TS5, TS6: STOP, revocation and cancellation, injected at steps of one millisecond round the fence, with 10,000
statuses waiting in front. No message leaves whose fence began after the door had acknowledged what forbids it.

The engine's own threads run: group commit, apply, sender. Judged by two clocks outside them: when the door's call
returned, and when the fence of the attempt that WhatsApp saw had begun.

Statuses: those of our messages are applied faster than a test can bring them, and some come all the time. In front of
every trial stand 10,000 that name no message of ours: they wait a minute for the answer of their POST, unapplied, in the
same queue, and are looked up again and again meanwhile. Nothing is slowed down or switched off for it. Each trial counts
what waits before its lane is woken and after its acknowledgement, and one with less (their minute was over just then) shows
nothing of either side.

Rounds: how long after its waking a lane is fenced is the machine's to say. Messages that nothing forbids measure it, and
where a round met the fence from one side only, the next one's steps lie round what was measured. Every trial of every
round must be safe.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Self

import pytest
from sqlalchemy import func, select, text

from bridge.ledger import keys, tokens
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import attempt, inbox, outbox
from bridge.outbound import sender as sender_module
from bridge.outbound.carrier import Answer
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

STATUSES = 10_000
FULL = 10_500
STEPS = range(-4, 60)  # ms between the lane's waking and what forbids the message
BEFORE = range(-4, 0)  # forbidden before it is woken
ROUNDS = 6  # at most; a quiet machine needs one
EVERY = 0.012  # seconds between two trials
WAYS = ("stop", "revoked", "cancelled", "moved")
ID_ONLY = "revoked, id only"  # holds back everybody of that EHR until it is read, so it is tried by itself
FREE = "nothing"  # is not forbidden: says how long the fence takes
FREE_EVERY = 2  # steps
COUNTED = 0.75  # of a way's trials at least had enough in front


@dataclass
class Trial:
    way: str
    step: int
    name: str
    phone: str
    message: int = 0
    woken: int = 0  # machine time before which its lane slept
    acknowledged: int = 0  # machine time at which the door's call returned
    in_front: int = 0  # statuses unapplied, the fewer of before it and after


class WhatsApp:
    """Instead of the carrier: takes every POST, remembers which attempt it was, answers after a moment."""

    seen: ClassVar[Counter[tuple[int, int]]] = Counter()

    def __init__(self, **_: Any) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def post(self, _url: str, _headers: Any, body: bytes, **_: Any) -> Answer:
        named = tokens.read_callback(json.loads(body)["biz_opaque_callback_data"])
        assert named is not None
        WhatsApp.seen[named] += 1
        await asyncio.sleep(0.003)
        answer = {"messages": [{"id": f"wamid.{named[0]}.{named[1]}"}], "contacts": []}
        return Answer(200, json.dumps(answer).encode())


def prepare(bench: Bench, steps: Sequence[int]) -> list[Trial]:
    """A ready message for each trial, its lane asleep; and one that WhatsApp has taken, for the statuses to speak of."""
    trials = []
    ways: list[tuple[int, str]] = []
    for number, step in enumerate(steps):
        ways += [(0, FREE)] if number % FREE_EVERY == 0 else []
        ways += [(step, way) for way in WAYS]
    ways += [(step, ID_ONLY) for step in steps]
    for number, (step, way) in enumerate(ways):
        trial = Trial(way, step, f"t{number}", f"346{40_000_000 + number}")
        bench.ehr.put(people.patient(trial.name, "Ana", "Inventada", trial.phone))
        bench.ehr.put(people.consent(f"c-{trial.name}", f"Patient/{trial.name}", MORNING - timedelta(days=9)))
        bench.notify(bench.ehr.put(visit(trial)))
        trials.append(trial)
    bench.notify(bench.ehr.put(people.appointment("known", MORNING + timedelta(days=9))))
    deadline = time.monotonic() + 60
    while any(fate is None for fate, _ in bench.fates()):
        assert time.monotonic() < deadline, "the bookings are not applied"
        if not bench.applier.once():
            time.sleep(0.01)
    made = {row.resource_ref: row.id for row in bench.messages(outbox.c.state == "ready")}
    for trial in trials:
        trial.message = made[f"Appointment/{trial.name}"]
    with bench.store.write() as connection:
        connection.execute(text("UPDATE lane SET next_at = NULL"))
    WhatsApp.seen.clear()
    return trials


def visit(trial: Trial, **more: Any) -> dict[str, Any]:
    return people.appointment(trial.name, MORNING + timedelta(days=9), patient=f"Patient/{trial.name}", **more)


@dataclass
class Crowd:
    """Statuses, acknowledged and not applied, brought through the door: of a message of ours, and of nobody's."""

    bench: Bench
    message: int
    brought: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def waiting(self) -> int:
        with self.bench.store.read() as connection:
            unapplied = select(func.count()).where(inbox.c.fate.is_(None), inbox.c.kind == "status")
            return int(connection.execute(unapplied).scalar_one())

    def fill(self) -> int:
        """As many in front of the last trial as of the first; returns how many wait."""
        with self.lock:
            while (count := self.waiting()) < FULL:
                self.bring(min(1000, FULL - count))
            return count

    def bring(self, count: int, **more: str) -> None:
        statuses = [
            {"id": f"wamid.s{i}", "status": "sent", "timestamp": "1764579600", "recipient_id": "34600000000"} | more
            for i in range(self.brought, self.brought + count)
        ]
        self.brought += count
        self.bench.inbox.append(self.bench.webhook_entries({"statuses": statuses}))


def forbid(bench: Bench, trial: Trial) -> Callable[[], None]:
    """What the outside does, made ready so that only the door's call is left."""
    bench.append = bench.inbox.append  # type: ignore[method-assign]  # the group commit's own thread
    if trial.way == FREE:
        return lambda: None
    if trial.way == "stop":
        return lambda: _quiet(bench.says(trial.phone, "BAJA"))
    if trial.way.startswith("revoked"):
        consent = people.consent(f"c-{trial.name}", f"Patient/{trial.name}", bench.site.now(), permit=False)
        saved = bench.ehr.put(consent)
        if trial.way == "revoked":
            return lambda: bench.notify(saved, door="consents")
        return lambda: bench.hint(f"Consent/c-{trial.name}", door="consents")
    if trial.way == "cancelled":
        saved = bench.ehr.put(visit(trial, status="cancelled"))
    else:
        saved = bench.ehr.put(visit(trial) | {"start": (MORNING + timedelta(days=10)).isoformat()})
    return lambda: bench.notify(saved)


def _quiet(_: object) -> None: ...


def run(bench: Bench, crowd: Crowd, trial: Trial) -> None:
    act = forbid(bench, trial)
    key = bench.crypto.index(keys.conversation("front_desk", trial.phone))

    def wake() -> None:
        trial.woken = bench.store.now()
        with bench.store.write() as connection:
            connection.execute(
                text("UPDATE lane SET next_at = :now WHERE key = :key"), {"now": bench.store.now(), "key": key}
            )
        bench.sender.wake()

    trial.in_front = crowd.fill()
    if trial.step >= 0:
        wake()
        time.sleep(trial.step / 1000)
    act()
    trial.acknowledged = bench.store.now()
    trial.in_front = min(trial.in_front, crowd.waiting())
    if trial.step < 0:
        wake()


@dataclass
class Met:
    """What one round came to."""

    counts: Counter[tuple[str, bool]]  # (way, whether it left) with enough in front
    enough: bool
    least: int
    delays: list[float]  # ms from the waking of a lane to its fence, of what nothing forbade

    def next_steps(self) -> list[int]:
        """64 steps round the moment of the fence as it was measured: a millisecond apart where it comes within 60, else as
        far apart as they must be to reach from the waking to twice that moment."""
        half, middle = (len(STEPS) - len(BEFORE)) // 2, round(statistics.median(self.delays))
        apart = max(1, round(middle / half))
        first = max(0, middle - half * apart)
        return [*BEFORE, *range(first, first + 2 * half * apart, apart)]


def waits(bench: Bench) -> bool:
    with bench.store.read() as connection:
        return connection.execute(select(inbox.c.id).where(inbox.c.fate.is_(None)).limit(1)).first() is not None


def one_round(bench: Bench, steps: Sequence[int]) -> Met:
    """Every way at every step, on an engine of its own. What leaves must have been fenced before the acknowledgement."""
    trials = prepare(bench, steps)
    known = bench.messages(outbox.c.resource_ref == "Appointment/known", outbox.c.offset.is_(None))[0].id
    bench.inbox._committed = bench.site.wake_apply.set
    bench.site.wake_sender = bench.sender.wake
    bench.inbox.start()
    crowd, done = Crowd(bench, known), []
    try:
        bench.sender.start()
        bench.applier.start()
        crowd.fill()
        with ThreadPoolExecutor(6) as hands:
            for number, trial in enumerate(trials):
                if number % 20 == 0:
                    with crowd.lock:
                        crowd.bring(500, biz_opaque_callback_data=f"b1.{crowd.message}.1")
                done.append(hands.submit(run, bench, crowd, trial))
                time.sleep(EVERY if trial.way != ID_ONLY else 2 * EVERY)
            for one in done:
                one.result(60)
        free = {trial.message for trial in trials if trial.way == FREE}
        deadline = time.monotonic() + 120
        while not free <= {message for message, _ in [*WhatsApp.seen]} and time.monotonic() < deadline:
            time.sleep(0.05)
        bench.sender.stop()
        bench.store.ahead += 90 * SECOND  # the answer of a POST is not waited for any longer
        deadline = time.monotonic() + 120
        while waits(bench) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        bench.sender.stop()
        bench.site.stopping.set()
        bench.applier.stop()
        bench.inbox.stop()
        bench.reader.stop()

    fenced = {(row.message, row.n): row.fenced_at for row in bench.rows(attempt)}
    left = {message: at for (message, n), at in fenced.items() if WhatsApp.seen[(message, n)]}
    wrong = [
        f"{trial.way} at {trial.step} ms: fenced {left[trial.message] - trial.acknowledged} µs after the acknowledgement"
        for trial in trials
        if trial.way != FREE and trial.message in left and left[trial.message] > trial.acknowledged
    ]
    assert not wrong
    assert not [fate for fate in bench.fates() if fate[0] in (None, "failed", "unusable")]
    assert max(WhatsApp.seen.values()) == 1
    assert free <= left.keys(), "what nothing forbids leaves"
    counted = [trial for trial in trials if trial.way != FREE and trial.in_front >= STATUSES]
    ways = Counter(trial.way for trial in counted)
    return Met(
        counts=Counter((trial.way, trial.message in left) for trial in counted),
        enough=all(ways[way] >= COUNTED * len(steps) for way in (*WAYS, ID_ONLY)),
        least=min((trial.in_front for trial in counted), default=0),
        delays=[(left[trial.message] - trial.woken) / 1000 for trial in trials if trial.way == FREE],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaves_after_the_acknowledgement(
    workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "Carrier", WhatsApp)
    counts: Counter[tuple[str, bool]] = Counter()
    steps: Sequence[int] = STEPS
    for number in range(ROUNDS):
        met = one_round(workshop(kind, inline=False), steps)
        if met.enough:
            assert met.least >= STATUSES
            counts += met.counts
        said = [(way, counts[way, True], counts[way, False]) for way in (*WAYS, ID_ONLY)]
        print(
            f"{kind} round {number + 1}: left before / held back: {said}, in front at least {met.least}, "
            f"fence after {min(met.delays):.0f}-{statistics.median(met.delays):.0f}-{max(met.delays):.0f} ms"
        )
        if all(counts[way, False] for way in (*WAYS, ID_ONLY)) and all(counts[way, True] for way in WAYS):
            return
        steps = met.next_steps()
    pytest.fail(f"the fence was not met from both sides in {ROUNDS} rounds: {counts}")
