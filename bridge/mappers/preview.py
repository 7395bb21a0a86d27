"""One mapping on one context, laid open: the bubble as the phone shows it, and each blank and condition with its value.

Pure, and made of the same steps as `render`: what is shown here is what would be said. Source: mapping-language.md D.6
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from bridge.errors import ExpressionFailed, UnfitValue
from bridge.mappers.mapping import Condition, Mapping, Param
from bridge.mappers.operators import Items, Scope
from bridge.mappers.render import Context, Skip, held, render, scope_of, tongue_of, unmet, words_of

LONGEST_VALUE = 200  # characters of a raw value that are shown; a whole resource says nothing in a table


@dataclass(frozen=True, slots=True)
class Value:
    """A `let` or a condition's path, and what it gives."""

    name: str  # of a let: "doctor"; of a condition: its sentence
    path: str
    raw: tuple[str, ...]  # each value as JSON
    problem: str | None = None  # why there is none
    holds: bool | None = None  # of a condition: exactly true


@dataclass(frozen=True, slots=True)
class Blank:
    """One parameter of the template, from its path to its words."""

    name: str
    path: str | None  # None: a fixed text
    raw: tuple[str, ...]
    form: str  # the formatter, "map", or "fixed text"
    words: str  # as the message has them; empty when there are none
    by_default: bool = False  # the words are the mapping's `default`: the path gave nothing
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Bubble:
    """What one reader sees."""

    language: str  # whose: "es_MX"
    template: str | None
    template_language: str | None  # WhatsApp's code
    blanks: tuple[Blank, ...]
    body: str | None  # None: nothing is sent, see `skip`
    buttons: tuple[tuple[str, str, str], ...] = ()  # title, id, what it does
    skip: str | None = None
    header: str = ""  # as the phone shows it above the body


@dataclass(frozen=True, slots=True)
class Preview:
    """A mapping on one resource."""

    mapping: str
    version: str
    file: str
    event: str
    enabled: bool
    resource: str  # "Appointment/a1"
    role: str  # self, guardian
    now: str  # business time of the preview
    zone: str
    offset: str | None  # of a reminder
    let: tuple[Value, ...]
    conditions: tuple[Value, ...]
    skip_if: Value | None  # of a reminder; `holds` means that it is not needed
    hold: tuple[Value, ...]  # `gate.hold`; what is not exactly true keeps the message for a clinician
    held: tuple[str, ...]
    bubbles: tuple[Bubble, ...]

    @property
    def sends(self) -> bool:
        """Whether there is a message in every language looked at."""
        return all(bubble.body is not None for bubble in self.bubbles)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "sends": self.sends}


def preview(mapping: Mapping, contexts: Sequence[Context]) -> Preview:
    """Lay open what the mapping makes of a resource.

    Args:
        mapping: the rule.
        contexts: one for each language, otherwise the same; at least one.
    """
    context = contexts[0]
    scope = scope_of(mapping, context)
    skip_if = None
    if mapping.remind is not None and mapping.remind.skip_if is not None:
        path = mapping.remind.skip_if
        raw, problem = _raw(lambda: path.evaluate(scope, context.fhir_version))
        skip_if = Value("skip_if", path.text, raw, problem, holds=raw == ("true",))
    hold = mapping.gate.hold if mapping.gate is not None else ()
    return Preview(
        mapping=mapping.id,
        version=mapping.version,
        file=mapping.file,
        event=mapping.event,
        enabled=mapping.enabled,
        resource=f"{context.resource.get('resourceType')}/{context.resource.get('id')}",
        role=context.role,
        now=context.now.isoformat(),
        zone=context.zone,
        offset=context.offset,
        let=tuple(
            Value(name, path.text, *_raw(lambda path=path: path.evaluate(scope, context.fhir_version)))  # type: ignore[misc]
            for name, path in mapping.let
        ),
        conditions=tuple(_condition(each, scope, context) for each in mapping.when),
        skip_if=skip_if,
        hold=tuple(_condition(each, scope, context) for each in hold),
        held=held(mapping, context),
        bubbles=tuple(_bubble(mapping, each) for each in contexts),
    )


def _condition(condition: Condition, scope: Scope, context: Context) -> Value:
    raw, problem = _raw(lambda: condition.path.evaluate(scope, context.fhir_version))
    holds = unmet(condition.path.evaluate, scope, context, condition.sentence) is None
    return Value(condition.sentence, condition.path.text, raw, problem, holds)


def _bubble(mapping: Mapping, context: Context) -> Bubble:
    outcome = render(mapping, context)
    variant = mapping.send.patient if context.role == "self" else mapping.send.guardian
    if variant is None:
        return Bubble(
            context.language, None, None, (), None, skip=outcome.reason if isinstance(outcome, Skip) else None
        )
    scope, tongue = scope_of(mapping, context), tongue_of(variant.template, context)

    def blank(param: Param) -> Blank:
        raw: tuple[str, ...] = ()
        problem: str | None = None
        if param.path is not None:
            path = param.path
            raw, problem = _raw(lambda: path.evaluate(scope, context.fhir_version))
        form = "fixed text" if param.path is None else "map" if param.choices is not None else param.form
        words = ""
        if problem is None:
            try:
                words = words_of(param, scope, context, tongue)
            except (ExpressionFailed, UnfitValue) as error:
                problem = str(error)
            else:
                problem = None if words else "there is no value, and the mapping has no default for it"
        by_default = bool(words) and not raw and param.path is not None and param.default is not None
        return Blank(param.name, param.path.text if param.path else None, raw, form, words, by_default, problem)

    blanks = tuple(blank(param) for param in variant.params)
    name, spoken = variant.template.name, variant.template.whatsapp_language[tongue.template]
    if isinstance(outcome, Skip):
        return Bubble(context.language, name, spoken, blanks, None, skip=outcome.reason)
    buttons = tuple((each.title, each.id, each.do) for each in outcome.buttons)
    return Bubble(context.language, name, spoken, blanks, outcome.body, buttons, header=outcome.above)


def _raw(evaluate: Callable[[], Items]) -> tuple[tuple[str, ...], str | None]:
    """Values as JSON, or why there are none."""
    try:
        return tuple(_json(item) for item in evaluate()), None
    except ExpressionFailed as error:
        return (), str(error)


def _json(item: Any) -> str:
    text = json.dumps(
        item, ensure_ascii=False, default=lambda value: float(value) if isinstance(value, Decimal) else str(value)
    )
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
