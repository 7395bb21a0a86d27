"""A site's own formatter: taken from an entry point, checked and guarded like ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, tzinfo
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from bridge.errors import Refused
from bridge.mappers import formatters, plugins
from bridge.mappers.formatters import ACCEPTS, PLAIN
from bridge.mappers.render import Skip, TemplateMessage, render
from bridge.mappers.templates import schema
from tests.mappers.starter import CONFIG, context, one

GOOD = (CONFIG / "mappings/appointment-booked.yaml").read_text("utf-8")
PLACE = '{path: "%site", max: 60, default: {es: el hospital, en: the hospital, pt: o hospital}}'


def ward_short(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    """Consultas externas, planta 2 -> P2"""
    return f"P{str(value).rpartition(' ')[2]}\u200b ({lang})"


ward_short.accepts = frozenset({"string"})  # type: ignore[attr-defined]


def ward_broken(value: Any, lang: str, zone: tzinfo, today: date) -> str:
    raise RuntimeError(f"leaks {value}")


def entry(name: str, function: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{function}", plugins.GROUP)


@pytest.fixture(autouse=True)
def two_more() -> Iterator[None]:
    forms, accepts = dict(formatters._FORMS), dict(ACCEPTS)
    formatters.add([entry("ward.short", "ward_short"), entry("ward.broken", "ward_broken")])
    schema.cache_clear()
    yield
    for held, before in ((formatters._FORMS, forms), (ACCEPTS, accepts)):
        held.clear()  # type: ignore[attr-defined]
        held.update(before)  # type: ignore[attr-defined]
    schema.cache_clear()


def made(form: str) -> TemplateMessage | Skip:
    text = GOOD.replace(PLACE, f'{{path: "%site", as: {form}}}', 1)
    assert text != GOOD
    return render(one(text).mappings[0], context("appointment-booked"))


def test_its_words_stand_in_the_message_and_are_cleaned() -> None:
    message = made("ward.short")
    assert isinstance(message, TemplateMessage)
    assert dict(message.params)["place"] == "P2 (es)"


def test_what_it_raises_is_no_value_and_quotes_nothing() -> None:
    assert made("ward.broken") == Skip("no value for place: ward.broken cannot put it into words (RuntimeError)")


def test_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        made("ward.shrt")
    (problem,) = caught.value.problems
    assert (problem.code, problem.message) == (
        "BR012",
        '"ward.shrt" is not allowed here; did you mean "ward.short"?',
    )


def test_it_takes_only_what_it_says() -> None:
    with pytest.raises(Refused) as caught:
        one(GOOD.replace("{path: start, as: time.short}", "{path: start, as: ward.short}", 1))
    assert [problem.code for problem in caught.value.problems] == ["BR024"]


@pytest.mark.parametrize("name", ["date.long", "date.mine", "text", "Ward.Short", "ward"])
def test_none_of_ours_is_shadowed(name: str) -> None:
    assert plugins.load([entry(name, "ward_short")], PLAIN) == {}


def test_one_that_cannot_be_loaded_is_left_out() -> None:
    assert plugins.load([entry("ward.gone", "nothing_of_that_name")], PLAIN) == {}
