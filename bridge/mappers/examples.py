"""The `examples:` of a mapping, run: a fixture, a clock and a language against expected values or an expected skip.

A fixture is a Bundle: its first entry is the event's resource; Patient, RelatedPerson (the guardian), Practitioner,
Location and Organization beside it are what %patient and the like see; a second entry of the first one's type is
%previous. A Location's timezone extension is the zone, else the site's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.mappers.document import Problem, closest
from bridge.mappers.mapping import Mapping as Rule
from bridge.mappers.mapping import MappingSet
from bridge.mappers.render import Context, Skip, TemplateMessage, render
from bridge.mappers.temporal import parse

TIMEZONE = "http://hl7.org/fhir/StructureDefinition/timezone"
WITHOUT_START = datetime(2026, 1, 1, 12, tzinfo=UTC)  # the clock of an example that names none, for what has no start

ReadFixture = Callable[[str], Mapping[str, Any]]


def run_examples(
    mapping_set: MappingSet,
    read_fixture: ReadFixture,
    *,
    zone: str = "UTC",
    site_policy: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Every example of every mapping.

    Args:
        mapping_set: what to run.
        read_fixture: `given` -> the Bundle; raises OSError, KeyError or ValueError where there is none.
        zone: the site's, for fixtures whose Location names none.
        site_policy: what %site_policy holds.

    Returns:
        BR047 for each value that differs from `expect`, each other reason than `expect_skip`, each missing fixture.
    """
    problems: list[Problem] = []
    for rule in mapping_set.mappings:
        for index, example in enumerate(rule.document.data.get("examples", ())):
            problems += _run(rule, index, example, mapping_set.site_languages, read_fixture, zone, site_policy)
    return problems


def context_of(
    bundle: Mapping[str, Any],
    *,
    at: str | None = None,
    lang: str | None = None,
    zone: str = "UTC",
    site_languages: Sequence[str] = ("es",),
    site_policy: Mapping[str, Any] | None = None,
    offset: str | None = None,
) -> Context:
    """A fixture as the engine would hand it to `render`. Without `at`, it is the day before the visit."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    focus, others = resources[0], resources[1:]

    def of(kind: str) -> Mapping[str, Any] | None:
        return next((each for each in others if each["resourceType"] == kind), None)

    patient, location, guardian = of("Patient"), of("Location"), of("RelatedPerson")
    reference = f"Patient/{patient['id']}" if patient is not None else None
    own = [each for each in focus.get("participant", ()) if (each.get("actor") or {}).get("reference") == reference]
    return Context(
        resource=focus,
        patient=patient,
        guardian=guardian,
        practitioner=of("Practitioner"),
        location=location,
        organization=of("Organization"),
        previous=of(focus["resourceType"]),
        now=datetime.fromisoformat(at) if at is not None else _before(focus),
        zone=_zone_of(location) or zone,
        language=lang or site_languages[0],
        site_languages=site_languages,
        role="guardian" if guardian is not None else "self",
        offset=offset,
        site_policy=site_policy,
        consent_topics="citas",
        patient_participant=own[0] if own else None,
    )


def _run(
    rule: Rule,
    index: int,
    example: Mapping[str, Any],
    site_languages: Sequence[str],
    read_fixture: ReadFixture,
    zone: str,
    site_policy: Mapping[str, Any] | None,
) -> list[Problem]:
    steps = ("examples", index)
    problem = rule.document.problem
    if not _is_moment(example.get("at")):
        message = f'"{example["at"]}" is not a time with its offset; write it like 2026-11-22T10:00:00+01:00'
        return [problem((*steps, "at"), "BR047", message)]
    try:
        bundle = read_fixture(example["given"])
        context = context_of(
            bundle,
            at=example.get("at"),
            lang=example.get("lang"),
            zone=zone,
            site_languages=site_languages,
            site_policy=site_policy,
            offset=rule.remind.before[-1] if rule.remind is not None else None,
        )
    except OSError:
        return [problem((*steps, "given"), "BR047", f"there is no fixture {example['given']} beside the mapping")]
    except (KeyError, ValueError, TypeError, IndexError) as exc:
        message = f"the fixture {example['given']} is not a Bundle that bridge can read ({type(exc).__name__})"
        return [problem((*steps, "given"), "BR047", message)]
    outcome = render(rule, context)
    wanted = example.get("expect_skip")
    if wanted is not None:
        got = outcome.reason if isinstance(outcome, Skip) else "the message is sent"
        if got == wanted:
            return []
        return [problem((*steps, "expect_skip"), "BR047", f'expected "{wanted}", but: {got}')]
    if not isinstance(outcome, TemplateMessage):
        return [problem((*steps, "name"), "BR047", f"nothing is sent: {outcome.reason}")]
    found = dict(outcome.params)
    if outcome.header is not None and outcome.header.kind == "text":
        found[outcome.header.name] = outcome.header.value
    expected = example.get("expect", {})
    unknown = [name for name in expected if name not in found]
    return [
        problem(
            (*steps, "expect", name),
            "BR047",
            f"{outcome.template} has no {{{{{name}}}}}{closest(name, found)}",
            key=True,
        )
        for name in unknown
    ] + [
        problem((*steps, "expect", name), "BR047", f'{name} is "{found[name]}", expected "{value}"')
        for name, value in expected.items()
        if name in found and found[name] != value
    ]


def _is_moment(text: Any) -> bool:
    """None, or a moment that means the same on every machine."""
    try:
        return text is None or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _before(focus: Mapping[str, Any]) -> datetime:
    start = parse(focus.get("start"))
    return start.when(UTC) - timedelta(days=1) if start is not None else WITHOUT_START


def _zone_of(location: Mapping[str, Any] | None) -> str | None:
    extensions = (location or {}).get("extension") or ()
    return next((each.get("valueCode") for each in extensions if each.get("url") == TIMEZONE), None)
