"""Values into words, in every language and region the site may speak."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UnfitValue
from bridge.mappers.formatters import ACCEPTS, clean, day, day_short, shorten, time, words

MADRID = ZoneInfo("Europe/Madrid")
TODAY = date(2026, 11, 24)
VISIT = "2026-11-25T14:30:00Z"

TABLE = [
    ("date.long", VISIT, "es", "miércoles, 25 de noviembre de 2026"),
    ("date.long", VISIT, "es_MX", "miércoles, 25 de noviembre de 2026"),
    ("date.long", VISIT, "en", "Wednesday, November 25, 2026"),
    ("date.long", VISIT, "en_GB", "Wednesday, 25 November 2026"),
    ("date.long", VISIT, "pt_BR", "quarta-feira, 25 de novembro de 2026"),
    ("date.long", VISIT, "pt_PT", "quarta-feira, 25 de novembro de 2026"),
    ("date.long", "2026-11-25T23:30:00Z", "es", "jueves, 26 de noviembre de 2026"),  # already tomorrow in Madrid
    ("date.long", "2026-11-25", "es", "miércoles, 25 de noviembre de 2026"),
    ("date.long", {"start": VISIT, "end": "2026-11-26T08:00:00Z"}, "es", "miércoles, 25 de noviembre de 2026"),
    ("date.short", VISIT, "es", "25 nov 2026"),
    ("date.short", VISIT, "en", "Nov 25, 2026"),
    ("date.short", VISIT, "pt_BR", "25 de nov. de 2026"),
    ("weekday", VISIT, "es", "miércoles"),
    ("weekday", VISIT, "pt", "quarta-feira"),
    ("time.short", VISIT, "es", "15:30"),
    ("time.short", VISIT, "pt_BR", "15:30"),
    ("time.short", VISIT, "en", "3:30 PM"),
    ("time.short", VISIT, "en_GB", "15:30"),
    ("time.short", VISIT, "es_MX", "3:30 p.m."),
    ("time.short", VISIT, "es_CO", "3:30 p. m."),
    ("time.short", "08:05:00", "es", "8:05"),
    ("time.short", "2026-11-25T00:00:00+01:00", "en", "12:00 AM"),
    ("datetime.long", VISIT, "es", "miércoles, 25 de noviembre de 2026, 15:30"),
    ("relative.day", "2026-11-24T20:00:00Z", "es", "hoy"),
    ("relative.day", VISIT, "es", "mañana"),
    ("relative.day", "2026-11-24T23:30:00Z", "es", "mañana"),  # 00:30 on the 25th in Madrid
    ("relative.day", "2026-11-26", "es", "pasado mañana"),
    ("relative.day", "2026-11-30", "es", "el lunes 30"),
    ("relative.day", VISIT, "en", "tomorrow"),
    ("relative.day", "2026-11-26", "en", "the day after tomorrow"),
    ("relative.day", "2026-11-30", "en", "on Monday 30"),
    ("relative.day", VISIT, "pt", "amanhã"),
    ("relative.day", "2026-11-30", "pt", "na segunda-feira, dia 30"),
    ("relative.day", "2026-11-28", "pt", "no sábado, dia 28"),
    ("relative.day", "2027-01-15", "es", "viernes, 15 de enero de 2027"),
    ("relative.day", "2026-11-20", "es", "viernes, 20 de noviembre de 2026"),
    ("phone.local", "+525512345678", "es_MX", "55 1234 5678"),
    ("phone.local", {"value": "+34912345678"}, "es", "+34 912 34 56 78"),
    ("phone.local", "extensión 12", "es", "extensión 12"),
    ("code.display", {"text": "Revisión"}, "es", "Revisión"),
    ("code.display", {"coding": [{"code": "1", "display": "Uno"}, {"display": "Dos", "userSelected": True}]}, "es", "Dos"),
    ("code.display", {"code": "1", "display": "Uno"}, "es", "Uno"),
    ("code.display", {"concept": {"text": "Visita"}}, "es", "Visita"),
    ("code.display", {"coding": [{"code": "58410-2"}]}, "es", ""),
    ("money", {"value": 1234.5, "currency": "EUR"}, "es", "1.234,50 €"),
    ("money", {"value": 12, "currency": "BRL"}, "pt_BR", "R$ 12,00"),
    ("text", "planta 2", "es", "planta 2"),
    ("text", True, "es", "sí"),
    ("text", False, "pt", "não"),
    ("text", 1234, "es_MX", "1,234"),
    ("text", VISIT, "es", "miércoles, 25 de noviembre de 2026, 15:30"),
    ("text", "2026-11-25", "en", "Wednesday, November 25, 2026"),
    ("text", "2026", "es", "2026"),  # a room number, not a year in words
    ("upper", "baja", "es", "BAJA"),
    ("title", "DRA. ELENA RUIZ", "es", "Dra. Elena Ruiz"),
    ("title", "o'brien clinic", "en", "O'brien Clinic"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "value", "lang", "expected"), TABLE)
def test_words(form: str, value: Any, lang: str, expected: str) -> None:
    assert words(form, [value], lang, MADRID, TODAY) == expected


ANA = {"use": "official", "family": "García López", "given": ["Ana", "María"], "prefix": ["Sra."]}
NAMES = [
    ("name.given", [ANA], "Ana"),
    ("name.given", [ANA, {"use": "usual", "given": ["Anita"]}], "Anita"),
    ("name.given", [{"use": "old", "given": ["Antigua"]}, {"given": ["Ana"]}], "Ana"),
    ("name.given", [{"use": "usual", "given": ["Antes"], "period": {"end": "2020-01-01"}}, ANA], "Ana"),
    ("name.given", [{"text": "Ana García López"}], "Ana"),
    ("name.given", [{"text": "García López, Ana María"}], "Ana"),
    ("name.given", [{"text": "Sra. Ana García"}], "Ana"),
    (
        "name.given",
        [{"text": "García", "family": "García"}],
        "",
    ),  # no given name is known: the mapping's default speaks
    ("name.given", [{"family": "García"}], ""),
    ("name.full", [ANA], "Ana María García López"),
    ("name.full", [{"text": "Ana García"}], "Ana García"),
    ("name.professional", [{"prefix": ["Dra."], "family": "Ruiz", "given": ["Elena"]}], "Dra. Ruiz"),
    ("name.professional", [{"family": "Ruiz", "given": ["Elena"]}], "Elena Ruiz"),
    ("name.professional", [{"text": "Dra. Elena Ruiz"}], "Dra. Elena Ruiz"),
]


@pytest.mark.parametrize(("form", "names", "expected"), NAMES)
def test_names(form: str, names: list[Any], expected: str) -> None:
    assert words(form, names, "es", MADRID, TODAY) == expected


UNFIT = [
    ("text", [{"reference": "Patient/p1"}], "no text"),
    ("text", ["a", "b"], "several values"),
    ("date.long", ["mañana"], "no full date"),
    ("date.long", ["2026-11"], "no full date"),
    ("date.long", ["2026-02-31"], "no full date"),
    ("time.short", ["2026-11-25"], "without a time"),
    ("name.given", ["Ana"], "HumanName"),
    ("money", [{"value": 3}], "currency"),
    ("code.display", ["x"], "CodeableConcept"),
]


@pytest.mark.parametrize(("form", "values", "reason"), UNFIT)
def test_unfit(form: str, values: list[Any], reason: str) -> None:
    """An error, never `str(dict)`; and the message does not repeat the value."""
    with pytest.raises(UnfitValue, match=reason) as caught:
        words(form, values, "es", MADRID, TODAY)
    assert "p1" not in str(caught.value)


CLEAN = [
    ("planta 2\nala norte", "planta 2 ala norte"),
    ("a\tb\r\nc", "a b c"),
    ("a      b", "a b"),
    ("  a  ", "a"),
    ("8:30\u202fa.m.", "8:30 a.m."),
    ("12\u00a0€", "12 €"),
    ("\u202eanA", "anA"),  # a right-to-left override would show the rest of the message mirrored
    ("\u200fAna\u200e", "Ana"),
    ("\ufeffAna\u200b", "Ana"),
    ("{{1}} y {{day}}", "{1} y {day}"),
    ("{{{{x", "{x"),
    ("a\u2028b", "a b"),
    ("a\x00b\x07", "a b"),
    ("\ud800x", "x"),
    ("José", "José"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("👩\u200d⚕️", "👩\u200d⚕️"),
]


@pytest.mark.parametrize(("raw", "expected"), CLEAN)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(max_size=200))
def test_clean_is_always_sendable(raw: str) -> None:
    text = clean(raw)
    assert not any(char in text for char in "\n\r\t")
    assert "  " not in text
    assert "{{" not in text and "}}" not in text
    assert clean(text) == text
    text.encode()  # no half of a surrogate pair


@given(st.text(alphabet="abc de,.", max_size=80).map(clean), st.integers(1, 60))
def test_shorten_keeps_the_limit_and_says_that_it_cut(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert len(short) <= limit
    assert short == text if len(text) <= limit else short.endswith("…")


def test_shorten_cuts_between_words() -> None:
    assert shorten("Consultas externas, planta 2, ala norte", 22) == "Consultas externas…"
    assert shorten("Consultas externas", 18) == "Consultas externas"
    assert shorten("Otorrinolaringología", 10) == "Otorrinol…"


def test_helpers_for_replies() -> None:
    at = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)
    assert day(at, "es", "Europe/Madrid") == "jueves, 26 de noviembre de 2026"
    assert time(at, "es", "Europe/Madrid") == "0:30"
    assert day_short(at, "pt", "America/Sao_Paulo") == "25 de nov. de 2026"
    assert day(date(2026, 11, 25), "en", "Europe/Madrid") == "Wednesday, November 25, 2026"


def test_dst_night() -> None:
    """02:30 happens twice in Madrid on 25 October 2026; both instants are told as 2:30."""
    for instant in ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"):
        assert words("time.short", [instant], "es", MADRID, TODAY) == "2:30"
    assert words("time.short", ["2026-03-29T01:30:00Z"], "es", MADRID, TODAY) == "3:30"


def test_every_formatter_of_the_schema_is_known() -> None:
    from bridge.mappers.templates import schema

    listed = schema("mapping")["$defs"]["param"]["else"]["properties"]["as"]["enum"]
    assert set(listed) == set(ACCEPTS)
