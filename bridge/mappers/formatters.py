"""From a FHIR value to words a patient reads: the closed list of `as:`, in es, en, pt and their regional forms.

Dates and times are CLDR's (babel); what CLDR lacks (tomorrow with an article, a name without its family) is a table here.
Every text is made safe for a template parameter: WhatsApp refuses line breaks, tabs and more than four spaces in a row.

Source: reference/mapping-language.md D.3-D.4, https://cldr.unicode.org
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import EntryPoint
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.numbers import format_currency, format_decimal

from bridge.errors import UnfitValue
from bridge.mappers import plugins
from bridge.mappers.temporal import Moment, parse, parse_time

WORDS = {
    "es": {"yes": "sí", "no": "no", "days": ("hoy", "mañana", "pasado mañana"), "on": "el {weekday} {day}"},
    "en": {
        "yes": "yes",
        "no": "no",
        "days": ("today", "tomorrow", "the day after tomorrow"),
        "on": "on {weekday} {day}",
    },
    "pt": {
        "yes": "sim",
        "no": "não",
        "days": ("hoje", "amanhã", "depois de amanhã"),
        "on": "{na} {weekday}, dia {day}",
    },
}
RELATIVE_DAYS = 27  # beyond it "Monday 30" could be this month's or the next one's: the whole date is said

# which kinds each formatter can put into words; a mapping that asks for another is refused when it is loaded
DATES = frozenset({"date", "dateTime", "instant", "Period"})
TIMES = frozenset({"dateTime", "instant", "time", "Period"})
PLAIN = frozenset({"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown", "boolean", "integer",
                   "decimal", "positiveInt", "unsignedInt", "integer64", "date", "dateTime", "instant", "time"})  # fmt: skip
ACCEPTS: dict[str, frozenset[str]] = {
    "text": PLAIN, "upper": PLAIN, "title": PLAIN,
    "date.long": DATES, "date.short": DATES, "weekday": DATES, "relative.day": DATES,
    "time.short": TIMES, "datetime.long": TIMES - {"time"},
    "name.given": frozenset({"HumanName"}), "name.full": frozenset({"HumanName"}),
    "name.professional": frozenset({"HumanName"}),
    "phone.local": frozenset({"ContactPoint", "string"}),
    "code.display": frozenset({"CodeableConcept", "Coding", "CodeableReference"}),
    "money": frozenset({"Money"}),
}  # fmt: skip
LISTS = {"name.given", "name.full", "name.professional"}  # take all the names there are and choose one

_SPACES = re.compile(r"\s+")
_USES = {"usual": 0, "official": 1, None: 2, "temp": 3, "anonymous": 8, "nickname": 8, "maiden": 9, "old": 9}
_TITLES = re.compile(r"^(?:(?:dr|dra|sr|sra|srta|mr|mrs|ms|prof|d|dña|don|doña|dona|seu)\.?\s+)+", re.IGNORECASE)


def clean(text: str) -> str:
    """One line, plain spaces, nothing invisible that reorders text, no braces that read as a template's variable."""
    text = unicodedata.normalize("NFC", text)
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if not _invisible(c))
    text = _SPACES.sub(" ", "".join(kept)).strip()
    while "{{" in text or "}}" in text:
        text = text.replace("{{", "{").replace("}}", "}")
    return text


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words, with … where something is missing."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    if text[limit - 1] != " " and " " in head:
        head = head[: head.rfind(" ")]
    return head.rstrip(" ,;:.-") + "…"


def day(dt: datetime | date, lang: str, zone: str) -> str:
    """The day in full: "miércoles, 25 de noviembre de 2026"; of a point of time, in `zone`."""
    return _date_long(_in(dt, zone), lang)


def time(dt: datetime, lang: str, zone: str) -> str:
    """The time of day in `zone`: "15:30", "3:30 PM"."""
    at = dt.astimezone(ZoneInfo(zone))
    return _time_short(at.hour, at.minute, lang)


def day_short(dt: datetime | date, lang: str, zone: str) -> str:
    """The day in few characters: "25 nov 2026"."""
    return _date_short(_in(dt, zone), lang)


def words(form: str, values: Sequence[Any], lang: str, zone: tzinfo, today: date) -> str:
    """Put the values of a path into words.

    Args:
        form: one of `ACCEPTS`.
        values: what the path gave, not empty.
        lang: "es", "es_MX" …
        zone: in which points of time are told.
        today: the business day, for "mañana".

    Returns:
        Clean text, empty if the value has nothing to say (a name without a given name).

    Raises:
        UnfitValue: several values where one is wanted, or one the formatter does not take.
    """
    if form not in LISTS and len(values) > 1:
        raise UnfitValue("several values where one is wanted")
    value = values[0]
    if form in LISTS:
        if not all(isinstance(each, Mapping) for each in values):
            raise UnfitValue(f"{form} is for a HumanName")
        return clean(_NAMES[form](_best_name(values, today)))
    return clean(_FORMS[form](value, lang, zone, today))


# --- dates and times ---


def _moment(value: Any) -> Moment:
    if isinstance(value, Mapping):  # a Period: patients remember when a visit began
        value = value.get("start") or value.get("end")
    moment = parse(value)
    if moment is None or len(moment.parts) < 3:
        raise UnfitValue("no full date")
    return moment


def _day_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    return _date_long(_moment(value).day(zone), lang)


def _short_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    return _date_short(_moment(value).day(zone), lang)


def _weekday_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    return _weekday(_moment(value).day(zone), lang)


def _time_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    of_day = parse_time(value)
    if of_day is not None and len(of_day.parts) >= 2:
        return _time_short(of_day.parts[0], of_day.parts[1], lang)
    moment = _moment(value)
    if not moment.precise:
        raise UnfitValue("a date without a time")
    at = moment.when(zone).astimezone(zone)
    return _time_short(at.hour, at.minute, lang)


def _datetime_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    return f"{_day_of(value, lang, zone, today)}, {_time_of(value, lang, zone, today)}"


def _relative_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    at = _moment(value).day(zone)
    away = (at - today).days
    said = WORDS.get(lang[:2], WORDS["en"])
    if 0 <= away < 3:
        return str(said["days"][away])
    if away < 0 or away > RELATIVE_DAYS:
        return _date_long(at, lang)
    na = "no" if at.weekday() >= 5 else "na"  # pt: o sábado, o domingo, a segunda-feira
    return str(said["on"]).format(weekday=_weekday(at, lang), day=at.day, na=na)


def _in(dt: datetime | date, zone: str) -> date:
    return dt.astimezone(ZoneInfo(zone)).date() if isinstance(dt, datetime) else dt


@lru_cache(maxsize=64)
def _locale(lang: str) -> Locale:
    """The regional form where CLDR knows it (es_MX), else the language's."""
    for name in (lang, lang[:2]):
        try:
            return Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse("en")


@lru_cache(maxsize=4096)
def _date_long(at: date, lang: str) -> str:
    return clean(format_date(at, "full", locale=_locale(lang)))


@lru_cache(maxsize=4096)
def _date_short(at: date, lang: str) -> str:
    return clean(format_date(at, "medium", locale=_locale(lang)))


@lru_cache(maxsize=512)
def _weekday(at: date, lang: str) -> str:
    return clean(format_date(at, "EEEE", locale=_locale(lang)))


@lru_cache(maxsize=4096)
def _time_short(hour: int, minute: int, lang: str) -> str:
    """CLDR's short time; its U+202F before p.m. becomes a plain space in `clean`."""
    return clean(format_time(datetime(2000, 1, 1, hour, minute).time(), "short", locale=_locale(lang)))  # noqa: DTZ001


# --- names ---


def _best_name(names: Sequence[Mapping[str, Any]], today: date) -> Mapping[str, Any]:
    """The name in use: the usual one, else the official one; never an old or maiden one while there is another."""

    def rank(name: Mapping[str, Any]) -> tuple[bool, int]:
        end = parse((name.get("period") or {}).get("end")) if isinstance(name.get("period"), Mapping) else None
        over = end is not None and end.parts < (today.year, today.month, today.day)[: len(end.parts)]
        use = name.get("use")
        return (over, _USES.get(use, 5) if use is None or isinstance(use, str) else 5)

    return min(names, key=rank)


def _given(name: Mapping[str, Any]) -> str:
    """The first given name. From `text` alone, the first word that is neither a title nor before a comma."""
    given = _listed(name.get("given"))
    if given:
        return given[0]
    text = clean(str(name.get("text") or ""))
    _, comma, after = text.partition(",")
    text = _TITLES.sub("", after.strip() if comma and after.strip() else text)
    family = name.get("family")
    first = text.split(" ")[0] if text else ""
    return "" if isinstance(family, str) and first.casefold() == family.casefold() else first


def _full(name: Mapping[str, Any]) -> str:
    text = name.get("text")
    if isinstance(text, str) and text.strip():
        return text
    return " ".join([*_listed(name.get("given")), *_listed(name.get("family")), *_listed(name.get("suffix"))])


def _professional(name: Mapping[str, Any]) -> str:
    """ "Dra. Ruiz"; without a title the whole name, for a bare family name is curt."""
    prefix, family = _listed(name.get("prefix")), _listed(name.get("family"))
    return f"{prefix[0]} {family[0]}" if prefix and family else _full(name)


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [each for each in values if isinstance(each, str) and each.strip()]


_NAMES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "name.given": _given,
    "name.full": _full,
    "name.professional": _professional,
}

# --- the rest ---


def _text_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    """Text as it is; numbers, booleans and dates in the language. An object is never turned into text."""
    if isinstance(value, bool):
        return str(WORDS.get(lang[:2], WORDS["en"])["yes" if value else "no"])
    if isinstance(value, int | Decimal):
        return str(format_decimal(value, locale=_locale(lang)))
    if not isinstance(value, str):
        raise UnfitValue("an object or a list is no text")
    moment = parse(value) if len(value) >= 10 else None
    if moment is None:
        return value
    return _datetime_of(value, lang, zone, today) if moment.precise else _day_of(value, lang, zone, today)


def _phone_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    """A number as it is dialled in the country of `lang` (es_MX), else with its country code."""
    raw = value.get("value") if isinstance(value, Mapping) else value
    if not isinstance(raw, str):
        raise UnfitValue("no phone number")
    region = lang[3:5] or None
    try:
        number = phonenumbers.parse(raw, region)
    except phonenumbers.NumberParseException:
        return raw
    local = region is not None and phonenumbers.region_code_for_number(number) == region
    form = phonenumbers.PhoneNumberFormat.NATIONAL if local else phonenumbers.PhoneNumberFormat.INTERNATIONAL
    return str(phonenumbers.format_number(number, form))


def _code_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    """The words somebody chose for a code; a bare code says nothing to a patient."""
    if not isinstance(value, Mapping):
        raise UnfitValue("code.display is for a CodeableConcept or a Coding")
    value = value.get("concept") or value
    if isinstance(value.get("text"), str):
        return str(value["text"])
    codings = [each for each in value.get("coding") or [value] if isinstance(each, Mapping) and each.get("display")]
    codings.sort(key=lambda coding: coding.get("userSelected") is not True)
    return str(codings[0]["display"]) if codings else ""


def _money_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    if not isinstance(value, Mapping) or not isinstance(value.get("value"), int | float | Decimal):
        raise UnfitValue("money is for a Money with a value")
    currency = value.get("currency") or value.get("code")
    if not isinstance(currency, str) or re.fullmatch("[A-Z]{3}", currency) is None:
        raise UnfitValue("money without a currency")
    return str(format_currency(Decimal(str(value["value"])), currency, locale=_locale(lang)))


def _upper_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    return _text_of(value, lang, zone, today).upper()


def _title_of(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    """Each word with a capital, what follows an apostrophe left alone."""
    return " ".join(word[:1].upper() + word[1:].lower() for word in _text_of(value, lang, zone, today).split())


_FORMS: dict[str, Callable[[Any, str, tzinfo, date], str]] = {
    "text": _text_of, "upper": _upper_of, "title": _title_of, "date.long": _day_of, "date.short": _short_of,
    "weekday": _weekday_of, "time.short": _time_of, "datetime.long": _datetime_of, "relative.day": _relative_of,
    "phone.local": _phone_of, "code.display": _code_of, "money": _money_of,
}  # fmt: skip


def add(offered: Iterable[EntryPoint]) -> None:
    """Take what a site's own packages offer into the list."""
    for name, (function, accepts) in plugins.load(offered, PLAIN).items():
        _FORMS[name], ACCEPTS[name] = function, accepts


add(plugins.installed())


def _invisible(char: str) -> bool:
    """Marks that reorder or hide text (LRM, RLO, zero-width space, BOM) and halves of surrogate pairs.

    The joiners U+200C and U+200D stay: Persian spelling and emoji need them.
    """
    if char < "\x7f":
        return False
    return (unicodedata.category(char) == "Cf" and char not in "\u200c\u200d") or unicodedata.category(char) == "Cs"
