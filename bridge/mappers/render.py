"""Mapping × context -> the message a phone will show, or the reason why there is none. Pure: no clock, no I/O.

Source: reference/mapping-language.md D.4, reference/whatsapp.md §3.1
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from bridge.errors import ExpressionFailed, UnfitValue
from bridge.mappers import expression, formatters
from bridge.mappers.mapping import Mapping, Param, Text, Variant
from bridge.mappers.operators import Scope
from bridge.mappers.templates import Template, chain

LONGEST_BODY = 1024  # characters after filling; WhatsApp refuses more
LONGEST_HEADER = 60  # of a text above the body

Resource = MappingABC[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a message may be made of. Resources are raw JSON and are never modified."""

    resource: Resource
    patient: Resource | None
    now: datetime  # business time, aware
    zone: str  # the appointment's: days and times are told in it
    language: str  # the reader's: "es", "es_MX", "pt_BR"
    site_languages: Sequence[str]  # the first is the default
    role: str = "self"  # or "guardian": who reads
    guardian: Resource | None = None
    practitioner: Resource | None = None
    location: Resource | None = None
    organization: Resource | None = None
    previous: Resource | None = None  # what the reader was told before
    origin: str | None = None  # "patient-chat" when the patient caused the event here; else %origin is "ehr"
    offset: str | None = None  # of a reminder: "3d", "24h"
    site_policy: MappingABC[str, Any] | None = None
    consent_topics: str = ""
    patient_participant: Resource | None = None
    fhir_version: str = "R4"


@dataclass(frozen=True, slots=True)
class ButtonSpec:
    """What a quick reply is for; its payload is made by whoever stores the message."""

    index: int  # its place in the template
    id: str
    do: str
    confirm: bool
    expires: timedelta | None
    title: str


@dataclass(frozen=True, slots=True)
class HeaderValue:
    """What fills the template's header in this message."""

    kind: str  # text, image, video, document, location
    value: str  # the words for the blank; of media an https address or WhatsApp's id; of a place "40.4,-3.7"
    name: str = ""  # the blank's name; of a document its file name; of a place its name
    address: str = ""  # of a place


@dataclass(frozen=True, slots=True)
class TemplateMessage:
    template: str
    language: str  # WhatsApp's code: "es", "pt_BR"
    params: tuple[tuple[str, str], ...]  # in the template's order
    buttons: tuple[ButtonSpec, ...]
    body: str  # as the phone shows it
    purpose: str
    role: str
    header: HeaderValue | None = None  # None too where it is the same in every message
    above: str = ""  # the header as the phone shows it: its text, or "[image]"


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is sent. `reason` is the mapping author's sentence or names a blank; never a patient's data."""

    reason: str


def render(mapping: Mapping, context: Context) -> TemplateMessage | Skip:
    """Ask the conditions in order, fill the blanks, and choose language and variant.

    Returns:
        The message, or the first reason against it: a `when` sentence, a reminder's `skip_if`, a blank without a value,
        a text longer than WhatsApp takes, no text for a guardian.
    """
    scope = scope_of(mapping, context)
    for condition in mapping.when:
        reason = unmet(condition.path.evaluate, scope, context, condition.sentence)
        if reason is not None:
            return Skip(reason)
    skip_if = mapping.remind.skip_if if mapping.remind is not None else None
    if skip_if is not None and context.offset is not None and unmet(skip_if.evaluate, scope, context, "") is None:
        return Skip(f"reminder {context.offset} not needed: skip_if holds")
    variant = mapping.send.patient if context.role == "self" else mapping.send.guardian
    if variant is None:
        return Skip("the mapping has no text for a guardian")
    return _fill(mapping, variant, scope, context)


def conditions(mapping: Mapping, context: Context) -> tuple[tuple[str, bool], ...]:
    """Each `when` sentence and whether its condition holds, for the trace and the preview."""
    scope = scope_of(mapping, context)
    return tuple(
        (each.sentence, unmet(each.path.evaluate, scope, context, each.sentence) is None) for each in mapping.when
    )


def held(mapping: Mapping, context: Context) -> tuple[str, ...]:
    """The `gate.hold` sentences that are not exactly true: a clinician must release the message. Fails closed."""
    if mapping.gate is None:
        return ()
    scope = scope_of(mapping, context)
    return tuple(
        each.sentence
        for each in mapping.gate.hold
        if unmet(each.path.evaluate, scope, context, each.sentence) is not None
    )


def attachment(mapping: Mapping, context: Context) -> tuple[Resource, str] | Skip:
    """The Attachment that `then.attach` names, and the file's name in the reader's language."""
    assert mapping.attach is not None
    try:
        found = mapping.attach.path.evaluate(scope_of(mapping, context), context.fhir_version)
    except ExpressionFailed as exc:
        return Skip(f"no document: {exc}")
    if len(found) != 1 or not isinstance(found[0], MappingABC):
        return Skip("no document: the path gives none, or several")
    texts = chain(context.language, context.site_languages)
    return found[0], formatters.clean(_chosen(mapping.attach.filename, texts))


def scope_of(mapping: Mapping, context: Context) -> Scope:
    """What the mapping's paths see: the resources, the engine's variables, and the mapping's own `let`."""
    variables = {
        "patient": context.patient,
        "guardian": context.guardian,
        "practitioner": context.practitioner,
        "location": context.location,
        "organization": context.organization,
        "previous": context.previous,
        "origin": context.origin or "ehr",  # never empty: `%origin != 'patient-chat'` would not be true of nothing
        "offset": context.offset,
        "site_policy": context.site_policy,
        "consent_topics": context.consent_topics or None,
        "patient_participant": context.patient_participant,
    }
    scope = expression.scope(context.resource, variables, now=context.now, zone=context.zone)
    for name, path in mapping.let:
        try:
            scope.variables[name] = path.evaluate(scope, context.fhir_version)
        except ExpressionFailed:
            scope.variables[name] = None  # whoever needs it says that there is no value
    return scope


def unmet(evaluate: Any, scope: Scope, context: Context, sentence: str) -> str | None:
    """None when exactly true. What cannot be evaluated is not true, and says so."""
    try:
        return None if evaluate(scope, context.fhir_version) == [True] else sentence
    except ExpressionFailed as exc:
        return f"{sentence} ({exc})"


def _fill(mapping: Mapping, variant: Variant, scope: Scope, context: Context) -> TemplateMessage | Skip:
    template = variant.template
    tongue = tongue_of(template, context)
    language = tongue.template
    params: list[tuple[str, str]] = []
    for param in variant.params:
        try:
            value = words_of(param, scope, context, tongue)
        except (ExpressionFailed, UnfitValue) as exc:
            return Skip(f"no value for {param.name}: {exc}")
        if not value:
            return Skip(f"no value for {param.name}")
        params.append((param.name, value))
    body = template.fill(language, dict(params))
    if len(body) > LONGEST_BODY:
        return Skip(f"the text would have {len(body)} characters, and WhatsApp takes {LONGEST_BODY}")
    above = _header(variant, scope, context, tongue)
    if isinstance(above, Skip):
        return above
    wanted = {button.id: button for button in mapping.send.buttons}
    titles = template.button_titles[language]
    return TemplateMessage(
        template=template.name,
        language=template.whatsapp_language[language],
        params=tuple(params),
        buttons=tuple(
            ButtonSpec(index, id, wanted[id].do, wanted[id].confirm, wanted[id].expires, titles[id])
            for index, id in enumerate(template.buttons)  # noqa: A001
        ),
        body=body,
        purpose=mapping.consent.purpose,
        role=context.role,
        header=above,
        above=_shown_above(template, language, above),
    )


def _header(variant: Variant, scope: Scope, context: Context, tongue: Tongue) -> HeaderValue | Skip | None:
    """What fills the header; None where there is none to fill."""
    header, param = variant.template.header, variant.header
    if header is None or param is None:
        return None
    try:
        if header.kind == "location":
            assert param.path is not None
            return _place(param.path.evaluate(scope, context.fhir_version))
        value = words_of(param, scope, context, tongue)
    except (ExpressionFailed, UnfitValue) as exc:
        return Skip(f"no value for the header: {exc}")
    if not value:
        return Skip("no value for the header")
    if header.kind != "text":
        filename = value.rpartition("/")[2].partition("?")[0] if header.kind == "document" and "/" in value else ""
        return HeaderValue(header.kind, value, filename)
    if (long := len(header.fill(tongue.template, value))) > LONGEST_HEADER:
        return Skip(f"the header would have {long} characters, and WhatsApp takes {LONGEST_HEADER}")
    return HeaderValue("text", value, param.name)


def _place(values: Sequence[Any]) -> HeaderValue | Skip:
    """A Location as a pin on a map."""
    place = values[0] if len(values) == 1 and isinstance(values[0], MappingABC) else {}
    position = place.get("position")
    axes = [position.get(axis) for axis in ("latitude", "longitude")] if isinstance(position, MappingABC) else []
    if len(axes) != 2 or not all(
        isinstance(axis, int | float | Decimal) and not isinstance(axis, bool) for axis in axes
    ):
        return Skip("no value for the header: the place has no position")
    address = place.get("address")
    lines = address.get("line") if isinstance(address, MappingABC) else None
    parts = [
        *(lines if isinstance(lines, list) else ()),
        address.get("city") if isinstance(address, MappingABC) else None,
    ]
    text = ", ".join(part for part in parts if isinstance(part, str) and part)
    name = place.get("name")
    name = name if isinstance(name, str) else ""
    return HeaderValue("location", f"{axes[0]},{axes[1]}", formatters.clean(name), formatters.clean(text))


def _shown_above(template: Template, language: str, above: HeaderValue | None) -> str:
    header = template.header
    if header is None:
        return ""
    if header.kind == "text":
        return header.fill(language, above.value if above is not None else "")
    return f"[{header.kind}]" if above is None or not above.name else f"[{header.kind}: {above.name}]"


@dataclass(frozen=True, slots=True)
class Tongue:
    """How one reader is spoken to."""

    template: str  # the template's own key: "es"
    spoken: str  # the formatters': "es_MX"
    texts: tuple[str, ...]  # the chain for texts of the mapping


def tongue_of(template: Template, context: Context) -> Tongue:
    """The language of the template that the reader gets, and the forms of dates and texts in it."""
    language = template.language(context.language, context.site_languages) or next(iter(template.languages))
    same = context.language[:2] == language[:2]  # es_MX reads the text in es, with its own way to write the hour
    spoken = context.language if same else template.whatsapp_language[language]
    return Tongue(language, spoken, tuple(chain(context.language if same else language, context.site_languages)))


def words_of(param: Param, scope: Scope, context: Context, tongue: Tongue) -> str:
    """The words for one blank, empty if there are none. Raises: ExpressionFailed, UnfitValue."""
    texts = tongue.texts
    if param.path is None:
        return formatters.clean(_chosen(param.text, texts))
    values = param.path.evaluate(scope, context.fhir_version)
    text = ""
    if param.choices is not None:
        if len(values) > 1:
            raise UnfitValue("several values where one is wanted")
        key = str(values[0]) if values and isinstance(values[0], str | int) else "*"
        text = formatters.clean(_chosen(param.choices.get(key, param.choices.get("*")), texts))
    elif values:
        today = context.now.astimezone(scope.zone).date()
        text = formatters.words(param.form, values, tongue.spoken, scope.zone, today)
    text = text or formatters.clean(_chosen(param.default, texts))
    return formatters.shorten(text, param.longest) if param.longest is not None else text


def _chosen(text: Text | None, texts: Sequence[str]) -> str:
    """The text in the reader's language, or the next one of the chain."""
    if text is None:
        return ""
    if "" in text:
        return text[""]
    return next((text[language] for language in texts if language in text), "")
