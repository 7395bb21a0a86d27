"""What `bridge preview` is tried on: an example, a file, a resource of an EHR, or a stored event; and for whom."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from bridge.cli import REFUSED
from bridge.cli.check import _of_site
from bridge.errors import BridgeError, EngineNotRunning, Refused
from bridge.mappers.mapping import Mapping as Rule
from bridge.settings import Settings, load_settings

if TYPE_CHECKING:
    from bridge.engine.glance import Glance
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


# --- what it is tried on -----------------------------------------------------------------------------------------------


def subject_of(
    rule: Rule,
    config: Path,
    settings: Settings | None,
    what: str | None,
    ehr: str | None,
    moment: datetime | None,
    example: str | None,
    offset: str | None,
    patient: str | None,
) -> Subject:
    offset = offset or (rule.remind.before[-1] if rule.remind is not None else None)
    if what is not None and what.startswith("evt_"):
        return _of_event(rule, config, settings, what, moment, offset, patient)
    if what is not None and not Path(what).exists() and _is_reference(what):
        known = _needed(settings, config)
        if ehr is None and len(known.ehrs) == 1:
            ehr = next(iter(known.ehrs))
        if ehr is None or ehr not in known.ehrs:
            stop(f"--ehr: one of {', '.join(known.ehrs)}")
        return _live(rule, config, known, ehr, what, moment, offset, patient)
    return _of_file(rule, config, settings, what, ehr, moment, example, offset, patient)


def _of_file(
    rule: Rule,
    config: Path,
    settings: Settings | None,
    what: str | None,
    ehr: str | None,
    moment: datetime | None,
    name: str | None,
    offset: str | None,
    patient: str | None,
) -> Subject:
    from bridge.mappers.examples import context_of

    site = _of_site(config)
    examples: Sequence[Mapping[str, Any]] = rule.document.data.get("examples", ())
    chosen: Mapping[str, Any] = {}
    if what is None:
        chosen = next((each for each in examples if name in (None, each.get("name"))), {})
        if not chosen:
            stop(f"{rule.id} has no such example: give a file, --ehr with Type/id, or evt_…")
        file = Path(rule.file).parent / chosen["given"]
    else:
        file = Path(what)
    try:
        bundle = _only(_bundle(json.loads(file.read_text("utf-8"))), patient)
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
        stop(f"{file}: cannot be read ({type(error).__name__})")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        stop(f"{file}: neither a FHIR resource nor a Bundle that begins with the event's resource")
    _right_kind(rule, context.resource)
    _takes_part(context.resource, patient)
    if context.now.tzinfo is None:
        context = replace(context, now=context.now.replace(tzinfo=UTC))
    subject = Subject(context, _topics(settings, context.resource))
    if ehr is not None:
        known = _needed(settings, config)
        if ehr not in known.ehrs:
            stop(f"--ehr: one of {', '.join(known.ehrs)}")
        beside = {f"{each['resourceType']}/{each.get('id')}": each for each in (e["resource"] for e in bundle["entry"])}
        from bridge.engine.glance import look

        subject.ehr = ehr
        subject.glance = look(
            None, known, context.resource, who=rule.recipient, now=context.now, included=beside, patient=patient
        )
        subject.notes = subject.glance.notes
    return subject


def _live(
    rule: Rule,
    config: Path,
    settings: Settings,
    ehr: str,
    reference: str,
    moment: datetime | None,
    offset: str | None,
    patient: str | None,
) -> Subject:
    from bridge.fhir.client import EhrClient, Resource

    answer = EhrClient(settings.ehrs[ehr]).read(reference)
    if not isinstance(answer, Resource):
        stop(f"{ehr} does not have {reference}")
    return _as_read(rule, config, settings, ehr, answer.resource, {}, None, moment, offset, patient)


def _of_event(
    rule: Rule,
    config: Path,
    settings: Settings | None,
    name: str,
    moment: datetime | None,
    offset: str | None,
    patient: str | None,
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
            stop(f"there is no {name} of an EHR")
        previous = told_before(
            connection, Crypto(known.security.data_keys, known.security.index_key), row, rule.resource_type
        )
    revealed = changing(config, "reveal", name=name)["event"]
    ehr = held.source[4:]
    try:
        piece = parse_piece(revealed.encode())
    except (ValueError, TypeError):
        stop(f"{name} was emptied by retention: preview the resource itself, --ehr {ehr} Type/id")
    if piece.reference is None:
        stop(f"{name} names no resource: {piece.reason or 'it asked for a search'}")
    if piece.resource is None:  # it said only that something changed: as the EHR has it now
        found = _live(rule, config, known, ehr, piece.reference, moment, offset, patient)
        found.notes.append(f"{name} carried no resource: this is {piece.reference} as the EHR has it now")
    else:
        found = _as_read(rule, config, known, ehr, piece.resource, piece.included, previous, moment, offset, patient)
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
    patient: str | None,
) -> Subject:
    from bridge.engine.glance import in_context, look
    from bridge.fhir.client import EhrClient

    _right_kind(rule, resource)
    _takes_part(resource, patient)
    now = moment or _engines_now(config)
    client = EhrClient(settings.ehrs[ehr]) if settings.ehrs[ehr].base_url else None
    glance = look(client, settings, resource, who=rule.recipient, now=now, included=included, patient=patient)
    context, refusal = in_context(glance, settings, ehr=ehr, now=now, previous=previous, offset=offset)
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


# --- small things ------------------------------------------------------------------------------------------------------


def settings_of(config: Path) -> Settings | None:
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


def moment_of(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        stop("--at: give a time such as 2026-11-24T10:00+01:00")
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _is_reference(what: str) -> bool:
    kind, _, identity = what.partition("/")
    return kind.isalpha() and kind[:1].isupper() and bool(identity) and "/" not in identity and "." not in kind


def _bundle(data: Any) -> Mapping[str, Any]:
    """A Bundle as it is; a single resource as a Bundle of one."""
    return data if data.get("resourceType") == "Bundle" else {"entry": [{"resource": data}]}


def _takes_part(resource: Mapping[str, Any], patient: str | None) -> None:
    from bridge.engine.glance import patients_of

    if patient is not None and patient not in (known := patients_of(resource)):
        stop(f"--patient: {patient} is not in it; it is about {', '.join(known) or 'nobody'}")


def _only(bundle: Mapping[str, Any], patient: str | None) -> Mapping[str, Any]:
    """Of the Patients in a Bundle the one asked for."""
    if patient is None:
        return bundle
    entries = bundle["entry"]
    kept = [each for each in entries if each["resource"].get("resourceType") != "Patient"]
    own = [each for each in entries if f"Patient/{each['resource'].get('id')}" == patient and each not in kept]
    return {**bundle, "entry": [*kept[:1], *own, *kept[1:]]}


def _right_kind(rule: Rule, resource: Mapping[str, Any]) -> None:
    if resource.get("resourceType") != rule.resource_type:
        stop(f"{rule.id} is about {rule.resource_type}, and this is another resource")


def stop(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(REFUSED)
