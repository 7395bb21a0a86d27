"""A birth date as people type it, in any of our languages: what it can mean, and nothing about whose it is. Pure.

`1/2/80`, `01-02-1980`, `1 de febrero de 1980`, `February 1, 1980`, `1980-02-01`. Day before month, but for English of the
United States, where both orders are read as what they can be. Source: reference/patients.md C.4
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from bridge.inbound.words import normalise

MONTHS: dict[str, int] = {
    name[:length]: number
    for names in (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "january february march april may june july august september october november december",
        "janeiro fevereiro marco abril maio junho julho agosto setembro outubro novembro dezembro",
    )
    for number, name in enumerate(names.split(), start=1)
    for length in {3, 4, len(name)}
} | {"setiembre": 9}
OLDEST = 125  # years
_PARTS = re.compile(r"[0-9]+|[a-z]+")
_SMALL = frozenset({"de", "del", "da", "do", "of", "the", "st", "nd", "rd", "th", "el", "dia", "o", "e", "y", "and"})


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody typed to show who they are."""

    dates: tuple[date, ...]  # what it can mean; empty: a try, and not a date that exists
    last4: str | None  # what follows the date, where more was asked for


def read_claim(text: str | None, language: str, today: date, *, with_id: bool = False) -> Claim | None:
    """What a whole message claims, or None when it is no try at all ("hello", "who are you?").

    Args:
        text: as typed.
        language: of the conversation; "en_US" reads the month first too.
        today: nobody is born later.
        with_id: four characters of an identity document stand behind the date.
    """
    parts = _PARTS.findall(normalise(text or ""))
    words = [part for part in parts if not part.isdigit() and part not in _SMALL]
    numbers = [part for part in parts if part.isdigit()]
    months = [MONTHS[word] for word in words if word in MONTHS]
    if not numbers or (len(numbers) < 2 and not months and len(numbers[0]) not in (6, 8)):
        return None  # no date: a room, an age, a telephone number
    last4 = None
    if with_id:
        last4, parts = _last4([part for part in parts if part not in _SMALL])
        numbers = [part for part in parts if part.isdigit()]
        months = [MONTHS[part] for part in parts if part in MONTHS]
    strangers = [part for part in parts if not part.isdigit() and part not in _SMALL and part not in MONTHS]
    if len(strangers) > 1:
        return None  # a sentence with numbers in it
    found = {each for each in _meant(numbers, months, language, today) if _possible(each, today)}
    return Claim(tuple(sorted(found)), last4)


def _last4(parts: list[str]) -> tuple[str | None, list[str]]:
    """The four characters at the end, which may be written apart ("123 4", "678 A"), and what stands before them."""
    taken: list[str] = []
    left = list(parts)
    while left and sum(map(len, taken)) < 4:
        taken.insert(0, left.pop())
    joined = "".join(taken)
    return (joined, left) if len(joined) == 4 else (None, parts)


def _meant(numbers: list[str], months: list[int], language: str, today: date) -> list[date]:
    if len(numbers) == 1 and not months and len(numbers[0]) in (6, 8):  # 01021980, 010280
        run = numbers[0]
        numbers = [run[:2], run[2:4], run[4:]]
    if months and len(months) == 1 and len(numbers) == 2:
        day, year = (numbers[1], numbers[0]) if len(numbers[0]) == 4 else (numbers[0], numbers[1])
        return _made(year, months[0], day, today)
    if months or len(numbers) != 3:
        return []
    if len(numbers[0]) == 4:
        return _made(numbers[0], int(numbers[1]), numbers[2], today)
    made = _made(numbers[2], int(numbers[1]), numbers[0], today)
    return made + (_made(numbers[2], int(numbers[0]), numbers[1], today) if language == "en_US" else [])


def _made(year: str, month: int, day: str, today: date) -> list[date]:
    if len(year) not in (2, 4) or len(day) > 2:
        return []
    value = int(year)
    if len(year) == 2:
        value += today.year // 100 * 100
        value -= 100 if value > today.year else 0
    try:
        return [date(value, month, int(day))]
    except ValueError:
        return []


def _possible(born: date, today: date) -> bool:
    return born <= today and today.year - born.year <= OLDEST
