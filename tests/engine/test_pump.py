"""The pump with many due at once: one that cannot be made stops nobody, and nothing is looked at again before its read is there."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.engine import pump
from bridge.engine.reminding import SecondLook
from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING
from tests.stores import KINDS

MANY = 120  # more than become ready in one transaction


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_many_reminders_cannot_be_made(workshop: Workshop, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = workshop(kind)
    made = pump.render

    def render(mapping: Any, context: Any) -> Any:
        if context.resource["id"] == "v7":
            raise RuntimeError("a defect in a mapping")
        return made(mapping, context)

    for i in range(MANY):
        bench.ehr.put(people.patient(f"p{i}", "Ana", "Inventada", f"346{40_000_000 + i}"))
    bench.append([])
    for i in range(MANY):
        bench.clerk(people.appointment(f"v{i}", MORNING + timedelta(hours=30), patient=f"Patient/p{i}"))
    bench.settle()
    monkeypatch.setattr(pump, "render", render)
    bench.pass_(hours=7)
    bench.settle(patience=MANY)
    told = [bubble.to for bubble in bench.whatsapp.bubbles if bubble.template == "appointment_reminder"]
    assert len(told) == len(set(told)) == MANY - 1
    (failed,) = bench.messages(outbox.c.state == "failed")
    assert failed.reason == "it could not be made: RuntimeError"
    assert bench.alarms() == ["it could not be made: RuntimeError"]


def test_a_read_on_its_way_is_waited_for_without_looking() -> None:
    flying = {"Appointment/a", "Patient/b"}
    reader = SimpleNamespace(awaited=lambda ehr, whats: any(what in flying for what in whats))
    look = SecondLook(SimpleNamespace(clock=SimpleNamespace(offset=0)), reader)  # type: ignore[arg-type]
    look._asked = {1: ("main", ["Appointment/a", "Patient/a"]), 2: ("main", ["Appointment/b", "Patient/b"])}
    assert look.waiting([1, 2, 3]) == {1, 2}
    flying.discard("Patient/b")
    assert look.waiting([1, 2, 3]) == {1}
    assert look.waiting([3]) == set()
    assert look._asked == {}  # what is no longer due leaves nothing behind
