"""Wall clocks: a local time that happens twice or never, and the hours in which nobody is disturbed.

Source: PEP 495 (`fold`); reference/patients.md §C.2 (an in-person time is in the clinic's zone, quiet hours in the patient's).
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Quiet = tuple[time, time]  # from (inclusive), to (exclusive); from > to wraps midnight, from = to is never quiet


@lru_cache(maxsize=256)
def known(name: str) -> str | None:
    """The name when it is a zone of the tz database, else None: EHRs write `CET?`, `GMT+1`, a city."""
    try:
        return ZoneInfo(name).key if "/" in name else None
    except (KeyError, ValueError, OSError):
        return None


def at_wall(local: datetime, zone: str, side: Literal["due", "earliest", "latest"]) -> datetime:
    """The instant of a wall-clock time, in UTC.

    Args:
        local: naive, as a clock on that wall shows it.
        zone: name of the tz database.
        side: on a DST night a time exists twice or not at all. `due` takes the first of two and moves a missing one
            to after the gap, `earliest` and `latest` take the outer instant in both cases.
    """
    here = ZoneInfo(zone)
    first, second = (local.replace(tzinfo=here, fold=fold).astimezone(UTC) for fold in (0, 1))
    if side == "due":
        return first  # in a gap, fold 0 is the reading after it
    return min(first, second) if side == "earliest" else max(first, second)


def quiet_period(moment: datetime, zone: str, quiet: Quiet | None) -> tuple[datetime, datetime] | None:
    """Begin and end (UTC) of the quiet hours that hold at that moment on the patient's wall, None when it is no quiet time."""
    if quiet is None or quiet[0] == quiet[1]:
        return None
    begin, end = quiet
    local = moment.astimezone(ZoneInfo(zone))
    today, clock = local.date(), local.time()
    if begin < end:
        if not begin <= clock < end:
            return None
        days = (today, today)
    elif clock >= begin:
        days = (today, today + timedelta(days=1))
    elif clock < end:
        days = (today - timedelta(days=1), today)
    else:
        return None
    return (
        at_wall(datetime.combine(days[0], begin), zone, "earliest"),
        at_wall(datetime.combine(days[1], end), zone, "latest"),
    )
