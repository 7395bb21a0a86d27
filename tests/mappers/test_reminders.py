"""When a reminder is due: one file per odd night, and what holds on every night."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mappers.reminders import Covered, Due, quiet_until, schedule
from bridge.mappers.zones import Quiet

CASES = sorted((Path(__file__).parent / "testdata/reminders").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_schedule(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    got = schedule(
        datetime.fromisoformat(case["start"]),
        case["zone"],
        case["offset"],
        now=datetime.fromisoformat(case["now"]),
        quiet=tuple(time.fromisoformat(clock) for clock in case["quiet"]) if case["quiet"] else None,
        patient_zone=case["patient_zone"],
        expires=timedelta(hours=int(case["expires"].removesuffix("h"))),
    )
    expect = case["expect"]
    if isinstance(expect, str):
        assert got == Covered(expect), case["why"]
    else:
        at, until = (datetime.fromisoformat(expect[key]) for key in ("at", "expires_at"))
        assert got == Due(at, until, expect["moved"]), case["why"]


@pytest.mark.parametrize(
    ("now", "zone", "until"),
    [
        ("2026-11-24T20:00:00+01:00", "Europe/Madrid", None),
        ("2026-11-24T21:00:00+01:00", "Europe/Madrid", "2026-11-25T08:00:00+01:00"),
        ("2026-11-25T07:59:59+01:00", "Europe/Madrid", "2026-11-25T08:00:00+01:00"),
        ("2026-11-25T08:00:00+01:00", "Europe/Madrid", None),
        ("2026-11-25T08:00:00+01:00", "America/Sao_Paulo", "2026-11-25T08:00:00-03:00"),
        ("2027-03-27T23:00:00+01:00", "Europe/Madrid", "2027-03-28T08:00:00+02:00"),  # the short night
        ("2026-10-24T23:00:00+02:00", "Europe/Madrid", "2026-10-25T08:00:00+01:00"),  # the long one
    ],
)
def test_quiet_until(now: str, zone: str, until: str | None) -> None:
    got = quiet_until(datetime.fromisoformat(now), zone, (time(21), time(8)))
    assert got == (datetime.fromisoformat(until) if until else None)


def test_no_quiet_hours() -> None:
    assert quiet_until(datetime(2026, 11, 24, 23, tzinfo=UTC), "Europe/Madrid", None) is None


def test_an_offset_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="12 hours"):
        schedule(
            datetime(2026, 12, 1, tzinfo=UTC),
            "Europe/Madrid",
            "12 hours",
            now=datetime(2026, 11, 1, tzinfo=UTC),
            quiet=None,
            patient_zone=None,
            expires=timedelta(hours=1),
        )


ZONES = ["Europe/Madrid", "America/Sao_Paulo", "America/Santiago", "Africa/Cairo", "Australia/Lord_Howe", "UTC"]
CLOCKS = st.times().map(lambda clock: clock.replace(second=0, microsecond=0))


@given(
    start=st.datetimes(datetime(2017, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),  # noqa: DTZ001
    ahead=st.timedeltas(timedelta(minutes=1), timedelta(days=10)),
    zone=st.sampled_from(ZONES),
    patient_zone=st.sampled_from([None, *ZONES]),
    offset=st.sampled_from(["3d", "7d", "24h", "2h"]),
    quiet=st.none() | st.tuples(CLOCKS, CLOCKS),
    expires=st.timedeltas(timedelta(minutes=1), timedelta(days=2)),
)
def test_every_night(
    start: datetime,
    ahead: timedelta,
    zone: str,
    patient_zone: str | None,
    offset: str,
    quiet: Quiet | None,
    expires: timedelta,
) -> None:
    now = start - ahead
    got = schedule(start, zone, offset, now=now, quiet=quiet, patient_zone=patient_zone, expires=expires)
    if isinstance(got, Covered):
        return
    assert now < got.at <= start - timedelta(hours=1)
    assert got.at <= got.expires_at <= start - timedelta(hours=1)
    if quiet and (quiet[1] > quiet[0] or quiet[0] > quiet[1]):
        day = timedelta(days=1)
        length = (
            timedelta(hours=quiet[1].hour, minutes=quiet[1].minute)
            - timedelta(hours=quiet[0].hour, minutes=quiet[0].minute)
        ) % day
        if length <= timedelta(hours=22):  # else 15 min before one night is still the night before
            assert quiet_until(got.at, patient_zone or zone, quiet) is None
