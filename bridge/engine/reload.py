"""A changed mapping, template, reply or word takes effect without a restart: checked whole and swapped in at once, or not.

Files are looked at every 2 s. What is refused changes nothing: the content that runs stays, and the reason stands in the
log, in the audit and in `/readyz` until it is mended. A message keeps the version of the mapping that made it.
bridge.yaml itself is read at the start only; that it has changed is said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bridge.engine.content import load_content
from bridge.engine.site import Content, Site
from bridge.errors import Refused
from bridge.mappers.document import Problem
from bridge.mappers.examples import run_examples
from bridge.outbound.lint import lint_all
from bridge.settings import Settings

log = logging.getLogger(__name__)

POLL = 2.0  # seconds between two looks
SETTLED = 0.25  # seconds in which nothing changes: an editor, or a copy of many files, is done
PARTS = ("mappings", "templates", "replies", "words.yaml")
CONTENT_NOTICE, SETTINGS_NOTICE = "content", "settings"

Stamps = Mapping[Path, tuple[int, int]]  # file -> modification time in ns, size


class Reloader:
    """Watches the content of one site. `swapped` is called with the new version, for who stamps rows with it."""

    def __init__(self, site: Site, swapped: Callable[[str], None]) -> None:
        self._site = site
        self._swapped = swapped
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._settings_file = site.settings.config_dir / "bridge.yaml"
        self._seen = self._stamps()
        self._settings_seen = _stamp(self._settings_file)
        self._started_with = self._digest()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After `site.stopping` is set."""
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._site.stopping.wait(POLL):
            try:
                self.look()
            except Exception as exc:  # a watcher that dies would say nothing ever again
                log.warning("the configuration could not be looked at", extra={"error": type(exc).__name__})

    def look(self) -> bool:
        """Whether the content was swapped: something has changed, is at rest, and is good."""
        self._look_at_settings()
        found = self._stamps()
        if found == self._seen:
            return False
        while not self._site.stopping.wait(SETTLED):
            again = self._stamps()
            if again == found:
                break
            found = again
        if self._site.stopping.is_set():
            return False
        try:
            content = self._load()
        except Refused as exc:
            self._seen = found
            self._refuse(next((each for each in exc.problems if each.severity == "error"), None))
            return False
        if self._stamps() != found:
            return False  # it changed while it was read: the next look reads it again
        self._seen = found
        self._swap(content)
        return True

    # --- loading -----------------------------------------------------------------------------------------------------

    def _load(self) -> Content:
        """Everything that `bridge check` looks at in these files. Raises: Refused."""
        settings = self._site.settings
        problems = [
            _gone(path, "is not there any more") for path in map(settings.part, PARTS) if self._was_own(path, settings)
        ]
        if problems:
            raise Refused(problems)
        try:
            content = load_content(settings)
            digest = self._digest()
        except (OSError, UnicodeDecodeError) as exc:
            raise Refused([_gone(settings.config_dir, f"cannot be read ({type(exc).__name__})")]) from None
        if not content.mappings.mappings and self._site.content.mappings.mappings:
            raise Refused([_gone(settings.part("mappings"), "holds no mapping any more; restart if that is meant")])
        problems = lint_all(content.catalogue) + run_examples(
            content.mappings, self._fixture, zone=settings.site.zone, site_policy=settings.site.policy
        )
        if any(problem.severity == "error" for problem in problems):
            raise Refused(problems)
        return replace(content, version=self._version(digest))

    def _was_own(self, path: Path, settings: Settings) -> bool:
        """The site's own part was moved away: what we ship is no stand-in for it."""
        own = settings.config_dir / path.name
        return path != own and any(seen == own or own in seen.parents for seen in self._seen)

    def _fixture(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self._site.settings.part("mappings") / name).read_text("utf-8"))
        return found

    def _version(self, digest: str) -> str:
        """12 hex digits; those of the start when everything is as it was then."""
        begun = self._site.settings.version
        return begun if digest == self._started_with else hashlib.sha256(f"{begun}{digest}".encode()).hexdigest()[:12]

    # --- the files -----------------------------------------------------------------------------------------------------

    def _files(self) -> Iterator[Path]:
        for part in map(self._site.settings.part, PARTS):
            if part.is_file():
                yield part
            else:
                yield from sorted(each for each in part.rglob("*") if each.suffix in {".yaml", ".json"})

    def _stamps(self) -> Stamps:
        return {file: stamp for file in self._files() if (stamp := _stamp(file)) is not None}

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for file in self._files():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()

    # --- what came of it -----------------------------------------------------------------------------------------------

    def _swap(self, content: Content) -> None:
        site = self._site
        old, site.content = site.content.version, content
        self._swapped(content.version)
        site.notices.pop(CONTENT_NOTICE, None)
        log.info("configuration swapped in", extra={"config_version": content.version, "before": old})

    def _refuse(self, problem: Problem | None) -> None:
        site = self._site
        where = f"{problem.file}:{problem.line}:{problem.column}" if problem is not None else "?"
        code = problem.code if problem is not None else ""
        told = problem.message if problem is not None else ""
        site.notices[CONTENT_NOTICE] = (
            f"a changed configuration is refused, the one before it runs on (version {site.content.version}): "
            f"{where}: {code} {told}; `bridge check` shows all of it"
        )
        log.error("a changed configuration is refused, the old one runs on", extra={"at": where, "code": code})
        try:
            with site.store.write() as connection:
                site.alarm(connection, "config", "a changed configuration is refused", at=where, code=code)
        except SQLAlchemyError as error:
            log.warning("the alarm could not be recorded", extra={"error": type(error).__name__})

    def _look_at_settings(self) -> None:
        found = _stamp(self._settings_file)
        if found == self._settings_seen:
            return
        self._settings_seen = found
        self._site.notices[SETTINGS_NOTICE] = f"{self._settings_file} has changed: restart bridge to apply it"
        log.warning("bridge.yaml has changed: restart to apply it")


def _gone(path: Path, what: str) -> Problem:
    return Problem(str(path), 1, 1, "BR007", what, "")


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
