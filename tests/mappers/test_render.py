"""Mapping × context -> message or Skip: languages, zones, guardians, buttons, empty data, hostile data."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from bridge.mappers.mapping import Mapping
from bridge.mappers.render import ButtonSpec, Context, Skip, TemplateMessage, conditions, held, render
from tests.mappers.starter import CONFIG, context, one, starters


def mapping(name: str = "appointment-booked") -> Mapping:
    found = starters().get(name)
    assert found is not None
    return found


def sent(name: str, seen: Context) -> TemplateMessage:
    outcome = render(mapping(name), seen)
    assert isinstance(outcome, TemplateMessage), outcome
    return outcome


def skipped(name: str, seen: Context) -> str:
    outcome = render(mapping(name), seen)
    assert isinstance(outcome, Skip), outcome
    return outcome.reason


# as the prototype rendered it, mapping-language.md D.5
MADRID = """Hola, Ana. Su cita quedó reservada.
Día: miércoles, 24 de noviembre de 2027
Hora: 15:30
Con: Dra. Ruiz
Lugar: Consultas externas, planta 2
Use los botones para confirmarla o cambiarla."""
SAO_PAULO = """Olá, Ana. Sua consulta está marcada.
Dia: quarta-feira, 24 de novembro de 2027
Hora: 11:30
Com: Dra. Ruiz
Local: Consultas externas, planta 2
Use os botões para confirmar ou mudar."""


@pytest.mark.parametrize(
    ("language", "zone", "code", "body"),
    [
        ("es", "Europe/Madrid", "es", MADRID),
        ("pt", "America/Sao_Paulo", "pt_BR", SAO_PAULO),
        ("pt_BR", "America/Sao_Paulo", "pt_BR", SAO_PAULO),
        ("es_MX", "America/Mexico_City", "es", MADRID.replace("15:30", "8:30 a.m.")),
        ("fr", "Europe/Madrid", "es", MADRID),  # the site's default, and its way to write the hour
    ],
)
def test_languages_and_zones(language: str, zone: str, code: str, body: str) -> None:
    base = context("appointment-booked", language=language, zone=zone)
    seen = replace(base, resource={**base.resource, "start": "2027-11-24T14:30Z"})
    message = sent("appointment-booked", seen)
    assert message.body == body
    assert message.language == code


def test_the_whole_message() -> None:
    message = sent("appointment-booked", context("appointment-booked", language="en"))
    assert message.template == "appointment_booked"
    assert message.params == (
        ("patient_name", "Ana"),
        ("day", "Wednesday, November 25, 2026"),
        ("time", "3:30 PM"),
        ("doctor", "Dra. Ruiz"),
        ("place", "Consultas externas, planta 2"),
    )
    assert message.buttons == (
        ButtonSpec(0, "confirm", "appointment.confirm", False, None, "Confirm"),
        ButtonSpec(1, "reschedule", "appointment.reschedule", False, None, "Change it"),
        ButtonSpec(2, "cancel", "appointment.cancel", True, None, "Cancel it"),
    )
    assert (message.purpose, message.role) == ("appointments", "self")


def test_buttons_keep_the_templates_order() -> None:
    text = (CONFIG / "mappings/appointment-booked.yaml").read_text("utf-8")
    confirm = "    - {id: confirm,    do: appointment.confirm}\n"
    moved = text.replace(confirm, "").replace("\nthen:\n", f"{confirm}\nthen:\n")
    outcome = render(one(moved).mappings[0], context("appointment-booked"))
    assert isinstance(outcome, TemplateMessage)
    assert [(button.index, button.id) for button in outcome.buttons] == [
        (0, "confirm"),
        (1, "reschedule"),
        (2, "cancel"),
    ]


def test_a_button_may_expire() -> None:
    message = sent("result-ready", context("result-ready"))
    assert message.buttons[0] == ButtonSpec(0, "show", "results.show", False, timedelta(days=7), "Ver el documento")


def test_guardian_reads_another_template() -> None:
    seen = context("appointment-booked-minor")
    assert seen.role == "guardian"
    message = sent("appointment-booked", seen)
    assert message.template == "caregiver_booked"
    assert message.body.startswith("Hola, Luis. Le escribimos como responsable de Mateo.")
    assert [button.id for button in message.buttons] == ["confirm", "reschedule", "cancel"]
    assert message.role == "guardian"


def test_a_mapping_for_patients_has_nothing_for_a_guardian() -> None:
    assert skipped("consent-granted", context("consent-granted", role="guardian")) == (
        "the mapping has no text for a guardian"
    )


SKIPS = [
    ("appointment-booked", "appointment-booked", {"now": "2026-11-26T10:00:00+01:00"}, "appointment is in the past"),
    ("appointment-booked", "appointment-cancelled", {}, "appointment is not booked"),
    (
        "appointment-cancelled",
        "appointment-cancelled",
        {"origin": "patient-chat"},
        "the patient cancelled in this chat and has already been answered",
    ),
    (
        "appointment-booked",
        "appointment-booked-minor",
        {"guardian": None, "role": "guardian"},
        "no value for caregiver_name",
    ),
    ("appointment-rescheduled", "appointment-rescheduled", {"previous": None}, "no value for old_day"),
    ("consent-granted", "consent-granted", {"consent_topics": ""}, "no value for topics"),
    (
        "appointment-reminder",
        "appointment-confirmed",
        {"offset": "24h", "site_policy": {"confirmed_once": True}},
        "reminder 24h not needed: skip_if holds",
    ),
]


@pytest.mark.parametrize(("name", "given", "changes", "reason"), SKIPS)
def test_skips(name: str, given: str, changes: dict[str, Any], reason: str) -> None:
    assert skipped(name, context(given, **changes)) == reason


@pytest.mark.parametrize(
    ("offset", "policy"),
    [("3d", {"confirmed_once": True}), ("24h", {"confirmed_once": False}), ("24h", {}), ("24h", None)],
)
def test_skip_if_must_be_exactly_true(offset: str, policy: dict[str, Any] | None) -> None:
    seen = context("appointment-confirmed", offset=offset, site_policy=policy)
    assert sent("appointment-reminder", seen).template == "appointment_reminder"


def test_defaults_speak_the_readers_language() -> None:
    seen = context("appointment-booked", practitioner=None, language="pt")
    assert dict(sent("appointment-booked", seen).params)["doctor"] == "sua equipe médica"
    nameless = context(
        "appointment-booked", patient={"resourceType": "Patient", "name": [{"family": "X"}]}, language="en"
    )
    assert dict(sent("appointment-booked", nameless).params)["patient_name"] == "patient"


def test_map_answers_known_other_and_absent_codes() -> None:
    known = context("appointment-reminder", offset="24h")
    assert dict(sent("appointment-reminder", known).params)["bring"] == "Venga en ayunas de 8 horas."
    coding = {"system": "http://hospital.example/service", "code": "x-ray"}
    other = replace(known, resource={**known.resource, "serviceType": [{"coding": [coding]}]})
    assert dict(sent("appointment-reminder", other).params)["bring"] == "Traiga su documento de identidad."
    absent = context("appointment-booked", offset="24h", language="en")
    assert dict(sent("appointment-reminder", absent).params)["bring"] == "Please bring your ID."


def test_r5_reads_what_r5_has() -> None:
    """R5 moved serviceType.coding: the path gives nothing there and the map's "*" answers."""
    service = [{"concept": {"coding": [{"system": "http://hospital.example/service", "code": "blood-test"}]}}]
    base = context("appointment-booked", offset="24h", fhir_version="R5")
    seen = replace(base, resource={**base.resource, "serviceType": service})
    assert dict(sent("appointment-reminder", seen).params)["bring"] == "Traiga su documento de identidad."


def test_conditions_for_the_trace() -> None:
    assert conditions(mapping(), context("appointment-cancelled")) == (
        ("appointment is in the past", True),
        ("appointment is not booked", False),
    )


def test_a_condition_without_an_answer_is_not_true() -> None:
    base = context("appointment-booked")
    unknown = replace(base, resource={key: value for key, value in base.resource.items() if key != "status"})
    assert skipped("appointment-booked", unknown) == "appointment is not booked"
    broken = replace(base, resource={**base.resource, "start": "soon"})
    assert skipped("appointment-booked", broken).startswith("appointment is in the past (a date that cannot be read")


def test_hold_rules_fail_closed() -> None:
    result = mapping("result-ready")
    base = context("result-ready", site_policy={"sensitive_loinc": ["58410-2"], "release_abnormal": False})
    assert held(result, base) == ("sensitive test",)
    labelled = {**base.resource, "meta": {"security": [{"code": "R"}]}, "conclusionCode": [{"text": "x"}]}
    policy = {"sensitive_loinc": []}
    assert held(result, replace(base, resource=labelled, site_policy=policy)) == (
        "labelled restricted",
        "has a coded conclusion",
    )
    assert held(result, replace(base, site_policy=policy)) == ()
    assert held(mapping(), context("appointment-booked")) == ()


HOSTILE = [
    "planta 2\n\n{{day}}",
    "Sala {{1}} {{patient_name}}",
    "\u202eplanta",
    "a\tb      c\r\nd",
    "x" * 500,
    "Consultas externas " * 20,
    "'; DROP TABLE outbox;--",
    "<b>planta</b>",
]


@pytest.mark.parametrize("place", HOSTILE)
def test_hostile_values_stay_values(place: str) -> None:
    base = context("appointment-booked")
    message = sent("appointment-booked", replace(base, location={"resourceType": "Location", "name": place}))
    value = dict(message.params)["place"]
    assert len(value) <= 60
    assert not any(sign in value for sign in ("\n", "\t", "\r", "     ", "{{", "\u202e"))
    assert f"Lugar: {value}\n" in message.body
    assert message.body.count("\n") == 5


@pytest.mark.parametrize("place", [" ", "\n", "\u200b"])
def test_what_is_empty_once_cleaned_takes_the_default(place: str) -> None:
    base = context("appointment-booked")
    message = sent("appointment-booked", replace(base, location={"resourceType": "Location", "name": place}))
    assert dict(message.params)["place"] == "el hospital"


def test_several_values_are_not_guessed_at() -> None:
    text = (CONFIG / "mappings/appointment-booked.yaml").read_text("utf-8")
    text = text.replace(
        'place:        {path: "%site", max: 60, default: {es: el hospital, en: the hospital, pt: o hospital}}',
        "place: participant.status",
    )
    base = context("appointment-booked")
    outcome = render(one(text).mappings[0], base)
    assert outcome == Skip("no value for place: several values where one is wanted")


def test_too_long_a_text_is_not_cut_in_silence() -> None:
    text = (CONFIG / "mappings/appointment-booked.yaml").read_text("utf-8").replace('"%site", max: 60', '"%site"')
    base = context("appointment-booked")
    seen = replace(base, location={"resourceType": "Location", "name": "palabra " * 130})
    outcome = render(one(text).mappings[0], seen)
    assert isinstance(outcome, Skip)
    assert "WhatsApp takes 1024" in outcome.reason
    assert "palabra" not in outcome.reason


def test_nothing_that_was_read_changes() -> None:
    seen = context("appointment-reminder", offset="24h", site_policy={"confirmed_once": True})
    before = copy.deepcopy(seen)
    for each in starters().mappings:
        if each.resource_type == "Appointment":
            render(each, seen)
            conditions(each, seen)
    assert seen == before


def test_read_only_resources_do() -> None:
    """A projection may be handed over as a mapping that is no dict."""
    base = context("appointment-rescheduled")
    assert base.previous is not None
    seen = replace(base, previous=MappingProxyType(dict(base.previous)), resource=MappingProxyType(dict(base.resource)))
    assert render(mapping("appointment-rescheduled"), seen) == render(mapping("appointment-rescheduled"), base)


def test_no_patient_data_in_a_reason() -> None:
    base = context("appointment-booked")
    patient = {"resourceType": "Patient", "name": [{"given": [{"Secreta": 1}]}]}
    for changes in ({"patient": patient}, {"location": {"resourceType": "Location", "name": {"Secreta": 2}}}):
        outcome = render(mapping(), replace(base, **changes))
        assert "Secreta" not in (outcome.reason if isinstance(outcome, Skip) else "")


def test_a_render_takes_well_under_a_millisecond() -> None:
    """0.08 ms where this was measured; ten times that would mean that a closure or a cache was lost."""
    seen, rule = context("appointment-booked"), mapping()
    render(rule, seen)
    best = min(_seconds(rule, seen) for _ in range(20))
    assert best < 0.001


def _seconds(rule: Mapping, seen: Context) -> float:
    start = time.perf_counter()
    render(rule, seen)
    return time.perf_counter() - start


def test_now_is_the_argument() -> None:
    seen = context("appointment-booked", now=datetime.fromisoformat("2026-11-25T15:29:00+01:00"))
    assert sent("appointment-booked", seen)
    late = replace(seen, now=datetime.fromisoformat("2026-11-25T15:30:00+01:00"))
    assert skipped("appointment-booked", late) == "appointment is in the past"
