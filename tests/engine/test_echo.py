"""TR6, TR7: what patients decide, carried into the EHR; what the EHR then shows us of our own doing plans nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from bridge.ledger.tables import outbox, write
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
ANA = people.ANA_PHONE
CONFIRM, CANCEL = 0, 2  # buttons of appointment_booked
BOOKED, MOVED, CANCELLED = "appointment_booked", "appointment_rescheduled", "appointment_cancelled"


def visit(days: int = 0, **more: Any) -> dict[str, Any]:
    return people.appointment("a1", START + timedelta(days=days), **more)


def booked(bench: Bench) -> Any:
    """A visit that the patient was told of; its bubble."""
    bench.clerk(visit())
    bench.settle()
    return bench.whatsapp.bubbles[-1]


def words(bench: Bench) -> list[str]:
    """What Ana's phone shows, sentences by their beginning."""
    starts = {
        "está confirmada": "confirmed", "queda cancelada": "cancelled", "¿Cancelamos": "ask_cancel",
        "Le avisaremos aquí": "requested", "No pudimos registrar": "not_done", "cambió después": "changed_since",
        "ya no está en la agenda": "no_longer", "sigue como estaba": "kept", "otro teléfono": "not_yours",
        "Una persona del hospital": "to_a_person",
    }  # fmt: skip
    return [next((name for part, name in starts.items() if part in said), said) for said in bench.told(ANA)]


def cancel(bench: Bench, bubble: Any) -> None:
    """Cancel, and yes to the question."""
    bench.tap(bubble, CANCEL)
    bench.settle_replies()
    assert words(bench)[-1] == "ask_cancel"
    bench.tap(bench.whatsapp.of(ANA)[-1], 0)
    bench.settle_replies()


def confirm(bench: Bench, bubble: Any) -> None:
    bench.tap(bubble, CONFIRM)
    bench.settle_replies()


def own_status(bench: Bench) -> str:
    return str(bench.ehr.get("Appointment/a1")["participant"][0]["status"])


WHEN = ("before", "during", "after")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", WHEN)
def test_the_notification_of_our_own_cancellation(workshop: Workshop, kind: str, when: str) -> None:
    """Before its answer, in the moment between the answer and its record, and after: it plans nothing, three times."""
    bench = workshop(kind)
    bubble = booked(bench)

    def show(_: str = "") -> None:
        for _ in range(3):
            bench.notify(bench.ehr.get("Appointment/a1"))
        if when == "before":
            bench.apply()

    if when != "after":
        bench.ehr.after_write = lambda reference: show() if reference == "Appointment/a1" else None
    cancel(bench, bubble)
    bench.ehr.after_write = lambda _: None
    if when == "after":
        show()
    bench.settle()
    assert words(bench) == [BOOKED, "ask_cancel", "cancelled"]
    assert bench.ehr.get("Appointment/a1")["status"] == "cancelled"
    assert all(row.echo is None for row in bench.writes())

    bench.clerk(visit())  # the hospital reinstates it, and that is news
    bench.settle()
    assert words(bench)[3:] == [BOOKED]
    bench.clerk(visit(status="cancelled"))  # and cancels it itself: no old echo may swallow that
    bench.settle()
    assert words(bench)[3:] == [BOOKED, CANCELLED]


@pytest.mark.parametrize("when", WHEN)
def test_the_notification_of_our_own_confirmation(bench: Bench, when: str) -> None:
    bubble = booked(bench)
    if when != "after":

        def show(reference: str) -> None:
            if reference == "Appointment/a1":
                bench.notify(bench.ehr.get("Appointment/a1"))
                if when == "before":
                    bench.apply()

        bench.ehr.after_write = show
    confirm(bench, bubble)
    bench.ehr.after_write = lambda _: None
    bench.notify(bench.ehr.get("Appointment/a1"))
    bench.settle()
    assert words(bench) == [BOOKED, "confirmed"]
    assert own_status(bench) == "accepted"
    bench.clerk(visit(1))
    bench.settle()
    bench.clerk(visit())  # back to the time that was confirmed: news all the same
    bench.settle()
    assert words(bench)[2:] == [MOVED, MOVED]


@pytest.mark.parametrize("status", [409, 412])
def test_somebody_was_faster(bench: Bench, status: int) -> None:
    """Read again and decided again: the second writer's change is not lost, and ours is made."""
    bubble = booked(bench)
    bench.ehr.conflict_status = status
    raced = []

    def faster(reference: str) -> None:
        if reference == "Appointment/a1" and not raced:
            raced.append(bench.ehr.change("Appointment/a1", comment="in the corridor"))

    bench.ehr.before_write = faster
    confirm(bench, bubble)
    assert words(bench) == [BOOKED, "confirmed"]
    assert bench.ehr.get("Appointment/a1")["comment"] == "in the corridor"
    assert own_status(bench) == "accepted"


@pytest.mark.parametrize("notified", [True, False])
def test_moved_in_that_moment(bench: Bench, notified: bool) -> None:
    """What the patient agreed to is no longer what it is: nothing is written, a person looks, the move is told.

    Also where the EHR never notifies it: the write has seen it.
    """
    bubble = booked(bench)

    def moves(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.ehr.before_write = lambda _: None
            moved = bench.ehr.put(visit(1))
            if notified:
                bench.notify(moved)

    bench.ehr.before_write = moves
    confirm(bench, bubble)
    bench.settle()
    assert own_status(bench) == "needs-action"
    assert sorted(words(bench)[1:]) == sorted(["changed_since", MOVED])
    assert bench.open_turns()
    bench.clerk(visit())  # moved back: an echo of a write that never was must not swallow it
    bench.settle()
    assert words(bench).count(MOVED) == 2


def test_cancelled_in_that_moment(bench: Bench) -> None:
    """The desk cancels while the patient confirms, and nobody notifies it: it is not "unchanged"."""
    bubble = booked(bench)

    def cancels(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.ehr.before_write = lambda _: None
            bench.ehr.change("Appointment/a1", status="cancelled")

    bench.ehr.before_write = cancels
    confirm(bench, bubble)
    bench.settle()
    assert words(bench) == [BOOKED, "no_longer", CANCELLED]


def test_the_place_changed_in_that_moment(bench: Bench) -> None:
    """Confirmed, and the other place is told: the answer to our write shows more than our own doing."""
    bubble = booked(bench)
    other = people.sao_paulo()["id"]

    def place(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.ehr.before_write = lambda _: None
            bench.ehr.put(visit(place=f"Location/{other}"))  # and its notification is still on its way

    bench.ehr.before_write = place
    confirm(bench, bubble)
    bench.settle()
    assert words(bench) == [BOOKED, "confirmed", MOVED]
    assert own_status(bench) == "accepted"
    armed = bench.messages(outbox.c.offset.is_not(None), outbox.c.state == "planned")
    assert {row.revision for row in armed} == {bench.held("Appointment/a1").revision}


def test_reinstated_before_our_answer_was_heard(bench: Bench) -> None:
    """Our cancellation's answer comes late: it must not lie over what the hospital did after it."""
    bubble = booked(bench)

    def reinstated(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.ehr.after_write = lambda _: None
            bench.notify(bench.ehr.put(visit()))
            bench.apply()

    bench.ehr.after_write = reinstated
    cancel(bench, bubble)
    bench.settle()
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    assert words(bench)[-1] == BOOKED
    assert words(bench).count("cancelled") == 1


@pytest.mark.parametrize("verb", ["confirm", "cancel"])
def test_the_answer_is_lost(bench: Bench, verb: str) -> None:
    bubble = booked(bench)
    bench.ehr.lose_answers = 1
    (confirm if verb == "confirm" else cancel)(bench, bubble)
    for _ in range(3):
        bench.pass_(seconds=30)
        bench.settle()
    assert words(bench)[-1] == ("confirmed" if verb == "confirm" else "cancelled")
    assert [call for call in bench.ehr.writes if call[1] == "Appointment/a1"] == [("PUT", "Appointment/a1")]
    bench.notify(bench.ehr.get("Appointment/a1"))
    bench.settle()
    assert bench.told(ANA).count(BOOKED) == 1
    assert CANCELLED not in bench.told(ANA)


def test_confirm_then_cancel_from_an_older_bubble(bench: Bench) -> None:
    """Both are of the current revision: each counts, in order. The bubble of an old time changes nothing."""
    first = booked(bench)
    bench.clerk(visit(1))
    bench.settle()
    second = bench.whatsapp.of(ANA)[-1]
    confirm(bench, second)
    bench.tap(first, CANCEL)
    bench.settle_replies()
    assert words(bench) == [BOOKED, MOVED, "confirmed", "changed_since"]
    assert bench.ehr.get("Appointment/a1")["status"] == "booked"
    assert own_status(bench) == "accepted"
    cancel(bench, second)
    assert words(bench)[-1] == "cancelled"
    assert bench.ehr.get("Appointment/a1")["status"] == "cancelled"


def test_a_communication_is_looked_for_before_it_is_made_again(bench: Bench) -> None:
    booked(bench)
    bubble = bench.whatsapp.bubbles[0]
    bench.ehr.lose_answers = 1
    bench.status(bubble, "delivered")
    bench.settle()
    assert len(bench.ehr.of("Communication")) == 1
    for _ in range(3):
        bench.pass_(seconds=30)
        bench.settle()
    assert len(bench.ehr.of("Communication")) == 1
    assert [row.state for row in bench.writes()] == ["done"]
    bench.status(bubble, "read")
    bench.settle()
    assert len(bench.ehr.of("Communication")) == 1


def test_a_message_without_a_status_stands_in_the_ehr_after_ten_minutes(bench: Bench) -> None:
    """And is brought up to date when a status comes after all."""
    booked(bench)
    bench.pass_(minutes=9)
    bench.settle()
    assert not bench.ehr.of("Communication")
    bench.pass_(minutes=2)
    bench.settle()
    [written] = bench.ehr.of("Communication")
    assert "received" not in written
    bench.status(bench.whatsapp.bubbles[0], "delivered")
    bench.settle()
    [written] = bench.ehr.of("Communication")
    assert "received" in written


@pytest.mark.parametrize("kind", KINDS)
def test_the_ehr_is_down_between_the_tap_and_the_write(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    bubble = booked(bench)
    bench.ehr.down = True
    bench.tap(bubble, CONFIRM)
    bench.settle_replies()
    assert words(bench) == [BOOKED]
    bench.pass_(seconds=5)
    bench.settle()
    assert words(bench) == [BOOKED, "requested"]
    bench.pass_(minutes=2)
    bench.settle()
    bench.ehr.down = False
    assert words(bench) == [BOOKED, "requested"]
    bench.pass_(minutes=6)
    bench.settle()
    assert words(bench) == [BOOKED, "requested", "confirmed"]
    assert own_status(bench) == "accepted"


def test_what_the_ehr_will_not_take_is_said_and_a_person_looks(bench: Bench) -> None:
    """Never silence: whatever went wrong, the patient who tapped reads it."""
    bubble = booked(bench)

    def broken(reference: str) -> None:
        if reference == "Appointment/a1":
            raise RuntimeError("nobody thought of this")

    bench.ehr.before_write = broken
    confirm(bench, bubble)
    assert words(bench) == [BOOKED, "not_done"]
    assert bench.open_turns()


def test_cancelled_twice_at_once(bench: Bench) -> None:
    """The desk was faster: what the patient wants holds already, and is told once."""
    bubble = booked(bench)
    bench.ehr.change("Appointment/a1", status="cancelled")  # its notification is still on its way
    cancel(bench, bubble)
    bench.notify(bench.ehr.get("Appointment/a1"))
    bench.settle()
    assert words(bench) == [BOOKED, "ask_cancel", "cancelled"]


def test_nothing_waits_for_a_visit_that_the_patient_cancelled(bench: Bench) -> None:
    cancel(bench, booked(bench))
    assert {row.state for row in bench.messages(outbox.c.offset.is_not(None))} <= {"cancelled", "superseded"}


def test_the_ehr_comes_back_after_the_visit(bench: Bench) -> None:
    """A decision about a visit that is over is not written into it; a person looks."""
    bench.clerk(people.appointment("a1", MORNING + timedelta(hours=5)))
    bench.settle()
    bench.ehr.down = True
    bench.tap(bench.whatsapp.bubbles[-1], CONFIRM)
    bench.settle_replies()
    bench.pass_(hours=6)
    bench.settle()
    bench.ehr.down = False
    bench.pass_(minutes=6)
    bench.settle()
    assert own_status(bench) == "needs-action"
    assert words(bench)[-1] == "not_done"
    assert bench.open_turns()


def test_what_happens_while_a_communication_is_written_is_written_too(bench: Bench) -> None:
    booked(bench)
    bubble = bench.whatsapp.bubbles[0]
    bench.pass_(minutes=11)

    def delivered(reference: str) -> None:
        if reference.startswith("Communication"):
            bench.ehr.after_write = lambda _: None
            bench.status(bubble, "delivered")
            bench.apply()

    bench.ehr.after_write = delivered
    bench.settle()
    bench.pass_(seconds=5)
    bench.settle()
    [written] = bench.ehr.of("Communication")
    assert "received" in written


def test_a_command_that_cannot_be_decrypted(bench: Bench) -> None:
    """It is held with an alarm, and everybody else's decisions are told and written all the same."""
    first = booked(bench)
    bench.clerk(people.appointment("a2", START + timedelta(hours=2)))
    bench.settle()
    second = bench.whatsapp.bubbles[-1]
    bench.ehr.down = True
    bench.tap(first, CONFIRM)
    bench.settle_replies()
    with bench.store.write() as connection:
        connection.execute(text("UPDATE write SET wanted = :b WHERE kind = 'command'"), {"b": b"0123456789abcdef" * 2})
    bench.tap(second, CONFIRM)
    bench.settle_replies()
    bench.pass_(seconds=6)
    bench.settle()
    assert words(bench)[-1] == "requested"
    bench.ehr.down = False
    bench.pass_(minutes=6)
    bench.settle()
    assert words(bench)[-1] == "confirmed"
    assert [row.state for row in bench.rows(write, write.c.kind == "command")] == ["held", "done"]
    assert "a write to the EHR did not happen" in bench.alarms()


@pytest.mark.parametrize(
    "ehr", [{"base_url": None, "writeback": None, "auth": None}, {"writeback": {"communication": "none"}}]
)
def test_where_nothing_is_written_back_nothing_is_asked(workshop: Workshop, ehr: dict[str, Any]) -> None:
    bench = workshop(ehr=ehr)
    if ehr.get("base_url", "") is None:
        patient = {"fullUrl": "https://ehr.example/fhir/Patient/ana", "resource": people.ana()}
        status = {"resourceType": "SubscriptionStatus", "status": "active", "type": "event-notification",
                  "subscription": {"reference": "Subscription/s1"}, "topic": "http://ehr.example/topic",
                  "notificationEvent": [{"eventNumber": "1", "focus": {"reference": "Appointment/a1"},
                                         "additionalContext": [{"reference": "Patient/ana"}]}]}  # fmt: skip
        booking = {"fullUrl": "https://ehr.example/fhir/Appointment/a1", "resource": bench.ehr.put(visit())}
        body = {
            "resourceType": "Bundle",
            "type": "subscription-notification",
            "entry": [{"resource": status}, booking, patient],
        }
        bench.push(json.dumps(body).encode(), method="POST")
        bench.settle()
    else:
        booked(bench)
    bench.status(bench.whatsapp.bubbles[0], "delivered")
    bench.settle()
    assert bench.writes() == []
    assert bench.alarms() == []
