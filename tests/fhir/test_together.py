"""A batch of GETs: believed entry by entry, and not at all when an answer is that to another question."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.fhir.together import Told, entry, mixed_up, told

ANA: dict[str, Any] = {"resourceType": "Patient", "id": "ana", "meta": {"versionId": "4"}}
CONSENT: dict[str, Any] = {"resourceType": "Consent", "id": "c1"}
SEARCH = "Consent?patient=Patient/ana"


def answer(resource: Any, status: str = "200 OK", **more: str) -> dict[str, Any]:
    return {"resource": resource, "response": {"status": status, **more}}


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": one} for one in resources], **more}


def test_what_a_get_would_have_said() -> None:
    assert told("Patient/ana", answer(ANA)) == Told(ANA, 'W/"4"')
    assert told("Patient/ana", answer(ANA, etag='W/"5"')) == Told(ANA, 'W/"5"')
    assert told(SEARCH, answer(bundle(CONSENT, {"resourceType": "OperationOutcome"}))) == Told([CONSENT])
    assert told(SEARCH, answer({"resourceType": "Bundle", "type": "searchset"})) == Told([])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("Patient/ana", {"response": {"status": "404"}}),
        ("Patient/ana", answer({"resourceType": "OperationOutcome"}, "410 Gone")),
        ("Patient/ana", {"resource": ANA}),
        (SEARCH, answer(CONSENT)),
        (SEARCH, answer(bundle(CONSENT, link=[{"relation": "next", "url": "https://ehr/fhir?page=2"}]))),
        (SEARCH, answer(bundle(), "500")),
    ],
)
def test_the_rest_is_asked_by_itself(what: str, said: dict[str, Any]) -> None:
    assert told(what, said) is None


def test_answers_in_another_order() -> None:
    ben = {"resourceType": "Patient", "id": "ben"}
    whats = ["Patient/ana", SEARCH, "Patient/ben"]
    assert not mixed_up(whats, [answer(ANA), answer(bundle()), answer(ben)])
    assert not mixed_up(whats, [answer(ANA), answer(bundle()), answer({"resourceType": "OperationOutcome"}, "404")])
    assert mixed_up(whats, [answer(ben), answer(bundle()), answer(ANA)])


def test_the_question() -> None:
    assert entry("Patient/ana")["request"] == {"method": "GET", "url": "Patient/ana"}
    assert entry("Appointment?date=ge2026-01-01T00:00:00+01:00")["request"]["url"].endswith("00:00%2B01:00")
