"""Newer or a hint; and the same thing found where R4 and R5 put it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.fhir import versions
from bridge.fhir.dialects import DIALECTS
from bridge.fhir.versions import Version, freshness, instant

NOON, LATER = datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 24, 12, 0, 1, tzinfo=UTC)

FRESHNESS = {
    "later instant": (Version(NOON, "3"), Version(LATER, "4"), "newer"),
    "later instant, lower version: HAPI counter restart": (Version(NOON, "9"), Version(LATER, "1"), "newer"),
    "later instant, UUID": (Version(NOON, "a-b"), Version(LATER, "c-d"), "newer"),
    "later instant, no version": (Version(NOON, "3"), Version(LATER, None), "newer"),
    "same instant, higher version": (Version(NOON, "3"), Version(NOON, "4"), "newer"),
    "same instant, ten is more than nine": (Version(NOON, "9"), Version(NOON, "10"), "newer"),
    "same instant, same version": (Version(NOON, "3"), Version(NOON, "3"), "hint"),
    "same instant, lower version": (Version(NOON, "3"), Version(NOON, "2"), "hint"),
    "same instant, UUID": (Version(NOON, "a"), Version(NOON, "b"), "hint"),
    "same instant, Oracle's versions": (Version(NOON, "3423957v1"), Version(NOON, "3423957v2"), "hint"),
    "same instant, one version only": (Version(NOON, None), Version(NOON, "2"), "hint"),
    "older, higher version: restored EHR": (Version(LATER, "5"), Version(NOON, "6"), "hint"),
    "stripped": (Version(NOON, "3"), Version(None, None), "hint"),
    "no instant, higher version": (Version(NOON, "3"), Version(None, "4"), "hint"),
    "neither has an instant": (Version(None, "3"), Version(None, "4"), "hint"),
    "held has no instant": (Version(None, "3"), Version(NOON, "4"), "hint"),
    "never seen": (None, Version(NOON, "1"), "newer"),
    "never seen, stripped": (None, Version(None, "1"), "hint"),
}


@pytest.mark.parametrize("name", FRESHNESS)
def test_freshness(name: str) -> None:
    held, pushed, expected = FRESHNESS[name]
    assert freshness(held, pushed) == expected


@given(st.builds(Version, st.sampled_from([None, NOON, LATER]), st.sampled_from([None, "1", "2", "x"])))
def test_nothing_is_newer_than_itself(version: Version) -> None:
    assert freshness(version, version) == "hint"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T12:00:00Z", NOON),
        ("2026-11-24T13:00:00+01:00", NOON),
        ("2026-11-24T12:00:00.0000000+00:00", NOON),
        ("2026-11-24T12:00:00.1234567Z", NOON.replace(microsecond=123456)),
        ("2026-11-24T12:00:00", None),  # no zone: nobody knows when
        ("2026-11-24", None),
        ("2026-02-31T12:00:00Z", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_instant(text: object, expected: datetime | None) -> None:
    assert instant(text) == expected


def test_version_of() -> None:
    meta = {"versionId": "3", "lastUpdated": "2026-11-24T12:00:00Z"}
    assert versions.version_of({"meta": meta}) == Version(NOON, "3")
    assert versions.version_of({"meta": [meta]}) == Version(None, None)
    assert versions.version_of({"meta": {"versionId": 3}}) == Version(None, "3")


CODING = {"coding": [{"system": "http://example.org/c", "code": "x1"}, {"code": "local"}, {"display": "only words"}]}
CODES = ("http://example.org/c|x1", "|local")
ACCESSORS: list[tuple[Any, dict[str, Any], Any]] = [
    (versions.patient_of, {"patient": {"reference": "Patient/p1"}}, "Patient/p1"),
    (versions.patient_of, {"subject": {"reference": "https://ehr.example.org/fhir/Patient/p1"}}, "Patient/p1"),
    (versions.patient_of, {"subject": {"identifier": {"value": "1"}}}, None),
    (versions.decision_time, {"dateTime": "2026-01-02", "meta": {"lastUpdated": "2026-05-05T00:00:00Z"}}, "2026-01-02"),
    (versions.decision_time, {"date": "2026-01"}, "2026-01"),
    (versions.decision_time, {"meta": {"lastUpdated": "2026-05-05T00:00:00Z"}}, None),
    (versions.decision_type, {"provision": {"type": "deny"}}, "deny"),
    (versions.decision_type, {"decision": "permit", "provision": [{"type": "deny"}]}, "permit"),
    (versions.decision_type, {"provision": {"period": {}}}, None),
    (versions.service_codes, {"serviceType": [CODING]}, CODES),
    (versions.service_codes, {"serviceType": [{"concept": CODING}, {"reference": {"reference": "x"}}]}, CODES),
    (versions.service_codes, {"serviceType": "broken"}, ()),
    (versions.reason_codes, {"reasonCode": [CODING]}, CODES),
    (versions.reason_codes, {"reason": [{"concept": CODING}]}, CODES),
    (versions.cancellation_codes, {"cancelationReason": CODING}, CODES),
    (versions.cancellation_codes, {"cancellationReason": CODING}, CODES),
    (versions.cancellation_element, "R4B", "cancelationReason"),  # type: ignore[list-item]
    (versions.cancellation_element, "R5", "cancellationReason"),  # type: ignore[list-item]
    (versions.replaces, {"replaces": [{"reference": "Appointment/a0"}]}, ("Appointment/a0",)),
    (
        versions.patients_of,
        {
            "subject": {"reference": "Patient/p1"},
            "participant": [
                {"actor": {"reference": "Patient/p2"}},
                {"actor": {"reference": "RelatedPerson/r1"}},
                {"actor": {"display": "a name only"}},
                {"actor": {"reference": "Patient/p1"}},
            ],
        },
        ("Patient/p2", "Patient/p1"),
    ),
]


@pytest.mark.parametrize(("accessor", "given_value", "expected"), ACCESSORS)
def test_accessor(accessor: Any, given_value: Any, expected: Any) -> None:
    assert accessor(given_value) == expected


@pytest.mark.parametrize(
    ("dialect", "last", "number", "events", "lost"),
    [
        ("generic", 4, 5, 1, 0),
        ("generic", 4, 7, 1, 2),
        ("generic", 4, 7, 3, 0),
        ("generic", 4, 4, 1, 0),  # repeated
        ("generic", None, 40, 1, 0),  # first one we hear of
        ("hapi", 40, 1, 1, 0),  # restarted
        ("athenahealth", 1, 3, 1, 0),  # numbers per Bundle
        ("firely", 1, 9, 1, 0),
    ],
)
def test_lost_events(dialect: str, last: int | None, number: int, events: int, lost: int) -> None:
    assert DIALECTS[dialect].lost(last, number, events) == lost
