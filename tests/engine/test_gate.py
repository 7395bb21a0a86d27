"""A document behind a gate: what the phone gets, and what it never gets before somebody has shown who they are."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import responses

from bridge.ledger.tables import audit, consent, inbox, outbox, question, turn
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, PNID, Bench
from tests.stores import KINDS

ANA, FATHER = people.ANA_PHONE, people.FATHER_PHONE
PDF = b"%PDF-1.7 invented and harmless"
RIGHT, WRONG = "12/3/1985", "13/3/1985"
SHOW, NURSE = 0, 1
UPLOAD = f"https://graph.example/v23.0/{PNID}/media"


@pytest.fixture
def graph() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.add(responses.POST, UPLOAD, json={"id": "987654321"})
        yield mock


def ready(bench: Bench, *, patient: str = "Patient/ana", **more: Any) -> Bubble:
    """A report is final, its patient has consented; returns the bubble that says so."""
    attached = {"contentType": "application/pdf", "data": base64.b64encode(PDF).decode()}
    bench.clerk(people.consent("c1", patient, MORNING), door="consents")
    bench.settle()
    bench.clerk(people.report("r1", patient, MORNING, presentedForm=[attached], **more), door="results")
    bench.settle()
    return bench.whatsapp.bubbles[-1] if bench.whatsapp.bubbles else None  # type: ignore[return-value]


def results(workshop: Workshop, kind: str = "sqlite", **changes: Any) -> Bench:
    return workshop(kind, results={"enabled": True}, **changes)


def tap(bench: Bench, bubble: Bubble, index: int = SHOW, **more: Any) -> None:
    bench.tap(bubble, index, **more)
    bench.settle_replies()


def later(bench: Bench, **period: float) -> None:
    """Time goes on for patients."""
    bench.site.clock.push(timedelta(**period))


def says(bench: Bench, words: str, who: str = ANA, **more: Any) -> None:
    bench.says(who, words, **more)
    bench.settle_replies()


def last(bench: Bench, who: str = ANA) -> Bubble:
    return bench.whatsapp.of(who)[-1]


def words(bench: Bench, who: str = ANA) -> str:
    return last(bench, who).text or ""


def documents(bench: Bench, who: str = ANA) -> list[Any]:
    return [bubble.body["document"] for bubble in bench.whatsapp.of(who) if bubble.body["type"] == "document"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_to_a_document(workshop: Workshop, kind: str, graph: responses.RequestsMock) -> None:
    bench = results(workshop, kind)
    bubble = ready(bench)
    assert bubble.template == "result_ready"
    assert "Hemograma" not in str(bench.whatsapp.posts)
    tap(bench, bubble)
    assert words(bench).startswith("Para confirmar que es usted, escriba su fecha de nacimiento")
    says(bench, RIGHT)
    [document] = documents(bench)
    assert document == {
        "id": "987654321",
        "filename": "informe.pdf",
        "caption": "Este es su documento. Si tiene preguntas, escríbalas en este chat.",
    }
    assert PDF in bytes(graph.calls[0].request.body)
    assert "Texto clínico" not in str(bench.whatsapp.posts)
    assert not bench.open_turns()
    assert [row.action for row in bench.rows(audit, audit.c.action.like("gate %"))] == ["gate right"]


def test_what_is_typed_is_kept_nowhere(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench))
    says(bench, RIGHT)
    typed = bench.rows(turn, turn.c.direction == "in")[-1]
    assert RIGHT not in bench.crypto.decrypt(typed.body, typed.key_id, "turn", "body", typed.id).decode()
    assert bench.rows(inbox)[-1].body is None
    assert RIGHT not in str(bench.ehr.of("Communication"))
    for row in bench.rows(outbox):
        assert "1985" not in bench.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id).decode()


def test_a_wrong_answer_reveals_nothing_and_three_lock_it(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    bubble = ready(bench)
    tap(bench, bubble)
    for _ in range(2):
        says(bench, WRONG)
        assert words(bench) == "No coincide con lo que tenemos. Escríbalo otra vez, por favor."
    says(bench, WRONG)
    assert words(bench).startswith("Por seguridad hemos cerrado este documento.")
    assert bench.open_turns() == ["could not show who they are: 3 wrong answers, the document stays closed"]
    says(bench, RIGHT)  # nobody asks any more
    tap(bench, bubble)
    assert words(bench).startswith("Por seguridad hemos cerrado")
    says(bench, RIGHT)
    later(bench, hours=23)
    tap(bench, bubble)
    says(bench, RIGHT)
    assert not documents(bench)
    later(bench, hours=2)
    tap(bench, bubble)
    says(bench, RIGHT)
    assert len(documents(bench)) == 1


def test_tapping_again_gives_no_new_tries(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    bubble = ready(bench)
    for _ in range(3):
        tap(bench, bubble)
        says(bench, WRONG)
    assert words(bench).startswith("Por seguridad hemos cerrado")


def test_a_right_one_after_a_wrong_one(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    bubble = ready(bench)
    tap(bench, bubble)
    says(bench, WRONG)
    says(bench, "12 de marzo de 1985")
    assert len(documents(bench)) == 1
    tap(bench, bubble)  # within a quarter of an hour nobody is asked again
    assert len(documents(bench)) == 2
    later(bench, minutes=16)
    tap(bench, bubble)
    assert words(bench).startswith("Para confirmar")


def test_no_date_that_exists(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench))
    says(bench, "31/2/1985")
    assert words(bench) == "No pudimos leer esa fecha. Escríbala así, por favor: 1/2/1980"
    says(bench, "99/99/1985")
    assert bench.open_turns() == ["could not write the date of birth in a way we can read"]
    assert {row.choice for row in bench.rows(question)} == {"unclear"}


def test_words_that_are_no_try_go_to_a_person(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench))
    says(bench, "¿Quién es usted?")
    assert bench.open_turns() == ["wrote in free words"]
    assert [row.choice for row in bench.rows(question)] == [None]


def test_stop_is_stop_at_a_gate_too(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench))
    says(bench, "BAJA")
    assert "no le enviaremos más mensajes" in words(bench)
    assert {row.decision for row in bench.rows(consent, consent.c.source == "chat")} == {"deny"}


def test_the_answer_of_another_identity_on_a_shared_phone_does_not_count(
    workshop: Workshop, graph: responses.RequestsMock
) -> None:
    """Lucía has Ana's telephone too: her own birth date opens nothing of Ana's."""
    bench = results(workshop)
    lucia = people.lucia()
    lucia["telecom"] = people.ana()["telecom"]
    bench.ehr.put(lucia)
    bench.clerk(people.appointment("a2", MORNING.replace(day=20), patient="Patient/lucia"))
    bench.settle()
    tap(bench, ready(bench))
    says(bench, "30/11/1992")
    assert not documents(bench)
    assert words(bench).startswith("No coincide")


def test_a_forwarded_bubble_opens_nothing(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench), who=people.LUCIA_PHONE)
    says(bench, RIGHT, people.LUCIA_PHONE)
    assert not documents(bench, people.LUCIA_PHONE)
    assert "enviado a otro teléfono" in bench.whatsapp.of(people.LUCIA_PHONE)[0].text


def test_a_result_of_a_minor_waits_for_a_clinician(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    ready(bench, patient="Patient/mateo")
    [held] = bench.messages(outbox.c.mapping == "result-ready")
    assert (held.state, held.reason) == ("held", "a clinician must release it: a result of a minor")
    release(bench, held.id)
    assert last(bench, FATHER).template == "caregiver_result_ready"
    tap(bench, last(bench, FATHER))
    assert "de la persona de la que trata" in words(bench, FATHER)
    says(bench, "20/05/2017", FATHER)
    assert len(documents(bench, FATHER)) == 1


def release(bench: Bench, message: int) -> None:
    from bridge.engine.operations import doubts_resend

    doubts_resend(bench.site, [message])
    bench.settle()


def test_what_a_clinician_released_stays_released_and_nothing_else(
    workshop: Workshop, graph: responses.RequestsMock
) -> None:
    bench = results(workshop)
    coded = [{"coding": [{"system": "http://snomed.info/sct", "code": "1"}]}]
    ready(bench, conclusionCode=coded)
    [held] = bench.messages(outbox.c.mapping == "result-ready")
    assert held.reason == "a clinician must release it: has a coded conclusion"
    release(bench, held.id)
    tap(bench, last(bench))
    says(bench, RIGHT)
    assert len(documents(bench)) == 1
    restricted = {"security": [{"code": "R"}]}
    bench.ehr.held["DiagnosticReport/r1"]["meta"] |= restricted  # without a push: it is read when it is asked for
    tap(bench, next(each for each in bench.whatsapp.of(ANA) if each.template == "result_ready"))
    assert len(documents(bench)) == 1
    assert words(bench).startswith("No pudimos enviar el documento.")
    assert bench.open_turns() == ["was let through to a document that could not be sent"]


def test_a_document_behind_a_url_and_one_outside_the_ehr(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    bubble = ready(bench)
    bench.ehr.put({"resourceType": "Binary", "id": "b1", "contentType": "application/pdf",
                   "data": base64.b64encode(PDF).decode()})  # fmt: skip
    report = bench.ehr.get("DiagnosticReport/r1")
    report["presentedForm"] = [{"contentType": "application/pdf", "url": "Binary/b1"}]
    tap(bench, bubble)
    says(bench, RIGHT)
    assert len(documents(bench)) == 1
    report["presentedForm"] = [{"contentType": "application/pdf", "url": "https://elsewhere.example/r.pdf"}]
    tap(bench, bubble)
    assert words(bench).startswith("No pudimos enviar el documento.")


def test_an_ehr_that_is_down_for_a_moment(workshop: Workshop, graph: responses.RequestsMock) -> None:
    bench = results(workshop)
    tap(bench, ready(bench))
    bench.ehr.down = True
    says(bench, RIGHT)
    assert not documents(bench)
    bench.ehr.down = False
    bench.pass_(seconds=6)
    bench.settle()
    assert len(documents(bench)) == 1


def test_whatsapp_does_not_take_it(workshop: Workshop) -> None:
    bench = results(workshop)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as graph:
        graph.add(responses.POST, UPLOAD, status=500)
        tap(bench, ready(bench))
        says(bench, RIGHT)
        for _ in range(6):
            bench.pass_(minutes=3)
            bench.settle()
        assert len(graph.calls) == 6
    assert not documents(bench)
    assert words(bench).startswith("No pudimos enviar el documento.")
