"""The templates a site has asked Meta to approve: their sentences per language, their blanks, their buttons.

One YAML file each in `config/templates/`; `buttons.yaml` beside them holds the titles, so that a button is called the
same in every message. The wording's rules are checked in `bridge/outbound/lint.py`.

Source: reference/patients.md C.6
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from bridge.errors import Refused
from bridge.mappers.document import Document, Problem, check_schema, closest

VARIABLE = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")
STRAY = re.compile(r"\{\{|\}\}")
BUTTONS_FILE = "buttons.yaml"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above the body."""

    kind: str  # text, image, video, document, location
    param: str | None = None  # the one blank of a text
    sample: str = ""
    languages: Mapping[str, str] = field(default_factory=dict)  # es -> the text

    @property
    def filled(self) -> bool:
        """Whether each message brings its own: all but a text without a blank."""
        return self.kind != "text" or self.param is not None

    def fill(self, language: str, value: str) -> str:
        """The text as the phone shows it."""
        return VARIABLE.sub(lambda _: value, self.languages[language])


@dataclass(frozen=True, slots=True)
class Template:
    """One approved message. `params` in the order they were declared, which is the order they are sent in."""

    name: str
    category: str  # "utility"
    params: tuple[str, ...]
    samples: Mapping[str, str]
    languages: Mapping[str, str]  # es -> body
    whatsapp_language: Mapping[str, str]  # pt -> "pt_BR"
    buttons: tuple[str, ...]  # ids, in the order shown: a button's index is its place here
    button_titles: Mapping[str, Mapping[str, str]]  # es -> {confirm: Confirmar}
    document: Document = field(compare=False, repr=False)
    parameter_format: str = "named"
    status: str = "approved"  # what Meta last said of it
    header: Header | None = None

    @property
    def file(self) -> str:
        return self.document.path

    def fill(self, language: str, values: Mapping[str, str]) -> str:
        """The body as the phone shows it. One pass: a value that looks like a variable stays text."""
        return VARIABLE.sub(lambda found: values[found[1]], self.languages[language])

    def as_approved(self, text: str) -> str:
        """A body or header with its blanks as Meta has them: by name, or `{{1}}` for the first of `params`."""
        if self.parameter_format == "named":
            return text
        places = {name: place for place, name in enumerate(self.params, start=1)}
        if self.header is not None and self.header.param is not None:
            places.setdefault(self.header.param, 1)  # a header counts its own
        return VARIABLE.sub(lambda found: "{{" + str(places.get(found[1], found[1])) + "}}", text)

    def language(self, wanted: str, site_languages: Sequence[str]) -> str | None:
        """The chain es_MX → es → the site's languages in order; None if the template has none of them."""
        return next((each for each in chain(wanted, site_languages) if each in self.languages), None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every template of the site, by name."""

    templates: Mapping[str, Template]

    def get(self, name: str) -> Template | None:
        return self.templates.get(name)


def chain(language: str, site_languages: Sequence[str]) -> tuple[str, ...]:
    """es_MX → es_MX, es, then what the site speaks, its default first."""
    return tuple(dict.fromkeys([language, language[:2], *site_languages, *(each[:2] for each in site_languages)]))


@lru_cache(maxsize=4)
def schema(name: str) -> Mapping[str, Any]:
    """`schema/<name>.schema.json`; a mapping may also use the formatters that a site has added."""
    path = files("bridge.mappers") / "schema" / f"{name}.schema.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if name == "mapping":
        from bridge.mappers.formatters import ACCEPTS  # late: babel, which templates alone need not pay

        forms = found["$defs"]["param"]["else"]["properties"]["as"]["enum"]
        forms += [form for form in ACCEPTS if form not in forms]
    return found


def load_templates(docs: Sequence[Document]) -> Catalogue:
    """Read the catalogue from the documents of `config/templates/`, `buttons.yaml` among them.

    Raises:
        Refused: every problem at once: the schema's, BR046 a name given twice, BR048 a button without a title in a
            language of the template, BR041 a variable that is not declared.
    """
    problems: list[Problem] = []
    titles: Mapping[str, Mapping[str, str]] = {}
    rest: list[Document] = []
    names: Document | None = None  # buttons.yaml
    for doc in docs:
        is_buttons = doc.path.rpartition("/")[2] == BUTTONS_FILE
        found = check_schema(doc, schema("buttons" if is_buttons else "template"))
        problems += found
        if is_buttons:
            names, titles = (
                doc,
                _titles(doc.data),
            )  # a bad title is one problem, not one more at each template with that button
        elif not found:
            rest.append(doc)
    templates: dict[str, Template] = {}
    for doc in rest:
        template = _template(doc, titles)
        if template.name in templates:
            first = templates[template.name].file
            problems.append(doc.problem(("name",), "BR046", f'"{template.name}" is already the name of {first}'))
        templates[template.name] = template
        problems += _check(doc, template, titles)
    if names is not None:
        problems += _untitled(names, templates.values(), titles)
    if problems:
        raise Refused(problems)
    return Catalogue(templates)


def _template(doc: Document, titles: Mapping[str, Mapping[str, str]]) -> Template:
    data = doc.data
    buttons = tuple(data.get("buttons", ()))
    return Template(
        name=data["name"],
        category=data["category"],
        params=tuple(data["params"]),
        samples=dict(data["params"]),
        languages={language: each["body"] for language, each in data["languages"].items()},
        whatsapp_language={language: each["whatsapp"] for language, each in data["languages"].items()},
        buttons=buttons,
        button_titles={
            language: {
                button: title for button in buttons if (title := _title(titles.get(button, {}), language)) is not None
            }
            for language in data["languages"]
        },
        document=doc,
        parameter_format=data["parameter_format"],
        status=data.get("status", "approved"),
        header=_header(data) if "header" in data else None,
    )


def _header(data: Mapping[str, Any]) -> Header:
    given = data["header"]
    texts = {language: each["header"] for language, each in data["languages"].items() if "header" in each}
    return Header(given["kind"], given.get("param"), given.get("sample", ""), texts)


def _titles(data: Any) -> Mapping[str, Mapping[str, str]]:
    """Whatever of `buttons.yaml` can be used."""
    return {key: each for key, each in data.items() if isinstance(each, dict)} if isinstance(data, dict) else {}


def _title(titles: Mapping[str, str], language: str) -> str | None:
    return titles.get(language, titles.get(language[:2]))


def _untitled(names: Document, templates: Iterable[Template], titles: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    """The titles that a template needs in one of its languages; once for all templates that have the button."""
    lacking: dict[str, set[str]] = {}
    users: dict[str, str] = {}  # button -> the first template that needs what is lacking
    for template in templates:
        for language, named in template.button_titles.items():
            for button in set(template.buttons) & set(titles) - set(named):
                lacking.setdefault(button, set()).add(language)
                users.setdefault(button, template.name)
    return [
        names.problem(
            (button,),
            "BR048",
            f'"{button}" has no title in {", ".join(sorted(lacking[button]))}, where {users[button]} shows it',
            key=True,
        )
        for button in titles
        if button in lacking
    ]


def _check_header(doc: Document, template: Template) -> Iterator[Problem]:
    """A text stands in every language with its blank and no other; of a picture or a place no language speaks."""
    header = template.header
    if header is not None and header.kind != "text" and header.param is not None:
        yield doc.problem(("header", "param"), "BR041", f"a header of kind {header.kind} has no blank", key=True)
    elif header is not None and header.param is not None and not header.sample:
        yield doc.problem(("header", "param"), "BR041", "Meta wants a sample of the blank beside it", key=True)
    for language in template.languages:
        path = ("languages", language, "header")
        text = (doc.data["languages"][language]).get("header")
        if header is None or header.kind != "text":
            if text is not None:
                said = f"the header is of kind {header.kind}" if header is not None else "no header is declared above"
                yield doc.problem(path, "BR041", f"{said}: there is no text of it", key=True)
            continue
        if text is None:
            yield doc.problem(path[:-1], "BR041", f"the header has no text in {language}", key=True)
            continue
        for found in VARIABLE.finditer(text):
            if found[1] != header.param:
                known = [header.param] if header.param is not None else []
                message = f"{{{{{found[1]}}}}} is not the blank of the header{closest(found[1], known)}"
                yield doc.problem(path, "BR041", message, offset=found.start())
        count = len(VARIABLE.findall(text))
        if count > 1:
            yield doc.problem(path, "BR041", "a header has one blank at most")
        elif header.param is not None and not count:
            yield doc.problem(path, "BR041", f"the header in {language} does not use {{{{{header.param}}}}}")
        odd = STRAY.search(VARIABLE.sub(lambda found: " " * len(found[0]), text))
        if odd is not None:
            yield doc.problem(path, "BR041", "a variable is written {{name}}, in small letters", offset=odd.start())


def _check(doc: Document, template: Template, titles: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    problems = list(_check_header(doc, template))
    for index, button in enumerate(template.buttons):
        if button not in titles:
            message = f'{BUTTONS_FILE} has no entry for "{button}"{closest(button, titles)}'
            problems.append(doc.problem(("buttons", index), "BR048", message))
    everywhere = [set(VARIABLE.findall(body)) for body in template.languages.values()]
    undeclared = set.intersection(*everywhere) - set(template.params) if len(everywhere) > 1 else set()
    for name in sorted(undeclared):
        message = f"every language uses {{{{{name}}}}}, and it is not one of the params"
        problems.append(doc.problem(("params",), "BR041", message, key=True))
    for language, body in template.languages.items():
        path = ("languages", language, "body")
        used = {found[1]: found.start() for found in reversed(list(VARIABLE.finditer(body)))}
        unused = [name for name in template.params if name not in used]
        for name, offset in sorted(used.items(), key=lambda item: item[1]):
            if name not in template.params and name not in undeclared:
                message = f"{{{{{name}}}}} is not one of the params{closest(name, unused or template.params)}"
                problems.append(doc.problem(path, "BR041", message, offset=offset))
                unused = []  # a blank under another name: one mistake
        odd = STRAY.search(VARIABLE.sub(lambda found: " " * len(found[0]), body))
        if odd is not None:
            message = "a variable is written {{name}}, in small letters"
            problems.append(doc.problem(path, "BR041", message, offset=odd.start()))
        for name in unused if odd is None else ():
            problems.append(doc.problem(path, "BR041", f"the body in {language} does not use {{{{{name}}}}}"))
    return problems
