"""Loading what a site writes beside its bridge.yaml: mappings, templates, replies, words; all of it or none."""

from __future__ import annotations

from pathlib import Path

from bridge.engine.site import Content
from bridge.inbound.replies import load_replies
from bridge.inbound.words import load_words
from bridge.mappers.document import Document, load_document
from bridge.mappers.mapping import load_mappings
from bridge.mappers.templates import load_templates
from bridge.settings import Settings


def load_content(settings: Settings) -> Content:
    """Raises: Refused, with every problem of the part that is wrong first."""
    catalogue = load_templates(_documents(settings.part("templates")))
    languages = settings.site.languages
    return Content(
        mappings=load_mappings(
            _documents(settings.part("mappings")), catalogue, languages, fhir_versions=settings.fhir_versions
        ),
        catalogue=catalogue,
        replies=load_replies(_documents(settings.part("replies")), languages),
        words=load_words(_document(settings.part("words.yaml"))),
        version=settings.version,
    )


def _documents(folder: Path) -> list[Document]:
    return [_document(path) for path in sorted(folder.glob("*.yaml"))]


def _document(path: Path) -> Document:
    return load_document(path.read_text(encoding="utf-8"), str(path))
