"""Resources as broken senders write them: a render ends in a message or a reason, never in an exception."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import BadExpression, ExpressionFailed
from bridge.mappers.expression import compile as compile_path
from bridge.mappers.expression import scope
from bridge.mappers.render import Skip, TemplateMessage, conditions, held, render
from tests.mappers.starter import context, starters
from tests.mappers.test_expression import APPOINTMENT, GIVEN, NOW, VARIABLES

FIXTURES = {
    "appointment-booked": "appointment-booked-minor",
    "appointment-cancelled": "appointment-cancelled",
    "appointment-reminder": "appointment-reminder",
    "appointment-rescheduled": "appointment-rescheduled",
    "result-ready": "result-ready",
    "consent-granted": "consent-granted",
}
TEXTS = st.sampled_from(
    ["", "x", "2026-11-25", "2026-11-25T14:30:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01", "2026-02-31",
     "2026-11-25T23:59:60Z", "2026-11-25T10:00:00+99:99", "booked", "final", "\u202e{{day}}\n", "2026", "Ana, García"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | TEXTS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["given", "family", "use", "text", "start", "end", "period", "coding", "code", "value"]), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in steps for found in ((*path, key), *places(each, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    mapping = starters().get(data.draw(st.sampled_from(sorted(FIXTURES))))
    assert mapping is not None
    seen = context(FIXTURES[mapping.id], offset="24h", site_policy={"sensitive_loinc": ["1-8"]})
    part = data.draw(st.sampled_from(["resource", "patient", "practitioner", "location", "guardian", "previous"]))
    resource = copy.deepcopy(getattr(seen, part))
    if resource is None:
        return
    put(resource, data.draw(st.sampled_from(places(resource))), data.draw(VALUES))
    seen = replace(seen, **{part: resource}, language=data.draw(st.sampled_from(["es", "es_MX", "pt_BR", "xx", ""])))
    outcome = render(mapping, seen)
    assert isinstance(outcome, TemplateMessage | Skip)
    if isinstance(outcome, TemplateMessage):
        assert all(text and "\n" not in text and "\t" not in text for _, text in outcome.params)
        assert len(outcome.body) <= 1024
    conditions(mapping, seen)
    held(mapping, seen)


PIECES = st.sampled_from(
    ["status", "start", "participant", ".", "(", ")", "[", "0", "]", "where", "exists", "()", "=", ">", "and", "or", "'x'",
     "%patient", "%now", "now()", "name", "given", "first()", "|", "+", "1 day", "is", "Period", "$this", "{}", "@2026-11-25",
     "true", "not()", "in", "`", "'", "\\", "//", "/*", "timeOfDay()", "é", "\u0000", "iif(", ",", "-", "matches('.*')"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=9), st.sampled_from(["", " "]))
def test_any_text_as_an_expression(pieces: list[str], between: str) -> None:
    """Refused with a column inside the text, or compiled; and then it answers or says why it cannot."""
    text = between.join(pieces)
    try:
        path = compile_path(text, resource_type="Appointment", fhir_version="R4", variables=VARIABLES)
    except BadExpression as exc:
        assert 0 <= exc.column <= len(text)
        return
    try:
        found = path.evaluate(scope(APPOINTMENT, GIVEN, now=NOW, zone="Europe/Madrid"))
    except ExpressionFailed:
        return
    assert isinstance(found, list)
