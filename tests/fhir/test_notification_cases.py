"""Our own table: one file, one oddity. `expect` in corpus words, `pieces` are the fields of each row that matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.fhir.dialects import DIALECTS
from bridge.fhir.notification import Piece, Push, answer, parse_piece, read, split
from bridge.verified import VerifiedBody
from tests.corpus.fhir_expect import compare, differences, observe_pieces

CASES = sorted((Path(__file__).parent / "testdata/notification").glob("*.json"))


def push(case: dict[str, Any]) -> Push:
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    headers = case.get("headers", {"content-type": "application/fhir+json"})
    kind = headers.get("content-type", "")
    return Push(case["method"], case.get("tail"), kind, headers, VerifiedBody(body.encode()))


def field_of(piece: Piece, name: str) -> Any:
    value = getattr(piece, name)
    if name == "included":
        return list(value)
    return value.value if name == "identifier" and value is not None else value


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    notification = read(push(case), DIALECTS[case.get("dialect", "generic")])
    assert not compare(case["expect"], notification), notification.reason
    pieces = split(notification, case.get("subscription", "Appointment"))
    got = [{name: field_of(piece, name) for name in want} for piece, want in zip(pieces, case["pieces"], strict=True)]
    assert got == case["pieces"]
    again = [parse_piece(piece.body) for piece in pieces]
    assert again == list(pieces)
    assert not differences(case["expect"], observe_pieces(again))


def test_the_table_is_not_empty() -> None:
    assert len(CASES) > 40


def test_people_are_kept_only_beside_a_full_resource() -> None:
    """HAPI sends the Patient in every content level; the rows of the other two must not hold the name or number."""
    for name in ("included_patient_in_id_only", "included_patient_in_full_resource"):
        case = json.loads((CASES[0].parent / f"{name}.json").read_text(encoding="utf-8"))
        stored = b"".join(piece.body for piece in split(read(push(case), DIALECTS["generic"]), "Appointment"))
        assert (b"+34600000001" in stored) is (name == "included_patient_in_full_resource")
        assert b"Nadie" not in stored  # a Patient that no event speaks of


def test_each_event_keeps_only_itself() -> None:
    """A Bundle of 1,000 events makes 1,000 small rows, not 1,000 copies of the Bundle."""
    entries: list[Any] = []
    events: list[Any] = []
    for n in range(1000):
        events.append({"eventNumber": str(n), "focus": {"reference": f"Appointment/a{n}"}})
        patient = {"reference": f"Patient/p{n}"}
        entries.append(
            {"resource": {"resourceType": "Appointment", "id": f"a{n}", "participant": [{"actor": patient}]}}
        )
        entries.append({"resource": {"resourceType": "Patient", "id": f"p{n}"}})
    status = {"resourceType": "SubscriptionStatus", "type": "event-notification", "notificationEvent": events}
    body = json.dumps({"resourceType": "Bundle", "type": "history", "entry": [{"resource": status}, *entries]}).encode()
    pieces = split(read(Push("POST", None, "", {}, VerifiedBody(body)), DIALECTS["generic"]), "Appointment")
    assert len(pieces) == 1000
    assert [list(piece.included) for piece in pieces[:2]] == [["Patient/p0"], ["Patient/p1"]]
    assert sum(len(piece.body) for piece in pieces) < 12 * len(body)
    assert max(len(piece.body) for piece in pieces[1:]) < 1000


@pytest.mark.parametrize(
    ("method", "body", "wants_bundle"),
    [
        ("POST", '{"resourceType":"Bundle","type":"history","entry":[]}', True),
        ("POST", '{"resourceType":"Bundle","type":"transaction"', True),  # cut short: HAPI would send it 21 times
        ("POST", '{"resourceType":"Appointment","id":"a1"}', False),
        ("POST", "", False),
        ("PUT", "<Appointment/>", False),
        ("DELETE", "", False),
    ],
)
def test_answer(method: str, body: str, wants_bundle: bool) -> None:
    push = Push(method, "Appointment/a1" if method != "POST" else None, "", {}, VerifiedBody(body.encode()))
    got = answer(read(push, DIALECTS["hapi"]))
    assert (json.loads(got)["type"] if got else None) == ("transaction-response" if wants_bundle else None)
