"""A preview shows what `render` does, each value with where it comes from, on every shipped example."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.mappers.mapping import Mapping
from bridge.mappers.preview import LONGEST_VALUE, preview
from bridge.mappers.render import TemplateMessage, conditions, render
from tests.mappers.starter import LANGUAGES, context, one, starters

FIXTURES = (
    "appointment-booked",
    "appointment-booked-minor",
    "appointment-cancelled",
    "appointment-confirmed",
    "appointment-reminder",
    "appointment-rescheduled",
)


def rule(name: str) -> Mapping:
    found = starters().get(name)
    assert found is not None
    return found


@pytest.mark.parametrize("fixture", FIXTURES)
@pytest.mark.parametrize(
    "name", ["appointment-booked", "appointment-rescheduled", "appointment-cancelled", "appointment-reminder"]
)
def test_a_preview_is_what_render_says(name: str, fixture: str) -> None:
    contexts = [context(fixture, language=language, offset="24h") for language in LANGUAGES]
    shown = preview(rule(name), contexts)
    assert [(each.name, each.holds) for each in shown.conditions] == list(conditions(rule(name), contexts[0]))
    for bubble, each in zip(shown.bubbles, contexts, strict=True):
        outcome = render(rule(name), each)
        if isinstance(outcome, TemplateMessage):
            assert bubble.skip is None
            assert bubble.body == outcome.body
            assert [(blank.name, blank.words) for blank in bubble.blanks] == list(outcome.params)
            assert [title for title, *_ in bubble.buttons] == [button.title for button in outcome.buttons]
        else:
            assert (bubble.body, bubble.skip) == (None, outcome.reason)
    assert shown.sends is all(isinstance(render(rule(name), each), TemplateMessage) for each in contexts)


def test_each_blank_has_its_path_raw_value_formatter_and_words() -> None:
    (bubble,) = preview(rule("appointment-booked"), [context("appointment-booked")]).bubbles
    day = next(blank for blank in bubble.blanks if blank.name == "day")
    assert (day.path, day.raw, day.form) == ("start", ('"2026-11-25T14:30:00Z"',), "date.long")
    assert day.words == "miércoles, 25 de noviembre de 2026"
    assert bubble.buttons[0] == ("Confirmar", "confirm", "appointment.confirm")


def test_a_default_is_marked_as_one() -> None:
    (bubble,) = preview(rule("appointment-booked"), [context("appointment-booked", location=None)]).bubbles
    place = next(blank for blank in bubble.blanks if blank.name == "place")
    assert (place.raw, place.words, place.by_default) == ((), "el hospital", True)


def test_a_blank_without_a_value_says_why_beside_its_path() -> None:
    (bubble,) = preview(rule("appointment-reminder"), [context("appointment-reminder", patient=None)]).bubbles
    name = bubble.blanks[0]
    assert (name.name, name.words) == ("patient_name", "")
    assert name.problem == "there is no value, and the mapping has no default for it"
    assert bubble.skip == "no value for patient_name"


def test_several_values_where_one_is_wanted_are_shown_with_what_is_wrong() -> None:
    text = rule("appointment-booked").document.text.partition("examples:")[0]
    (broken,) = one(
        text.replace("day:          {path: start, as: date.long}", "day: {path: participant.status}")
    ).mappings
    (bubble,) = preview(broken, [context("appointment-booked")]).bubbles
    blank = next(each for each in bubble.blanks if each.name == "day")
    assert len(blank.raw) > 1
    assert (blank.words, blank.problem) == ("", "several values where one is wanted")
    assert bubble.skip == "no value for day: several values where one is wanted"


def test_hold_rules_and_skip_if_are_shown_with_what_they_give() -> None:
    held: dict[str, Any] = dict(context("result-ready").resource) | {"conclusionCode": [{"text": "x"}]}
    shown = preview(rule("result-ready"), [context("result-ready", resource=held)])
    assert [each.holds for each in shown.hold].count(False) == len(shown.held) == 1
    reminder = context("appointment-confirmed", offset="24h", site_policy={"confirmed_once": True})
    shown = preview(rule("appointment-reminder"), [reminder])
    assert shown.skip_if is not None
    assert shown.skip_if.raw in {("true",), ("false",)}


def test_a_guardian_reads_the_guardians_text() -> None:
    shown = preview(rule("appointment-booked"), [context("appointment-booked-minor")])
    assert (shown.role, shown.bubbles[0].template) == ("guardian", "caregiver_booked")
    without = replace(rule("appointment-booked"), send=replace(rule("appointment-booked").send, guardian=None))
    (bubble,) = preview(without, [context("appointment-booked-minor")]).bubbles
    assert bubble.skip == "the mapping has no text for a guardian"


def test_a_long_value_is_cut() -> None:
    booked = context("appointment-booked")
    shown = preview(
        rule("appointment-booked"), [replace(booked, location={"resourceType": "Location", "name": "x" * 900})]
    )
    assert max(len(value) for blank in shown.bubbles[0].blanks for value in blank.raw) == LONGEST_VALUE
