"""Too much news within an hour: campaigns wait for a person, everything else goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge.engine import compose, operations
from bridge.errors import NothingToDo
from bridge.ledger import brake, states
from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

ANA = "34612000101"


@pytest.fixture(params=KINDS)
def braked(request: pytest.FixtureRequest, workshop: Workshop) -> Bench:
    return workshop(str(request.param), delivery={"brake": 3, "doubt_wait": "30m"})


@pytest.fixture
def campaigns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bookings are told as a campaign would be: `priority: low`."""
    monkeypatch.setitem(compose.PRIORITY, "normal", states.CAMPAIGN)
    monkeypatch.setitem(compose.PRIORITY, "high", states.CAMPAIGN)


def book(bench: Bench, *numbers: int) -> None:
    for i in numbers:
        bench.clerk(people.appointment(f"v{i}", MORNING + timedelta(days=9, hours=i)))
    bench.settle()


def waiting(bench: Bench) -> list[Any]:
    return bench.messages(outbox.c.cls == states.CAMPAIGN, outbox.c.state == "planned")


@pytest.mark.usefixtures("campaigns")
def test_the_fourth_of_an_hour_and_what_follows_wait(braked: Bench) -> None:
    book(braked, 1, 2, 3)
    assert len(braked.told(ANA)) == 3
    assert braked.alarms() == []
    book(braked, 4)
    book(braked, 5)
    assert len(braked.told(ANA)) == 3
    assert [row.reason for row in waiting(braked)] == [brake.REASON] * 2
    assert len(braked.alarms()) == 1
    braked.pass_(hours=2)  # it does not come off by itself
    braked.settle()
    assert len(waiting(braked)) == 2


@pytest.mark.usefixtures("campaigns")
def test_released_they_go_out_and_the_count_begins_anew(braked: Bench) -> None:
    book(braked, 1, 2, 3, 4, 5)
    assert operations.brake_release(braked.site) == len(waiting(braked)) > 0
    braked.settle()
    assert len(braked.told(ANA)) == 5
    book(braked, 6, 7)
    assert len(braked.told(ANA)) == 7
    assert len(braked.alarms()) == 1
    book(braked, 8, 9)
    assert len(braked.alarms()) == 2
    with pytest.raises(NothingToDo):
        for _ in range(2):
            operations.brake_release(braked.site)


@pytest.mark.usefixtures("campaigns")
def test_cancelled_they_never_go(braked: Bench) -> None:
    book(braked, 1, 2, 3, 4, 5)
    told = len(braked.told(ANA))
    held = len(waiting(braked))
    assert operations.brake_cancel(braked.site) == held > 0
    braked.settle()
    assert len(braked.told(ANA)) == told
    assert waiting(braked) == []
    with pytest.raises(NothingToDo):
        operations.brake_cancel(braked.site)


def test_news_goes_on_though_the_brake_is_on(braked: Bench) -> None:
    book(braked, 1, 2, 3, 4, 5)
    assert len(braked.told(ANA)) == 5
    assert len(braked.alarms()) == 1


@pytest.mark.usefixtures("campaigns")
def test_what_is_ready_already_is_taken_back(braked: Bench) -> None:
    """The one too many stops those of its class that have not left yet, too."""
    for i in range(1, 4):
        braked.clerk(people.appointment(f"v{i}", MORNING + timedelta(days=9, hours=i)))
    braked.apply()
    assert {row.state for row in braked.messages(outbox.c.cls == states.CAMPAIGN)} == {"ready"}
    braked.clerk(people.appointment("v4", MORNING + timedelta(days=9, hours=4)))
    braked.apply()
    assert len(waiting(braked)) == 4
    braked.settle()
    assert braked.told(ANA) == []
    operations.brake_release(braked.site)
    braked.settle()
    assert len(braked.told(ANA)) == 4


@pytest.mark.usefixtures("campaigns")
def test_an_hour_later_there_is_room_again(braked: Bench) -> None:
    book(braked, 1, 2)
    braked.pass_(minutes=61)
    book(braked, 3, 4)
    assert len(braked.told(ANA)) == 4
    assert braked.alarms() == []
