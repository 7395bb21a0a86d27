"""YAML -> Mapping: which event becomes which template, for whom, under which conditions.

Everything a mapping may get wrong is found here, all at once and with its place: shape (JSON Schema), expressions
(FHIRPath against the FHIR model), formatters against kinds, parameters and buttons against the template.

Source: reference/mapping-language.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bridge.errors import BadExpression, Refused
from bridge.mappers import expression
from bridge.mappers.document import Document, Problem, check_schema
from bridge.mappers.expression import Expression
from bridge.mappers.kinds import OPEN, Kinds
from bridge.mappers.operators import Items, Scope
from bridge.mappers.templates import Catalogue, Template, schema

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
RESOURCES = {"appointment": "Appointment", "diagnosticreport": "DiagnosticReport", "consent": "Consent"}

# what stands behind %, by what it can be; `%previous` is the event's own kind of resource
VARIABLES: dict[str, Kinds] = {
    "patient": frozenset({"Patient"}), "guardian": frozenset({"RelatedPerson"}),
    "practitioner": frozenset({"Practitioner"}), "location": frozenset({"Location"}),
    "organization": frozenset({"Organization"}), "origin": frozenset({"string"}), "offset": frozenset({"string"}),
    "now": frozenset({"dateTime"}), "today": frozenset({"date"}), "consent_topics": frozenset({"string"}),
    "site_policy": OPEN,
}  # fmt: skip

Text = MappingABC[str, str]  # language -> text; "" for a text that is the same in every language


@dataclass(frozen=True, slots=True)
class Path:
    """A FHIRPath of a mapping, compiled for each FHIR version on its first use there.

    Where a version lacks an element that another has (R5 moved `serviceType.coding`), the path gives nothing.
    """

    text: str
    resource_type: str
    variables: MappingABC[str, Kinds]
    compiled: dict[str, Expression | None] = field(default_factory=dict, compare=False, repr=False)

    def evaluate(self, scope: Scope, fhir_version: str) -> Items:
        """The values found. Raises ExpressionFailed as `Expression.evaluate` does."""
        if fhir_version not in self.compiled:
            try:
                self.compiled[fhir_version] = self.expression(fhir_version)
            except BadExpression:
                self.compiled[fhir_version] = None
        found = self.compiled[fhir_version]
        return found.evaluate(scope) if found is not None else []

    def expression(self, fhir_version: str) -> Expression:
        return expression.compile(
            self.text, resource_type=self.resource_type, fhir_version=fhir_version, variables=self.variables
        )


@dataclass(frozen=True, slots=True)
class Condition:
    path: Path
    sentence: str  # why nothing is sent if it is not exactly true, in the author's words


@dataclass(frozen=True, slots=True)
class Param:
    """One blank of the template: a path or a fixed text."""

    name: str
    path: Path | None
    form: str = "text"  # a key of formatters.ACCEPTS
    choices: MappingABC[str, Text] | None = None  # `map:`; "*" answers for every other value and for none
    text: Text | None = None
    default: Text | None = None
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Button:
    id: str
    do: str  # "appointment.confirm"
    confirm: bool = False
    expires: timedelta | None = None
    url_suffix: Path | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """What one kind of reader gets: the patient, or a guardian."""

    template: Template
    params: tuple[Param, ...]
    header: Param | None = None  # where the template's header is not the same in every message


@dataclass(frozen=True, slots=True)
class Send:
    patient: Variant
    guardian: Variant | None
    buttons: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class Consent:
    purpose: str
    if_missing: str = "skip"  # skip | ask | inbox


@dataclass(frozen=True, slots=True)
class Delivery:
    expires: timedelta
    quiet_hours: str = "respect"  # respect | ignore
    if_quiet: str = "delay"  # delay | drop
    priority: str = "normal"  # low | normal | high


@dataclass(frozen=True, slots=True)
class Remind:
    before: tuple[str, ...]  # "3d", "24h"
    anchor: Path
    skip_if: Path | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Asked before a document is shown; a hold rule passes only if it is exactly true, else a clinician releases it."""

    verify: str
    attempts: int = 3
    lock_for: timedelta = timedelta(hours=24)
    hold: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Attach:
    """The document that is sent once the gate is passed."""

    path: Path  # to an Attachment of the resource
    filename: Text | None = None
    max_mb: int = 16
    locked: bool = False  # opens with the birth date, written ddmmyyyy


@dataclass(frozen=True, slots=True)
class Mapping:
    """One file of `config/mappings/`."""

    id: str
    event: str
    title: Text
    enabled: bool
    let: tuple[tuple[str, Path], ...]
    when: tuple[Condition, ...]
    recipient: str  # guardian-if-minor | patient | guardian-only
    consent: Consent
    delivery: Delivery
    gate: Gate | None
    remind: Remind | None
    send: Send
    attach: Attach | None  # `then.attach`
    no_reply: timedelta | None  # `then.no_reply`: unanswered for so long, a person is told
    free_text: str  # `then.handoff_if_text`: always | unrecognised | never
    version: str  # 12 hex digits of the file's SHA-256
    file: str
    document: Document = field(compare=False, repr=False)

    @property
    def resource_type(self) -> str:
        return resource_of(self.event)


@dataclass(frozen=True, slots=True)
class MappingSet:
    """Every mapping of the site, paused ones too."""

    mappings: tuple[Mapping, ...]
    site_languages: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()

    def for_event(self, event: str) -> tuple[Mapping, ...]:
        """Those that run on an event, in the order of their files."""
        return tuple(mapping for mapping in self.mappings if mapping.event == event and mapping.enabled)

    def get(self, id: str) -> Mapping | None:  # noqa: A002
        return next((mapping for mapping in self.mappings if mapping.id == id), None)


def load_mappings(
    docs: Sequence[Document],
    templates: Catalogue,
    site_languages: Sequence[str],
    *,
    fhir_versions: Sequence[str] = ("R4",),
) -> MappingSet:
    """Read and check every mapping.

    Args:
        docs: the files of `config/mappings/`.
        templates: what they may send.
        site_languages: the first is the default.
        fhir_versions: those of the site's EHRs. An element is unknown if none of them has it.

    Raises:
        Refused: every problem of every file, unless they are all warnings; those stand in `MappingSet.warnings`.
    """
    from bridge.mappers.checks import check_expressions, check_mapping, check_together, header_kind  # late: our types

    problems: list[Problem] = []
    mappings: list[Mapping] = []
    for doc in docs:
        found = check_schema(doc, schema("mapping"))
        if isinstance(doc.data, dict):
            found += check_expressions(doc, fhir_versions, header=header_kind(doc.data, templates))
            found += check_mapping(doc, templates, site_languages)
        if not any(problem.severity == "error" for problem in found):
            mappings.append(build(doc, templates))
        problems += sorted(found, key=lambda problem: (problem.line, problem.column))
    problems += check_together(mappings)
    if any(problem.severity == "error" for problem in problems):
        raise Refused(problems)
    return MappingSet(tuple(mappings), tuple(site_languages), tuple(problems))


def resource_of(event: str) -> str:
    """appointment.booked -> Appointment; of an event misspelt behind the dot too."""
    return RESOURCES.get(str(event).partition(".")[0], "Resource")


def variables_of(event: str) -> dict[str, Kinds]:
    """What an expression of this event may name behind %, `let` apart."""
    kind = resource_of(event)
    participant: Kinds = frozenset({"Appointment.participant"}) if kind == "Appointment" else None
    return {**VARIABLES, "previous": frozenset({kind}), "patient_participant": participant}


def duration(text: str) -> timedelta:
    """24h, 3d, 90m, 2w: elapsed time."""
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def build(doc: Document, templates: Catalogue) -> Mapping:
    """The mapping of a document that has passed every check."""
    data: dict[str, Any] = doc.data
    kind, variables = resource_of(data["event"]), variables_of(data["event"])
    let: list[tuple[str, Path]] = []
    send = data["send"]
    for name, text in data.get("let", {}).items():
        path = Path(text, kind, dict(variables))
        let.append((name, path))
        try:
            variables[name] = path.expression("R4").kinds
        except BadExpression:
            variables[name] = None

    def at(text: str) -> Path:
        return Path(text, kind, variables)

    def conditions(given: Sequence[dict[str, str]]) -> tuple[Condition, ...]:
        return tuple(Condition(at(each["path"]), each["else"]) for each in given)

    def variant(given: dict[str, Any]) -> Variant:
        template = templates.get(given["template"])
        assert template is not None
        params = {name: _param(name, param, at) for name, param in given["params"].items()}
        header = template.header
        above = _param(header.param or "header", send["header"], at) if header is not None and header.filled else None
        return Variant(template, tuple(params[name] for name in template.params), above)

    then = data.get("then", {})
    silence = then.get("no_reply", {})
    delivery, gate, remind = data["delivery"], data.get("gate"), data.get("remind")
    return Mapping(
        id=data["id"],
        event=data["event"],
        title=_text(data.get("title", data["id"])),
        enabled=data.get("enabled", True),
        let=tuple(let),
        when=conditions(data.get("when", ())),
        recipient=data.get("recipient", {}).get("who", "guardian-if-minor"),
        consent=Consent(**data["consent"]),
        delivery=Delivery(**{**delivery, "expires": duration(delivery["expires"])}),
        gate=gate
        and Gate(
            gate["verify"],
            gate.get("attempts", 3),
            duration(gate.get("lock_for", "24h")),
            conditions(gate.get("hold", ())),
        ),
        remind=remind
        and Remind(
            tuple(remind["before"]),
            at(remind.get("anchor", "start")),
            at(remind["skip_if"]) if "skip_if" in remind else None,
        ),
        send=Send(
            variant(send),
            variant(send["guardian"]) if "guardian" in send else None,
            tuple(_button(each, at) for each in send.get("buttons", ())),
        ),
        attach=_attach(then["attach"], at) if "attach" in then else None,
        no_reply=duration(silence["after"]) if silence.get("do") == "inbox" else None,
        free_text=then.get("handoff_if_text", "unrecognised"),
        version=hashlib.sha256(doc.text.encode()).hexdigest()[:12],
        file=doc.path,
        document=doc,
    )


def _param(name: str, given: Any, at: Any) -> Param:
    if isinstance(given, str):
        return Param(name, at(given))
    choices = given.get("map")
    return Param(
        name,
        at(given["path"]) if "path" in given else None,
        given.get("as", "text"),
        {key: _text(each) for key, each in choices.items()} if choices is not None else None,
        _text(given["text"]) if "text" in given else None,
        _text(given["default"]) if "default" in given else None,
        given.get("max"),
    )


def _button(given: dict[str, Any], at: Any) -> Button:
    return Button(
        given["id"],
        given["do"],
        given.get("confirm", False),
        duration(given["expires"]) if "expires" in given else None,
        at(given["url_suffix"]) if "url_suffix" in given else None,
    )


def _attach(given: dict[str, Any], at: Any) -> Attach:
    filename = _text(given["filename"]) if "filename" in given else None
    return Attach(at(given["path"]), filename, given.get("max_mb", 16), given.get("password", "none") != "none")


def _text(given: Any) -> Text:
    return {"": given} if isinstance(given, str) else dict(given)
