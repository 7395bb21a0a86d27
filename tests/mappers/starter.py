"""The starter configuration as these tests read it, and a context of invented people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from bridge.mappers.document import Document, load_document
from bridge.mappers.examples import context_of
from bridge.mappers.mapping import MappingSet, load_mappings
from bridge.mappers.render import Context
from bridge.mappers.templates import Catalogue, load_templates

CONFIG = Path(__file__).parents[2] / "config"
LANGUAGES = ("es", "en", "pt")


def documents(folder: Path) -> list[Document]:
    return [load_document(path.read_text("utf-8"), path.name) for path in sorted(folder.glob("*.yaml"))]


@cache
def catalogue() -> Catalogue:
    return load_templates(documents(CONFIG / "templates"))


@cache
def starters() -> MappingSet:
    return load_mappings(documents(CONFIG / "mappings"), catalogue(), LANGUAGES, fhir_versions=("R4", "R4B", "R5"))


def one(text: str, name: str = "m.yaml", languages: tuple[str, ...] = LANGUAGES) -> MappingSet:
    return load_mappings([load_document(text, name)], catalogue(), languages)


def fixture(given: str) -> Mapping[str, Any]:
    bundle: Mapping[str, Any] = json.loads((CONFIG / "mappings" / given).read_text("utf-8"))
    return bundle


def context(name: str, **changes: Any) -> Context:
    """The fixture of that name, seen from Madrid in Spanish, unless changed."""
    at = changes.pop("at", "2026-11-22T10:00:00+01:00")
    found = context_of(fixture(f"fixtures/{name}.bundle.json"), at=at, site_languages=LANGUAGES)
    fields = {name: getattr(found, name) for name in Context.__dataclass_fields__} | changes
    if isinstance(fields["now"], str):
        fields["now"] = datetime.fromisoformat(fields["now"])
    return Context(**fields)
