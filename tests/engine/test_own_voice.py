"""`site.own_voice_from`: from that age on a minor is written to themselves; a result of theirs is still a clinician's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

FATHER, OWN = people.FATHER_PHONE, "34612000199"


def young(bench: Bench, born: str) -> None:
    """Mateo, of another age and with a telephone of his own."""
    telephone = [{"system": "phone", "value": f"+{OWN}", "use": "mobile", "rank": 1}]
    bench.ehr.put(people.mateo() | {"birthDate": born, "telecom": telephone})
    bench.clerk(people.consent("c1", "Patient/mateo", MORNING), door="consents")
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9), patient="Patient/mateo"))
    bench.clerk(people.report("r1", "Patient/mateo", MORNING), door="results")
    bench.settle()


@pytest.mark.parametrize("kind", KINDS)
def test_the_day_that_somebody_is_sixteen(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind, results={"enabled": True})
    young(bench, "2010-12-01")
    assert "appointment_booked" in bench.told(OWN)
    assert bench.told(FATHER) == []
    [result] = bench.messages(outbox.c.mapping == "result-ready")
    assert (result.state, result.reason) == ("held", "a clinician must release it: a result of a minor")


def test_the_day_before(workshop: Workshop) -> None:
    bench = workshop(results={"enabled": True})
    young(bench, "2010-12-02")
    assert "caregiver_booked" in bench.told(FATHER)
    assert not {"appointment_booked", "result_ready"} & set(bench.told(OWN))
