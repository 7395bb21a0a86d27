"""Word lists: what the shipped ones mean, how a message is compared, what a site may not write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talk import LANGUAGES, WORDS

from bridge.errors import Refused
from bridge.inbound.words import NEVER_STOP, load_words, normalise
from bridge.mappers.document import load_document

CASES = sorted((Path(__file__).parent / "testdata/words").glob("*.json"))
REFUSED = sorted((Path(__file__).parent / "testdata/words_refused").glob("*.json"))


def meaning(text: str, language: str) -> str:
    if WORDS.stops(text, language):
        return "stop"
    if WORDS.starts(text, language):
        return "start"
    return "ask" if WORDS.unclear(text, language) else "free"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_meaning(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    got = {language: {text: meaning(text, language) for text in texts} for language, texts in case["expect"].items()}
    assert got == case["expect"]


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_refused(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    with pytest.raises(Refused) as refused:
        load_words(load_document("\n".join(case["yaml"]), "words.yaml"))
    got = [f"{found.line}:{found.column} {found.code}" for found in refused.value.problems]
    assert got == case["expect"], str(refused.value)


def test_cases_are_found() -> None:
    assert CASES and REFUSED


def test_cancel_is_no_stop_in_any_language() -> None:
    for language, words in WORDS.languages.items():
        assert not words.stop & NEVER_STOP, language


def test_shipped_languages_know_every_kind_of_word() -> None:
    for language in LANGUAGES:
        words = WORDS.of(language)
        assert words.stop and words.start and words.ask
        assert all(words.answers.values()) and len(words.answers) == 4


@pytest.mark.parametrize(
    ("text", "kind", "language", "expect"),
    [
        ("SÍ", "cancel", "es", "cancel_yes"),
        ("1️⃣", "cancel", "es", "cancel_yes"),
        ("don’t cancel", "cancel", "en", "cancel_no"),
        ("Não!", "cancel", "pt", "cancel_no"),
        ("sim", "cancel", "es", None),
        ("confirmo", "cancel", "es", None),
        ("sí", "which", "es", None),
        ("La cita.", "which", "es", "cancel_appointment"),
        ("2", "which", "pt", "stop_messages"),
    ],
)
def test_choice(text: str, kind: str, language: str, expect: str | None) -> None:
    assert WORDS.choice(text, language, kind) == expect


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ("SAIR", "pt"),
        ("Baja", "es"),
        ("unsubscribe", "en"),
        ("stop", None),
        ("parar", None),
        ("hola", None),
        ("", None),
    ],
)
def test_language_of(text: str, expect: str | None) -> None:
    """`parar` is in two languages' lists, `stop` in all: neither tells which is spoken."""
    assert WORDS.language_of(text) == expect


def test_a_region_may_have_its_own_lists() -> None:
    lines = [
        "version: 1",
        "everywhere: {stop: [stop]}",
        "languages:",
        "  es: {stop: [baja]}",
        "  es_MX: {stop: [ya no]}",
    ]
    words = load_words(load_document("\n".join(lines), "words.yaml"))
    assert words.stops("ya no", "es_MX") and not words.stops("baja", "es_MX")
    assert words.stops("baja", "es_AR") and not words.stops("ya no", "es_AR")
    assert words.language_of("baja") == "es"


@given(st.text())
def test_normalise_is_stable(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()


@given(st.text(max_size=30), st.sampled_from(LANGUAGES))
def test_a_word_means_one_thing(text: str, language: str) -> None:
    found = [WORDS.stops(text, language), WORDS.starts(text, language), WORDS.unclear(text, language)]
    assert sum(found) <= 1
