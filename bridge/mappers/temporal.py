"""FHIR dates and times with the precision they were written in, compared as instants and not as text.

Source: https://hl7.org/fhir/R4B/datatypes.html#dateTime and https://hl7.org/fhirpath/N1/#comparison
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d+))?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?)?"
)
_TIME = re.compile(r"T?(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d+))?)?)?")

FURTHEST = timedelta(hours=14)  # from UTC, of any zone there is

# calendar units by which FHIRPath moves a date; UCUM's 'a' and 'mo' have no fixed length and are not among them
UNITS = {
    "year": "year", "years": "year", "month": "month", "months": "month", "week": "week", "weeks": "week", "wk": "week",
    "day": "day", "days": "day", "d": "day", "hour": "hour", "hours": "hour", "h": "hour", "minute": "minute",
    "minutes": "minute", "min": "minute", "second": "second", "seconds": "second", "s": "second",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, a dateTime or a time of day. `parts` is as long as the precision: (2026, 11) is a month."""

    parts: tuple[int, ...]
    micro: int = 0
    offset: timedelta | None = None  # None: written without a zone
    of_day: bool = False  # a time of day: parts begin with the hour

    @property
    def precise(self) -> bool:
        """To the minute at least: it names a point of time, not a day."""
        return not self.of_day and len(self.parts) >= 5

    def when(self, zone: tzinfo) -> datetime:
        """The aware datetime, missing parts at their lowest; without an offset it is read in `zone`."""
        year, month, day, hour, minute, second = (*self.parts, *(0, 1, 1, 0, 0, 0)[len(self.parts) :])
        read = datetime(year, month, day, hour, minute, second, self.micro, tzinfo=UTC)
        if self.offset is None:
            return read.replace(tzinfo=zone)
        return read - self.offset

    def day(self, zone: tzinfo) -> date:
        """The calendar day: as written for a plain date, in `zone` for a point of time."""
        return self.when(zone).astimezone(zone).date() if self.precise else date(*(*self.parts[:3], 1, 1)[:3])

    def __str__(self) -> str:
        if self.of_day:
            return ":".join(f"{part:02d}" for part in self.parts)
        text = "-".join(f"{part:0{4 if n == 0 else 2}d}" for n, part in enumerate(self.parts[:3]))
        if len(self.parts) > 3:
            text += "T" + ":".join(f"{part:02d}" for part in self.parts[3:])
            text += f".{self.micro:06d}"[:4] if self.micro else ""
        if self.offset is not None:
            minutes = int(self.offset.total_seconds()) // 60
            sign = "-" if minutes < 0 else "+"
            text += f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
        return text


def parse(text: object) -> Moment | None:
    """Read a FHIR date, dateTime or instant; None for anything else, 31 February included."""
    if not isinstance(text, str) or (found := _DATE.fullmatch(text)) is None:
        return None
    parts = tuple(int(found[name]) for name in ("year", "month", "day", "hour", "minute", "second") if found[name])
    offset = _offset(found["zone"])
    if not 1 < parts[0] < 9999 or (offset is not None and abs(offset) > FURTHEST):
        return None  # a zone's offset could carry it out of the calendar
    if parts[5:] == (60,):
        parts = (*parts[:5], 59)  # FHIR allows the leap second, Python does not know it
    try:
        datetime(*(*parts, 1, 1)[: max(3, len(parts))], tzinfo=UTC)  # type: ignore[misc, arg-type]
        if len(parts) >= 3:
            date(*parts[:3])
    except ValueError:
        return None
    return Moment(parts, _micro(found["part"]), offset)


def parse_time(text: object) -> Moment | None:
    """Read a FHIR time of day."""
    if not isinstance(text, str) or (found := _TIME.fullmatch(text)) is None:
        return None
    parts = tuple(int(found[name]) for name in ("hour", "minute", "second") if found[name])
    if parts[0] > 23 or any(part > 59 for part in parts[1:]):
        return None
    return Moment(parts, _micro(found["part"]), of_day=True)


def from_datetime(at: datetime) -> Moment:
    """An aware datetime with all its precision."""
    return Moment(
        (at.year, at.month, at.day, at.hour, at.minute, at.second), at.microsecond, at.utcoffset() or timedelta(0)
    )


def compare(left: Moment, right: Moment, zone: tzinfo) -> int | None:
    """-1, 0 or 1; None where the coarser of the two cannot tell ("2026" and "2026-11").

    A side without an offset is read in `zone`, the appointment's: `start >= today()` is about the clinic's calendar,
    so 00:30 in Madrid on the 25th is not the 24th although UTC says so.
    """
    if left.of_day != right.of_day:
        return None
    if left.of_day:
        mine, yours = left.parts, right.parts
    elif left.precise and right.precise:
        mine, yours = _utc(left, zone), _utc(right, zone)
    else:
        mine, yours = _local(left, zone), _local(right, zone)
    shared = min(len(mine), len(yours))
    if mine[:shared] != yours[:shared]:
        return -1 if mine[:shared] < yours[:shared] else 1
    if len(mine) != len(yours):
        return None
    return (left.micro > right.micro) - (left.micro < right.micro) if shared else 0


def shift(moment: Moment, amount: int, unit: str, zone: tzinfo) -> Moment:
    """`amount` calendar units later (negative: earlier). Days keep the wall clock in `zone`, hours are elapsed."""
    unit = UNITS[unit]
    if unit in ("year", "month"):
        months = (moment.parts[0] * 12 + (moment.parts[1] if len(moment.parts) > 1 else 1) - 1) + amount * (
            12 if unit == "year" else 1
        )
        year, month = divmod(months, 12)
        day = min(moment.parts[2], monthrange(year, month + 1)[1]) if len(moment.parts) > 2 else 1
        return Moment((year, month + 1, day, *moment.parts[3:])[: len(moment.parts)], moment.micro, moment.offset)
    if unit in ("week", "day"):
        moved = date(*(*moment.parts[:3], 1, 1)[:3]) + timedelta(days=amount * (7 if unit == "week" else 1))
        return Moment(
            (moved.year, moved.month, moved.day, *moment.parts[3:])[: len(moment.parts)], moment.micro, moment.offset
        )
    elapsed = timedelta(**{unit + "s": amount})
    there = timezone(moment.offset) if moment.offset is not None else zone
    return from_datetime((moment.when(zone).astimezone(UTC) + elapsed).astimezone(there))


def _micro(part: str | None) -> int:
    return int(part[:6].ljust(6, "0")) if part else 0


def _offset(zone: str | None) -> timedelta | None:
    if zone is None:
        return None
    if zone == "Z":
        return timedelta(0)
    size = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return -size if zone[0] == "-" else size


def _utc(moment: Moment, zone: tzinfo) -> tuple[int, ...]:
    at = moment.when(zone).astimezone(UTC)
    return (at.year, at.month, at.day, at.hour, at.minute, at.second)[: len(moment.parts)]


def _local(moment: Moment, zone: tzinfo) -> tuple[int, ...]:
    if not moment.precise or moment.offset is None:
        return moment.parts
    at = moment.when(zone).astimezone(zone)
    return (at.year, at.month, at.day, at.hour, at.minute, at.second)[: len(moment.parts)]
