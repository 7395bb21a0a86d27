"""TS12: reminders come at the right hour on the wall, once, of the time that holds, and to nobody who is gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.ledger.clock import from_us
from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

MADRID = ZoneInfo("Europe/Madrid")
REMINDER = "appointment_reminder"


def visit(start: datetime, **more: Any) -> dict[str, Any]:
    return people.appointment("a1", start, **more)


def armed(bench: Bench) -> dict[str, datetime]:
    rows = bench.messages(outbox.c.offset.is_not(None), outbox.c.state == "planned")
    return {row.offset: from_us(row.not_before).astimezone(MADRID) for row in rows}


def to(bench: Bench, moment: datetime) -> None:
    """Business and machine time go on to this moment."""
    bench.pass_(seconds=(moment - bench.site.now()).total_seconds() + 1)
    bench.settle()


def reminders(bench: Bench, who: str = people.ANA_PHONE) -> list[str]:
    return [bubble.params["time"] for bubble in bench.whatsapp.of(who) if bubble.template == REMINDER]


@pytest.mark.parametrize("kind", KINDS)
def test_each_leaves_once_at_its_hour(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    assert armed(bench) == {"3d": start - timedelta(days=3), "24h": start - timedelta(hours=24)}
    to(bench, start - timedelta(days=3, minutes=1))
    assert reminders(bench) == []
    to(bench, start - timedelta(days=3))
    assert reminders(bench) == ["10:00"]
    to(bench, start - timedelta(hours=24))
    assert reminders(bench) == ["10:00", "10:00"]
    to(bench, start + timedelta(days=1))
    assert len(reminders(bench)) == 2


def test_booked_20_h_ahead(bench: Bench) -> None:
    bench.clerk(visit(MORNING + timedelta(hours=20)))
    bench.settle()
    assert bench.told(people.ANA_PHONE) == ["appointment_booked"]
    assert armed(bench) == {}
    assert "covered by the booking message" in (bench.fates()[0][1] or "")
    to(bench, MORNING + timedelta(hours=30))
    assert reminders(bench) == []


def test_moved_by_half_an_hour(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.clerk(visit(start + timedelta(minutes=30)))
    bench.settle()
    assert armed(bench)["24h"] == start + timedelta(minutes=30) - timedelta(hours=24)
    to(bench, start + timedelta(minutes=30) - timedelta(days=3))
    to(bench, start - timedelta(hours=24))
    assert reminders(bench) == ["10:30"]  # three days before, and not of the old time
    to(bench, start + timedelta(minutes=30) - timedelta(hours=24))
    assert reminders(bench) == ["10:30", "10:30"]


def test_moved_away_and_back(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    for moment in (start, start + timedelta(days=2), start):
        bench.clerk(visit(moment))
        bench.apply()
    bench.settle()
    assert bench.told(people.ANA_PHONE) == ["appointment_booked"]
    assert armed(bench) == {"3d": start - timedelta(days=3), "24h": start - timedelta(hours=24)}
    for before in (timedelta(days=3), timedelta(days=1), timedelta(days=-2)):
        to(bench, start - before)
    assert reminders(bench) == ["10:00", "10:00"]


def test_due_at_23_h(bench: Bench) -> None:
    """Quiet hours begin at 21:00: a quarter of an hour before, on the patient's wall."""
    start = datetime(2026, 12, 6, 22, 0, tzinfo=UTC)  # 23:00 in Madrid
    bench.clerk(visit(start))
    bench.settle()
    assert {offset: f"{at:%d %H:%M}" for offset, at in armed(bench).items()} == {"3d": "03 20:45", "24h": "05 20:45"}


def test_due_in_the_quiet_hours_that_have_begun(workshop: Workshop) -> None:
    """It is 22:00 and the reminder is due at 23:00: to the end of the quiet hours, and it expires from there."""
    bench = workshop(at=datetime(2026, 12, 1, 21, 0, tzinfo=UTC))
    start = datetime(2026, 12, 2, 22, 0, tzinfo=UTC)
    bench.clerk(visit(start))
    bench.settle()
    assert {offset: f"{at:%d %H:%M}" for offset, at in armed(bench).items()} == {"24h": "02 08:00"}
    row = bench.messages(outbox.c.offset == "24h")[0]
    assert from_us(row.not_after) - from_us(row.not_before) == timedelta(hours=4)


@pytest.mark.parametrize(
    ("start", "three_days", "day"),
    [
        ("2027-03-28T10:00", "2027-03-25T10:00", "2027-03-27T09:00"),  # the night that loses an hour
        ("2026-10-25T10:00", "2026-10-22T10:00", "2026-10-24T11:00"),  # the night that has one twice
    ],
)
def test_both_nights_of_the_clocks(workshop: Workshop, start: str, three_days: str, day: str) -> None:
    """`3d` keeps the hour on the wall, `24h` the hours that pass."""

    def wall(written: str) -> datetime:
        return datetime.fromisoformat(written).replace(tzinfo=MADRID)

    bench = workshop(at=wall(start) - timedelta(days=6))
    bench.clerk(visit(wall(start)))
    bench.settle()
    assert armed(bench) == {"3d": wall(three_days), "24h": wall(day)}
    to(bench, wall(three_days))
    assert reminders(bench) == ["10:00"]
    to(bench, wall(day))
    assert reminders(bench) == ["10:00", "10:00"]


def test_a_death_that_was_never_notified(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.change("Patient/ana", deceasedBoolean=True)
    to(bench, start - timedelta(days=3))
    to(bench, start - timedelta(days=1))
    assert bench.told(people.ANA_PHONE) == ["appointment_booked"]
    assert all(row.state == "suppressed" for row in bench.messages(outbox.c.offset.is_not(None)))


def test_a_read_from_before_the_clock_was_pushed_confirms_nothing(bench: Bench) -> None:
    """Seconds passed on the machine, days in business time: what was read then says nothing about now."""
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.change("Patient/ana", deceasedBoolean=True)
    bench.site.clock.push(start - timedelta(days=3) - bench.site.now() + timedelta(seconds=1))
    bench.settle()
    assert bench.told(people.ANA_PHONE) == ["appointment_booked"]


def test_a_cancellation_that_was_never_notified(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.change("Appointment/a1", status="cancelled")
    to(bench, start - timedelta(days=3))
    assert bench.told(people.ANA_PHONE) == ["appointment_booked", "appointment_cancelled"]
    to(bench, start)
    assert reminders(bench) == []


def test_a_move_that_was_never_notified(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.put(visit(start + timedelta(days=1)))
    to(bench, start - timedelta(days=3))
    assert bench.told(people.ANA_PHONE) == ["appointment_booked", "appointment_rescheduled"]
    assert armed(bench) == {"3d": start - timedelta(days=2), "24h": start}


def test_a_visit_deleted_in_silence(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.held["Appointment/a1"] = None
    to(bench, start - timedelta(days=3))
    for _ in range(5):
        bench.pass_(seconds=10)
        bench.settle()
    assert bench.told(people.ANA_PHONE) == ["appointment_booked", "appointment_cancelled"]


@pytest.mark.parametrize("choice", ["send", "suppress"])
def test_the_ehr_cannot_be_read(workshop: Workshop, choice: str) -> None:
    """Until half of its four hours is over it waits; then as the site says."""
    bench = workshop(reminders={"unconfirmed": choice})
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.down = True
    to(bench, start - timedelta(days=3))
    to(bench, start - timedelta(days=3) + timedelta(minutes=110))
    assert reminders(bench) == []
    to(bench, start - timedelta(days=3) + timedelta(minutes=121))
    bench.pass_(seconds=10)
    bench.settle()
    assert reminders(bench) == (["10:00"] if choice == "send" else [])


def test_the_ehr_comes_back_in_time(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.down = True
    to(bench, start - timedelta(days=3))
    bench.ehr.down = False
    bench.pass_(minutes=5)
    bench.settle()
    bench.pass_(seconds=10)
    bench.settle()
    assert reminders(bench) == ["10:00"]


def test_unconfirmed_does_not_reach_into_the_night(bench: Bench) -> None:
    """Due at 20:45 because of the quiet hours; what could not leave before them waits for the morning."""
    start = datetime(2026, 12, 6, 22, 0, tzinfo=UTC)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.down = True
    due = datetime(2026, 12, 3, 19, 45, tzinfo=UTC)
    to(bench, due)
    to(bench, due + timedelta(hours=2, minutes=5))
    bench.pass_(seconds=10)
    bench.settle()
    assert reminders(bench) == []
    bench.ehr.down = False
    to(bench, datetime(2026, 12, 4, 7, 1, tzinfo=UTC))
    bench.pass_(seconds=10)
    bench.settle()
    assert reminders(bench) == ["23:00"]


def test_a_visit_that_may_not_be_read_is_asked_once_and_not_for_ever(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.ehr.refuses.add("Appointment/a1")
    to(bench, start - timedelta(days=3))
    for _ in range(10):
        bench.pass_(seconds=5)
        bench.settle()
    assert len(bench.fates()) < 4


def test_a_new_number_is_learned_before_the_reminder_goes_there(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    new = "34612999888"
    bench.ehr.change("Patient/ana", telecom=[{"system": "phone", "value": f"+{new}", "use": "mobile", "rank": 1}])
    to(bench, start - timedelta(days=3))
    bench.pass_(seconds=5)
    bench.settle()
    assert reminders(bench, new) == ["10:00"]
    assert reminders(bench) == []


def test_a_new_number_that_said_stop_gets_none(bench: Bench) -> None:
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    new = "34612999888"
    bench.says(new, "BAJA")
    bench.settle_replies()
    bench.ehr.change("Patient/ana", telecom=[{"system": "phone", "value": f"+{new}", "use": "mobile", "rank": 1}])
    to(bench, start - timedelta(days=3))
    bench.pass_(seconds=5)
    bench.settle()
    assert reminders(bench, new) == []


def test_moved_while_a_reminder_is_leaving(bench: Bench) -> None:
    """It cannot be recalled; the new time's are armed and the news follows."""
    start = MORNING + timedelta(days=5)
    bench.clerk(visit(start))
    bench.settle()
    bench.pass_(days=2, seconds=1)
    while not bench.messages(outbox.c.offset == "3d", outbox.c.state == "ready"):
        assert bench.pump.once() + bench.applier.once() >= 0
    shots = bench.fence()
    bench.clerk(visit(start + timedelta(days=2)))
    bench.apply()
    for shot in shots:
        bench.post(shot)
    bench.settle()
    assert bench.told(people.ANA_PHONE) == ["appointment_booked", REMINDER, "appointment_rescheduled"]
    assert armed(bench) == {"3d": start - timedelta(days=1), "24h": start + timedelta(days=1)}
