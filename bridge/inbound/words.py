"""Words that decide something, matched against the whole message and nothing less.

"Baja" is a stop; "necesito la baja" asks a doctor for sick leave. The list of the conversation's language applies, plus
`everywhere`. What the lists may not hold is refused when they are loaded: CANCEL is never STOP, in no site's power.
Source: reference/patients.md C.3
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import Refused
from bridge.mappers.document import Document, Path, Problem, check_schema

# the choices of our questions, by kind: what their buttons' tokens carry
CHOICES: Mapping[str, tuple[str, ...]] = {
    "cancel": ("cancel_yes", "cancel_no"),
    "which": ("cancel_appointment", "stop_messages"),
}
# SMS programmes count these as opting out; here a patient means the appointment
NEVER_STOP = frozenset({"cancel", "cancelar", "cancelo", "cancela", "cancele", "cancelarla", "cancelar la cita"})

_LIST = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 60}}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "everywhere", "languages"],
    "properties": {
        "version": {"const": 1},
        "everywhere": {
            "type": "object",
            "additionalProperties": False,
            "required": ["stop"],
            "properties": {"stop": _LIST},
        },
        "languages": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[a-z]{2,3}(_[A-Z]{2})?$"},
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["stop"],
                "properties": {
                    "stop": _LIST,
                    "start": _LIST,
                    "ask": _LIST,
                    "answers": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {choice: _LIST for choices in CHOICES.values() for choice in choices},
                    },
                },
            },
        },
    },
}


def normalise(text: str) -> str:
    """Lower case, no accents, punctuation, emoji or invisible signs, single spaces: what the lists are compared in."""
    letters = []
    for sign in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()):
        category = unicodedata.category(sign)
        if category[0] in "LN":
            letters.append(sign)
        elif category[0] not in "M" and category != "Cf":  # accents, joiners and selectors leave no gap behind
            letters.append(" ")
    return " ".join("".join(letters).split())


def base(language: str) -> str:
    """`pt` for `pt_BR` and `pt-BR`."""
    return language.replace("-", "_").split("_")[0].lower()


@dataclass(frozen=True, slots=True)
class LanguageWords:
    """One language's lists, normalised."""

    stop: frozenset[str] = frozenset()
    start: frozenset[str] = frozenset()
    ask: frozenset[str] = frozenset()  # could mean the appointment or the messages
    answers: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by choice, only while its question is open


NOTHING = LanguageWords()


@dataclass(frozen=True, slots=True)
class Words:
    everywhere: frozenset[str]  # stops in every language
    languages: Mapping[str, LanguageWords]

    def of(self, language: str) -> LanguageWords:
        """The lists of `es_MX`, else of `es`; of a language without lists only `everywhere` is left."""
        return self.languages.get(language) or self.languages.get(base(language)) or NOTHING

    def stops(self, text: str | None, language: str) -> bool:
        said = normalise(text or "")
        return said in self.everywhere or said in self.of(language).stop

    def starts(self, text: str | None, language: str) -> bool:
        return normalise(text or "") in self.of(language).start

    def unclear(self, text: str | None, language: str) -> bool:
        """Could it mean the appointment or the messages ("cancelar")? Ask."""
        return normalise(text or "") in self.of(language).ask

    def choice(self, text: str | None, language: str, kind: str) -> str | None:
        """The choice that these exact words make of an open question of this kind."""
        said = normalise(text or "")
        answers = self.of(language).answers
        return next((choice for choice in CHOICES[kind] if said in answers.get(choice, frozenset())), None)

    def language_of(self, text: str | None) -> str | None:
        """The one language in whose lists the whole message stands; None when in none or in several ("stop", "no")."""
        said = normalise(text or "")
        found = [
            key
            for key, words in self.languages.items()
            if said in words.stop | words.start | words.ask | frozenset().union(*words.answers.values())
        ]
        return found[0] if len({base(key) for key in found}) == 1 else None


def load_words(doc: Document) -> Words:
    """Read `config/words.yaml`.

    Raises:
        Refused: every problem at once: the schema's, a word that is nothing but signs (BR060), one that means two
            things (BR061), CANCEL among the stops or no STOP among them (BR062).
    """
    problems = check_schema(doc, SCHEMA)
    if problems:
        raise Refused(problems)
    everywhere = _read(doc, ("everywhere", "stop"), problems)
    if "stop" not in everywhere:
        message = '"stop" is missing: it works in every language, whatever else a site adds'
        problems.append(doc.problem(("everywhere", "stop"), "BR062", message))
    languages = {key: _language(doc, key, everywhere, problems) for key in doc.data["languages"]}
    if problems:
        raise Refused(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return Words(frozenset(everywhere), languages)


def _language(doc: Document, key: str, everywhere: Iterable[str], problems: list[Problem]) -> LanguageWords:
    here: tuple[str, ...] = ("languages", key)
    lists = {name: _read(doc, (*here, name), problems) for name in ("stop", "start", "ask")}
    answers = {choice: _read(doc, (*here, "answers", choice), problems) for kind in CHOICES.values() for choice in kind}
    meant = dict.fromkeys(everywhere, "stop")
    for name, words in lists.items():
        for said, place in words.items():
            if meant.setdefault(said, name) != name:
                message = f'"{said}" is in {meant[said]} already; a word means one thing'
                problems.append(doc.problem(place, "BR061", message))
    for kind in CHOICES.values():
        chosen: dict[str, str] = {}
        for choice in kind:
            for said, place in answers[choice].items():
                # "stop messages" may be typed for the button of that name: stopping is what it means in both places
                other = chosen.setdefault(said, choice)
                if meant.get(said) == "stop" and choice != "stop_messages":
                    other = "stop"
                if other != choice:
                    problems.append(
                        doc.problem(place, "BR061", f'"{said}" means {other} already; a word means one thing')
                    )
    sets = {name: frozenset(words) for name, words in lists.items()}
    said_for = {choice: frozenset(words) for choice, words in answers.items()}
    return LanguageWords(sets["stop"], sets["start"], sets["ask"], said_for)


def _read(doc: Document, path: tuple[str, ...], problems: list[Problem]) -> dict[str, Path]:
    """The list at `path`, normalised, with the place of each word; empty where it is left out."""
    node: Any = doc.data
    for step in path:
        node = node.get(step, {})
    found: dict[str, Path] = {}
    for index, word in enumerate(node):
        said = normalise(word)
        place: Path = (*path, index)
        if not said:
            problems.append(doc.problem(place, "BR060", "no letter or digit is left of this word; it can never match"))
        elif path[-1] == "stop" and said in NEVER_STOP:
            hint = "move it to `ask`: bridge then asks whether the appointment or the messages are meant"
            problems.append(doc.problem(place, "BR062", f'"{word}" is never a stop', hint=hint))
        else:
            found.setdefault(said, place)
    return found
