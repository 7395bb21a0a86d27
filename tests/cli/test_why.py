"""`bridge why`: each message a patient got or did not get, with its reason in a sentence, on both stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from bridge.ledger.clock import Ids, first_id
from bridge.ledger.tables import inbox, outbox
from bridge.sandbox import people
from tests.cli.looking import Verbs
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
Make = Callable[..., tuple[Bench, Verbs]]


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    benches: list[Bench] = []

    def make(kind: str = "sqlite", **changes: Any) -> tuple[Bench, Verbs]:
        bench = Bench(tmp_path / str(len(benches)), kind, **changes)
        benches.append(bench)
        return bench, Verbs(capsys, monkeypatch, bench)

    yield make
    for bench in benches:
        bench.close()


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_from_booking_to_cancelling(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    bubble = bench.whatsapp.of(people.ANA_PHONE)[0]
    for status in ("delivered", "read"):
        bench.status(bubble, status)
    bench.settle()
    bench.clerk(people.appointment("a1", START, status="cancelled"))
    bench.settle()
    code, text = verbs("why", "Patient/ana")
    said = one_line(text)
    assert code == 0
    assert "the EHR main told bridge about Appointment/a1" in said
    assert "✓ The message “appointment-booked” was sent at " in said
    assert "and was read at " in said
    assert (
        "✗ The reminder “appointment-reminder” (3d before) was not sent. Newer news of the same visit took its place."
        in said
    )
    assert "✓ The message “appointment-cancelled” was sent" in said
    code, answers = verbs.json("why", "main:Patient/ana")
    assert code == 0
    assert answers[0]["known"] is True
    assert [item["got"] for item in answers[0]["chapters"][0]["items"]] == [True, False, False]


@pytest.mark.parametrize("kind", KINDS)
def test_an_authors_words_for_what_came_to_no_message(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    bench.clerk(people.appointment("a1", MORNING - timedelta(days=2)))
    bench.settle()
    _, reason = bench.fates()[0]
    assert reason == "appointment is in the past"
    code, text = verbs("why", "Patient/ana")
    said = one_line(text)
    assert code == 0
    event = bench.rows(inbox)[0].id
    assert "No message came of it. The mapping “appointment-booked” says: appointment is in the past." in said
    assert f"`bridge preview appointment-booked evt_{event}` shows each condition" in said


@pytest.mark.parametrize("kind", KINDS)
def test_stop_and_what_came_after_it(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    bench.says(people.ANA_PHONE, "STOP")
    bench.settle_replies()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    _, text = verbs("why", "Patient/ana")
    said = one_line(text)
    assert "! The patient wrote STOP on this phone on " in said
    assert "The patient wrote a text." in said
    assert "✗ The message “appointment-rescheduled” was not sent. The patient wrote STOP on this phone." in said
    assert "only the patient lifts it" in said


def test_nobody_to_write_to(made: Make) -> None:
    bench, verbs = made()
    bench.ehr.change("Patient/ana", telecom=[])
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    _, text = verbs("why", "Patient/ana")
    assert "no mobile number in the EHR that WhatsApp could reach. → Add or correct the mobile number" in one_line(text)
    bench.pass_(minutes=5)
    bench.ehr.change("Patient/ana", deceasedBoolean=True)
    bench.clerk(people.appointment("a2", START))
    bench.settle()
    _, text = verbs("why", "Patient/ana")
    assert "The EHR says that the patient has died; nobody is written to." in one_line(text)


def test_not_primed_is_told_though_nobody_was_ever_read(made: Make) -> None:
    bench, verbs = made(ehr={"prime": "required"})
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    code, text = verbs("why", "Patient/ana")
    assert code == 0
    assert "This EHR has not been primed" in one_line(text)


def test_a_guardian_and_the_child(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START, patient="Patient/mateo"))
    bench.settle()
    father = people.mateo_father()
    _, of_child = verbs("why", "Patient/mateo")
    _, of_father = verbs("why", f"RelatedPerson/{father['id']}")
    for text in (of_child, of_father):
        assert "✓ The message “appointment-booked” was sent" in one_line(text)


def test_another_patients_messages_are_not_told(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.clerk(people.appointment("b1", START, patient="Patient/beatriz"))
    bench.settle()
    _, text = verbs("why", "Patient/beatriz")
    assert "Appointment/b1" in text
    assert "Appointment/a1" not in text


def test_what_is_still_to_come_is_neither_got_nor_missed(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    _, answers = verbs.json("why", "Patient/ana")
    reminders = [item for item in answers[0]["chapters"][0]["items"] if "reminder" in item["happened"]]
    assert [item["got"] for item in reminders] == [None, None]
    assert all("has not left yet, due 2026-12-" in item["happened"] for item in reminders)


def test_a_doubt_and_what_whatsapp_refused(made: Make) -> None:
    bench, verbs = made()
    bench.whatsapp.answers = ["lost"]
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    _, text = verbs("why", "Patient/ana")
    said = one_line(text)
    assert "· The message “appointment-booked” may have arrived." in said
    assert "`bridge doubts` lists it" in said


def test_every_state_can_be_told(made: Make) -> None:
    from bridge.ledger import states

    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    for state in states.MESSAGE:
        with bench.store.write() as connection:
            connection.execute(
                update(outbox).where(outbox.c.offset.is_(None)).values(state=state, reason="the moon was full")
            )
        code, answers = verbs.json("why", "Patient/ana")
        (item,) = [i for i in answers[0]["chapters"][0]["items"] if "appointment-booked" in i["happened"]]
        assert code == 0
        assert item["happened"].endswith(".")
        assert item["todo"]
        if state not in ("accepted", "sent", "delivered", "read", "played"):
            assert "“the moon was full”" in item["happened"]


def test_a_day_of_the_sites_calendar(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    today = datetime.now(UTC).astimezone().date()
    days = [(today + timedelta(days=each)).isoformat() for each in (-1, 0, 1)]
    assert any("Appointment/a1" in verbs("why", "Patient/ana", "--day", each)[1] for each in days)
    code, text = verbs("why", "Patient/ana", "--day", "2026-01-01")
    assert code == 0
    assert "Nothing happened for this person" in text
    assert "its push did not arrive" in one_line(text)


def test_nobody_of_that_name(made: Make) -> None:
    _, verbs = made()
    code, text = verbs("why", "Patient/nobody")
    assert code == 3
    assert "has never heard of this person" in text
    for arguments, said in (
        (("ana",), "Patient/123"),
        (("Appointment/a1",), "Patient/123"),
        (("other:Patient/ana",), "there is no EHR of that name: main"),
        (("Patient/ana", "--day", "yesterday"), "--day: give a day"),
    ):
        code, text = verbs("why", *arguments)
        assert code == 2
        assert said in text


def test_no_name_number_or_text_is_shown(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    bench.says(people.ANA_PHONE, "me duele la rodilla")
    bench.settle_replies()
    shown = json.dumps(verbs.json("why", "Patient/ana")[1], ensure_ascii=False) + verbs("why", "Patient/ana")[1]
    family = people.ana()["name"][0]["family"]
    for secret in (people.ANA_PHONE, family, "rodilla", "Ana,"):
        assert secret not in shown
    assert "it waits for a person" in one_line(shown)


def test_a_window_of_ids_is_a_window_of_time() -> None:
    before = first_id(int(datetime.now(UTC).timestamp() * 1_000_000) - 1000)
    made = Ids()()
    after = first_id(int(datetime.now(UTC).timestamp() * 1_000_000) + 1_000_000)
    assert before <= made < after
    assert first_id(0) == 0
