"""From a template's file and a mapping to the POST: each kind of header, and blanks by name or by place.

What Meta's own description says of it (its refusal of a location is one of the known wrong ones), and what the pretend
WhatsApp, which reads the same files with a reader of its own, shows on the phone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bridge.engine.compose import Draft, Scene, to_content
from bridge.errors import Refused
from bridge.ledger.crypto import Crypto
from bridge.mappers.document import load_document
from bridge.mappers.mapping import MappingSet, load_mappings
from bridge.mappers.render import Skip, TemplateMessage, render
from bridge.mappers.templates import load_templates
from bridge.outbound.content import Content, outgoing
from bridge.outbound.message import check
from bridge.outbound.providers import cloud_api
from bridge.sandbox.whatsapp import checks
from bridge.sandbox.whatsapp.catalogue import Catalogue as Account
from bridge.sandbox.whatsapp.denials import Denied
from tests.mappers.starter import LANGUAGES, context
from tests.outbound.meta_openapi import FILE, send_validator

CRYPTO = Crypto({"k1": b"k" * 32}, b"i" * 32)
BODY = "Su cita es el {{day}} a las {{time}}, le esperamos, {{patient_name}}, como siempre."
FILLED = "Su cita es el miércoles, 25 de noviembre de 2026 a las 15:30, le esperamos, Ana, como siempre."
LINK = "https://hospital.example/plano.png"


def template(header: str = "", *, text: str = "", form: str = "named", name: str = "kind_test") -> str:
    above = f"header: {header}\n" if header else ""
    told = f'header: "{text}", ' if text else ""
    spoken = "".join(f'  {lang}: {{whatsapp: {code}, {told}body: "{BODY}"}}\n' for lang, code in (("es", "es"), ("en", "en"), ("pt", "pt_BR")))  # fmt: skip
    return (
        f"name: {name}\ncategory: utility\nparameter_format: {form}\n"
        f'params: {{patient_name: Ana, day: "20 nov 2026", time: "10:00"}}\n{above}languages:\n{spoken}'
    )


def mapping(header: str = "") -> str:
    above = f"  header: {header}\n" if header else ""
    return (
        "version: 1\nid: kind-test\nevent: appointment.booked\nrecipient: {who: patient}\n"
        "consent: {purpose: appointments}\ndelivery: {expires: 12h}\nsend:\n  template: kind_test\n"
        f"{above}  params:\n    patient_name: {{path: '%patient.name', as: name.given}}\n"
        "    day: {path: start, as: date.long}\n    time: {path: start, as: time.short}\n"
    )


def load(file: str, rule: str) -> MappingSet:
    catalogue = load_templates([load_document(file, "kind_test.yaml")])
    return load_mappings([load_document(rule, "m.yaml")], catalogue, LANGUAGES)


def posted(file: str, rule: str, **scene: Any) -> tuple[dict[str, Any], Content, checks.Content]:
    """(the template node of the POST, the message as its row has it, what the phone shows)."""
    loaded = load(file, rule).mappings[0]
    made = render(loaded, context("appointment-booked", **scene))
    assert isinstance(made, TemplateMessage), made
    draft = Draft(Scene({}, {}), "34600111222", "self", "Europe/Madrid", "es")
    named = loaded.send.patient.template.parameter_format == "named"
    content = Content.from_bytes(to_content(made, draft, named=named).to_bytes())  # by way of the row
    leaving = outgoing(content, CRYPTO, 7, 1, 1)
    assert check(leaving) == []
    body = json.loads(cloud_api.payload(leaving))
    account = Account()
    account.add_json(YAML(typ="safe").load(file))
    return body, content, checks.check(body, account, {"1234567890"})


PLACE = {"resourceType": "Location", "id": "l1", "name": "Consultas externas",
         "position": {"latitude": 40.4168, "longitude": -3.7038}, "address": {"line": ["Calle Mayor 1"], "city": "Madrid"}}  # fmt: skip

# name -> (template's header, its text, parameter_format, mapping's header, the component that Meta gets, what is shown)
KINDS: dict[str, tuple[str, str, str, str, dict[str, Any] | None, str]] = {
    "no header, by place": ("", "", "positional", "", None, ""),
    "a text that is always the same": ("{kind: text}", "Hospital Demo", "named", "", None, "Hospital Demo"),
    "a text with its blank's name": (
        "{kind: text, param: clinic, sample: Norte}", "Cita en {{clinic}}", "named", "{path: '%location.name', max: 40}",
        {"type": "text", "text": "Consultas externas", "parameter_name": "clinic"}, "Cita en Consultas externas",
    ),
    "a text by place": (
        "{kind: text, param: clinic, sample: Norte}", "Cita en {{clinic}}", "positional", '"%location.name"',
        {"type": "text", "text": "Consultas externas"}, "Cita en Consultas externas",
    ),
    "an image by its address": (
        "{kind: image}", "", "named", f"{{text: '{LINK}'}}", {"type": "image", "image": {"link": LINK}}, "[image]",
    ),
    "a video by its id": (
        "{kind: video}", "", "named", "{text: '1234567890'}", {"type": "video", "video": {"id": "1234567890"}}, "[video]",
    ),
    "a document, per language": (
        "{kind: document}", "", "named", "{text: {es: 'https://hospital.example/guia.pdf', en: 'https://hospital.example/guide.pdf'}}",
        {"type": "document", "document": {"link": "https://hospital.example/guia.pdf", "filename": "guia.pdf"}}, "[document]",
    ),
    "a place": (
        "{kind: location}", "", "named", '"%location"',
        {"type": "location", "location": {"latitude": "40.4168", "longitude": "-3.7038", "name": "Consultas externas",
                                          "address": "Calle Mayor 1, Madrid"}}, "[location: Consultas externas]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_from_its_file_to_the_phone(kind: str) -> None:
    header, text, form, given, component, shown = KINDS[kind]
    body, content, phone = posted(template(header, text=text, form=form), mapping(given), location=PLACE)
    components = body["template"]["components"]
    names = [{"parameter_name": name} if form == "named" else {} for name in ("patient_name", "day", "time")]
    values = ("Ana", "miércoles, 25 de noviembre de 2026", "15:30")
    expected = [{"type": "header", "parameters": [component]}] if component is not None else []
    expected.append(
        {"type": "body", "parameters": [{"type": "text", "text": v} | n for v, n in zip(values, names, strict=True)]}
    )
    assert components == expected
    assert (phone.body, phone.details["header"]) == (FILLED, shown)
    assert content.body == FILLED and content.above.startswith(shown.removesuffix("]").partition(":")[0])
    if FILE.is_file():
        refused = list(send_validator().iter_errors(body))
        assert bool(refused) == (kind == "a place"), "whatsapp.md §3.4: it does not know a header's location"


def test_a_header_without_its_value_is_skipped_and_says_so() -> None:
    rule = load(template("{kind: location}"), mapping('"%location"')).mappings[0]
    bare = {key: value for key, value in PLACE.items() if key != "position"}
    outcome = render(rule, context("appointment-booked", location=bare))
    assert outcome == Skip("no value for the header: the place has no position")
    header = "{kind: text, param: clinic, sample: Norte}"
    rule = load(template(header, text="Cita en {{clinic}}"), mapping('"%location.name"')).mappings[0]
    long = PLACE | {"name": "Consultas externas de la segunda planta, edificio principal norte"}
    assert render(rule, context("appointment-booked", location=long)) == Skip(
        "the header would have 73 characters, and WhatsApp takes 60"
    )
    assert render(rule, context("appointment-booked", location=None)) == Skip("no value for the header")


@pytest.mark.parametrize(
    ("header", "given", "says"),
    [
        ("{kind: image}", "", "has a header of kind image, and nothing fills it"),
        ("", '"%location.name"', "the templates here have no header"),
        ("{kind: text}", '"%location.name"', "the same in every message"),
        ("{kind: image}", '"%location.name"', "is the same for every patient"),
        ("{kind: document}", "{text: 'http://hospital.example/a.pdf'}", "neither an https address nor an id"),
        ("{kind: location}", '"%location.name"', "the header shows a place on a map; this gives string"),
        ("{kind: location}", "{text: Madrid}", "it has a path to a Location and nothing else"),
        ("{kind: text, param: clinic, sample: Norte}", '"%location"', "text cannot put Location into words"),
    ],
)
def test_check_refuses_a_header_of_another_kind(header: str, given: str, says: str) -> None:
    text = "Cita en {{clinic}}" if "param" in header else "Hospital" if "text" in header else ""
    with pytest.raises(Refused) as refused:
        load(template(header, text=text), mapping(given))
    assert [says in problem.message for problem in refused.value.problems] == [True], refused.value.problems


@pytest.mark.parametrize(
    ("header", "text", "says"),
    [
        ("{kind: text}", "", "the header has no text in"),
        ("", "Hola", "no header is declared"),
        ("{kind: image}", "Hola", "the header is of kind image"),
        ("{kind: text}", "Cita en {{clinic}}", "is not the blank of the header"),
        ("{kind: text, param: clinic, sample: Norte}", "Cita", "does not use {{clinic}}"),
        ("{kind: text, param: clinic, sample: Norte}", "{{clinic}} y {{clinic}}", "one blank at most"),
        ("{kind: text, param: clinic}", "{{clinic}}", "Meta wants a sample"),
        ("{kind: image, param: clinic, sample: Norte}", "", "of kind image has no blank"),
    ],
)
def test_a_template_s_own_header(header: str, text: str, says: str) -> None:
    with pytest.raises(Refused) as refused:
        load_templates([load_document(template(header, text=text), "kind_test.yaml")])
    assert all(says in str(problem) for problem in refused.value.problems), refused.value.problems


def test_the_pretend_whatsapp_refuses_what_meta_would() -> None:
    header, text, form, given, _, _ = KINDS["a text with its blank's name"]
    file = template(header, text=text, form=form)
    body, content, _ = posted(file, mapping(given), location=PLACE)
    account = Account()
    account.add_json(YAML(typ="safe").load(file))

    def code(change: Any) -> int:
        copy = json.loads(json.dumps(body))
        change(copy["template"]["components"])
        with pytest.raises(Denied) as denied:
            checks.check(copy, account, set())
        return denied.value.code

    assert code(lambda parts: parts.pop(0)) == 132000
    assert code(lambda parts: parts[0]["parameters"][0].update(type="image", image={"link": LINK})) == 132012
    assert code(lambda parts: parts[0]["parameters"][0].pop("parameter_name")) == 100
    assert code(lambda parts: parts[0]["parameters"][0].update(text="x" * 60)) == 132005
    assert code(lambda parts: parts[1]["parameters"][0].pop("parameter_name")) == 100
    assert content.header is not None
    wrong = replace(content, header=replace(content.header, value="x\ny"))
    assert check(outgoing(wrong, CRYPTO, 7, 1, 1)) == [
        "the header holds a line break, a tab or more than four spaces in a row"
    ]


def test_by_place_meta_holds_numbers() -> None:
    loaded = load_templates([load_document(template(form="positional"), "kind_test.yaml")])
    kept = loaded.templates["kind_test"]
    assert kept.as_approved(kept.languages["es"]).startswith("Su cita es el {{2}} a las {{3}}, le esperamos, {{1}}")
    account = Account()
    account.add_json(YAML(typ="safe").load(template(form="positional")))
    listed = account.templates["kind_test"].listing("es", 1)
    assert listed["parameter_format"] == "POSITIONAL"
    assert listed["components"][0]["text"] == kept.as_approved(kept.languages["es"])


def test_every_header_of_the_files_we_ship_is_none() -> None:
    for path in sorted((Path(__file__).parents[2] / "config/templates").glob("*.yaml")):
        assert "header:" not in path.read_text("utf-8"), "then tests of the demo's phone look at it too"
