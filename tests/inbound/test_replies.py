"""The engine's own sentences: the shipped ones keep the page's rules, a site's rewording is checked with positions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from talk import LANGUAGES, ROOT, replies

from bridge.errors import Refused
from bridge.inbound.replies import BUTTONS, FIELDS, LONGEST, fill, load_replies, title
from bridge.inbound.words import normalise
from bridge.mappers.document import Document, load_document

REPLIES = replies()
CASES = sorted((Path(__file__).parent / "testdata/replies_refused").glob("*.json"))
SPANISH = (ROOT / "config/replies/es.yaml").read_text("utf-8")


def document(text: str = SPANISH, language: str = "es") -> Document:
    return load_document(text.replace("language: es", f"language: {language}"), f"config/replies/{language}.yaml")


@pytest.mark.parametrize("language", LANGUAGES)
def test_shipped(language: str) -> None:
    assert list(REPLIES.of(language).replies) == list(FIELDS)
    assert list(REPLIES.of(language).buttons) == list(BUTTONS)
    for reply_id in FIELDS:
        assert 0 < len(fill(REPLIES, reply_id, language, LONGEST)) <= 300
    assert all(len(title(REPLIES, button, language)) <= 20 for button in BUTTONS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_we_tell_them_to_write_work(language: str) -> None:
    """`stopped` names a word that starts again, `started` one that stops: in the list of that language."""
    from talk import WORDS

    stopped, started = (fill(REPLIES, reply_id, language, {}) for reply_id in ("stopped", "started"))
    assert WORDS.starts(stopped.split()[-1], language), stopped
    assert WORDS.stops(started.split()[-1], language), started


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_can_be_typed(language: str) -> None:
    """Never depend on tapping: what stands on a button is among the words for it."""
    from talk import WORDS

    for button in BUTTONS:
        typed = normalise(title(REPLIES, button, language))
        assert typed in WORDS.of(language).answers[button], (button, typed)


def test_fill() -> None:
    filled = fill(REPLIES, "kept", "es_MX", {"day": "lunes, 23 de noviembre de 2026", "time": "09:20", "unused": "x"})
    assert filled == "De acuerdo. Su cita (lunes, 23 de noviembre de 2026, 09:20) sigue como estaba."
    assert title(REPLIES, "cancel_yes", "pt_BR") == "Sim, cancelar"
    assert fill(REPLIES, "stopped", "ja", {}).startswith("Hecho"), "the site's default"
    with pytest.raises(KeyError):
        fill(REPLIES, "kept", "es", {"day": "lunes"})


def test_a_value_with_braces_stays_as_it_is() -> None:
    assert "{day.__class__}" in fill(REPLIES, "kept", "es", {"day": "{day.__class__}", "time": "09:20"})


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_refused(path: Path) -> None:
    """`replace` changes the shipped Spanish file; `expect` names line, column, code and a piece of the message."""
    case = json.loads(path.read_text("utf-8"))
    text = SPANISH
    for old, new in case["replace"]:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(Refused) as refused:
        load_replies([document(text)], case.get("languages", ["es"]))
    got = [[f"{found.line}:{found.column} {found.code}", found.message] for found in refused.value.problems]
    assert [place for place, _ in got] == [place for place, _ in case["expect"]], str(refused.value)
    for (_, message), (_, piece) in zip(got, case["expect"], strict=True):
        assert piece in message


def test_cases_are_found() -> None:
    assert CASES


def test_missing_language_names_the_file_to_write() -> None:
    with pytest.raises(Refused) as refused:
        load_replies([document()], ["es", "en", "pt_BR"])
    assert [problem.file for problem in refused.value.problems] == [
        "config/replies/en.yaml",
        "config/replies/pt_BR.yaml",
    ]


def test_two_files_for_one_language() -> None:
    with pytest.raises(Refused) as refused:
        load_replies([document(), document()])
    assert [problem.code for problem in refused.value.problems] == ["BR066"]


def test_no_file_at_all() -> None:
    with pytest.raises(Refused):
        load_replies([])


def test_a_regional_file_wins_over_its_base() -> None:
    both = load_replies([document(), document(SPANISH.replace("De acuerdo.", "Va."), "es_MX")], ["es", "es_MX"])
    assert fill(both, "kept", "es_MX", LONGEST).startswith("Va.")
    assert fill(both, "kept", "es_AR", LONGEST).startswith("De acuerdo.")
