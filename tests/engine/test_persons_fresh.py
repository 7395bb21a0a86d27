"""Who is written to is asked of the EHR again before a reminder leaves: the guardian too. And who stopped marketing inside
WhatsApp is not tried with the same template again."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger.tables import block, outbox
from bridge.outbound.carrier import Answer
from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench

FATHER, ANA = people.FATHER_PHONE, people.ANA_PHONE
REMINDED = "caregiver_reminder"


def mateos_visit(bench: Bench) -> None:
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=5), patient="Patient/mateo"))
    bench.settle()
    assert len(bench.told(FATHER)) == 1


def due(bench: Bench) -> list[str]:
    """What the father reads when the reminder three days ahead is due, after its booking."""
    bench.pass_(days=2, minutes=1)
    bench.settle()
    return bench.told(FATHER)[1:]


def test_a_guardian_as_the_ehr_has_them_is_reminded(bench: Bench) -> None:
    mateos_visit(bench)
    assert len(due(bench)) == 1


@pytest.mark.parametrize(
    "change",
    [{"active": False}, {"period": {"end": "2026-11-20"}}, {"relationship": [{"text": "vecino"}]},
     {"patient": {"reference": "Patient/lucia"}}, {"telecom": []}],
    ids=["inactive", "over", "a neighbour", "another's", "no phone"],
)  # fmt: skip
def test_who_is_no_guardian_any_more_is_not_reminded(bench: Bench, change: dict[str, Any]) -> None:
    """Nobody notified us of it."""
    mateos_visit(bench)
    bench.ehr.put(copy.deepcopy(bench.ehr.get("RelatedPerson/mateo-father")) | change)
    assert due(bench) == []
    reasons = [row.reason for row in bench.messages(outbox.c.offset == "3d")]
    assert any("guardian" in reason or "relationship" in reason or "record" in reason for reason in reasons if reason)


def test_a_guardians_new_number_is_used(bench: Bench) -> None:
    mateos_visit(bench)
    new = "34612000777"
    held = copy.deepcopy(bench.ehr.get("RelatedPerson/mateo-father"))
    bench.ehr.put(held | {"telecom": [{"system": "phone", "value": f"+{new}", "use": "mobile"}]})
    assert due(bench) == []
    assert len(bench.told(new)) == 1


def refuse(bench: Bench, code: int) -> None:
    bench.whatsapp.answers.append(Answer(400, json.dumps({"error": {"code": code, "message": "x"}}).encode()))


def test_who_stopped_marketing_is_not_tried_again(bench: Bench) -> None:
    """131050: this template counts as marketing for them. The next one of the same template is not sent; others are."""
    refuse(bench, 131050)
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=20)))
    bench.settle()
    assert bench.told(ANA) == [] and len(bench.whatsapp.posts) == 1
    bench.clerk(people.appointment("a2", MORNING + timedelta(days=21)))
    bench.clerk(people.appointment("a3", MORNING + timedelta(days=22), patient="Patient/lucia"))
    bench.settle()
    assert bench.told(ANA) == [] and len(bench.whatsapp.posts) == 2, "Lucía has stopped nothing"
    reasons = [
        (row.state, row.reason) for row in bench.messages(outbox.c.offset.is_(None), outbox.c.person_id.is_not(None))
    ]
    assert ("failed", "user stopped marketing messages") in [
        (state, (why or "").split(" (")[0]) for state, why in reasons
    ]
    assert any(state == "suppressed" and "stopped marketing messages" in (why or "") for state, why in reasons)
    bench.account(
        "user_preferences", {"user_preferences": [{"wa_id": ANA, "category": "marketing_messages", "value": "resume"}]}
    )
    bench.settle()
    bench.clerk(people.appointment("a4", MORNING + timedelta(days=23)))
    bench.settle()
    assert bench.told(ANA) == ["appointment_booked"]


def test_a_failed_status_says_so_too(bench: Bench) -> None:
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=20)))
    bench.settle()
    bench.status(bench.whatsapp.of(ANA)[0], "failed", errors=[{"code": 131050, "title": "x"}])
    bench.settle()
    assert len(bench.rows(block)) == 1
    bench.clerk(people.appointment("a2", MORNING + timedelta(days=21)))
    bench.settle()
    assert len(bench.told(ANA)) == 1
