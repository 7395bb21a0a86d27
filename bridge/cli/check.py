"""`bridge check`: everything that would stop a start, or send a wrong word, found before either; all of it in one run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import available_timezones

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, REFUSED, ConfigOption, JsonOption
from bridge.cli.formats import github, sarif
from bridge.errors import Refused
from bridge.mappers.document import Document, Problem, load_document
from bridge.settings import POLICY, content_path, load_settings

SECRETS = {"BR031", "BR032"}  # a secret that is not there
DEPENDENT = {"BR040", "BR041", "BR042", "BR045"}  # what a mapping says of a template; void where templates are refused
NO_TITLE = "BR048"  # void where the file of titles is refused
T = TypeVar("T")


class Form(StrEnum):
    """How the problems are printed."""

    text = "text"
    json = "json"
    github = "github"
    sarif = "sarif"


@dataclass(slots=True)
class Report:
    """What was looked at and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # "mappings" -> files

    @property
    def good(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    def keep(self, load: Callable[[], T]) -> T | None:
        """The result, or None with its problems kept."""
        try:
            return load()
        except Refused as exc:
            self.problems.extend(exc.problems)
            return None


def check(
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    form: Annotated[
        Form, typer.Option("--format", help="For people, machines, GitHub's annotations, or code scanning.")
    ] = Form.text,
    secrets: Annotated[
        bool, typer.Option(help="Whether a missing secret is an error; --no-secrets for a build server.")
    ] = True,
) -> None:
    """Check config, mappings, templates and replies; all problems at once."""
    report = look(config, os.environ)
    if not secrets:
        report.problems = [problem for problem in report.problems if problem.code not in SECRETS]
    if form is Form.github:
        print(github(report.problems, Path.cwd()), end="")
        print(_summary(config, report))
    elif form is Form.sarif:
        print(sarif(report.problems, Path.cwd()), end="")
    elif as_json or form is Form.json:
        found = [problem.as_json() for problem in report.problems]
        print(
            json.dumps({"ok": report.good, "checked": report.counts, "problems": found}, ensure_ascii=False, indent=1)
        )
    else:
        for problem in report.problems:
            print(problem)
        print(_summary(config, report))
    raise typer.Exit(DONE if report.good else REFUSED)


def look(config: Path, environ: Mapping[str, str]) -> Report:
    """Read and check the whole configuration; a part that is refused does not hide the problems of another."""
    from bridge.inbound.replies import load_replies
    from bridge.inbound.words import load_words

    report = Report()
    report.keep(lambda: load_settings(config, environ))
    site = _of_site(config)
    _look_at_messages(report, config, site)
    replies = _documents(report, config, "replies")
    report.keep(lambda: load_replies(replies, site.languages))
    for doc in _documents(report, config, "words.yaml"):
        report.keep(lambda doc=doc: load_words(doc))  # type: ignore[misc]
    return report


def _look_at_messages(report: Report, config: Path, site: _Site) -> None:
    """Templates and mappings. What follows from a refused template is not reported again at each mapping."""
    from bridge.mappers.examples import run_examples
    from bridge.mappers.mapping import load_mappings
    from bridge.mappers.templates import BUTTONS_FILE, load_templates
    from bridge.outbound.lint import lint_all

    templates = _documents(report, config, "templates")
    about_templates = Report()
    catalogue = about_templates.keep(lambda: load_templates(templates))
    titled = any(doc.path.endswith(BUTTONS_FILE) for doc in templates)
    titles = content_path(config.parent, "templates") / BUTTONS_FILE
    report.problems += [
        each for each in about_templates.problems if titled or not titles.exists() or each.code != NO_TITLE
    ]
    mappings = _documents(report, config, "mappings")
    if catalogue is None:
        about = Report()
        nothing = load_templates([])
        about.keep(lambda: load_mappings(mappings, nothing, site.languages, fhir_versions=site.fhir_versions))
        report.problems += [problem for problem in about.problems if problem.code not in DEPENDENT]
        return
    known = catalogue
    report.problems += lint_all(known)
    loaded = report.keep(lambda: load_mappings(mappings, known, site.languages, fhir_versions=site.fhir_versions))
    if loaded is not None:
        report.problems += loaded.warnings
        folder = content_path(config.parent, "mappings")
        read = lambda name: json.loads((folder / name).read_text("utf-8"))  # noqa: E731
        report.problems += run_examples(loaded, read, zone=site.zone, site_policy=site.policy)


@dataclass(frozen=True)
class _Site:
    """What mappings are checked against, as far as it can be read beside a refused config."""

    languages: tuple[str, ...] = ("es", "en", "pt")
    zone: str = "UTC"
    policy: Mapping[str, Any] = field(default_factory=dict)
    fhir_versions: tuple[str, ...] = ("R4",)


def _of_site(config: Path) -> _Site:
    try:
        data = load_document(config.read_text("utf-8"), str(config)).data
    except (OSError, UnicodeDecodeError, Refused):
        return _Site()
    site, ehrs = _mapping(data, "site"), _mapping(data, "ehrs")
    languages, zone = site.get("languages"), site.get("zone")
    named = [ehr.get("fhir_version", "R4") for ehr in ehrs.values() if isinstance(ehr, dict)]
    return _Site(
        languages=tuple(map(str, languages)) if isinstance(languages, list) and languages else _Site.languages,
        zone=zone if isinstance(zone, str) and zone in available_timezones() else _Site.zone,
        policy=POLICY | _mapping(site, "policy"),
        fhir_versions=tuple(dict.fromkeys(("R4", *(each for each in named if each in {"R4B", "R5"})))),
    )


def _mapping(data: Any, key: str) -> dict[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _documents(report: Report, config: Path, part: str) -> list[Document]:
    """The YAML files of one part; what cannot be read goes into the report."""
    place = content_path(config.parent, part)
    files = [place] if place.is_file() else sorted(place.glob("*.yaml"))
    report.counts[part.removesuffix(".yaml")] = len(files)
    docs = []
    for file in files:
        doc = report.keep(lambda file=file: load_document(_text(file), str(file)))  # type: ignore[misc]
        docs += [doc] if doc else []
    return docs


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        problem = Problem(str(file), 1, 1, "BR007", f"cannot be read: {type(exc).__name__}", "")
        raise Refused([problem]) from None


def _summary(config: Path, report: Report) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in report.counts.items() if name != "words")
    told = counted(report.problems)
    if not report.good:
        told += "; `bridge explain CODE` says more"
    return f"{config}: {told} ({parts})"


def counted(problems: Sequence[Problem]) -> str:
    """`1 error, 2 warnings`, or `good`."""
    errors = sum(problem.severity == "error" for problem in problems)
    return f"{_count(errors, 'error')}, {_count(len(problems) - errors, 'warning')}" if problems else "good"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
