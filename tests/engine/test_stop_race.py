"""TS5, TS6: STOP, revocation and cancellation, injected at steps of one millisecond round the fence, with 10,000
statuses waiting in front. No message leaves whose fence began after the door had acknowledged what forbids it.

The engine's own threads run: group commit, apply, sender. Judged by two clocks outside them: when the door's call
returned, and when the fence of the attempt that WhatsApp saw had begun.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self

import pytest
from sqlalchemy import text

from bridge.ledger import keys, tokens
from bridge.ledger.tables import attempt, inbox, outbox
from bridge.outbound import sender as sender_module
from bridge.outbound.carrier import Answer
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

STATUSES = 10_000
STEPS = range(-4, 60)  # ms between the lane's waking and what forbids the message
EVERY = 0.012  # seconds between two trials
WAYS = ("stop", "revoked", "cancelled", "moved")
ID_ONLY = "revoked, id only"  # holds back everybody of that EHR until it is read, so it is tried by itself


@dataclass
class Trial:
    way: str
    step: int
    name: str
    phone: str
    message: int = 0
    acknowledged: int = 0  # machine time at which the door's call returned


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


def prepare(bench: Bench) -> list[Trial]:
    """A ready message for each trial, its lane asleep; and one that WhatsApp has taken, for the statuses to speak of."""
    trials = []
    for number, (step, way) in enumerate(
        [*((step, way) for step in STEPS for way in WAYS), *((step, ID_ONLY) for step in STEPS)]
    ):
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


def crowd(bench: Bench, message: int, first: int, count: int) -> None:
    """Statuses of a message of ours, acknowledged and not applied."""
    for start in range(first, first + count, 1000):
        statuses = [
            {"id": f"wamid.s{i}", "status": "sent", "timestamp": "1764579600", "recipient_id": "34600000000",
             "biz_opaque_callback_data": f"b1.{message}.1"}
            for i in range(start, start + 1000)
        ]  # fmt: skip
        bench.inbox.append(bench.webhook_entries({"statuses": statuses}))


def forbid(bench: Bench, trial: Trial) -> Callable[[], None]:
    """What the outside does, made ready so that only the door's call is left."""
    bench.append = bench.inbox.append  # type: ignore[method-assign]  # the group commit's own thread
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


def run(bench: Bench, trial: Trial) -> None:
    act = forbid(bench, trial)
    key = bench.crypto.index(keys.conversation("front_desk", trial.phone))

    def wake() -> None:
        with bench.store.write() as connection:
            connection.execute(
                text("UPDATE lane SET next_at = :now WHERE key = :key"), {"now": bench.store.now(), "key": key}
            )
        bench.sender.wake()

    if trial.step >= 0:
        wake()
        time.sleep(trial.step / 1000)
    act()
    trial.acknowledged = bench.store.now()
    if trial.step < 0:
        wake()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaves_after_the_acknowledgement(
    workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "Carrier", WhatsApp)
    bench = workshop(kind, inline=False)
    trials = prepare(bench)
    known = bench.messages(outbox.c.resource_ref == "Appointment/known", outbox.c.offset.is_(None))[0].id
    bench.inbox._committed = bench.site.wake_apply.set
    bench.site.wake_sender = bench.sender.wake
    bench.inbox.start()
    crowd(bench, known, 0, STATUSES)
    done, waiting = [], []
    try:
        bench.sender.start()
        bench.applier.start()
        with ThreadPoolExecutor(6) as hands:
            for number, trial in enumerate(trials):
                if number % 20 == 0:  # as many in front of the last as of the first
                    waiting.append(len(bench.rows(inbox, inbox.c.fate.is_(None), inbox.c.kind == "status")))
                    crowd(bench, known, STATUSES * (number + 1), max(STATUSES + 2_000 - waiting[-1], 0))
                done.append(hands.submit(run, bench, trial))
                time.sleep(EVERY if trial.way != ID_ONLY else 2 * EVERY)
            for one in done:
                one.result(30)
        deadline = time.monotonic() + 60
        while bench.rows(inbox, inbox.c.fate.is_(None)) and time.monotonic() < deadline:
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
        if trial.message in left and left[trial.message] > trial.acknowledged
    ]
    assert not wrong
    assert not [fate for fate in bench.fates() if fate[0] in (None, "failed", "unusable")]
    count = Counter((trial.way, trial.message in left) for trial in trials)
    print(
        f"{kind}: left before / held back: {[(way, count[way, True], count[way, False]) for way in (*WAYS, ID_ONLY)]}, "
        f"waiting in front: {waiting}"
    )
    for way in (*WAYS, ID_ONLY):
        assert count[way, False] > 0, f"{way}: nothing was held back, so nothing was tested"
    assert sum(count[way, True] for way in WAYS) > 0, "nothing left before, so the fence was never met"
    assert max(WhatsApp.seen.values()) == 1
