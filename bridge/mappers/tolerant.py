"""Reading JSON that real senders wrote: whatever stands there comes out as the type asked for, or as nothing.

Source: reference/fhir.md §13 lists where each surprise was seen (a single object for a list, numbers for strings,
seven digits of a second, no zone, logical references). Nothing in here raises on any JSON value.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?\s*([Zz]|[+-]\d\d:?\d\d)?)?)?)?"
)
REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([^/\s?#|]{1,128})(?:/_history/[^/\s]+)?$")
SAFE_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
YEARS = range(1900, 2200)  # outside: a default of some system (0001-01-01, 9999-12-31 are read as open ends)


def mapping(value: Any) -> Mapping[str, Any]:
    """The object that stands there, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; one object alone counts as a list of one, as several senders write it."""
    if isinstance(value, Mapping):
        return [value]
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A string with something in it; whole numbers count (ids and versions are seen as numbers)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def code(value: Any) -> str:
    """A code in lower case, empty when there is none: `Booked`, `checked in` are seen."""
    return (text(value) or "").lower().replace(" ", "-")


def true(value: Any) -> bool:
    """A boolean, also when it was written as a string."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def false(value: Any) -> bool:
    """Said to be false, which is not the same as absent."""
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def codings(concept: Any) -> list[tuple[str, str]]:
    """(system, code) of every coding of a CodeableConcept, a Coding, a CodeableReference, or a list of them."""
    found = []
    for item in objects(concept):
        inner = objects(item.get("coding")) or objects(mapping(item.get("concept")).get("coding")) or [item]
        for coding in inner:
            if value := text(coding.get("code")):
                found.append((text(coding.get("system")) or "", value))
    return found


def texts(concept: Any) -> list[str]:
    """What people wrote beside the codes: `text` and `display`."""
    found = []
    for item in objects(concept):
        for part in (item, *objects(item.get("coding"))):
            found += [value for key in ("text", "display") if (value := text(part.get(key)))]
    return found


def reference(value: Any) -> str | None:
    """`Type/id` of a literal reference; None for logical, contained, conditional and `urn:uuid:` ones."""
    literal = text(mapping(value).get("reference"))
    found = REFERENCE.search(literal) if literal else None
    return f"{found[1]}/{found[2]}" if found else None


def own_reference(resource: Mapping[str, Any], kind: str) -> str | None:
    """`Type/id` of the resource itself, None when it is another type or has no id that can be tracked."""
    identifier = text(resource.get("id"))
    if resource.get("resourceType") != kind or identifier is None:
        return None
    found = REFERENCE.search(f"{kind}/{identifier}")
    return f"{kind}/{identifier}" if found and found[2] == identifier else None


def shown(own: str) -> str:
    """A reference for a message: an id of an odd alphabet could be anything, a name too, and stays out."""
    kind, _, identifier = own.partition("/")
    return own if SAFE_ID.fullmatch(identifier) else f"{kind} (id not shown)"


def extensions(element: Any, url_end: str) -> Iterator[Mapping[str, Any]]:
    """Extensions whose url ends so: the host differs between builds of a guide."""
    for extension in objects(mapping(element).get("extension")):
        if (text(extension.get("url")) or "").rstrip("/").endswith(url_end):
            yield extension


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of time that a FHIR dateTime of any precision covers: `2026` is a year, an instant is a point."""

    first: datetime
    last: datetime  # inclusive: the last microsecond of a day, month or year
    precision: str  # year | month | day | instant


def span(value: Any, zone: str | None = None) -> Span | None:
    """Read a date, dateTime or instant; a time without offset is in `zone`, and unreadable without one.

    Whole days, months and years are in `zone` too, in UTC without one. Offsets are kept as fixed ones, so that two
    values compare as instants on a DST night as well (PEP 495 makes times of named zones unequal there).
    """
    found = MOMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or int(found[1]) not in YEARS:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        if hour is None:
            first_month, last_month = (int(month), int(month)) if month else (1, 12)
            last_day = int(day) if day else calendar.monthrange(int(year), last_month)[1]
            first = fixed(datetime(int(year), first_month, int(day or 1), tzinfo=ZoneInfo(zone or "UTC")))
            last = datetime(int(year), last_month, last_day, 23, 59, 59, 999999, tzinfo=ZoneInfo(zone or "UTC"))
            return Span(first, fixed(last), "day" if day else "month" if month else "year")
        if offset is None and zone is None:
            return None
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=_offset(offset, zone))
        local += timedelta(seconds=min(int(second or 0), 59), microseconds=int((fraction or "0")[:6].ljust(6, "0")))
    except (ValueError, calendar.IllegalMonthError):
        return None
    return Span(fixed(local), fixed(local), "instant")


def instant(value: Any, zone: str | None = None) -> datetime | None:
    """A point in time; None for a bare date and for a time whose zone nobody knows."""
    found = span(value, zone)
    return found.first if found and found.precision == "instant" else None


def fixed(moment: datetime) -> datetime:
    """The same moment with its offset written out."""
    return moment.replace(tzinfo=timezone(moment.utcoffset() or timedelta(0)), fold=0)


def _offset(offset: str | None, zone: str | None) -> timezone | ZoneInfo:
    if offset is None:
        return ZoneInfo(zone or "UTC")
    if offset in "Zz":
        return UTC
    distance = timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
    return timezone(-distance if offset[0] == "-" else distance)


def partial_date(value: Any) -> tuple[date, str] | None:
    """(the last day it can be, precision): for ages the youngest reading is the safe one."""
    found = span(value) if isinstance(value, str) else None
    if found is None:
        return None
    return found.last.date(), "day" if found.precision == "instant" else found.precision


@dataclass(frozen=True, slots=True)
class Period:
    """A FHIR Period; an end of any precision is inclusive. `broken`: an end that cannot be read, or start after end."""

    start: datetime | None = None
    end: datetime | None = None
    broken: bool = False

    def covers(self, moment: datetime) -> bool:
        """Whether it holds at that moment; a broken one never does."""
        return not (self.broken or self.begins_after(moment) or self.over(moment))

    def begins_after(self, moment: datetime) -> bool:
        """Whether it is still to come."""
        return self.start is not None and moment < self.start

    def over(self, moment: datetime) -> bool:
        """Whether it is past."""
        return self.end is not None and moment > self.end


def period(value: Any, zone: str | None = None) -> Period:
    """Read a Period; absent is open at both ends, and so are the years that mean never (0001, 9999)."""
    raw = mapping(value)
    first, last = span(raw.get("start"), zone or "UTC"), span(raw.get("end"), zone or "UTC")
    start, end = (first.first if first else None), (last.last if last else None)
    unread = any(
        raw.get(key) and found is None and not str(raw.get(key)).startswith(open_end)
        for key, found, open_end in (("start", first, "0001"), ("end", last, "9999"))
    )
    return Period(start, end, broken=unread or (start is not None and end is not None and start > end))
