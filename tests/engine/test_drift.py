"""A node whose clock is more than 2 s off the database's claims nothing and says so; back in time, it goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.console.app import console_app
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import lane
from bridge.outbound import sender
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench

ANA = "34612000101"


def ready(bench: Bench) -> tuple[int, list[str]]:
    answer = console_app(bench.site).test_client().get("/readyz")
    return answer.status_code, answer.get_json()["problems"]


@pytest.mark.parametrize("off", [3 * SECOND, -3 * SECOND])
def test_a_clock_that_is_off(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    bench = workshop("postgresql")
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=7)))
    bench.apply()
    bench.store._machine._anchor += off
    for _ in range(3):
        assert bench.fence() == []
    assert {row.owner for row in bench.rows(lane)} == {None}
    assert ready(bench) == (503, ["this node's clock is more than 2 s off the database's"])

    bench.store._machine._anchor -= off
    assert ready(bench) == (200, [])
    assert bench.fence() == [], "the database's clock is looked at now and then, not in every cycle"
    monkeypatch.setattr(sender, "DRIFT_LOOK", 0.0)
    bench.send()
    assert bench.told(ANA) == ["appointment_booked"]


def test_a_second_is_no_matter(workshop: Workshop) -> None:
    bench = workshop("postgresql")
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=7)))
    bench.apply()
    bench.store._machine._anchor += SECOND
    bench.send()
    assert bench.told(ANA) == ["appointment_booked"]
    assert ready(bench) == (200, [])


def test_answers_in_flight_are_recorded_all_the_same(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = workshop("postgresql")
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=7)))
    bench.apply()
    shots = bench.fence()
    assert len(shots) == 1
    bench.store._machine._anchor += 5 * SECOND
    monkeypatch.setattr(sender, "DRIFT_LOOK", 0.0)
    bench.post(shots[0])
    bench.fence()
    assert {row.state for row in bench.messages() if row.event == "appointment.booked"} == {"accepted"}
