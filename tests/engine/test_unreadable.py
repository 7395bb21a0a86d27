"""What fuzzing found: shapes that mappers cannot read are unusable and stop nothing; a resource may change its patient."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.ledger.tables import consent
from bridge.sandbox import people
from bridge.sandbox.people import ANA_PHONE as ANA
from bridge.sandbox.people import LUCIA_PHONE as LUCIA
from tests.engine.harness import MORNING, Bench
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


def test_a_consent_that_was_somebody_elses(bench: Bench) -> None:
    """The patient it spoke for by mistake has no decision any more, and is told nothing."""
    bench.clerk(people.consent("c1", "Patient/ana", MORNING))
    bench.apply()
    bench.clerk(people.consent("c1", "Patient/lucia", MORNING))
    bench.settle()
    assert {fate for fate, _ in bench.fates()} == {"planned"}
    last = {row.person_id: row.decision for row in bench.rows(consent) if row.purpose == "results"}
    assert list(last.values()) == ["silent", "permit"]
    assert bench.told(ANA) == []
    assert len(bench.told(LUCIA)) == 1
    assert not bench.alarms()


def test_a_report_that_was_somebody_elses(bench: Bench) -> None:
    """What was told cannot be taken back kindly: it is decided for its own patient alone."""
    bench.clerk(people.report("r1", "Patient/ana", MORNING))
    bench.settle()
    bench.clerk(people.report("r1", "Patient/lucia", MORNING))
    bench.settle()
    assert "failed" not in {fate for fate, _ in bench.fates()}
    assert not bench.alarms()
    assert len(bench.fates()) == 2
