"""`bridge preview MAPPING [WHAT]`: what a mapping would say, without saying it. Never sends, never writes.

WHAT is a resource or Bundle file, a resource of an EHR (`--ehr main Appointment/123`), or a stored event (`evt_…`, which
is recorded as looked at); without it, an example of the mapping's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, NOTHING_SENT, REFUSED, ConfigOption, JsonOption
from bridge.cli.check import _of_site
from bridge.errors import BridgeError, EngineNotRunning, Refused, StoreMissing
from bridge.mappers.document import load_document
from bridge.mappers.mapping import Mapping as Rule
from bridge.settings import Settings, content_path, load_settings

if TYPE_CHECKING:
    from bridge.engine.glance import Glance
    from bridge.engine.standing import Standing
    from bridge.mappers.preview import Preview
    from bridge.mappers.render import Context


@dataclass(slots=True)
class Subject:
    """What the mapping is tried on."""

    context: Context
    topics: tuple[str, ...] = ()  # of a Consent, for %consent_topics
    refusal: str | None = None  # the engine would write to nobody
    glance: Glance | None = None
    ehr: str | None = None
    notes: list[str] = field(default_factory=list)


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
    as_json: JsonOption = False,
) -> None:
    """The bubble as the phone shows it, with every value it is made of, every condition, and what policy says now."""
    from bridge.mappers.preview import preview as lay_open

    rule = _rule(config, mapping)
    moment = _moment(at)
    settings = _settings(config)
    subject = _subject(rule, config, settings, what, ehr, moment, example, offset)
    site = _of_site(config)
    contexts = _contexts(subject, tuple(lang) if lang else site.languages)
    shown = lay_open(rule, contexts)
    now = _policy(rule, shown, subject, settings)
    if settings is not None and rule.event.startswith("diagnosticreport.") and not settings.results.enabled:
        subject.notes.append(
            "messages about results are off at this site until results.enabled is set: none would leave"
        )
    sends = shown.sends and subject.refusal is None and not shown.held and (now is None or now.verdict != "never")
    if as_json:
        whole = shown.to_json() | {
            "refusal": subject.refusal, "notes": subject.notes, "policy": asdict(now) if now is not None else None,
            "sends": sends,
        }  # fmt: skip
        print(json.dumps(whole, ensure_ascii=False, indent=1))
    else:
        from bridge.cli.preview_text import lines

        for line in lines(shown, refusal=subject.refusal, notes=subject.notes, policy=now):
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
        _stop(f"there is no mapping {name}: give an id of {content_path(config.parent, 'mappings')}, or a file")
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


# --- what it is tried on -----------------------------------------------------------------------------------------------


def _subject(
    rule: Rule,
    config: Path,
    settings: Settings | None,
    what: str | None,
    ehr: str | None,
    moment: datetime | None,
    example: str | None,
    offset: str | None,
) -> Subject:
    offset = offset or (rule.remind.before[-1] if rule.remind is not None else None)
    if what is not None and what.startswith("evt_"):
        return _of_event(rule, config, settings, what, moment, offset)
    if what is not None and not Path(what).exists() and _is_reference(what):
        known = _needed(settings, config)
        if ehr is None and len(known.ehrs) == 1:
            ehr = next(iter(known.ehrs))
        if ehr is None or ehr not in known.ehrs:
            _stop(f"--ehr: one of {', '.join(known.ehrs)}")
        return _live(rule, config, known, ehr, what, moment, offset)
    return _of_file(rule, config, settings, what, ehr, moment, example, offset)


def _of_file(
    rule: Rule,
    config: Path,
    settings: Settings | None,
    what: str | None,
    ehr: str | None,
    moment: datetime | None,
    name: str | None,
    offset: str | None,
) -> Subject:
    from bridge.mappers.examples import context_of

    site = _of_site(config)
    examples: Sequence[Mapping[str, Any]] = rule.document.data.get("examples", ())
    chosen: Mapping[str, Any] = {}
    if what is None:
        chosen = next((each for each in examples if name in (None, each.get("name"))), {})
        if not chosen:
            _stop(f"{rule.id} has no such example: give a file, --ehr with Type/id, or evt_…")
        file = Path(rule.file).parent / chosen["given"]
    else:
        file = Path(what)
    try:
        bundle = _bundle(json.loads(file.read_text("utf-8")))
        context = context_of(
            bundle,
            at=moment.isoformat() if moment is not None else chosen.get("at"),
            lang=chosen.get("lang"),
            zone=site.zone,
            site_languages=site.languages,
            site_policy=site.policy,
            offset=offset,
        )
    except OSError as error:
        _stop(f"{file}: cannot be read ({type(error).__name__})")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        _stop(f"{file}: neither a FHIR resource nor a Bundle that begins with the event's resource")
    _right_kind(rule, context.resource)
    if context.now.tzinfo is None:
        context = replace(context, now=context.now.replace(tzinfo=UTC))
    subject = Subject(context, _topics(settings, context.resource))
    if ehr is not None:
        known = _needed(settings, config)
        if ehr not in known.ehrs:
            _stop(f"--ehr: one of {', '.join(known.ehrs)}")
        beside = {f"{each['resourceType']}/{each.get('id')}": each for each in (e["resource"] for e in bundle["entry"])}
        from bridge.engine.glance import look

        subject.ehr = ehr
        subject.glance = look(None, known, context.resource, who=rule.recipient, now=context.now, included=beside)
        subject.notes = subject.glance.notes
    return subject


def _live(
    rule: Rule, config: Path, settings: Settings, ehr: str, reference: str, moment: datetime | None, offset: str | None
) -> Subject:
    from bridge.fhir.client import EhrClient, Resource

    answer = EhrClient(settings.ehrs[ehr]).read(reference)
    if not isinstance(answer, Resource):
        _stop(f"{ehr} does not have {reference}")
    return _as_read(rule, config, settings, ehr, answer.resource, {}, None, moment, offset)


def _of_event(
    rule: Rule, config: Path, settings: Settings | None, name: str, moment: datetime | None, offset: str | None
) -> Subject:
    """An event as it came; that somebody looked is recorded, for it holds what the EHR sent of a patient."""
    from bridge.cli.opening import changing, number_of, opened
    from bridge.engine.recall import told_before
    from bridge.fhir.pieces import parse_piece
    from bridge.ledger.crypto import Crypto
    from bridge.ledger.tables import inbox

    known = _needed(settings, config)
    row = number_of(name, "evt")
    with opened(known) as store, store.read() as connection:
        held = connection.execute(inbox.select().where(inbox.c.id == row)).first()
        if held is None or not held.source.startswith("ehr:") or held.source[4:] not in known.ehrs:
            _stop(f"there is no {name} of an EHR")
        previous = told_before(
            connection, Crypto(known.security.data_keys, known.security.index_key), row, rule.resource_type
        )
    revealed = changing(config, "reveal", name=name)["event"]
    ehr = held.source[4:]
    try:
        piece = parse_piece(revealed.encode())
    except (ValueError, TypeError):
        _stop(f"{name} was emptied by retention: preview the resource itself, --ehr {ehr} Type/id")
    if piece.reference is None:
        _stop(f"{name} names no resource: {piece.reason or 'it asked for a search'}")
    if piece.resource is None:  # it said only that something changed: as the EHR has it now
        found = _live(rule, config, known, ehr, piece.reference, moment, offset)
        found.notes.append(f"{name} carried no resource: this is {piece.reference} as the EHR has it now")
    else:
        found = _as_read(rule, config, known, ehr, piece.resource, piece.included, previous, moment, offset)
    if previous is not None:
        found.context = replace(found.context, previous=previous)
    return found


def _as_read(
    rule: Rule,
    config: Path,
    settings: Settings,
    ehr: str,
    resource: Mapping[str, Any],
    included: Mapping[str, Mapping[str, Any]],
    previous: Mapping[str, Any] | None,
    moment: datetime | None,
    offset: str | None,
) -> Subject:
    from bridge.engine.glance import look
    from bridge.fhir.client import EhrClient
    from bridge.mappers.examples import context_of
    from bridge.mappers.recipient import Recipient, Refusal

    _right_kind(rule, resource)
    now = moment or _engines_now(config)
    client = EhrClient(settings.ehrs[ehr]) if settings.ehrs[ehr].base_url else None
    glance = look(client, settings, resource, who=rule.recipient, now=now, included=included)
    beside = (glance.patient, glance.guardian, glance.practitioner, glance.location, previous)
    zone = (glance.person.zone if glance.person and glance.location is None else None) or settings.ehrs[ehr].zone
    context = context_of(
        {"entry": [{"resource": each} for each in (resource, *beside) if each is not None]},
        at=now.isoformat(),
        zone=zone or settings.site.zone,
        site_languages=settings.site.languages,
        site_policy=settings.site.policy,
        offset=offset,
    )
    context = replace(context, fhir_version=settings.ehrs[ehr].fhir_version)
    chosen = glance.chosen
    if isinstance(chosen, Recipient) and chosen.person.language is not None:
        context = replace(context, language=chosen.person.language)
    refusal = chosen.reason if isinstance(chosen, Refusal) else None
    return Subject(context, _topics(settings, resource), refusal, glance, ehr, glance.notes)


def _topics(settings: Settings | None, resource: Mapping[str, Any]) -> tuple[str, ...]:
    """What a Consent is about, in the site's purposes."""
    if settings is None or resource.get("resourceType") != "Consent":
        return ()
    from bridge.errors import UnreadableResource
    from bridge.mappers.events import RESOURCES

    try:
        made = RESOURCES["Consent"].project(resource, "R4", recognise=settings.consent.recognise)
    except UnreadableResource:
        return ()
    return tuple(made.purposes)


def _contexts(subject: Subject, languages: Sequence[str]) -> list[Context]:
    if not subject.topics:
        return [replace(subject.context, language=each) for each in languages]
    from bridge.engine.compose import topics_text

    return [
        replace(subject.context, language=each, consent_topics=topics_text(subject.topics, each)) for each in languages
    ]


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


# --- small things ------------------------------------------------------------------------------------------------------


def _settings(config: Path) -> Settings | None:
    try:
        return load_settings(config, os.environ)
    except Refused:
        return None


def _needed(settings: Settings | None, config: Path) -> Settings:
    return settings if settings is not None else load_settings(config, os.environ)  # raises what is wrong with it


def _engines_now(config: Path) -> datetime:
    """Business time: the running engine's, for a demo pushes it."""
    from bridge.cli.opening import running

    try:
        return datetime.fromisoformat(running(config, "ping")["now"])
    except (EngineNotRunning, OSError, BridgeError):
        return datetime.now(UTC)


def _moment(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        _stop("--at: give a time such as 2026-11-24T10:00+01:00")
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _is_reference(what: str) -> bool:
    kind, _, identity = what.partition("/")
    return kind.isalpha() and kind[:1].isupper() and bool(identity) and "/" not in identity and "." not in kind


def _bundle(data: Any) -> Mapping[str, Any]:
    """A Bundle as it is; a single resource as a Bundle of one."""
    return data if data.get("resourceType") == "Bundle" else {"entry": [{"resource": data}]}


def _right_kind(rule: Rule, resource: Mapping[str, Any]) -> None:
    if resource.get("resourceType") != rule.resource_type:
        _stop(f"{rule.id} is about {rule.resource_type}, and this is another resource")


def _stop(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(REFUSED)
