"""What Meta refuses or moves to marketing, and what must not stand on a lock screen, found before a template is sent in.

Source: reference/patients.md C.6, reference/whatsapp.md §3.1
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from bridge.mappers.document import Problem
from bridge.mappers.templates import VARIABLE, Catalogue, Template

LONGEST_BODY = 1024  # characters, samples filled in
LONGEST_HEADER = 60  # of a text above the body
LONGEST_TITLE = 20  # characters on a button, in every language
MOST_BUTTONS = 10
NAME = re.compile(r"[a-z0-9_]{1,512}")
FORBIDDEN_IN_VALUE = re.compile(r"[\n\r\t]| {5,}")  # WhatsApp answers 132018

# Persuasive words make Meta file the template as marketing. Stems: "oferta" finds "ofertas"; accents do not matter.
PROMOTIONAL = {
    "es": ("oferta", "descuento", "promocion", "gratis", "regalo", "reserve ya", "reserva ya", "no se pierda",
           "conozcanos", "aproveche", "compre", "ultimas plazas"),
    "en": ("offer", "discount", "promotion", "for free", "gift", "book now", "shop", "buy now", "don't miss",
           "do not miss", "on sale", "limited time", "discover our"),
    "pt": ("oferta", "desconto", "promoca", "promoco", "gratis", "presente para", "reserve ja", "nao perca", "aproveite",
           "conheca", "compre", "ultimas vagas"),
}  # fmt: skip

# Words that tell whoever sees the screen what the visit is about.
CLINICAL = (
    "diagnostic", "cancer", "tumor", "oncolog", "biopsia", "biopsy", "vih", "hiv", "sida", "aids", "embaraz", "pregnan",
    "gravidez", "gravida", "aborto", "abortion", "psiquiatr", "psychiatr", "depresion", "depression", "depressao",
    "diabet", "quimioterap", "chemotherap", "infeccion", "infection", "infeccao", "positivo", "negativo", "positive",
    "negative", "analisis", "blood test", "exame", "colonoscop", "mamograf", "mammogra", "radiograf", "resonancia",
    "medicacion", "medication", "medicacao", "tratamiento", "treatment", "tratamento", "sintoma", "symptom",
)  # fmt: skip


def lint(template: Template) -> list[Problem]:
    """Every rule of C.6 over one template, in all its languages.

    Codes: BR050 a variable first or last, BR051 two side by side, BR052 too few words, BR053 too long, BR054 promotional,
    BR055 clinical, BR056 a sample that could not be sent, BR057 a button's title, BR058 languages that differ, BR059 name.
    """
    problems = list(_whole(template))
    for language, body in template.languages.items():
        problems += _body(template, language, body)
        problems += _header(template, language)
        problems += _titles(template, language)
    return problems


def lint_all(catalogue: Catalogue) -> list[Problem]:
    """Every template of the site, in the order of their names."""
    return [problem for name in sorted(catalogue.templates) for problem in lint(catalogue.templates[name])]


def _whole(template: Template) -> Iterator[Problem]:
    doc = template.document
    if NAME.fullmatch(template.name) is None:
        yield doc.problem(("name",), "BR059", "a name has only a-z, 0-9 and _, at most 512 of them")
    for name, sample in template.samples.items():
        if FORBIDDEN_IN_VALUE.search(sample) or not sample.strip():
            message = "a sample must be what could be sent: no line break, tab or more than four spaces, not empty"
            yield doc.problem(("params", name), "BR056", message)
        for word, _ in _found(sample, CLINICAL):
            yield doc.problem(("params", name), "BR055", f'"{word}" says what the visit is about')
    if template.header is not None and template.header.sample:
        sample = template.header.sample
        if FORBIDDEN_IN_VALUE.search(sample) or not sample.strip():
            message = "a sample must be what could be sent: no line break, tab or more than four spaces, not empty"
            yield doc.problem(("header", "sample"), "BR056", message)
        for word, _ in _found(sample, CLINICAL):
            yield doc.problem(("header", "sample"), "BR055", f'"{word}" says what the visit is about')
    if len(template.buttons) > MOST_BUTTONS:
        yield doc.problem(("buttons",), "BR057", f"at most {MOST_BUTTONS} buttons", key=True)
    declared = set(template.params)
    for language, body in template.languages.items():
        used = set(VARIABLE.findall(body))
        if used != declared:
            odd = ", ".join(sorted(used ^ declared))
            message = f"every language has the same variables as params; {language} differs in {odd}"
            yield doc.problem(("languages", language, "body"), "BR058", message)


def _body(template: Template, language: str, body: str) -> Iterator[Problem]:
    doc, path = template.document, ("languages", language, "body")
    variables = VARIABLE.findall(body)
    pieces = VARIABLE.split(body)[::2]  # the text around the variables
    if variables and not (_words(pieces[0]) and _words(pieces[-1])):
        yield doc.problem(path, "BR050", "a variable is first or last: put words before and after it")
    if any(not piece.strip() for piece in pieces[1:-1]):
        yield doc.problem(path, "BR051", "two variables stand side by side: put words between them")
    count, needed = sum(len(_words(piece)) for piece in pieces), 2 * len(variables) + 1
    if count < needed:
        yield doc.problem(path, "BR052", f"{count} words for {len(variables)} variables; Meta wants {needed}")
    filled = VARIABLE.sub(lambda found: template.samples.get(found[1], ""), body)
    if len(filled) > LONGEST_BODY:
        yield doc.problem(path, "BR053", f"{len(filled)} characters with its samples; WhatsApp takes {LONGEST_BODY}")
    for word, at in _found(body, PROMOTIONAL.get(language[:2], ())):
        message = f'"{word}" reads as advertising: Meta would file it as marketing'
        yield doc.problem(path, "BR054", message, offset=at)
    for word, at in _found(body, CLINICAL):
        message = f'"{word}" says what the visit is about, and the lock screen shows it'
        yield doc.problem(path, "BR055", message, offset=at)


def _header(template: Template, language: str) -> Iterator[Problem]:
    header = template.header
    text = header.languages.get(language) if header is not None else None
    if header is None or text is None:
        return
    path = ("languages", language, "header")
    if len(filled := header.fill(language, header.sample)) > LONGEST_HEADER:
        message = f"{len(filled)} characters with its sample; a header takes {LONGEST_HEADER}"
        yield template.document.problem(path, "BR053", message)
    for word, at in _found(text, PROMOTIONAL.get(language[:2], ())):
        message = f'"{word}" reads as advertising: Meta would file it as marketing'
        yield template.document.problem(path, "BR054", message, offset=at)
    for word, at in _found(text, CLINICAL):
        message = f'"{word}" says what the visit is about, and the lock screen shows it'
        yield template.document.problem(path, "BR055", message, offset=at)


def _titles(template: Template, language: str) -> Iterator[Problem]:
    doc, titles = template.document, template.button_titles.get(language, {})
    for index, button in enumerate(template.buttons):
        title = titles.get(button)
        if title is None:
            yield doc.problem(("buttons", index), "BR058", f'"{button}" has no title in {language}')
        elif len(title) > LONGEST_TITLE or not title.strip() or FORBIDDEN_IN_VALUE.search(title):
            message = (
                f'"{title}" ({language}) has {len(title)} characters; a button takes 1 to {LONGEST_TITLE} in one line'
            )
            yield doc.problem(("buttons", index), "BR057", message)
        elif title in [titles.get(other) for other in template.buttons[:index]]:
            yield doc.problem(("buttons", index), "BR057", f'two buttons are called "{title}" in {language}')


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _found(text: str, stems: Iterable[str]) -> list[tuple[str, int]]:
    """Each stem that a word of the text begins with, and where."""
    letters = [(letter, at) for at, written in enumerate(text) for letter in _plain(written)]
    plain = "".join(letter for letter, _ in letters)
    found = ((stem, re.search(rf"\b{re.escape(stem)}", plain)) for stem in stems)
    return [(stem, letters[match.start()][1]) for stem, match in found if match is not None]


def _plain(text: str) -> str:
    """Small letters without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if unicodedata.category(c) != "Mn")
