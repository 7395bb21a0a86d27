"""`bridge templates lint`: the texts under config/templates/ before Meta sees them, beside the mappings that fill them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, REFUSED, ConfigOption, JsonOption
from bridge.mappers.document import Document, Problem
from bridge.mappers.templates import Catalogue, Template

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

BETWEEN = {"BR040", "BR041", "BR042", "BR043", "BR045", "BR049"}  # what a mapping says of a template


@app.callback()
def templates() -> None:
    """The texts that Meta approves."""


@app.command("lint")
def lint(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Meta's rules and those of the lock screen, parameters and buttons against the mappings, lengths with samples."""
    catalogue, mappings, problems = look(config)
    good = not any(problem.severity == "error" for problem in problems)
    found = [described(each, mappings) for _, each in sorted((catalogue.templates if catalogue else {}).items())]
    if as_json:
        told = {"ok": good, "templates": found, "problems": [problem.as_json() for problem in problems]}
        print(json.dumps(told, ensure_ascii=False, indent=1))
        raise typer.Exit(DONE if good else REFUSED)
    for problem in problems:
        print(problem)
    for each in found:
        for language in each["languages"]:
            size = f"{language['length']:>5} of {language['limit']} characters"
            buttons = f", buttons: {' · '.join(language['buttons'])}" if language["buttons"] else ""
            print(f"{each['name']:<28}{language['whatsapp']:<8}{size}{buttons}")
        print(f"{'':<28}sent by {', '.join(each['used_by']) or 'no mapping'}")
    errors = sum(problem.severity == "error" for problem in problems)
    print(
        f"{len(found)} templates: {'good' if not problems else f'{errors} errors, {len(problems) - errors} warnings'}"
    )
    raise typer.Exit(DONE if good else REFUSED)


def look(config: Path) -> tuple[Catalogue | None, list[Document], list[Problem]]:
    """(templates, the mappings' files, what is wrong with either's part of the other)."""
    from bridge.cli.check import Report, _documents, _of_site
    from bridge.mappers.mapping import load_mappings
    from bridge.mappers.templates import load_templates
    from bridge.outbound.lint import lint_all

    report, site = Report(), _of_site(config)
    files = _documents(report, config, "templates")
    catalogue = report.keep(lambda: load_templates(files))
    if catalogue is None:
        return None, [], report.problems
    report.problems += lint_all(catalogue)
    aside = Report()  # what is wrong with a mapping alone is `bridge check`'s
    mappings = _documents(aside, config, "mappings")
    loaded = aside.keep(lambda: load_mappings(mappings, catalogue, site.languages, fhir_versions=site.fhir_versions))
    about = [*aside.problems, *(loaded.warnings if loaded is not None else ())]
    report.problems += [problem for problem in about if problem.code in BETWEEN]
    return catalogue, mappings, report.problems


def described(template: Template, mappings: Iterable[Document]) -> dict[str, Any]:
    """A template as the phone will show it, in figures."""
    from bridge.outbound.lint import LONGEST_BODY

    languages = [
        {
            "language": language,
            "whatsapp": template.whatsapp_language[language],
            "length": len(template.fill(language, template.samples)),
            "limit": LONGEST_BODY,
            "buttons": [template.button_titles[language][button] for button in template.buttons],
        }
        for language in template.languages
    ]
    used = sorted({str(doc.data.get("id")) for doc in mappings if template.name in _sent(doc)})
    return {"name": template.name, "file": template.file, "languages": languages, "used_by": used}


def _sent(doc: Document) -> set[str]:
    """Names of the templates that a mapping's file names, good or not."""
    send = doc.data.get("send") if isinstance(doc.data, dict) else None
    parts = [send, send.get("guardian")] if isinstance(send, dict) else []
    return {str(part.get("template")) for part in parts if isinstance(part, dict)}
