"""Who is addressed: the patient, a guardian, or nobody and why."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from bridge.mappers.person import read_person
from bridge.mappers.recipient import Recipient, Refusal, recipients

CASES = sorted((Path(__file__).parent / "testdata/recipient").glob("*.json"))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recipient(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    patient = read_person(case["patient"], region="ES", now=NOW)
    for related in (case["related"], list(reversed(case["related"]))):  # the order an EHR lists them in decides nothing
        got = recipients(
            case["who"],
            patient,
            [read_person(person, region="ES", now=NOW) for person in related],
            minor_under=18,
            today=date.fromisoformat(case["today"]),
            reachable=case.get("reachable", ()),
        )
        if isinstance(case["expect"], str):
            assert got == Refusal(case["expect"]), case["why"]
        else:
            assert isinstance(got, Recipient), case["why"]
            assert [got.reference, got.role] == case["expect"], case["why"]
            assert got.patient.reference == "Patient/p"


@pytest.mark.parametrize("who", ["patient", "guardian-if-minor", "guardian-only"])
def test_no_mapping_reaches_a_minor(who: str) -> None:
    child = read_person(
        {
            "resourceType": "Patient",
            "id": "p",
            "birthDate": "2012-01-01",
            "telecom": [{"system": "sms", "value": "600000001"}],
        },
        region="ES",
        now=NOW,
    )
    got = recipients(who, child, [], minor_under=18, today=NOW.date(), reachable=["Patient/p"])
    assert isinstance(got, Refusal)
