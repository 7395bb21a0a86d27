"""`consent.if_missing`: the patient is asked once, or a person has it to do; what was held leaves with a yes and ends with a no."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger.tables import consent, outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

IRENE, FATHER = people.UNASKED_PHONE, people.FATHER_PHONE
YES, NO = 0, 1
REQUEST, BOOKED, RESULT = "consent_request", "appointment_booked", "result_ready"
START = MORNING + timedelta(days=9)
BLOCK = {
    "purposes": {"appointments": {"without_decision": "block"}, "results": {"without_decision": "block"}},
    "recognise": [
        {"category": "http://loinc.org|89057-4", "purposes": ["appointments"]},
        {"category": "https://hospital.example/consents|results", "purposes": ["results"]},
    ],
}


def asking(workshop: Workshop, kind: str = "sqlite", *, missing: str = "ask", **changes: Any) -> Bench:
    """A bench whose booking mapping asks, or leaves it to a person."""
    bench = workshop(kind, **({"consent": BLOCK} | changes))
    content = bench.site.content
    mappings = tuple(
        replace(each, consent=replace(each.consent, if_missing=missing)) if each.id == "appointment-booked" else each
        for each in content.mappings.mappings
    )
    bench.site.content = replace(content, mappings=replace(content.mappings, mappings=mappings))
    return bench


def book(bench: Bench, name: str = "a1", patient: str = "Patient/irene") -> None:
    bench.clerk(people.appointment(name, START, patient=patient))
    turn_on(bench)


def turn_on(bench: Bench) -> None:
    for _ in range(2):
        bench.settle()
        bench.pass_(seconds=3)
    bench.settle()


def answer(bench: Bench, bubble: Bubble, index: int) -> None:
    bench.tap(bubble, index)
    bench.settle_replies()
    turn_on(bench)


@pytest.mark.parametrize("kind", KINDS)
def test_a_yes_lets_it_leave(workshop: Workshop, kind: str) -> None:
    bench = asking(workshop, kind)
    book(bench)
    assert bench.told(IRENE) == [REQUEST]
    [asked] = bench.whatsapp.of(IRENE)
    assert asked.params == {"site_name": "Hospital Demo", "topics": "citas"}
    [held] = bench.messages(outbox.c.mapping == "appointment-booked")
    assert held.reason == "no consent to messages about appointments is known: the patient is asked"
    answer(bench, asked, YES)
    assert bench.told(IRENE)[1].startswith("Gracias. Le escribiremos en este chat.")
    assert bench.told(IRENE)[2:] == [BOOKED]
    [written] = bench.ehr.of("Consent")
    assert written["provision"]["type"] == "permit"
    assert written["category"][0]["coding"][0]["code"] == "89057-4"
    assert [(row.purpose, row.decision) for row in bench.rows(consent)] == [("appointments", "permit")]


def test_a_no_ends_it_and_nobody_is_asked_twice(workshop: Workshop) -> None:
    bench = asking(workshop)
    book(bench)
    answer(bench, bench.whatsapp.of(IRENE)[0], NO)
    assert bench.told(IRENE)[1].startswith("De acuerdo: no le escribiremos sobre eso.")
    [written] = bench.ehr.of("Consent")
    assert written["provision"]["type"] == "deny"
    [held] = bench.messages(outbox.c.mapping == "appointment-booked")
    assert (held.state, held.reason) == ("closed", "the patient does not want messages about appointments")
    book(bench, "a2")
    assert len(bench.told(IRENE)) == 2


def test_who_does_not_answer_is_asked_once_and_the_message_expires(workshop: Workshop) -> None:
    bench = asking(workshop)
    book(bench)
    book(bench, "a2")
    assert bench.told(IRENE) == [REQUEST]
    bench.pass_(hours=13)
    turn_on(bench)
    assert {row.state for row in bench.messages(outbox.c.mapping == "appointment-booked")} == {"closed"}
    assert bench.told(IRENE) == [REQUEST]


def test_what_changed_meanwhile_is_told_as_it_is_now(workshop: Workshop) -> None:
    bench = asking(workshop)
    book(bench)
    bench.clerk(people.appointment("a1", START, patient="Patient/irene", status="cancelled"))
    turn_on(bench)
    answer(bench, bench.whatsapp.of(IRENE)[0], YES)
    assert BOOKED not in bench.told(IRENE)


def test_a_consent_in_the_ehr_lets_it_leave_too(workshop: Workshop) -> None:
    bench = asking(workshop, missing="inbox")
    book(bench)
    assert bench.told(IRENE) == []
    assert bench.open_turns() == ["a consent to messages about appointments is to be asked for"]
    bench.clerk(people.consent("c9", "Patient/irene", bench.site.now()), door="consents")
    turn_on(bench)
    assert BOOKED in bench.told(IRENE)
    assert bench.open_turns() == []


def test_a_child_s_guardian_is_asked_by_a_person(workshop: Workshop) -> None:
    bench = asking(workshop)
    book(bench, patient="Patient/mateo")
    assert bench.told(FATHER) == []
    assert bench.open_turns() == ["a consent to messages about appointments is to be asked for"]


def test_stop_is_not_asked_again(workshop: Workshop) -> None:
    bench = asking(workshop)
    bench.says(IRENE, "BAJA")
    bench.settle_replies()
    book(bench)
    assert REQUEST not in bench.told(IRENE)


def test_a_result_without_consent_is_a_persons_and_one_that_a_clinician_holds_stays_theirs(workshop: Workshop) -> None:
    bench = workshop(results={"enabled": True})
    bench.clerk(people.report("r1", "Patient/irene", MORNING), door="results")
    coded = [{"coding": [{"system": "http://snomed.info/sct", "code": "1"}]}]
    bench.clerk(people.report("r2", "Patient/irene", MORNING, conclusionCode=coded), door="results")
    turn_on(bench)
    assert bench.open_turns() == ["a consent to messages about results is to be asked for"]
    bench.clerk(people.consent("c9", "Patient/irene", bench.site.now()), door="consents")
    turn_on(bench)
    assert bench.told(IRENE).count(RESULT) == 1
    assert [row.reason for row in bench.messages(outbox.c.state == "held")] == [
        "a clinician must release it: has a coded conclusion"
    ]
