"""What Meta refuses, and what a lock screen must not say: one broken template per rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.mappers.document import load_document
from bridge.mappers.templates import Template
from bridge.outbound.lint import CLINICAL, PROMOTIONAL, lint, lint_all
from tests.mappers.starter import CONFIG, catalogue


def test_the_shipped_ones_pass() -> None:
    assert [str(problem) for problem in lint_all(catalogue())] == []


def template(**changes: Any) -> Template:
    found = catalogue().get("reply_waiting")
    assert found is not None
    return replace(found, **changes)


def body(text: str, *params: str) -> Template:
    """A one-language template with that body."""
    names = params or ("patient_name",)
    titles = {"es": {"read": "Leer la respuesta"}}
    samples = dict.fromkeys(names, "Ana")
    return template(languages={"es": text}, params=names, samples=samples, button_titles=titles)


FINE = "Hola, {{patient_name}}. Nuestro equipo respondió a su consulta."
BODIES = [
    (FINE, []),
    ("{{patient_name}}, nuestro equipo respondió a su consulta.", ["BR050"]),
    ("¡{{patient_name}}! Nuestro equipo respondió a su consulta.", ["BR050"]),
    ("Nuestro equipo respondió a su consulta, {{patient_name}}.", ["BR050"]),
    ("Hola, {{patient_name}}. Muchas gracias", []),
    ("Hola, {{patient_name}}. Gracias", ["BR052"]),
    ("Hola {{patient_name}} ya", ["BR052"]),
    (FINE + " Oferta especial.", ["BR054"]),
    (FINE + " ¡Reserve ya!", ["BR054"]),
    (FINE + " El autobús sale a las 9.", []),  # not English
    (FINE + " Su biopsia está lista.", ["BR055"]),
    (FINE + " Resultado del VIH.", ["BR055"]),
    (FINE + " Oncología, planta 2.", ["BR055"]),
    (FINE + " palabra" * 140, ["BR053"]),
    ("Hola, {{nombre}}. Nuestro equipo respondió a su consulta.", ["BR058"]),
]


@pytest.mark.parametrize(("text", "codes"), BODIES)
def test_bodies(text: str, codes: list[str]) -> None:
    assert [problem.code for problem in lint(body(text))] == codes


@pytest.mark.parametrize(
    ("language", "words"), [("en", "Don't miss it."), ("pt", "Promoção."), ("pt_BR", "Conheça-nos.")]
)
def test_advertising_in_each_language(language: str, words: str) -> None:
    other = replace(body(FINE), languages={language: f"{FINE} {words}"}, button_titles={language: {"read": "x"}})
    assert [problem.code for problem in lint(other)] == ["BR054"]


@pytest.mark.parametrize("between", [" ", "\n", "", " \n "])
def test_variables_side_by_side(between: str) -> None:
    text = f"Hola, su cita es {{{{day}}}}{between}{{{{time}}}} en la planta segunda."
    assert [problem.code for problem in lint(body(text, "day", "time"))] == ["BR051"]


def test_punctuation_between_is_enough() -> None:
    assert lint(body("Hola, su cita es {{day}}, {{time}} en la planta segunda.", "day", "time")) == []


SAMPLES = [
    ("Ana\nGarcía", ["BR056"]),
    ("Ana\tGarcía", ["BR056"]),
    ("Ana     García", ["BR056"]),
    ("Ana    García", []),
    (" ", ["BR056"]),
    ("análisis de sangre", ["BR055"]),
]


@pytest.mark.parametrize(("sample", "codes"), SAMPLES)
def test_samples(sample: str, codes: list[str]) -> None:
    assert [problem.code for problem in lint(replace(body(FINE), samples={"patient_name": sample}))] == codes


TITLES = [
    ({"es": {"read": "x" * 20}}, []),
    ({"es": {"read": "x" * 21}}, ["BR057"]),
    ({"es": {"read": " "}}, ["BR057"]),
    ({"es": {"read": "a\nb"}}, ["BR057"]),
    ({"es": {}}, ["BR058"]),
]


@pytest.mark.parametrize(("titles", "codes"), TITLES)
def test_titles(titles: dict[str, dict[str, str]], codes: list[str]) -> None:
    assert [problem.code for problem in lint(replace(body(FINE), button_titles=titles))] == codes


def test_two_buttons_of_one_title() -> None:
    twice = replace(body(FINE), buttons=("read", "nurse"), button_titles={"es": {"read": "Leer", "nurse": "Leer"}})
    assert [problem.code for problem in lint(twice)] == ["BR057"]


def test_too_many_buttons() -> None:
    ids = tuple(f"b{number}" for number in range(11))
    many = replace(body(FINE), buttons=ids, button_titles={"es": {each: each for each in ids}})
    assert [problem.code for problem in lint(many)] == ["BR057"]


def test_languages_that_differ() -> None:
    texts = {"es": FINE, "en": "Hello {{name}}. Our team has answered the question you sent."}
    titles = {language: {"read": "Leer"} for language in texts}
    assert [problem.code for problem in lint(template(languages=texts, button_titles=titles))] == ["BR058"]


def test_a_name_that_meta_refuses() -> None:
    assert [problem.code for problem in lint(template(name="Reply-Waiting"))] == ["BR059"]


def test_a_problem_has_its_place() -> None:
    text = (CONFIG / "templates/reply_waiting.yaml").read_text("utf-8").replace("Our team", "Our oncology team")
    from bridge.mappers.templates import load_templates

    docs = [load_document(text, "reply_waiting.yaml")]
    docs.append(load_document((CONFIG / "templates/buttons.yaml").read_text("utf-8"), "buttons.yaml"))
    (problem,) = lint_all(load_templates(docs))
    assert (problem.file, problem.code) == ("reply_waiting.yaml", "BR055")
    line = text.splitlines()[problem.line - 1]
    assert line[problem.column - 1 :].startswith("oncology team")


def test_stems_are_written_as_they_are_compared() -> None:
    """Without accents and in small letters, or they would never be found."""
    for stem in (*(stem for stems in PROMOTIONAL.values() for stem in stems), *CLINICAL):
        assert stem == stem.casefold()
        assert stem.isascii()
