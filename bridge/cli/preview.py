"""`bridge preview MAPPING [WHAT]`: what a mapping would say, without saying it. Never sends, never writes.

WHAT is a resource or Bundle file, a resource of an EHR (`--ehr main Appointment/123`), or a stored event (`evt_…`, which
is recorded as looked at); without it, an example of the mapping's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, NOTHING_SENT, ConfigOption, JsonOption
from bridge.cli.check import _of_site
from bridge.cli.preview_subject import Subject, moment_of, settings_of, stop, subject_of
from bridge.errors import Refused, StoreMissing
from bridge.mappers.document import load_document
from bridge.mappers.mapping import Mapping as Rule
from bridge.settings import Settings, content_path

if TYPE_CHECKING:
    from bridge.engine.standing import Standing
    from bridge.mappers.preview import Preview
    from bridge.mappers.render import Context


def preview(
    mapping: Annotated[str, typer.Argument(help="A mapping's id, or its file.")],
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="A file, Type/id with --ehr, or evt_…; else an example.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    ehr: Annotated[str | None, typer.Option("--ehr", help="Key of the EHR that holds it.")] = None,
    lang: Annotated[list[str] | None, typer.Option("--lang", help="Languages; else all of the site.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Business time: 2026-11-24T10:00+01:00.")] = None,
    example: Annotated[str | None, typer.Option("--example", help="Name of one of the mapping's examples.")] = None,
    offset: Annotated[str | None, typer.Option("--offset", help="Of a reminder: 3d, 24h.")] = None,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Which one, of a visit for several: Patient/123.")
    ] = None,
    payload: Annotated[
        bool, typer.Option("--payload", help="Also the JSON for Meta, and what each tap would write; in --json always.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """The bubble as the phone shows it, with every value it is made of, every condition, and what policy says now."""
    from bridge.mappers.preview import preview as lay_open

    rule = _rule(config, mapping)
    moment = moment_of(at)
    settings = settings_of(config)
    subject = subject_of(rule, config, settings, what, ehr, moment, example, offset, patient)
    site = _of_site(config)
    contexts = _contexts(subject, tuple(lang) if lang else site.languages)
    shown = lay_open(rule, contexts)
    now = _policy(rule, shown, subject, settings)
    if settings is not None and rule.event.startswith("diagnosticreport.") and not settings.results.enabled:
        subject.notes.append(
            "messages about results are off at this site until results.enabled is set: none would leave"
        )
    sends = shown.sends and subject.refusal is None and not shown.held and (now is None or now.verdict != "never")
    made = _payloads(rule, contexts, subject, settings) if payload or as_json else []
    if as_json:
        whole = shown.to_json() | {
            "payloads": made,
            "refusal": subject.refusal, "notes": subject.notes, "policy": asdict(now) if now is not None else None,
            "sends": sends,
        }  # fmt: skip
        print(json.dumps(whole, ensure_ascii=False, indent=1))
    else:
        from bridge.cli.preview_text import lines

        for line in lines(shown, refusal=subject.refusal, notes=subject.notes, policy=now):
            print(line)
        if payload:
            from bridge.cli.preview_payload import lines as posted

            for line in posted(made):
                print(line)
    raise typer.Exit(DONE if sends else NOTHING_SENT)


# --- the mapping -------------------------------------------------------------------------------------------------------


def _rule(config: Path, name: str) -> Rule:
    """The mapping alone: what is wrong with another one is not in the way. Raises: Refused."""
    from bridge.mappers.mapping import load_mappings
    from bridge.mappers.templates import load_templates

    site = _of_site(config)
    file = Path(name) if name.endswith((".yaml", ".yml")) else _file_of(config, name)
    if not file.is_file():
        stop(f"there is no mapping {name}: give an id of {content_path(config.parent, 'mappings')}, or a file")
    folder = content_path(config.parent, "templates")
    templates = load_templates(
        [load_document(each.read_text("utf-8"), str(each)) for each in sorted(folder.glob("*.yaml"))]
    )
    doc = load_document(file.read_text("utf-8"), str(file))
    return load_mappings([doc], templates, site.languages, fhir_versions=site.fhir_versions).mappings[0]


def _file_of(config: Path, name: str) -> Path:
    folder = content_path(config.parent, "mappings")
    first = folder / f"{name}.yaml"
    for file in [first, *sorted(folder.glob("*.yaml"))]:
        try:
            data = load_document(file.read_text("utf-8"), str(file)).data
        except (OSError, UnicodeDecodeError, Refused):
            continue
        if isinstance(data, dict) and data.get("id") == name:
            return file
    return first


def _contexts(subject: Subject, languages: Sequence[str]) -> list[Context]:
    if not subject.topics:
        return [replace(subject.context, language=each) for each in languages]
    from bridge.engine.compose import topics_text

    return [
        replace(subject.context, language=each, consent_topics=topics_text(subject.topics, each)) for each in languages
    ]


def _payloads(
    rule: Rule, contexts: Sequence[Context], subject: Subject, settings: Settings | None
) -> list[dict[str, Any]]:
    """What would be posted, and what taps would write; nothing where nobody is written to."""
    from bridge.cli.preview_payload import payloads
    from bridge.mappers.recipient import Recipient

    chosen = subject.glance.chosen if subject.glance is not None else None
    if subject.refusal is not None:
        return []
    if not isinstance(chosen, Recipient):
        return payloads(rule, contexts, settings, subject.ehr, None, None)
    phones = chosen.person.phones
    return payloads(rule, contexts, settings, subject.ehr, phones[0].wa_id if phones else None, chosen.reference)


# --- policy ------------------------------------------------------------------------------------------------------------


def _policy(rule: Rule, shown: Preview, subject: Subject, settings: Settings | None) -> Standing | None:
    """What policy says now, where a store and a person are at hand."""
    from bridge.mappers.recipient import Recipient

    glance = subject.glance
    if glance is None or subject.ehr is None or settings is None or not isinstance(glance.chosen, Recipient):
        return None
    from bridge.cli.opening import opened
    from bridge.engine.standing import primed, standing
    from bridge.ledger.clock import to_us
    from bridge.ledger.crypto import Crypto

    bubble = shown.bubbles[0]
    place = (glance.location or {}).get("id")
    try:
        with opened(settings) as store, store.read() as connection:
            if not primed(connection, settings, subject.ehr):
                subject.notes.append(
                    f"{subject.ehr} is not primed: its events come to no message until `bridge prime` has run"
                )
            return standing(
                connection,
                settings,
                Crypto(settings.security.data_keys, settings.security.index_key),
                glance.chosen,
                ehr=subject.ehr,
                purpose=rule.consent.purpose,
                template_name=bubble.template or "",
                language=bubble.template_language or "",
                quiet=rule.delivery.quiet_hours == "respect",
                place=f"Location/{place}" if place else None,
                business=to_us(subject.context.now),
                machine=store.now(connection),
            )
    except StoreMissing:
        return None
