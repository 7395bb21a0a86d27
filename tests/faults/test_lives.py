"""Lives of a node, leases and lost commits, on the workbench: each of these once stuck, waited a minute, or said it twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from bridge.engine.apply import Applier
from bridge.ledger import lanes
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import attempt, lane, outbox
from bridge.outbound.record import Result, take_over
from bridge.outbound.sender import Sender
from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
ANA = people.ANA_PHONE


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    yield made
    made.close()


def visit(days: int = 0, name: str = "a1", **more: Any) -> dict[str, Any]:
    return people.appointment(name, START + timedelta(days=days), **more)


def booked(bench: Bench) -> None:
    bench.clerk(visit())
    bench.apply()


def fenced(bench: Bench) -> list[Any]:
    """Booked, and the node dies between fence and POST: the shots are never fired."""
    booked(bench)
    shots = bench.fence()
    assert [row.state for row in news(bench)] == ["sending"]
    return shots


def news(bench: Bench) -> list[Any]:
    return bench.messages(outbox.c.offset.is_(None))


def conversation(bench: Bench) -> Any:
    return bench.rows(lane, lane.c.kind == "conversation")[0]


def node(bench: Bench, name: str) -> Sender:
    site = bench.site
    return Sender(
        bench.settings, bench.store, bench.crypto, site.ids, site.clock, name, site.quiet_until, lambda _: None
    )


def test_the_next_life_knows_at_once(bench: Bench) -> None:
    """What the last life was sending is in doubt before anything runs, its lane is free, and nothing is POSTed again."""
    fenced(bench)
    with bench.store.write() as connection:
        lost = take_over(connection, "node", bench.store.now(connection))
    assert lost == {row.id for row in news(bench)}
    assert [row.state for row in news(bench)] == ["doubt"]
    assert [row.outcome for row in bench.rows(attempt)] == ["doubt"]
    assert conversation(bench).owner is None
    bench.sender = node(bench, "node")
    bench.pass_(minutes=5)
    bench.settle()
    assert bench.whatsapp.posts == []


def test_a_lane_that_sends_stays_due(bench: Bench) -> None:
    """Somebody wakes the lane while its only message is being sent: were it put to sleep, a dead holder's message would
    stay in `sending` for ever."""
    fenced(bench)
    with bench.store.write() as connection:
        lanes.wake(connection, [conversation(bench).id], bench.store.now(connection))
    assert conversation(bench).next_at is not None
    bench.pass_(seconds=61)
    other = node(bench, "other")
    assert other._cycle() == []
    assert [row.state for row in news(bench)] == ["doubt"]


def test_another_node_takes_over_and_the_late_answer_counts(bench: Bench) -> None:
    [shot] = fenced(bench)
    other = node(bench, "other")
    assert other._cycle() == []
    assert [row.state for row in news(bench)] == ["sending"]  # its lease still runs
    bench.pass_(seconds=61)
    bench.clerk(visit(status="cancelled"))  # urgent: a doubt does not hold it back
    bench.apply()
    [urgent] = other._cycle()
    assert conversation(bench).owner == "other"
    bench.post(shot)  # the first node was only slow
    bench.sender._cycle()
    assert [row.state for row in news(bench)] == ["accepted", "sending"]
    assert conversation(bench).owner == "other"  # a lane that was taken over is not the late one's to free
    assert [row.state for row in bench.messages(outbox.c.id == urgent.fenced.message)] == ["sending"]


def test_a_doubt_found_at_the_claim_holds_news_back(bench: Bench) -> None:
    fenced(bench)
    bench.clerk(visit(1))  # news that waits behind it
    bench.apply()
    with bench.store.write() as connection:
        take_over(connection, "node", bench.store.now(connection))
    bench.sender = node(bench, "node")
    assert bench.fence() == []
    bench.pass_(seconds=62)
    assert len(bench.fence()) == 1


class CommitLost:
    """The store commits, and the answer is lost; or fails before it commits."""

    def __init__(self, bench: Bench, *, after: bool) -> None:
        self.bench, self.after, self.left = bench, after, 0
        self.write = bench.store.write

    @contextmanager
    def __call__(self, *, urgent: bool = False) -> Iterator[Connection]:
        self.left -= 1
        with self.write(urgent=urgent) as connection:
            yield connection
            if self.left == 0 and not self.after:
                raise OperationalError("COMMIT", {}, Exception("gone"))
        if self.left == 0:
            raise OperationalError("COMMIT", {}, Exception("gone"))


@pytest.mark.parametrize("after", [False, True], ids=["failed", "answer lost"])
@pytest.mark.parametrize("which", [1, 2], ids=["claim", "fence"])
def test_a_commit_without_an_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch, which: int, *, after: bool) -> None:
    """No POST began, and the node knows it: the message goes once, and nobody waits for a lease of 60 s."""
    booked(bench)
    lost = CommitLost(bench, after=after)
    monkeypatch.setattr(bench.store, "write", lost)
    lost.left = which
    with pytest.raises(OperationalError):
        bench.fence()
    bench.sender._unsure = True  # as the sender's loop does
    bench.send()
    bench.pass_(seconds=7)  # its slot at the recipient was spent by the fence
    bench.send()
    assert [row.state for row in news(bench)] == ["accepted"]
    assert len(bench.whatsapp.posts) == 1
    assert [row.tries for row in news(bench)] == [0]


def test_an_urgent_one_that_came_between_claim_and_fence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane waits for its news' time at this recipient; the wake-up of the answer met our lease. It is not slept through."""
    booked(bench)
    bench.send()
    bench.clerk(visit(1))  # six seconds after the first template at the earliest
    bench.apply()
    choose = Sender._choose

    def meanwhile(self: Sender, *arguments: Any) -> Any:
        monkeypatch.setattr(Sender, "_choose", choose)
        bench.says(ANA, "Una pregunta")
        bench.apply()
        return choose(self, *arguments)

    monkeypatch.setattr(Sender, "_choose", meanwhile)
    with bench.store.write() as connection:  # make it due now: the fence will put it off
        lanes.wake(connection, [conversation(bench).id], bench.store.now(connection))
    bench.fence()
    row = conversation(bench)
    assert row.next_at <= bench.store.now()
    assert row.owner is None
    assert [shot.fenced.lane.cls for shot in bench.fence()] == [1]


def test_taken_back_keeps_its_place(bench: Bench) -> None:
    """What never left us goes before what became ready later."""
    first = fenced(bench)[0]
    bench.clerk(visit(name="a2"))
    bench.apply()
    bench.store.ahead += 2 * SECOND
    bench.sender._done(
        first.fenced, Result(first.fenced.message, first.fenced.n, "taken_back", reason="could not start in time")
    )
    bench.fence()  # records it
    bench.pass_(seconds=7)
    shots = bench.fence()
    assert [shot.fenced.message for shot in shots] == [first.fenced.message]


def test_a_deadlock_blames_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends one of two transactions: its events are tried again, none ends as failed."""
    commit = Applier._commit
    left = [3]

    def sometimes(self: Applier, changes: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("UPDATE", {}, Exception("deadlock detected"))
        return commit(self, changes)

    monkeypatch.setattr(Applier, "_commit", sometimes)
    bench.clerk(visit())
    bench.clerk(visit(name="b1", patient="Patient/beatriz"))
    bench.apply()
    assert [fate for fate, _ in bench.fates()] == ["planned", "planned"]
    assert bench.alarms() == []
