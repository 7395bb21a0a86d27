"""A mapping as it lies in its file or is being typed: checked, laid open on one of its examples, compared with what runs.

The page shows only what the site wrote itself: mappings, and the fixtures beside them. Source: mapping-language.md D.6
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from bridge.engine.compose import topics_text
from bridge.engine.site import Site
from bridge.errors import Refused, UnreadableResource
from bridge.mappers.checks import check_together
from bridge.mappers.document import Problem, load_document, renamed
from bridge.mappers.events import RESOURCES
from bridge.mappers.examples import context_of, run_examples
from bridge.mappers.mapping import Mapping as Rule
from bridge.mappers.mapping import MappingSet, load_mappings
from bridge.mappers.preview import Preview, preview
from bridge.mappers.render import Context

LONGEST_FIXTURE = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """One text of a mapping, and what is said of it."""

    text: str
    rule: Rule | None  # None: it is refused
    problems: tuple[Problem, ...]
    running: Rule | None  # what the engine holds in the place of this file

    @property
    def version(self) -> str:
        return version_of(self.text)

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def runs(self) -> bool:
        """The engine holds exactly this."""
        return self.running is not None and self.running.version == self.version

    @property
    def diff(self) -> tuple[tuple[str, str], ...]:
        """From the running text to this one: ("add", "+id: x")…; empty when they are equal."""
        before = self.running.document.text.splitlines() if self.running is not None else []
        lines = list(difflib.unified_diff(before, self.text.splitlines(), lineterm="", n=2))[2:]
        kinds = {"+": "add", "-": "del", "@": "at"}
        return tuple((kinds.get(line[:1], ""), line) for line in lines)

    @property
    def examples(self) -> Sequence[Mapping[str, Any]]:
        return self.rule.document.data.get("examples", ()) if self.rule is not None else ()


def version_of(text: str) -> str:
    """As a loaded mapping has it."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Drafts:
    """The mappings of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def folder(self) -> Path:
        return self._site.settings.part("mappings")

    @property
    def editable(self) -> bool:
        """Saving is on, and the mappings are the site's own: those we ship are never written to."""
        settings = self._site.settings
        return settings.console.edit and self.folder.parent == settings.config_dir

    def files(self) -> dict[str, Path]:
        """Name -> file, for every mapping there is. Names are looked up here and never made into a path."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.yaml")):
            data: Any = None
            with suppress(OSError, UnicodeDecodeError, Refused):
                data = load_document(path.read_text("utf-8"), str(path)).data
            name = data.get("id") if isinstance(data, dict) else None
            name = name if isinstance(name, str) and name and "/" not in name and name not in found else path.stem
            found[name if name not in found else path.name] = path
        return found

    def read(self, path: Path) -> Draft:
        """As it lies on disk."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = Problem(path.name, 1, 1, "BR007", f"cannot be read: {type(error).__name__}", "")
            return Draft("", None, (problem,), self._running(path, None))
        return self.check(path, text)

    def check(self, path: Path, text: str) -> Draft:
        """What `bridge check` would say of this text in this file, the other files being as they run."""
        held, running = self._running(path, None), self._site.content.mappings
        if held is not None and held.version == version_of(text):
            problems = [each for each in running.warnings if each.file == str(path)]
            problems += self._examples(MappingSet((held,), running.site_languages))
            return Draft(text, held, tuple(renamed(problems, path.name)), held)
        settings = self._site.settings
        problems = []
        rule: Rule | None = None
        try:
            loaded = load_mappings(
                [load_document(text, str(path))],
                self._site.content.catalogue,
                settings.site.languages,
                fhir_versions=settings.fhir_versions,
            )
        except Refused as refused:
            problems += refused.problems
        else:
            rule = loaded.mappings[0]
            beside = check_together([*(each for each in running.mappings if each.file != str(path)), rule])
            problems += [*loaded.warnings, *(each for each in beside if each.file == str(path))]
            problems += self._examples(loaded)
        problems.sort(key=lambda each: (each.line, each.column))
        return Draft(text, rule, tuple(renamed(problems, path.name)), self._running(path, rule))

    def lay_open(self, rule: Rule, example: Mapping[str, Any]) -> Preview | str:
        """The mapping on one of its examples, in every language of the site; or why it cannot be shown."""
        settings = self._site.settings
        try:
            context = context_of(
                self._fixture(example["given"]),
                at=example.get("at"),
                lang=example.get("lang"),
                zone=settings.site.zone,
                site_languages=settings.site.languages,
                site_policy=settings.site.policy,
                offset=rule.remind.before[-1] if rule.remind is not None else None,
            )
        except OSError:
            return f"there is no fixture {example.get('given')} beside the mapping"
        except (KeyError, ValueError, TypeError, IndexError, AttributeError):
            return "the example has no time with its offset, or its fixture is not a Bundle that bridge can read"
        if context.resource.get("resourceType") != rule.resource_type:
            return f"{rule.id} is about {rule.resource_type}, and the fixture begins with another resource"
        if context.now.tzinfo is None:
            context = replace(context, now=context.now.replace(tzinfo=UTC))
        first = context.language
        languages = [first, *(each for each in settings.site.languages if each != first)]
        return preview(rule, [self._in(context, each) for each in languages])

    def save(self, path: Path, text: str) -> None:
        """Whole or not at all; the reload takes it from there. Raises: OSError."""
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".saving", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(path.stat().st_mode & 0o777)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    # --- small things --------------------------------------------------------------------------------------------------

    def _running(self, path: Path, rule: Rule | None) -> Rule | None:
        held = self._site.content.mappings
        own = next((each for each in held.mappings if each.file == str(path)), None)
        return own or (held.get(rule.id) if rule is not None else None)

    def _examples(self, loaded: MappingSet) -> list[Problem]:
        site = self._site.settings.site
        return run_examples(loaded, self._fixture, zone=site.zone, site_policy=site.policy)

    def _fixture(self, name: str) -> Mapping[str, Any]:
        """Beside the mappings only: what is typed into a page names no other file of this machine."""
        folder = self.folder.resolve()
        file = (folder / name).resolve()
        if folder not in file.parents or file.suffix != ".json" or not file.is_file():
            raise FileNotFoundError(name)
        if file.stat().st_size > LONGEST_FIXTURE:
            raise ValueError("too large for a fixture")
        found: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        return found

    def _in(self, context: Context, language: str) -> Context:
        told = replace(context, language=language)
        if context.resource.get("resourceType") != "Consent":
            return told
        try:
            made = RESOURCES["Consent"].project(context.resource, "R4", recognise=self._site.settings.consent.recognise)
        except UnreadableResource:
            return told
        return replace(told, consent_topics=topics_text(tuple(made.purposes), language)) if made.purposes else told
