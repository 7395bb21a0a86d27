"""`bridge why PATIENT [--day]`: which messages this patient got or did not get, and the reason for each, in sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, NOTHING_SENT, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import looking
from bridge.console.reasons import NOTHING
from bridge.console.why import Answer, Window, authors_of, why
from bridge.errors import Refused
from bridge.ledger.clock import to_us
from bridge.ledger.crypto import Crypto
from bridge.settings import Settings

PERSON = re.compile(r"(?:(?P<ehr>[^:/]+):)?(?P<reference>(?:Patient|RelatedPerson)/[^/\s]{1,64})")
DAYS = 7  # looked back without --day; what is still to come is always told
WIDE = 110


def tell(
    patient: Annotated[
        str, typer.Argument(metavar="PATIENT", help="Patient/123, or main:Patient/123 with several EHRs.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    day: Annotated[
        str | None, typer.Option("--day", help="One day, 2026-11-24; else the last 7 and what is to come.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Which messages a patient got or did not get, and why."""
    found = PERSON.fullmatch(patient)
    if found is None:
        typer.echo("give the patient as the EHR names them: Patient/123, or main:Patient/123", err=True)
        raise typer.Exit(REFUSED)
    with looking(config) as (settings, store):
        ehrs = [found["ehr"]] if found["ehr"] else list(settings.ehrs)
        if not set(ehrs) <= set(settings.ehrs):
            typer.echo(f"there is no EHR of that name: {', '.join(settings.ehrs)}", err=True)
            raise typer.Exit(REFUSED)
        window = _window(day, settings.site.zone)
        crypto = Crypto(settings.security.data_keys, settings.security.index_key)
        authors = _authors(settings)
        with store.read() as connection:
            answers = [
                why(connection, crypto, ehr, found["reference"], window, zone=settings.site.zone, authors=authors)
                for ehr in ehrs
            ]
    told = [each for each in answers if each.known] or answers[:1]
    if as_json:
        print(json.dumps([each.to_json() for each in told], ensure_ascii=False, indent=1))
    else:
        for answer in told:
            for line in lines(answer, day):
                print(line)
    raise typer.Exit(DONE if any(each.known for each in told) else NOTHING_SENT)


def lines(answer: Answer, day: str | None) -> Iterator[str]:
    """As a terminal shows it. `day` is only repeated."""
    when = f"on {day}" if day else f"in the last {DAYS} days, and to come"
    yield f"{answer.patient} in {answer.ehr}, {when}"
    for item in answer.standing:
        yield fill(f"! {item.happened} → {item.todo}", WIDE, subsequent_indent="  ")
    if not answer.known:
        yield fill(
            "  bridge has never heard of this person: no push of the EHR named them. → Look whether the EHR's Subscription "
            "covers the visit, and whether pushes arrive at all: `bridge tail`.",
            WIDE, subsequent_indent="  ",
        )  # fmt: skip
    elif not answer.chapters:
        yield fill(
            "  Nothing happened for this person: no push, no message, no reply. → If the EHR shows a change in that time, "
            "its push did not arrive: look at the Subscription at the EHR and at `bridge tail`.",
            WIDE, subsequent_indent="  ",
        )  # fmt: skip
    if answer.more:
        yield "  (older ones are left out: ask for a day with --day)"
    for chapter in answer.chapters:
        yield ""
        yield f"{chapter.at}  {chapter.title}  ({chapter.event})"
        for item in chapter.items:
            mark = {True: "✓", False: "✗", None: "·"}[item.got]
            todo = f" → {item.todo}" if item.todo != NOTHING else ""
            yield fill(f"  {mark} {item.happened}{todo} ({item.id})", WIDE, subsequent_indent="    ")


def _window(day: str | None, zone: str) -> Window:
    """A day of the site's calendar; without one, from a week ago on."""
    if day is None:
        return Window(to_us(datetime.now(UTC) - timedelta(days=DAYS)), 2**62)
    try:
        date = datetime.strptime(day, "%Y-%m-%d").date()  # noqa: DTZ007  a date has no zone
    except ValueError:
        typer.echo("--day: give a day such as 2026-11-24", err=True)
        raise typer.Exit(REFUSED) from None
    begin, end = (datetime.combine(each, time(), ZoneInfo(zone)) for each in (date, date + timedelta(days=1)))
    return Window(to_us(begin), to_us(end))


def _authors(settings: Settings) -> dict[str, str]:
    """The sentences of the site's mappings; none where they cannot be loaded: then reasons are quoted without a name."""
    from bridge.mappers.document import load_document
    from bridge.mappers.mapping import load_mappings
    from bridge.mappers.templates import load_templates

    def documents(folder: Path) -> list[Any]:
        return [load_document(each.read_text("utf-8"), str(each)) for each in sorted(folder.glob("*.yaml"))]

    try:
        templates = load_templates(documents(settings.part("templates")))
        found = load_mappings(
            documents(settings.part("mappings")),
            templates,
            settings.site.languages,
            fhir_versions=settings.fhir_versions,
        )
    except (Refused, OSError, UnicodeDecodeError):
        return {}
    return authors_of(found.mappings)
