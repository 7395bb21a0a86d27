"""What becomes of a POST and of its statuses: doubt and its ends, late answers, poison, order of classes. TS1, TS13, TS14, TR2."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from bridge.engine import operations
from bridge.ledger.clock import SECOND
from bridge.ledger.states import RANK
from bridge.ledger.tables import attempt, outbox
from bridge.outbound.carrier import Answer, NotSent, Unknown
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
ANA = people.ANA_PHONE
BOOKED, MOVED, CANCELLED = "appointment_booked", "appointment_rescheduled", "appointment_cancelled"


def visit(days: int = 0, name: str = "a1", patient: str = "Patient/ana", **more: Any) -> dict[str, Any]:
    return people.appointment(name, START + timedelta(days=days), patient=patient, **more)


def news(bench: Bench) -> list[str]:
    return [row.state for row in bench.messages(outbox.c.offset.is_(None))]


def doubtful(bench: Bench) -> Bubble:
    """A message that WhatsApp took and whose answer was lost."""
    bench.whatsapp.answers.append("lost")
    bench.clerk(visit())
    bench.settle()
    assert news(bench) == ["doubt"]
    return bench.whatsapp.bubbles[-1]


# --- doubt --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
def test_a_status_proves_it(workshop: Workshop, kind: str, status: str) -> None:
    bench = workshop(kind)
    bubble = doubtful(bench)
    bench.status(bubble, status)
    bench.settle()
    assert news(bench) == [status]
    assert bench.rows(attempt)[0].outcome == "accepted"
    assert len(bench.whatsapp.posts) == 1


def test_a_status_that_says_failed(bench: Bench) -> None:
    bubble = doubtful(bench)
    bench.status(bubble, "failed", errors=[{"code": 131026, "title": "—"}])
    bench.settle()
    assert news(bench) == ["failed"]


@pytest.mark.parametrize("choice", ["resend", "close"])
def test_nobody_says_and_a_person_decides(bench: Bench, choice: str) -> None:
    bubble = doubtful(bench)
    bench.pass_(minutes=29)
    bench.settle()
    assert news(bench) == ["doubt"]
    bench.pass_(minutes=2)
    bench.settle()
    assert news(bench) == ["held"]
    assert len(bench.whatsapp.posts) == 1
    assert bench.alarms()
    [row] = bench.messages(outbox.c.offset.is_(None))
    (operations.doubts_resend if choice == "resend" else operations.doubts_close)(bench.site, [row.id])
    bench.settle()
    assert news(bench) == (["accepted"] if choice == "resend" else ["closed"])
    assert len(bench.whatsapp.posts) == (2 if choice == "resend" else 1)
    bench.status(bubble, "delivered")  # a status of the first attempt, however late, still counts
    bench.settle()
    assert news(bench) == ["delivered"]
    assert [why for why in bench.alarms() if "two attempts" in why] == (
        ["two attempts of one message were accepted"] if choice == "resend" else []
    )


def test_an_earlier_try_that_failed_says_nothing_of_the_later_one(bench: Bench) -> None:
    bubble = doubtful(bench)
    [row] = bench.messages(outbox.c.offset.is_(None))
    operations.doubts_resend(bench.site, [row.id])
    bench.settle()
    bench.status(bubble, "failed", errors=[{"code": 131026, "title": "—"}])
    bench.settle()
    assert news(bench) == ["accepted"]


def test_proof_for_a_message_that_waits_to_be_sent_again(bench: Bench) -> None:
    bubble = doubtful(bench)
    [row] = bench.messages(outbox.c.offset.is_(None))
    operations.doubts_resend(bench.site, [row.id])
    bench.status(bubble, "delivered")
    bench.settle()
    assert news(bench) == ["delivered"]
    assert len(bench.whatsapp.posts) == 1


def test_the_answer_comes_after_somebody_took_the_lane_over(bench: Bench) -> None:
    """The epoch protects the lane, never the outcome."""
    bench.clerk(visit())
    bench.apply()
    [shot] = bench.fence()
    bench.store.ahead += 61 * SECOND
    assert bench.fence() == []  # the lease ran out: what was sending is in doubt
    assert news(bench) == ["doubt"]
    bench.post(shot)
    bench.send()
    assert news(bench) == ["accepted"]
    assert len(bench.whatsapp.posts) == 1


@pytest.mark.parametrize(
    ("answer", "ends"),
    [(NotSent("refused"), "accepted"), (Answer(400, b'{"error": {"code": 132000}}'), "failed")],
    ids=["no byte left", "refused"],
)
def test_a_late_answer_ends_a_doubt(bench: Bench, answer: Any, ends: str) -> None:
    """Who fenced it knows what became of it, whoever holds the lane by now."""
    bench.clerk(visit())
    bench.apply()
    [shot] = bench.fence()
    bench.store.ahead += 61 * SECOND
    assert bench.fence() == []
    assert news(bench) == ["doubt"]
    bench.whatsapp.answers.append(answer)
    bench.post(shot)
    bench.fence()
    bench.pass_(seconds=10)
    bench.settle()
    assert news(bench) == [ends]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (NotSent("refused"), "ready"),
        (Unknown("timeout"), "doubt"),
        (Answer(200, b"<html>"), "doubt"),
        (Answer(502, b"<html>"), "doubt"),
        (Answer(400, b'{"error": {"code": 132000}}'), "failed"),
        (Answer(429, b'{"error": {"code": 130429}}'), "ready"),
        (Answer(400, b'{"error": {"code": 131056}}'), "planned"),
        (Answer(400, b'{"error": {"code": 190}}'), "ready"),
    ],
    ids=lambda value: getattr(value, "reason", None) or getattr(value, "status", value),
)
def test_what_an_answer_makes_of_it(bench: Bench, answer: Any, state: str) -> None:
    bench.whatsapp.answers.append(answer)
    bench.clerk(visit())
    bench.apply()
    for shot in bench.fence():
        bench.post(shot)
    bench.fence()
    assert news(bench) == [state]


def test_refused_for_now_and_sent_later(bench: Bench) -> None:
    bench.whatsapp.answers += [Answer(400, b'{"error": {"code": 131056}}')]
    bench.clerk(visit())
    bench.settle()
    bench.pass_(minutes=5)
    bench.settle()
    assert news(bench) == ["accepted"]
    assert bench.told(ANA) == [BOOKED]


def test_news_that_came_while_it_waited_to_be_tried_again(bench: Bench) -> None:
    bench.whatsapp.answers += [Answer(400, b'{"error": {"code": 131056}}')]
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(1))
    bench.settle()
    bench.pass_(minutes=5)
    bench.settle()
    assert bench.told(ANA) == [BOOKED]
    assert "11 de diciembre" in bench.whatsapp.bubbles[0].params["day"]


# --- order of a lane --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_doubt_holds_its_lane_a_minute_and_never_the_urgent(workshop: Workshop, kind: str) -> None:
    """TS14: a lost answer, then news, a cancellation and an answer to what the patient writes."""
    bench = workshop(kind)
    bench.ehr.put(visit(name="a2"))
    doubtful(bench)
    bench.clerk(visit(name="a2"))
    bench.apply()
    bench.pass_(seconds=20)
    bench.send()
    assert bench.told(ANA) == [BOOKED]
    bench.clerk(visit(status="cancelled"))
    bench.says(ANA, "gracias")
    bench.pass_(seconds=3)
    bench.apply()
    bench.send()
    bench.pass_(seconds=7)
    bench.send()
    assert CANCELLED in bench.told(ANA)
    assert len(bench.told(ANA)) == 3
    bench.pass_(seconds=35)
    bench.send()
    assert bench.told(ANA)[3:] == [BOOKED]


def test_a_planned_or_held_message_blocks_nobody(workshop: Workshop) -> None:
    bench = workshop(at=MORNING.replace(hour=21))
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(name="a2"))
    bench.settle()
    bench.clerk(visit(name="a2", status="cancelled"))  # both merged, for the night
    bench.says(ANA, "gracias")
    bench.settle_replies()
    assert [row.state for row in bench.messages(outbox.c.mapping == "appointment-booked")] == ["planned", "superseded"]
    assert len(bench.told(ANA)) == 1


# --- statuses -----------------------------------------------------------------------------------------------------------

ALL = ("sent", "delivered", "read", "failed")


def expected(order: tuple[str, ...]) -> str:
    """Forward only; failed ends it only while nothing was delivered, and a later delivery is true all the same."""
    state = "accepted"
    for status in order:
        if status == "failed":
            state = "failed" if state in ("accepted", "sent") else state
        elif state == "failed":
            state = status if status in ("delivered", "read") else state
        elif RANK[status] > RANK.get(state, 0):
            state = status
    return state


@pytest.mark.parametrize("together", [True, False], ids=["one webhook", "one by one"])
def test_statuses_in_every_order(bench: Bench, together: bool) -> None:
    orders = [order for length in range(1, 5) for order in itertools.permutations(ALL, length)]
    for i in range(len(orders)):
        bench.ehr.put(people.patient(f"p{i}", "Ana", "Inventada", f"346{20_000_000 + i}"))
        bench.clerk(visit(name=f"v{i}", patient=f"Patient/p{i}"))
    bench.settle()
    bubbles = {bubble.to: bubble for bubble in bench.whatsapp.bubbles}
    for i, order in enumerate(orders):
        bubble = bubbles[f"346{20_000_000 + i}"]
        if together:
            bench.webhook({"statuses": [bench.status_of(bubble, status) for status in order]})
    if not together:
        for step in range(4):
            for i, order in enumerate(orders):
                if step < len(order):
                    bench.status(bubbles[f"346{20_000_000 + i}"], order[step])
            bench.apply()
    bench.apply()
    got = {row.resource_ref: row.state for row in bench.messages(outbox.c.offset.is_(None))}
    assert got == {f"Appointment/v{i}": expected(order) for i, order in enumerate(orders)}


def test_a_status_without_callback_is_found_by_its_wamid(bench: Bench) -> None:
    bench.clerk(visit())
    bench.settle()
    bench.status(bench.whatsapp.bubbles[0], "read", biz_opaque_callback_data=None)
    bench.settle()
    assert news(bench) == ["read"]


def test_a_status_that_is_faster_than_the_answer(bench: Bench) -> None:
    bench.clerk(visit())
    bench.apply()
    [shot] = bench.fence()
    bench.post(shot)  # its answer is not recorded yet
    bench.status(bench.whatsapp.bubbles[0], "delivered")
    bench.apply()
    assert news(bench) == ["delivered"]
    bench.settle()
    assert news(bench) == ["delivered"]


def test_a_strangers_status_waits_a_minute(bench: Bench) -> None:
    bench.webhook({"statuses": [{"id": "wamid.x", "status": "read", "timestamp": "1", "recipient_id": "1"}]})
    bench.apply()
    assert bench.fates()[0][0] is None
    bench.pass_(seconds=61)
    bench.apply()
    assert bench.fates()[0][0] == "ignored"


# --- poison -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_500_makes_its_mapping_raise(workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TS13."""
    from bridge.engine import compose

    bench = workshop(kind)
    good = compose.render

    def render(mapping: Any, context: Any) -> Any:
        if context.resource["id"] == "v250":
            raise RuntimeError("a defect in a mapping")
        return good(mapping, context)

    monkeypatch.setattr(compose, "render", render)
    for i in range(500):
        bench.ehr.put(people.patient(f"p{i}", "Ana", "Inventada", f"346{30_000_000 + i}"))
    bench.append([])
    for i in range(500):
        bench.clerk(visit(name=f"v{i}", patient=f"Patient/p{i}"))
    bench.settle()
    assert len({bubble.to for bubble in bench.whatsapp.bubbles}) == 499
    assert [fate for fate in bench.fates() if fate[0] != "planned"] == [("failed", "deciding failed: RuntimeError")]
    assert bench.alarms() == ["an event could not be decided"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_that_cannot_be_decrypted(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    bench.clerk(visit())
    with bench.store.write() as connection:
        connection.execute(text("UPDATE inbox SET body = :b"), {"b": b"0123456789abcdef0123456789abcdef"})
    bench.clerk(visit(name="a2"))
    bench.says(ANA, "gracias")
    bench.settle_replies()
    assert [fate for fate, _ in bench.fates()] == ["failed", "planned", "applied"]
    assert BOOKED in bench.told(ANA)
    assert len(bench.alarms()) == 1


def test_a_message_that_cannot_be_decrypted(bench: Bench) -> None:
    """It ends, an alarm is raised, and its lane goes on."""
    bench.clerk(visit())
    bench.apply()
    with bench.store.write() as connection:
        connection.execute(text("UPDATE outbox SET content = :b"), {"b": b"0123456789abcdef0123456789abcdef"})
    bench.clerk(visit(name="a2"))
    bench.settle()
    bench.pass_(days=7)
    bench.settle()
    assert bench.told(ANA)[:1] == [BOOKED]
    failed = bench.messages(outbox.c.state == "failed")
    assert {row.reason for row in failed} <= {"its row does not decrypt", "its row cannot be read"}
    assert len(failed) >= 1
    assert bench.alarms()


def test_a_broken_reply_blocks_nobody(bench: Bench) -> None:
    bench.says(ANA, "hola")
    with bench.store.write() as connection:
        connection.execute(text("UPDATE inbox SET body = :b"), {"b": b"0123456789abcdef0123456789abcdef"})
    bench.says(ANA, "hola")
    bench.settle_replies()
    assert [fate for fate, _ in bench.fates()] == ["failed", "applied"]
    assert len(bench.told(ANA)) == 1


# --- the EHR cannot be read -------------------------------------------------------------------------------------------


def test_an_event_that_cannot_be_applied_holds_its_news_back(bench: Bench) -> None:
    """Until half of its expiry is over; then a person decides about news."""
    bench.clerk(visit())
    bench.apply()
    bench.ehr.down = True
    bench.hint("Appointment/a1")
    bench.settle()
    bench.pass_(hours=5)
    bench.settle()
    assert news(bench) == ["ready"]
    bench.pass_(hours=2)
    bench.settle()
    assert bench.told(ANA) == []
    assert news(bench) == ["held"]


def test_what_was_held_unsaid_is_not_taken_for_told(bench: Bench) -> None:
    """The EHR comes back and shows a cancellation: of a visit that the patient never heard of nothing is said."""
    bench.clerk(visit())
    bench.apply()
    bench.ehr.down = True
    bench.hint("Appointment/a1")
    bench.settle()
    bench.pass_(hours=7)
    bench.settle()
    assert news(bench) == ["held"]
    bench.ehr.down = False
    bench.ehr.put(visit(1))
    bench.pass_(minutes=5)
    bench.settle()
    assert bench.told(ANA) == [BOOKED]
    assert news(bench) == ["closed", "accepted"]
    assert bench.whatsapp.bubbles[0].params["day"].startswith("viernes, 11")


def test_what_could_not_be_delivered_was_not_told(bench: Bench) -> None:
    """The move is waiting, and WhatsApp says that the booking never reached the phone: the visit is told whole."""
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(1))
    bench.apply()
    bench.status(bench.whatsapp.bubbles[0], "failed", errors=[{"code": 131049, "title": "—"}])
    bench.settle()
    assert bench.told(ANA) == [BOOKED, BOOKED]
