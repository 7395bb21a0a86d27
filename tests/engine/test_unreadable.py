"""A resource whose shape the mappers cannot read is unusable: shown, no failure of ours, and nothing stops for it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sandbox import people
from bridge.sandbox.people import ANA_PHONE as ANA
from tests.engine.harness import Bench
from tests.engine.test_sending import BOOKED, START, visit

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "an Appointment without status": (visit() | {"status": False}, "Appointment/a1: without status"),
    "a promised visit without start": (visit() | {"start": None}, "Appointment/a1: booked without start"),
    "a start with two offsets": (visit() | {"start": "2026-12-04T02:01:04+00:00Z"}, "Appointment/a1: its start is no instant with an offset"),
    "a status that is a list": (people.report("r1", "Patient/ana", START) | {"status": ["final"]}, "DiagnosticReport/r1: without status"),
}  # fmt: skip


@pytest.mark.parametrize("pushed", [True, False], ids=["pushed", "read"])
@pytest.mark.parametrize("name", SHAPES)
def test_its_fate(bench: Bench, name: str, pushed: bool) -> None:
    resource, reason = SHAPES[name]
    held = bench.ehr.put(resource)
    if pushed:
        bench.notify(held)
    else:
        bench.hint(f"{resource['resourceType']}/{resource['id']}")
    bench.clerk(visit(name="a2"))
    bench.settle()
    fates = dict(bench.fates())
    assert fates.get("unusable") == reason
    assert "failed" not in fates
    assert bench.told(ANA) == [BOOKED]
    assert not bench.alarms()
