"""The catalogue: fifteen templates, three languages, and what a broken file is told."""

from __future__ import annotations

import pytest

from bridge.errors import Refused
from bridge.mappers.document import load_document
from bridge.mappers.templates import VARIABLE, chain, load_templates
from tests.mappers.starter import CONFIG, LANGUAGES, catalogue

SHIPPED = {
    "appointment_booked",
    "appointment_rescheduled",
    "appointment_cancelled",
    "appointment_reminder",
    "caregiver_booked",
    "caregiver_rescheduled",
    "caregiver_cancelled",
    "caregiver_reminder",
    "caregiver_result_ready",
    "result_ready",
    "earlier_slot_offer",
    "visit_followup",
    "reply_waiting",
    "messages_confirmed",
    "consent_request",
}
BUTTONS = (CONFIG / "templates/buttons.yaml").read_text("utf-8")
GOOD = (CONFIG / "templates/reply_waiting.yaml").read_text("utf-8")


def test_the_shipped_ones() -> None:
    found = catalogue().templates
    assert set(found) == SHIPPED
    for template in found.values():
        assert tuple(template.languages) == LANGUAGES
        assert template.whatsapp_language == {"es": "es", "en": "en", "pt": "pt_BR"}
        assert template.category == "utility"
        for language in LANGUAGES:
            assert set(VARIABLE.findall(template.languages[language])) == set(template.params)
            assert set(template.button_titles[language]) == set(template.buttons)


def test_params_keep_their_order() -> None:
    template = catalogue().get("appointment_booked")
    assert template is not None
    assert template.params == ("patient_name", "day", "time", "doctor", "place")
    assert template.samples["doctor"] == "Dra. Ruiz"
    assert template.button_titles["pt"]["cancel"] == "Cancelar consulta"


def test_fill_is_one_pass() -> None:
    template = catalogue().get("messages_confirmed")
    assert template is not None
    values = {"patient_name": "{{topics}}", "topics": "{{stop_word}}", "stop_word": "BAJA"}
    assert template.fill("es", values).startswith("Hola, {{topics}}. Usted aceptó")


def test_language_chain() -> None:
    template = catalogue().get("reply_waiting")
    assert template is not None
    assert chain("es_MX", ("en", "pt_BR")) == ("es_MX", "es", "en", "pt_BR", "pt")
    assert template.language("es_MX", LANGUAGES) == "es"
    assert template.language("fr", ("pt", "es")) == "pt"
    assert template.language("fr", ()) is None


MISTAKES = [
    ("name: reply_waiting", "name: Reply-Waiting", "BR015", "wrong form"),
    ("category: utility", "category: marketing", "BR012", "not allowed"),
    ("buttons: [read]", "buttons: [raed]", "BR048", 'buttons.yaml has no entry for "raed"'),
    ("params: {patient_name: Ana}", "params: {patient_name: Ana, day: hoy}", "BR041", "does not use {{day}}"),
    ("Hola, {{patient_name}}.", "Hola, {{nombre}}.", "BR041", "{{nombre}} is not one of the params"),
    ("Hola, {{patient_name}}.", "Hola, {{patient_name}} {{1}}.", "BR041", "written {{name}}"),
    ("    whatsapp: pt_BR\n", "", "BR013", 'missing key "whatsapp"'),
    ("parameter_format: named", "parameter_format: numbered", "BR012", "not allowed"),
]


@pytest.mark.parametrize(("before", "after", "code", "words"), MISTAKES)
def test_mistakes(before: str, after: str, code: str, words: str) -> None:
    assert before in GOOD
    docs = [load_document(BUTTONS, "buttons.yaml"), load_document(GOOD.replace(before, after, 1), "reply.yaml")]
    with pytest.raises(Refused) as caught:
        load_templates(docs)
    assert any(each.code == code and words in each.message for each in caught.value.problems), caught.value.problems


def test_a_name_twice_and_a_title_missing() -> None:
    titles = BUTTONS.replace(
        "read:       {es: Leer la respuesta,   en: Read the answer,  pt: Ler a resposta}", "read: {es: Leer}"
    )
    docs = [load_document(titles, "t/buttons.yaml"), load_document(GOOD, "one.yaml"), load_document(GOOD, "two.yaml")]
    with pytest.raises(Refused) as caught:
        load_templates(docs)
    found = [(each.file, each.code, each.message) for each in caught.value.problems]
    assert ("two.yaml", "BR046", '"reply_waiting" is already the name of one.yaml') in found
    assert ("t/buttons.yaml", "BR048", '"read" has no title in en, pt, where reply_waiting shows it') in found


def test_a_long_button_title_is_refused() -> None:
    titles = BUTTONS.replace("Leer la respuesta,", "Leer la respuesta completa,")
    with pytest.raises(Refused) as caught:
        load_templates([load_document(titles, "buttons.yaml")])
    assert "at most 20" in caught.value.problems[0].message
