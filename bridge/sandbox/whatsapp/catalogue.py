"""The templates this pretend account has had approved, read from the site's own `config/templates/*.yaml`.

Read tolerantly and without `bridge.mappers`: if engine and sandbox shared the reader, they would share its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

HOLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
DEFAULT_CODES = {"pt": "pt_BR"}  # a site's language -> WhatsApp's code, where the file does not say


@dataclass(slots=True)
class Template:
    name: str
    category: str = "UTILITY"
    status: str = "APPROVED"  # APPROVED | PAUSED | DISABLED | REJECTED | PENDING
    named: bool = True
    bodies: dict[str, str] = field(default_factory=dict)  # by WhatsApp code: {"pt_BR": "Olá, {{patient_name}}. …"}
    buttons: dict[str, list[str]] = field(default_factory=dict)  # titles by WhatsApp code, in order of their index
    samples: dict[str, str] = field(default_factory=dict)
    header: str = ""  # "", "text", "image", "video", "document", "location"
    headers: dict[str, str] = field(default_factory=dict)  # texts above the body by WhatsApp code

    def header_holes(self, language: str) -> list[str]:
        """The variables of one language's header: none or one."""
        return list(dict.fromkeys(HOLE.findall(self.headers.get(language, ""))))

    def holes(self, language: str) -> list[str]:
        """The variables of one language's body, each once, in order: of {{1}}, {{2}} that of their numbers."""
        found = list(dict.fromkeys(HOLE.findall(self.bodies[language])))
        return found if self.named else sorted(found, key=int)

    def fill(self, language: str, values: Mapping[str, str]) -> str:
        return HOLE.sub(lambda hole: values.get(hole.group(1), hole.group(0)), self.bodies[language])

    def listing(self, language: str, number: int) -> dict[str, Any]:
        """The template as GET /{WABA}/message_templates shows it."""
        components: list[dict[str, Any]] = [{"type": "BODY", "text": self.bodies[language]}]
        if self.samples and not self.named:
            components[0]["example"] = {"body_text": [list(self.samples.values())]}
        elif self.samples:
            examples = [
                {"param_name": name, "example": self.samples[name]}
                for name in self.holes(language)
                if name in self.samples
            ]
            components[0]["example"] = {"body_text_named_params": examples}
        if titles := self.buttons.get(language):
            components.append(
                {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": title} for title in titles]}
            )
        if self.header:
            text = {"text": self.headers[language]} if self.header == "text" else {}
            components.insert(0, {"type": "HEADER", "format": self.header.upper()} | text)
        return {"name": self.name, "parameter_format": "NAMED" if self.named else "POSITIONAL", "components": components,
                "language": language, "status": self.status, "category": self.category, "id": str(number)}  # fmt: skip


class Catalogue:
    """Approved templates by name."""

    def __init__(self) -> None:
        self.templates: dict[str, Template] = {}

    def load(self, folder: Path) -> None:
        """Read every template file of a folder; `buttons.yaml` there holds the titles of button ids by language."""
        yaml = YAML(typ="safe", pure=True)
        titles_file = folder / "buttons.yaml"
        titles = yaml.load(titles_file.read_text("utf-8")) if titles_file.exists() else {}
        for path in sorted(folder.glob("*.yaml")):
            if path.name == "buttons.yaml":
                continue
            loaded = yaml.load(path.read_text("utf-8"))
            for item in loaded if isinstance(loaded, list) else [loaded]:
                if isinstance(item, dict) and "name" in item:
                    self.add(_template(item, titles or {}))

    def add(self, template: Template) -> None:
        self.templates[template.name] = template

    def add_json(self, item: Mapping[str, Any], titles: Mapping[str, Any] | None = None) -> None:
        """The same format as a file's, through the control API."""
        self.add(_template(dict(item), titles or {}))


def _template(item: dict[str, Any], titles: Mapping[str, Any]) -> Template:
    languages = item.get("languages") or {code: item[code] for code in ("es", "en", "pt") if code in item}
    template = Template(
        name=str(item["name"]),
        category=str(item.get("category", "utility")).upper(),
        status=str(item.get("status", "APPROVED")).upper(),
        named=str(item.get("parameter_format", "named")).lower() == "named",
    )
    params = item.get("params") or {}
    template.samples = {str(name): str(value) for name, value in params.items()} if isinstance(params, dict) else {}
    header = item.get("header") or {}
    template.header = str(header.get("kind", ""))
    places = {str(name): str(place) for place, name in enumerate(params, start=1)}
    for language, value in languages.items():
        spec = value if isinstance(value, dict) else {"body": value}
        code = str(spec.get("whatsapp") or DEFAULT_CODES.get(language, language))
        template.bodies[code] = str(spec["body"]).rstrip("\n")
        if template.header == "text":
            template.headers[code] = str(spec.get("header", ""))
        if not template.named:  # as Meta holds them: by their place
            template.bodies[code] = HOLE.sub(
                lambda hole: f"{{{{{places.get(hole.group(1), hole.group(1))}}}}}", template.bodies[code]
            )
            template.headers = {key: HOLE.sub("{{1}}", text) for key, text in template.headers.items()}
        own = spec.get("buttons")
        template.buttons[code] = [
            _title(own[at] if own else button, titles, language) for at, button in enumerate(item.get("buttons") or [])
        ]
    return template


def _title(button: Any, titles: Mapping[str, Any], language: str) -> str:
    """A button is an id with its titles in `buttons.yaml`, a mapping with its own, or plain text."""
    if isinstance(button, dict):
        if "title" not in button and "text" not in button and "id" in button:
            return _title(button["id"], titles, language)
        text = button.get("title") or button.get("text") or button
        return str(text.get(language, next(iter(text.values())))) if isinstance(text, dict) else str(text)
    held = titles.get(str(button))
    if isinstance(held, dict):
        return str(held.get(language) or next(iter(held.values())))
    return str(held or button)
