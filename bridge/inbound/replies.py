"""What the engine answers by itself, in the site's words: `config/replies/<language>.yaml`.

A site may reword a reply; its id and its fields stay, since a sentence without its day, or one that asks for a field we
do not fill, is found by the patient otherwise.
Source: reference/patients.md C.7; button titles and bodies: reference/whatsapp.md §3.1
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import Refused
from bridge.inbound.words import CHOICES, base
from bridge.mappers.document import Document, Problem, check_schema, closest

MAX_TEXT = 300  # characters, filled: what reads at a glance on a small phone
MAX_TITLE = 20  # characters: WhatsApp refuses the whole message with a longer reply button

# every reply and the fields it is filled with
FIELDS: Mapping[str, frozenset[str]] = {
    "confirmed": frozenset({"day", "time"}),
    "requested": frozenset(),
    "cancelled": frozenset({"day", "time"}),
    "not_done": frozenset(),
    "changed_since": frozenset({"day", "time"}),
    "no_longer": frozenset(),
    "not_yours": frozenset(),
    "ask_cancel": frozenset({"day", "time"}),
    "kept": frozenset({"day", "time"}),
    "ask_which": frozenset(),
    "stopped": frozenset(),
    "started": frozenset(),
    "to_a_person": frozenset({"emergency"}),
    "unreadable": frozenset({"emergency"}),
    "gate_ask": frozenset(),
    "gate_ask_id": frozenset(),
    "gate_ask_guardian": frozenset(),
    "gate_ask_guardian_id": frozenset(),
    "gate_again": frozenset(),
    "gate_unclear": frozenset(),
    "gate_locked": frozenset({"emergency"}),
    "document": frozenset(),
    "document_failed": frozenset(),
    "agreed": frozenset(),
    "refused": frozenset(),
    "not_read": frozenset({"emergency"}),
}
BUTTONS = tuple(choice for choices in CHOICES.values() for choice in choices)
# as long as they get: the limit holds for what the patient reads
LONGEST = {
    "day": "quarta-feira, 25 de novembro de 2026",
    "time": "15:30 (hora de Madrid)",
    "emergency": "0800 123 456 78",
}

_TEXT = {"type": "string", "minLength": 1}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "language", "replies", "buttons"],
    "properties": {
        "version": {"const": 1},
        "language": {"type": "string", "pattern": "^[a-z]{2,3}(_[A-Z]{2})?$"},
        "replies": {
            "type": "object",
            "additionalProperties": False,
            "required": list(FIELDS),
            "properties": dict.fromkeys(FIELDS, _TEXT),
        },
        "buttons": {
            "type": "object",
            "additionalProperties": False,
            "required": list(BUTTONS),
            "properties": dict.fromkeys(BUTTONS, _TEXT),
        },
    },
}


@dataclass(frozen=True, slots=True)
class Texts:
    """One language's file."""

    replies: Mapping[str, str]  # by reply id, fields in braces
    buttons: Mapping[str, str]  # titles by button id


@dataclass(frozen=True, slots=True)
class Replies:
    languages: Mapping[str, Texts]  # the first is what an undeclared language falls back to

    def of(self, language: str) -> Texts:
        """The texts of `es_MX`, else of `es`, else of the first language."""
        found = self.languages.get(language) or self.languages.get(base(language))
        return found or next(iter(self.languages.values()))


def fill(replies: Replies, reply_id: str, language: str, fields: Mapping[str, str]) -> str:
    """The sentence as the patient reads it. A field the reply needs and `fields` lacks is a KeyError: our mistake."""
    return replies.of(language).replies[reply_id].format_map({name: fields[name] for name in FIELDS[reply_id]})


def title(replies: Replies, button_id: str, language: str) -> str:
    """What stands on a button under one of our questions."""
    return replies.of(language).buttons[button_id]


def load_replies(docs: Sequence[Document], languages: Sequence[str] = ()) -> Replies:
    """Read every file of `config/replies/`.

    Args:
        docs: one per language; with none given, `languages` names what is missing.
        languages: those the site declares, its default first.

    Raises:
        Refused: every problem at once: the schema's (a missing id is BR013, an unknown one BR011), unknown or missing
            fields (BR063), too long (BR064), two buttons of a question alike (BR065), a language that has no file or
            two (BR066).
    """
    problems: list[Problem] = []
    found: dict[str, Texts] = {}
    for doc in docs:
        wrong = check_schema(doc, SCHEMA) or _check(doc)
        problems += wrong
        language = doc.data.get("language") if isinstance(doc.data, dict) else None
        if isinstance(language, str) and language in found:
            problems.append(
                doc.problem(("language",), "BR066", f'another file holds the replies in "{language}" already')
            )
        elif isinstance(language, str):
            found[language] = Texts({}, {}) if wrong else Texts(doc.data["replies"], doc.data["buttons"])
    folder = docs[0].path.rpartition("/")[0] if docs else "replies"
    for language in languages:
        if language not in found and base(language) not in found:
            message = f'the site speaks "{language}" and nothing is written for it'
            hint = "copy another language's file and translate it, or take the language out of site.languages"
            problems.append(
                Problem(f"{folder}/{language}.yaml" if folder else f"{language}.yaml", 1, 1, "BR066", message, "", hint)
            )
    if not found and not problems:
        problems.append(Problem(folder, 1, 1, "BR066", "no file of replies at all", ""))
    if problems:
        raise Refused(problems)
    default = next((key for wish in languages for key in (wish, base(wish)) if key in found), "")
    return Replies(dict(sorted(found.items(), key=lambda item: item[0] != default)))


def _check(doc: Document) -> list[Problem]:
    problems: list[Problem] = []
    for reply_id, text in doc.data["replies"].items():
        problems += _check_text(doc, reply_id, text)
    titles = doc.data["buttons"]
    for button, text in titles.items():
        if len(text) > MAX_TITLE:
            message = f"{len(text)} characters; WhatsApp takes {MAX_TITLE} on a button"
            problems.append(doc.problem(("buttons", button), "BR064", message))
    for choices in CHOICES.values():
        first, second = choices
        if titles[first].strip().casefold() == titles[second].strip().casefold():
            message = f'"{first}" and "{second}" are buttons of one question and read the same'
            problems.append(doc.problem(("buttons", second), "BR065", message))
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _check_text(doc: Document, reply_id: str, text: str) -> list[Problem]:
    path = ("replies", reply_id)
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        return [doc.problem(path, "BR063", "a brace that is not closed; fields look like {day}")]
    names = [name for _, name, spec, conversion in parts if name is not None]
    if any(spec or conversion for _, name, spec, conversion in parts if name is not None):
        return [doc.problem(path, "BR063", "a field is its name in braces and nothing else, like {day}")]
    allowed = FIELDS[reply_id]
    problems = [
        doc.problem(
            path,
            "BR063",
            f'"{reply_id}" has no field {{{name}}}{closest(name, allowed)}',
            offset=text.find(f"{{{name}}}"),
        )
        for name in dict.fromkeys(names)
        if name not in allowed
    ]
    problems += [
        doc.problem(path, "BR063", f'"{reply_id}" has to keep its field {{{name}}}')
        for name in sorted(allowed - set(names))
    ]
    if not problems and len(filled := text.format_map(LONGEST)) > MAX_TEXT:
        message = f"{len(filled)} characters when filled; {MAX_TEXT} fit"
        problems.append(doc.problem(path, "BR064", message))
    return problems
