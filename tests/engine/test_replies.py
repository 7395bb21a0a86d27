"""What patients write, from the webhook to the phone and the EHR: TR1, TR4, TR5, TR6 and design §5."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger.tables import consent, outbox, person
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
ANA, FATHER = people.ANA_PHONE, people.FATHER_PHONE
CONFIRM, RESCHEDULE, CANCEL = 0, 1, 2
YES, NO = 0, 1
BOOKED, MOVED, CANCELLED = "appointment_booked", "appointment_rescheduled", "appointment_cancelled"


def book(bench: Bench, name: str = "a1", *, patient: str = "Patient/ana", days: int = 0) -> None:
    bench.clerk(people.appointment(name, START + timedelta(days=days), patient=patient))
    bench.settle()


def last(bench: Bench, who: str = ANA) -> Bubble:
    return bench.whatsapp.of(who)[-1]


def words(bubble: Bubble) -> str:
    return bubble.text or ""


def own_status(bench: Bench, name: str = "a1") -> str:
    return str(bench.ehr.get(f"Appointment/{name}")["participant"][0]["status"])


def says(bench: Bench, words: str, who: str = ANA, **more: Any) -> None:
    bench.says(who, words, **more)
    bench.settle_replies()


# --- STOP and START ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_stop_and_start(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    book(bench)
    says(bench, "BAJA")
    assert "no le enviaremos más mensajes" in words(last(bench))
    [denied] = bench.ehr.of("Consent")
    assert denied["provision"]["type"] == "deny"
    before = len(bench.whatsapp.bubbles)
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert len(bench.whatsapp.bubbles) == before
    assert bench.messages(outbox.c.mapping == "appointment-rescheduled")[0].state == "suppressed"
    says(bench, "ALTA")
    assert "volverá a recibir" in words(last(bench))
    assert {one["provision"]["type"] for one in bench.ehr.of("Consent")} == {"deny", "permit"}
    bench.clerk(people.appointment("a1", START + timedelta(days=2)))
    bench.settle()
    assert last(bench).template == MOVED  # and nothing old was revived by it
    assert bench.told(ANA).count(MOVED) == 1


def test_stop_of_somebody_we_do_not_know_counts_when_we_learn_who_it_is(bench: Bench) -> None:
    says(bench, "stop")
    assert bench.open_turns()
    book(bench)
    assert bench.told(ANA)[1:] == []


def test_a_newer_consent_in_the_ehr_lifts_a_stop(bench: Bench) -> None:
    book(bench)
    says(bench, "BAJA")
    bench.pass_(hours=1)
    bench.clerk(people.consent("c9", "Patient/ana", bench.site.now()), door="consents")
    bench.settle()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert last(bench).template == MOVED


def test_an_older_consent_does_not(bench: Bench) -> None:
    book(bench)
    bench.pass_(hours=1)
    says(bench, "BAJA")
    bench.clerk(people.consent("c9", "Patient/ana", bench.site.now() - timedelta(minutes=30)), door="consents")
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert MOVED not in bench.told(ANA)


def test_a_start_that_comes_late_lifts_no_later_stop(bench: Bench) -> None:
    """WhatsApp delivers for a week: what counts is when it was written."""
    book(bench)
    early = bench.seconds()
    bench.pass_(minutes=1)
    says(bench, "BAJA")
    bench._message(ANA, {"type": "text", "text": {"body": "ALTA"}, "timestamp": str(early)})
    bench.settle_replies()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert MOVED not in bench.told(ANA)
    assert "no le enviaremos más mensajes" in words(last(bench))


def test_both_waiting_at_once_count_in_the_order_they_were_written(bench: Bench) -> None:
    book(bench)
    bench.says(ANA, "BAJA")
    bench.pass_(seconds=1)
    bench.says(ANA, "ALTA")
    bench.settle_replies()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert last(bench).template == MOVED


def test_a_stop_is_honoured_whatever_else_goes_wrong(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from bridge.engine import replies

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect of ours")

    book(bench)
    with monkeypatch.context() as patch:
        patch.setattr(replies, "respond", broken)
        says(bench, "BAJA")
    assert bench.alarms()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert bench.told(ANA) == [BOOKED]


def test_cancelar_is_not_stop(bench: Bench) -> None:
    """It may mean either: we ask, and both answers work."""
    book(bench)
    says(bench, "CANCELAR")
    assert "¿Quiere cancelar una cita o dejar de recibir mensajes?" in words(last(bench))
    assert not bench.ehr.of("Consent")
    bench.tap(last(bench), 0)
    bench.settle_replies()
    assert "¿Cancelamos su cita" in words(last(bench))
    bench.tap(last(bench), YES)
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["status"] == "cancelled"
    says(bench, "Cancelar")
    bench.tap(last(bench), 1)
    bench.settle_replies()
    assert "no le enviaremos más mensajes" in words(last(bench))


@pytest.mark.parametrize("said", ["no", "NO PUEDO", "👍", "necesito la baja médica", "gracias"])
def test_nothing_else_opts_out(bench: Bench, said: str) -> None:
    book(bench)
    says(bench, said)
    assert not bench.ehr.of("Consent")
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert last(bench).template == MOVED


def test_a_guardians_stop_ends_the_guardians_link(bench: Bench) -> None:
    book(bench, patient="Patient/mateo")
    assert bench.told(FATHER) == ["caregiver_booked"]
    says(bench, "BAJA", FATHER)
    assert not bench.ehr.of("Consent")  # the child's consent is not the father's to take back
    assert bench.rows(person, person.c.kind == "related")[0].link_ended_at is not None
    bench.clerk(people.appointment("a1", START + timedelta(days=1), patient="Patient/mateo"))
    bench.settle()
    assert bench.told(FATHER)[2:] == []


def test_a_guardians_start_gives_the_link_back(bench: Bench) -> None:
    """He reads that he gets messages again, so he does."""
    book(bench, patient="Patient/mateo")
    says(bench, "BAJA", FATHER)
    says(bench, "ALTA", FATHER)
    assert bench.rows(person, person.c.kind == "related")[0].link_ended_at is None
    bench.clerk(people.appointment("a1", START + timedelta(days=1), patient="Patient/mateo"))
    bench.settle()
    assert "caregiver_rescheduled" in bench.told(FATHER)


def test_two_patients_on_one_phone(bench: Bench) -> None:
    """STOP blocks the phone for both; whose consent it was is not guessed."""
    bench.ehr.put(people.patient("hermana", "Olga", "Gómez Prats", ANA))
    book(bench)
    book(bench, "a2", patient="Patient/hermana")
    assert bench.told(ANA) == [BOOKED, BOOKED]
    says(bench, "BAJA")
    assert not bench.ehr.of("Consent")
    assert any("not clear whose" in reason for reason in bench.open_turns())
    for name, patient in (("a1", "Patient/ana"), ("a2", "Patient/hermana")):
        bench.clerk(people.appointment(name, START + timedelta(days=1), patient=patient))
    bench.settle()
    assert MOVED not in bench.told(ANA)


def test_two_patients_on_one_phone_a_tap_is_for_the_one_it_was_about(bench: Bench) -> None:
    bench.ehr.put(people.patient("hermana", "Olga", "Gómez Prats", ANA))
    book(bench)
    book(bench, "a2", patient="Patient/hermana")
    bench.tap(bench.whatsapp.of(ANA)[1], CONFIRM)
    bench.settle_replies()
    assert own_status(bench, "a2") == "accepted"
    assert own_status(bench, "a1") == "needs-action"
    says(bench, "cancelar la cita")
    assert {bench.ehr.get(f"Appointment/{name}")["status"] for name in ("a1", "a2")} == {"booked"}


# --- people with a username and no number ---------------------------------------------------------------------------


@pytest.mark.parametrize("learned", ["send", "status"])
def test_a_sender_without_a_number(bench: Bench, learned: str) -> None:
    """Linked by what WhatsApp said beside a message of ours: their tap counts, and so does their STOP."""
    user = "ES.user000000000000001"
    if learned == "send":
        bench.whatsapp.names_user_ids = True
        user = f"ES.{ANA}"
    book(bench)
    if learned == "status":
        bench.status(last(bench), "delivered", recipient_user_id=user)
        bench.settle()
    bench.tap(bench.whatsapp.of(ANA)[0], CONFIRM, who="", user_id=user)
    bench.settle_replies()
    assert own_status(bench) == "accepted"
    assert "está confirmada" in words(last(bench, user))
    bench.says("", "BAJA", user_id=user)
    bench.settle_replies()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert MOVED not in bench.told(ANA)
    assert MOVED not in bench.told(user)


def test_a_tap_of_an_unknown_user_changes_nothing(bench: Bench) -> None:
    book(bench)
    bench.tap(last(bench), CONFIRM, who="", user_id="ES.somebody")
    bench.settle_replies()
    assert own_status(bench) == "needs-action"
    assert "otro teléfono" in words(last(bench, "ES.somebody"))


# --- taps ---------------------------------------------------------------------------------------------------------------


def test_an_old_bubble(bench: Bench) -> None:
    """TR6: refused politely, the current time said, nothing changed in the EHR."""
    book(bench)
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    writes = len(bench.ehr.writes)
    for button in (CONFIRM, CANCEL):
        bench.tap(bench.whatsapp.of(ANA)[0], button)
        bench.settle_replies()
        assert "Ahora es: viernes, 11 de diciembre de 2026, 10:00" in words(last(bench))
    assert [call for call in bench.ehr.writes[writes:] if call[1] != "Communication"] == []


def test_a_foreign_tap(bench: Bench) -> None:
    book(bench)
    bench.tap(last(bench), CONFIRM, who=people.LUCIA_PHONE)
    bench.settle_replies()
    assert "otro teléfono" in words(last(bench, people.LUCIA_PHONE))
    assert own_status(bench) == "needs-action"


def test_a_tap_after_the_visit(bench: Bench) -> None:
    book(bench)
    bubble = last(bench)
    bench.pass_(days=9, hours=1)
    bench.tap(bubble, CONFIRM)
    bench.settle_replies()
    assert "ya no está en la agenda" in words(last(bench))
    assert own_status(bench) == "needs-action"


def test_a_tap_on_a_cancelled_visit(bench: Bench) -> None:
    book(bench)
    bench.clerk(people.appointment("a1", START, status="cancelled"))
    bench.settle()
    bench.tap(bench.whatsapp.of(ANA)[0], CONFIRM)
    bench.settle_replies()
    assert "ya no está en la agenda" in words(last(bench))


def test_a_forged_payload_is_a_persons_to_read(bench: Bench) -> None:
    book(bench)
    forged = last(bench)
    forged.buttons = ("b1.1.1.confirm.0123456789abcdef",)
    bench.tap(forged, 0)
    bench.settle_replies()
    assert own_status(bench) == "needs-action"
    assert bench.open_turns()


def test_a_button_whose_action_is_not_built(bench: Bench) -> None:
    book(bench)
    bench.tap(last(bench), RESCHEDULE)
    bench.settle_replies()
    assert "Una persona del hospital" in words(last(bench))
    assert bench.open_turns() == ["tapped appointment.reschedule"]


def test_the_webhook_comes_again_for_a_week(bench: Bench) -> None:
    """TR1."""
    book(bench)
    bubble = last(bench)
    for hours in (0, 1, 46, 2, 119):
        bench.pass_(hours=hours)
        bench._message(
            ANA, {"type": "button", "button": {"payload": bubble.buttons[0], "text": "—"}}, wamid="wamid.one"
        )
        bench.settle_replies()
    assert [call for call in bench.ehr.writes if call[1] == "Appointment/a1"] == [("PUT", "Appointment/a1")]
    assert sum("está confirmada" in words(one) for one in bench.whatsapp.of(ANA)) == 1


# --- questions ----------------------------------------------------------------------------------------------------------


def ask(bench: Bench) -> Bubble:
    book(bench)
    bench.tap(last(bench), CANCEL)
    bench.settle_replies()
    assert "¿Cancelamos su cita" in words(last(bench))
    return last(bench)


def test_a_typed_yes_counts_while_the_question_is_the_last_thing_we_said(bench: Bench) -> None:
    ask(bench)
    says(bench, "sí")
    assert bench.ehr.get("Appointment/a1")["status"] == "cancelled"


def test_a_typed_yes_after_ten_minutes_is_a_persons(bench: Bench) -> None:
    ask(bench)
    bench.pass_(minutes=11)
    says(bench, "sí")
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    assert bench.open_turns()


def test_a_thumb_answers_nothing(bench: Bench) -> None:
    question = ask(bench)
    bench._message(ANA, {"type": "reaction", "reaction": {"message_id": question.wamid, "emoji": "👍"}})
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"


def test_an_older_question_was_replaced_by_a_newer_one(bench: Bench) -> None:
    first = ask(bench)
    bench.tap(bench.whatsapp.of(ANA)[0], CANCEL)
    bench.settle_replies()
    second = last(bench)
    bench.tap(second, NO)
    bench.settle_replies()
    assert "sigue como estaba" in words(last(bench))
    bench.tap(first, YES)  # the older one does not decide against the newer one's answer: it is asked once more
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    assert "¿Cancelamos su cita" in words(last(bench))


def test_the_visit_moved_after_the_question(bench: Bench) -> None:
    question = ask(bench)
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    bench.tap(question, YES)
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    assert "Ahora es" in words(last(bench))


def test_somebody_elses_answer(bench: Bench) -> None:
    question = ask(bench)
    bench.tap(question, YES, who=people.LUCIA_PHONE)
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"


# --- what cannot be read, and who may not be written to -------------------------------------------------------------


@pytest.mark.parametrize("sent", ["audio", "sticker"])
def test_what_we_cannot_read(bench: Bench, sent: str) -> None:
    """One fixed sentence and a turn for a person; never silence."""
    bench.sends(ANA, sent)
    bench.settle_replies()
    assert "No pudimos leer" in words(last(bench))
    assert bench.open_turns()


def test_a_minors_guardian_gets_it(bench: Bench) -> None:
    bench.ehr.change("Patient/mateo", telecom=[{"system": "phone", "value": "+34612777777", "use": "mobile"}])
    book(bench, patient="Patient/mateo")
    assert bench.told(FATHER) == ["caregiver_booked"]
    assert bench.told("34612777777") == []


@pytest.mark.parametrize(
    "change",
    [
        {"deceasedBoolean": True},
        {"deceasedDateTime": "2026-11-30"},
        {"active": False},
        {"link": [{"type": "replaced-by", "other": {"reference": "Patient/lucia"}}]},
    ],
    ids=["deceased", "died", "inactive", "merged"],
)
def test_who_is_never_written_to(bench: Bench, change: dict[str, Any]) -> None:
    bench.ehr.change("Patient/ana", **change)
    book(bench)
    assert bench.told(ANA) == []
    [(fate, reason)] = bench.fates()
    assert fate == "suppressed"
    assert reason


@pytest.mark.parametrize("change", [{"deceasedBoolean": True}, {"active": False}], ids=["deceased", "inactive"])
def test_a_death_between_planning_and_leaving(bench: Bench, change: dict[str, Any]) -> None:
    bench.clerk(people.appointment("a1", START))
    bench.apply()
    bench.notify(bench.ehr.change("Patient/ana", **change), door="patients")
    bench.settle()
    assert bench.told(ANA) == []


def test_a_number_that_is_no_longer_hers(bench: Bench) -> None:
    bench.clerk(people.appointment("a1", START))
    bench.apply()
    other = [{"system": "phone", "value": "+34612888888", "use": "mobile"}]
    bench.notify(bench.ehr.change("Patient/ana", telecom=other), door="patients")
    bench.settle()
    assert bench.told(ANA) == []


def test_consent_unknown_where_it_is_needed(workshop: Workshop) -> None:
    purposes = {"appointments": {"without_decision": "block"}, "results": {"without_decision": "block"}}
    recognise = [{"category": "http://loinc.org|89057-4", "purposes": ["appointments"]}]
    bench = workshop(consent={"purposes": purposes, "recognise": recognise})
    bench.ehr.put(people.consent("c1", "Patient/lucia", MORNING - timedelta(days=9)))
    book(bench)
    book(bench, "a2", patient="Patient/lucia")
    assert bench.told(ANA) == []
    assert bench.told(people.LUCIA_PHONE) == [BOOKED]
    bench.clerk(people.consent("c2", "Patient/ana", bench.site.now()), door="consents")
    bench.settle()
    assert bench.told(ANA) == ["messages_confirmed"]  # what was suppressed before is not revived


@pytest.mark.parametrize("how", ["resource", "id only"])
def test_a_revocation(bench: Bench, how: str) -> None:
    bench.ehr.put(people.consent("c1", "Patient/ana", MORNING - timedelta(days=9)))
    bench.clerk(people.appointment("a1", START))
    bench.apply()
    revoked = bench.ehr.put(people.consent("c1", "Patient/ana", bench.site.now(), permit=False))
    if how == "resource":
        bench.notify(revoked, door="consents")
    else:
        bench.hint("Consent/c1", door="consents")
    bench.send_once()  # nothing is applied yet: it must be held back all the same
    assert bench.told(ANA) == []
    bench.settle()
    assert bench.told(ANA) == []
    assert bench.rows(consent)[-1].decision == "deny"


def test_quiet_hours_delay(workshop: Workshop) -> None:
    bench = workshop(at=MORNING.replace(hour=21))
    book(bench)
    assert bench.told(ANA) == []
    assert bench.messages()[0].reason == "quiet hours"
    bench.pass_(hours=10)
    bench.settle()
    assert bench.told(ANA) == [BOOKED]


def test_it_became_quiet_before_it_could_leave(workshop: Workshop) -> None:
    bench = workshop(at=MORNING.replace(hour=19, minute=59))  # a minute before nine in Madrid
    bench.clerk(people.appointment("a1", START))
    bench.apply()
    bench.pass_(minutes=2)
    bench.settle()
    assert bench.told(ANA) == []
    bench.pass_(hours=11)
    bench.settle()
    assert bench.told(ANA) == [BOOKED]


def test_not_primed(workshop: Workshop) -> None:
    bench = workshop(ehr={"prime": "required"})
    book(bench)
    assert bench.told(ANA) == []
    assert bench.fates()[0][0] == "suppressed"
    assert "not primed" in (bench.fates()[0][1] or "")


def test_start_overtakes_the_stop_before_it(bench: Bench) -> None:
    """STOP, then START: they arrive in the other order, and what was written last holds."""
    book(bench)
    stop, start = bench.seconds(), bench.seconds() + 1
    for at, text in ((start, "ALTA"), (stop, "BAJA")):
        message = {"from": ANA, "id": f"wamid.{text}", "timestamp": str(at), "type": "text", "text": {"body": text}}
        bench.webhook({"contacts": [{"wa_id": ANA}], "messages": [message]})
        bench.apply()
    bench.settle_replies()
    assert "volverá a recibir" in words(last(bench))
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert last(bench).template == MOVED


@pytest.mark.parametrize("how", ["refused", "missing for a moment"])
def test_a_patient_that_cannot_be_read_is_not_taken_for_gone(bench: Bench, how: str) -> None:
    book(bench)
    held = bench.ehr.get("Patient/ana")
    if how == "refused":
        bench.ehr.refuses.add("Patient/ana")
    else:
        bench.ehr.held.pop("Patient/ana")
    bench.hint("Patient/ana", door="patients")
    bench.settle()
    bench.ehr.refuses.clear()
    bench.ehr.held["Patient/ana"] = held
    bench.pass_(minutes=2)
    bench.settle()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert bench.told(ANA) == [BOOKED, MOVED]


def test_a_patient_that_was_deleted_is_not_written_to(bench: Bench) -> None:
    book(bench)
    bench.ehr.held["Patient/ana"] = None
    bench.hint("Patient/ana", door="patients")
    bench.settle()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    assert bench.told(ANA) == [BOOKED]
