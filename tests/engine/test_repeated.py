"""TI2, TR1, TR2: what is delivered again, at once or days later, and statuses in any order, change nothing twice."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from bridge.ledger import retention
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

ANA = people.ANA_PHONE
DAY = 86_400
ORDERED = ("sent", "delivered", "read")


def sweep(bench: Bench) -> None:
    retention.sweep(bench.store, bench.site.ids, 90 * DAY * SECOND)


@pytest.mark.parametrize("kind", KINDS)
def test_nineteen_at_once_and_again_after_eight_days(workshop: Workshop, kind: str) -> None:
    """TI2: one effect, twenty acknowledgements; the EHR's ids of resources say nothing, it is the same news."""
    bench = workshop(kind)
    saved = bench.ehr.put(people.appointment("a1", MORNING + timedelta(days=20)))
    bench.notify_all([saved] * 19)  # raises what any of them is told but "durable"
    bench.settle()
    assert bench.told(ANA) == ["appointment_booked"]
    bench.pass_(days=8)
    sweep(bench)
    bench.notify(saved)
    bench.settle()
    assert bench.told(ANA) == ["appointment_booked"]
    fates = [fate for fate, _ in bench.fates()]
    assert len(fates) == 20 and fates.count("planned") == 1 and None not in fates


@pytest.mark.parametrize("kind", KINDS)
def test_a_webhook_redelivered_for_seven_days(workshop: Workshop, kind: str) -> None:
    """TR1: at 0 s, 1 h, 47 h, 49 h and 7 days: one answer to the patient, one write to the EHR, one status applied."""
    bench = workshop(kind)
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=20)))
    bench.settle()
    bubble = bench.whatsapp.of(ANA)[0]
    stamp = str(bench.seconds())
    tap = {
        "id": "wamid.tap",
        "timestamp": stamp,
        "from": ANA,
        "type": "button",
        "button": {"payload": bubble.buttons[0], "text": "—"},
    }
    message = {"contacts": [{"profile": {"name": "—"}, "wa_id": ANA}], "messages": [tap]}
    status = {"statuses": [bench.status_of(bubble, "delivered") | {"timestamp": stamp}]}
    told, written = [], []
    passed = 0
    for hours in (0, 0, 1, 47, 49, 7 * 24):
        bench.pass_(hours=hours - passed)
        passed = hours
        sweep(bench)
        bench.webhook(message)
        bench.webhook(status)
        bench.settle_replies()
        told.append(len(bench.whatsapp.of(ANA)))
        written.append(bench.ehr.writes.count(("PUT", "Appointment/a1")))
    assert told == [2] * 6 and written == [1] * 6
    assert [fate for fate, _ in bench.fates()].count("applied") == len({"tap", "status", "echo"}) - 1


@pytest.mark.parametrize("order", list(itertools.permutations((*ORDERED, "failed"))), ids="-".join)
def test_statuses_in_every_order(bench: Bench, order: tuple[str, ...]) -> None:
    """TR2, one by one: a message goes forward only. What the phone showed stays so, whatever says `failed` later; a failure
    that came first is unsaid by the proof of a delivery."""
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=20)))
    bench.settle()
    bubble = bench.whatsapp.of(ANA)[0]
    rank = {"accepted": 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}
    was = "accepted"
    for status in order:
        bench.status(bubble, status)
        bench.apply()
        state = bench.messages(outbox.c.offset.is_(None), outbox.c.answers.is_(None))[0].state
        assert rank[state] >= rank[was], f"{was} → {state} on {status} of {order}"
        was = state
    assert was == "read"
