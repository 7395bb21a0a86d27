"""TS11: whatever a hospital does to a visit, and whenever messages leave in between, the patient's last text equals the EHR.

Every walk of length ≤ 5 over {book, move 10, move 11, cancel, reinstate} × {sent, unsent}. There are 111,110 of them, and
few situations they lead to: what the EHR holds, what the patient was told, what waits to leave. Two walks that end in
the same situation go on alike, so each situation is reached by one walk, on a visit and a patient of its own, and left by
every step. All walks of length ≤ 2 are played whatever they lead to, and some hundreds of length 5 drawn by lot, so that
a situation that forgets something would show; `make walks` plays all 111,110.

The judge reads only what the pretend phone got.
"""

from __future__ import annotations

import itertools
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import text

from bridge.ledger import keys
from bridge.outbound.carrier import NotSent
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

ACTIONS = ("book", "move 10", "move 11", "cancel", "reinstate")
LENGTH = 5
LITERAL = 2  # walks so long are played whatever they lead to
DRAWN = 400
NINE = MORNING.replace(hour=8) + timedelta(days=9)
STARTS = {"book": NINE, "move 10": NINE + timedelta(hours=25), "move 11": NINE + timedelta(hours=50)}  # days tell apart


class Step(NamedTuple):
    action: str
    then: str  # sent, unsent


_STAND_STILL = "UPDATE lane SET lease_until = 9000000000000000 WHERE kind = 'conversation' AND key = :k"

STEPS = tuple(Step(action, then) for action in ACTIONS for then in ("sent", "unsent"))
Walk = tuple[Step, ...]


@dataclass
class Visit:
    """One walk, with an appointment and a patient of its own."""

    walk: Walk
    id: str
    phone: str
    status: str = "booked"
    start: Any = NINE
    flying: list[Any] = field(default_factory=list)

    def act(self, action: str) -> dict[str, Any]:
        if action in STARTS:
            self.start = STARTS[action] if action != "book" or self.status != "booked" else self.start
        if action in ("book", "reinstate"):
            self.status = "booked"
        elif action == "cancel":
            self.status = "cancelled"
        return people.appointment(self.id, self.start, patient=f"Patient/{self.id}", status=self.status)


class Walks:
    """Plays many walks side by side: one batch of the engine for the first step of all, one for the second, and so on."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.count = 0

    def play(self, walks: Iterable[Walk], *, late: str = "accepted") -> list[Visit]:
        visits = [self._visit(walk) for walk in walks]
        for i in range(max(len(visit.walk) for visit in visits)):
            going = [visit for visit in visits if len(visit.walk) > i]
            self.bench.clerks(visit.act(visit.walk[i].action) for visit in going)
            self.bench.apply()
            self._send(visits, {visit.phone: visit.walk[i].then for visit in going})
        return visits

    def _visit(self, walk: Walk) -> Visit:
        self.count += 1
        visit = Visit(walk, f"w{self.count}", f"346{10_000_000 + self.count}")
        self.bench.ehr.put(people.patient(visit.id, "Ana", "Inventada", visit.phone))
        return visit

    def _send(self, visits: Sequence[Visit], then: dict[str, str]) -> None:
        """The sender runs for those that say so; the lanes of all others stand still."""
        bench = self.bench
        lanes = {bench.crypto.index(keys.conversation("front_desk", visit.phone)): visit for visit in visits}
        still = [{"k": key} for key, visit in lanes.items() if then.get(visit.phone, "unsent") == "unsent"]
        with bench.store.write() as connection:
            if still:
                connection.execute(text(_STAND_STILL), still)
        bench.free_rates()
        flying = {visit.phone: visit for visit in visits if then.get(visit.phone) == "flying"}
        for _ in range(200):
            shots = bench.fence()
            for shot in shots:
                to = msgspec.json.decode(shot.body)["to"].removeprefix("+")
                if to in flying:
                    flying[to].flying.append(shot)
                else:
                    bench.post(shot)
            if not shots and not bench.sender._results:
                if not bench.due():
                    break
                bench.store.ahead += 50_000
        with bench.store.write() as connection:
            connection.execute(text("UPDATE lane SET lease_until = 0 WHERE lease_until = 9000000000000000"))

    def situation(self, visit: Visit) -> object:
        """What the engine holds of a visit, as far as it decides how it goes on."""
        bench = self.bench
        key = bench.crypto.index(keys.resource("main", f"Appointment/{visit.id}"))
        with bench.store.read() as connection:
            rows = connection.execute(
                text(
                    'SELECT id, state, mapping, "offset", before, after, key_id FROM outbox WHERE resource_key = :k ORDER BY id'
                ),
                {"k": key},
            ).all()
        told: object = None
        waiting = []
        for row in rows:
            before, after = (self._said(row, column) for column in ("before", "after"))
            if row.state in ("planned", "ready"):
                waiting.append((row.state, row.mapping, row.offset, before, after))
            elif row.state not in ("superseded", "suppressed", "expired", "cancelled", "failed"):
                told = after
        return (visit.status, visit.start, told, tuple(waiting))

    def _said(self, row: Any, column: str) -> object:
        blob = getattr(row, column)
        if blob is None:
            return None
        held = msgspec.json.decode(self.bench.crypto.decrypt(blob, row.key_id, "outbox", column, row.id))
        return (held["status"], held["start"])


def judge(visit: Visit, bubbles: Sequence[Bubble]) -> str | None:
    """What is wrong with what this phone shows; None when nothing is."""
    believes: Any = None  # the start the patient expects; None: no visit
    for bubble in bubbles:
        day = next((start for start in STARTS.values() if f" {start.day} de" in bubble.params.get("day", "")), None)
        if day is None:
            return f"{bubble.template}: no day"
        if bubble.template == "appointment_booked":
            if believes is not None:
                return "booked was said of a visit that the patient knew"
            believes = day
        elif bubble.template == "appointment_rescheduled":
            if believes is None:
                return "moved, and the patient knew of none"
            if f"{believes.day} " not in bubble.params["old_day"]:
                return f"moved from {bubble.params['old_day']}, and the patient expected {believes:%d}"
            if believes == day:
                return "moved to where it was"
            believes = day
        elif bubble.template == "appointment_cancelled":
            if believes is None:
                return "cancelled, and the patient knew of none"
            if believes != day:
                return f"cancelled on {day:%d}, and the patient expected {believes:%d}"
            believes = None
        else:
            return f"{bubble.template}: not expected here"
    holds = visit.start if visit.status == "booked" else None
    return None if believes == holds else f"the EHR holds {holds}, the patient believes {believes}"


def check(bench: Bench, visits: Sequence[Visit]) -> None:
    bench.settle(patience=12)
    shown: defaultdict[str, list[Bubble]] = defaultdict(list)
    for bubble in bench.whatsapp.bubbles:
        shown[bubble.to].append(bubble)
    wrong = {
        " · ".join(" ".join(step) for step in visit.walk): why
        for visit in visits
        if (why := judge(visit, shown[visit.phone])) is not None
    }
    assert not wrong
    assert not [fate for fate in bench.fates() if fate[0] in (None, "failed", "unusable")]
    assert not bench.alarms()


@pytest.mark.parametrize("kind", KINDS)
def test_every_walk(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    walks = Walks(bench)
    frontier: list[Walk] = [()]
    known: set[object] = {("nothing",)}
    played = 0
    for length in range(1, LENGTH + 1):
        visits = walks.play([(*walk, step) for walk in frontier for step in STEPS])
        situations = [walks.situation(visit) for visit in visits]
        check(bench, visits)
        played += len(visits)
        if length <= LITERAL - 1:
            frontier = [visit.walk for visit in visits]
            continue
        fresh: dict[object, Walk] = {}
        for visit, situation in zip(visits, situations, strict=True):
            if situation not in known:
                fresh.setdefault(situation, visit.walk)
        known |= set(fresh)
        frontier = list(fresh.values())
        if not frontier:
            break
    assert played > 100, "the walks must go somewhere"
    print(f"{kind}: {played} walks, {len(known)} situations, closed at length {length}")


def test_a_wrong_phone_is_noticed() -> None:
    """The judge itself: a doubled, a missing and an unfounded text are each found."""
    visit = Visit((), "w", "1")
    booked = Bubble("1", "1", "appointment_booked", {"day": f"x, {NINE.day} de x"}, None, (), "", {})
    cancelled = Bubble("2", "1", "appointment_cancelled", booked.params, None, (), "", {})
    assert judge(visit, [booked]) is None
    assert judge(visit, [booked, booked]) is not None
    assert judge(visit, []) is not None
    assert judge(visit, [cancelled]) is not None
    visit.status = "cancelled"
    assert judge(visit, [booked, cancelled]) is None
    assert judge(visit, [booked]) is not None
    assert judge(visit, []) is None


FLYING = tuple(Step(action, then) for action in ACTIONS for then in ("flying", "unsent"))


def test_walks_with_a_post_in_the_air(bench: Bench) -> None:
    """A message whose POST has begun cannot be recalled: it counts as told, and the news follows it in order."""
    walks = Walks(bench)
    visits = walks.play(itertools.product(FLYING, repeat=2))
    for visit in visits:
        for shot in visit.flying:
            bench.post(shot)
    check(bench, visits)


@pytest.mark.parametrize("kind", KINDS)
def test_walks_with_a_post_that_never_left(workshop: Workshop, kind: str) -> None:
    """It counted as told while it was in the air. No byte left us, so what was computed against it is computed again."""
    bench = workshop(kind)
    walks = Walks(bench)
    for first in ((), (Step("book", "sent"),)):
        visits = walks.play((*first, *walk) for walk in itertools.product(FLYING, repeat=2))
        for visit in visits:
            for shot in visit.flying:
                bench.whatsapp.answers.append(NotSent("connection refused"))
                bench.post(shot)
        assert bench.fence() == []  # recorded; the number rests for two seconds, as for every connection refused
        bench.pass_(seconds=10)
        check(bench, visits)


def test_walks_drawn_by_lot(bench: Bench) -> None:
    lot = random.Random(5)
    walks = {tuple(lot.choice(STEPS) for _ in range(LENGTH)) for _ in range(DRAWN)}
    check(bench, Walks(bench).play(sorted(walks)))


@pytest.mark.skipif(os.environ.get("BRIDGE_FAULTS") != "long", reason="half an hour: make walks, or BRIDGE_FAULTS=long")
@pytest.mark.parametrize("kind", KINDS)
def test_all_walks(kind: str) -> None:
    from tests.engine.all_walks import run

    assert run(kind, processes=os.cpu_count() or 1, batch=2_000)
