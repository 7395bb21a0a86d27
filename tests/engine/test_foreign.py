"""A patient of another server is nobody here, even where one of ours has the same id."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench

ANA = people.ANA_PHONE


@pytest.mark.parametrize(
    ("patient", "bubbles"),
    [
        ("Patient/ana", 1),
        ("https://ehr.example/fhir/Patient/ana", 1),
        ("https://ehr.example/fhir/Patient/ana/_history/3", 1),
        ("https://other.example/fhir/Patient/ana", 0),
        ("http://ehr.example/fhir/Patient/ana", 0),
        ("https://ehr.example/other/Patient/ana", 0),
    ],
)
def test_only_ours_is_written_to(bench: Bench, patient: str, bubbles: int) -> None:
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=20), patient=patient))
    bench.settle()
    assert len(bench.told(ANA)) == bubbles
    assert None not in [fate for fate, _ in bench.fates()]
