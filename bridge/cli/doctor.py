"""`bridge doctor`: everything that must hold before a message can leave, each line good or with what to do and where it says how."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, FAILED, ConfigOption, JsonOption
from bridge.cli.check import SECRETS, Report, look
from bridge.console.health import Finding, Lines, guarded
from bridge.errors import Refused
from bridge.mappers.document import load_document
from bridge.mappers.templates import Catalogue, load_templates
from bridge.settings import Settings, load_settings

MARKS = {"good": "✓", "bad": "✗", "skipped": "-"}
COLOURS = {"good": "32", "bad": "31", "skipped": "2"}  # SGR: green, red, faint


def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Look at configuration, secrets, clock, store, EHR and WhatsApp; exits 4 when anything is wrong."""
    found: list[Finding] = []
    for finding in examine(config, os.environ):
        found.append(finding)
        if not as_json:
            print(_line(finding, colour=sys.stdout.isatty()), flush=True)
    wrong = sum(finding.state == "bad" for finding in found)
    if as_json:
        print(
            json.dumps({"ok": not wrong, "findings": [each.to_json() for each in found]}, ensure_ascii=False, indent=1)
        )
    else:
        print("all good" if not wrong else f"{wrong} to mend, the first one first")
    raise typer.Exit(FAILED if wrong else DONE)


def examine(config: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding as it is made, in the order in which things are mended."""
    report = look(config, environ)
    yield from configuration(config, report)
    yield from secrets(config, report)
    try:
        settings = load_settings(config, environ)
    except Refused:
        for area in ("clock", "store", "ehr", "whatsapp"):
            yield Lines(area, area).skipped("asked once configuration and secrets are good")
        return
    from bridge.console.health import ehr, machine, whatsapp

    yield from guarded(Lines("clock", "clock"), lambda: machine.clock(settings))
    yield from guarded(Lines("store", "store"), lambda: machine.store(settings))
    yield from guarded(Lines("store", "engine"), lambda: machine.engine(settings))
    yield from guarded(Lines("ehr", "public address"), lambda: machine.public(settings))
    public_url = settings.listen.public_url
    for each in settings.ehrs.values():
        yield from guarded(Lines("ehr", f"EHR {each.key}"), lambda each=each: ehr.ehr(each, public_url))  # type: ignore[misc]
    catalogue = _catalogue(settings)
    for number in settings.numbers.values():
        lines = Lines("whatsapp", f"number {number.key}")
        yield from guarded(lines, lambda number=number: whatsapp.whatsapp(number, catalogue))  # type: ignore[misc]
    for app in settings.apps.values():
        lines = Lines("whatsapp", f"app {app.key}: webhook")
        yield from guarded(lines, lambda app=app: iter([whatsapp.webhook(app, public_url)]))  # type: ignore[misc]


def configuration(config: Path, report: Report) -> Iterator[Finding]:
    """One line for each file with errors; warnings are `bridge check`'s."""
    by_file: dict[str, list[str]] = {}
    for problem in report.problems:
        if problem.severity == "error" and problem.code not in SECRETS:
            by_file.setdefault(problem.file, []).append(f"{problem.line}:{problem.column} {problem.message}")
    for file, told in by_file.items():
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        yield Lines("configuration", file).bad(told[0] + more, f"Run `bridge check --config {config}`.", "README.md")
    if not by_file:
        count = report.counts
        yield Lines("configuration", str(config)).good(
            f"{count.get('mappings', 0)} mappings, {count.get('templates', 0)} template files"
        )


def secrets(config: Path, report: Report) -> Iterator[Finding]:
    """One line for each that the config names."""
    from bridge.settings_secrets import named_secrets, origin_of

    try:
        document = load_document(config.read_text("utf-8"), str(config))
    except (OSError, UnicodeDecodeError, Refused):
        return  # told above
    missing = [problem.message for problem in report.problems if problem.code in SECRETS]
    for each in named_secrets(document):
        lines, origin = Lines("secrets", each.name), origin_of(each)
        variable = f"the environment variable {each.name} "
        file = f"the file {each.name} "
        why = next((m for m in missing if m.startswith(variable if each.kind == "env" else file)), None)
        if why is None:
            yield lines.good("is there")
        else:
            told = why.removeprefix("the environment variable ").removeprefix("the file ").removeprefix(f"{each.name} ")
            yield lines.bad(f"{told}, and `{each.key}` names it", f"Give it to bridge: {origin.told}.", origin.page)


def _catalogue(settings: Settings) -> Catalogue | None:
    try:
        files = sorted(settings.part("templates").glob("*.yaml"))
        return load_templates([load_document(file.read_text("utf-8"), str(file)) for file in files])
    except (OSError, UnicodeDecodeError, Refused):
        return None


def _line(finding: Finding, *, colour: bool) -> str:
    mark = MARKS[finding.state]
    if colour:
        mark = f"\x1b[{COLOURS[finding.state]}m{mark}\x1b[0m"
    line = f"{mark} {finding.area:<14}{finding.what}: {finding.told}"
    return line + (f"\n  {'':<14}→ {finding.remedy} ({finding.page})" if finding.remedy else "")
