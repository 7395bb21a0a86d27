"""When a reminder is due, and when it is too late for it: design §3 Reminders, as a function of times.

An offset in days is the same time on the wall that many calendar days before; in hours it is elapsed time, whatever
the clocks did in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.mappers.zones import Quiet, at_wall, quiet_period

OFFSET = re.compile(r"([1-9]\d{0,3})([mhd])")
BEFORE_QUIET = timedelta(minutes=15)  # early enough that the phone is put away after it, not woken by it
LAST_CALL = timedelta(hours=1)  # later than this before the visit, a reminder finds the patient on the way


@dataclass(frozen=True, slots=True)
class Due:
    """A reminder to arm."""

    at: datetime  # UTC
    expires_at: datetime  # UTC; never later than 1 h before the visit
    moved: bool  # quiet hours moved it


@dataclass(frozen=True, slots=True)
class Covered:
    """A reminder that is not armed, with the reason for the trace."""

    reason: str


def schedule(
    start: datetime,
    zone: str,
    offset: str,
    *,
    now: datetime,
    quiet: Quiet | None,
    patient_zone: str | None,
    expires: timedelta,
) -> Due | Covered:
    """Place one reminder of a visit.

    Args:
        start: of the visit, with an offset.
        zone: the appointment's, in which `3d` keeps the time on the wall.
        offset: `3d`, `24h`, `90m` before the start.
        now: business time at which the visit was first seen or moved.
        quiet: the site's quiet hours, read on the patient's wall.
        patient_zone: None when unknown; the appointment's zone serves then.
        expires: how long after its due (or moved) time it may still leave.

    Raises:
        ValueError: an offset of another form; the schema of mappings refuses it before.
    """
    due = _due(start, zone, offset)
    if due <= now:
        return Covered("covered by the booking message")
    moved = quiet_period(due, patient_zone or zone, quiet)
    if moved:
        begin, end = moved
        if begin - BEFORE_QUIET > now:
            due = begin - BEFORE_QUIET
        elif end <= start - LAST_CALL:
            due = end
        else:
            return Covered("quiet hours last until less than 1 h before the visit")
    latest = start - LAST_CALL
    if due > latest:  # the author's own short offset, such as 30m
        latest = start
    return Due(due, min(due + expires, latest.astimezone(UTC)), moved is not None)


def quiet_until(now: datetime, zone: str, quiet: Quiet | None) -> datetime | None:
    """When the quiet hours of that wall end, None when it is no quiet time."""
    period = quiet_period(now, zone, quiet)
    return period[1] if period else None


def _due(start: datetime, zone: str, offset: str) -> datetime:
    found = OFFSET.fullmatch(offset)
    if found is None:
        raise ValueError(f"{offset!r} is no offset; write it like 3d, 24h or 90m")
    amount = int(found[1])
    if found[2] == "d":
        wall = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        return at_wall(wall - timedelta(days=amount), zone, "due")
    elapsed = timedelta(hours=amount) if found[2] == "h" else timedelta(minutes=amount)
    return start.astimezone(UTC) - elapsed
