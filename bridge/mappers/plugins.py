"""Formatters that a site adds: a Python package with an entry point in the group `bridge.formatters`.

    [project.entry-points."bridge.formatters"]
    "ward.short" = "hospital_words:ward_short"

    def ward_short(value: object, lang: str, zone: tzinfo, today: date) -> str: ...
    ward_short.accepts = frozenset({"string"})      # FHIR types that it takes; without it, any single plain value

A mapping then says `as: ward.short`. Names have a dot and something before it that none of ours begins with, so that none is
ever shadowed. What it returns is cleaned like any other words; what it raises is "no value", and nothing is sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from datetime import date, tzinfo
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bridge.errors import UnfitValue

log = logging.getLogger(__name__)

GROUP = "bridge.formatters"
NAME = re.compile(r"(?!date\.|time\.|datetime\.|name\.|phone\.|code\.|relative\.)[a-z][a-z0-9]*(\.[a-z][a-z0-9_]*)+")

Formatter = Callable[[Any, str, tzinfo, date], str]


def installed() -> Iterable[EntryPoint]:
    """What this Python environment offers."""
    return entry_points(group=GROUP)


def load(offered: Iterable[EntryPoint], plain: frozenset[str]) -> dict[str, tuple[Formatter, frozenset[str]]]:
    """Name -> formatter and the types it takes. What cannot be loaded is left out: a mapping that needs it is refused."""
    found: dict[str, tuple[Formatter, frozenset[str]]] = {}
    for entry in offered:
        if NAME.fullmatch(entry.name) is None:
            log.warning("a formatter's name cannot be used", extra={"formatter": entry.name})
            continue
        try:
            function = entry.load()
        except Exception as exc:  # whatever a foreign module does when it is imported
            log.warning("a formatter cannot be loaded", extra={"formatter": entry.name, "error": type(exc).__name__})
            continue
        found[entry.name] = (_guarded(entry.name, function), frozenset(getattr(function, "accepts", plain)))
    return found


def _guarded(name: str, function: Formatter) -> Formatter:
    def words(value: Any, lang: str, zone: tzinfo, today: date) -> str:
        try:
            found = function(value, lang, zone, today)
        except Exception as exc:  # its text may quote the value
            raise UnfitValue(f"{name} cannot put it into words ({type(exc).__name__})") from None
        if not isinstance(found, str):
            raise UnfitValue(f"{name} gave no text")
        return found

    return words
