"""Many reads in one request: what a batch says plainly is believed, everything else is read by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.together import MOST, SLOW, Together
from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir.client import Missing, Resource
from bridge.fhir.together import Told
from tests.engine.harness import Inline

PATIENTS = [f"Patient/p{n}" for n in range(10)]


class Ehr:
    """Has every patient but those that are `gone`, and notes how it was asked."""

    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.batch_fails: Exception | None = None
        self.read_fails: Exception | None = None
        self.batches: list[list[str]] = []
        self.reads: list[str] = []

    def together(self, whats: Sequence[str]) -> list[Told | None]:
        self.batches.append(list(whats))
        if self.batch_fails is not None:
            raise self.batch_fails
        return [None if what in self.gone else Told({"resourceType": "Patient", "id": what[8:]}) for what in whats]

    def read(self, reference: str) -> Resource | Missing:
        self.reads.append(reference)
        if self.read_fails is not None:
            raise self.read_fails
        if reference in self.gone:
            return Missing()
        return Resource({"resourceType": "Patient", "id": reference[8:]}, None, None, None, b"")


@pytest.fixture
def ehr() -> Ehr:
    return Ehr()


@pytest.fixture
def reader(ehr: Ehr) -> Reader:
    made = Reader(cast("Any", {"main": ehr}), time.monotonic_ns, lambda: None)
    made._pools = {"main": cast("Any", Inline())}
    return made


def ask(reader: Reader, whats: Sequence[str]) -> list[Any]:
    with reader.gathered():
        assert reader.need("main", whats) == "pending"
    return [reader.get("main", what) for what in whats]


def test_one_request_for_all(reader: Reader, ehr: Ehr) -> None:
    found = ask(reader, PATIENTS)
    assert [one.value["id"] for one in found] == [what[8:] for what in PATIENTS]
    assert ehr.batches == [PATIENTS]
    assert ehr.reads == []


def test_few_are_read_side_by_side(reader: Reader, ehr: Ehr) -> None:
    assert all(isinstance(one, Found) for one in ask(reader, PATIENTS[:3]))
    assert ehr.batches == []


def test_an_absence_is_one_only_when_a_read_of_its_own_says_so(reader: Reader, ehr: Ehr) -> None:
    ehr.gone = {"Patient/p3"}
    found = ask(reader, PATIENTS)
    assert ehr.reads == ["Patient/p3"]
    assert [one.state for one in found] == ["missing" if n == 3 else "found" for n in range(10)]


@pytest.mark.parametrize("error", [EhrRefused("batch: 400", status=400), EhrRefused("mixed up")])
def test_an_ehr_that_takes_no_batch_is_read_one_by_one_from_then_on(reader: Reader, ehr: Ehr, error: Exception) -> None:
    ehr.batch_fails = error
    assert all(one.state == "found" for one in ask(reader, PATIENTS))
    assert sorted(ehr.reads) == PATIENTS
    more = [f"Patient/q{n}" for n in range(10)]
    assert all(one.state == "found" for one in ask(reader, more))
    assert len(ehr.batches) == 1


def test_what_did_not_arrive_failed_for_all(reader: Reader, ehr: Ehr) -> None:
    ehr.batch_fails = EhrUnreachable("503")
    assert all(isinstance(one, Failed) for one in ask(reader, PATIENTS))
    assert ehr.reads == []


def test_an_answer_that_got_lost_is_asked_for_once_singly(reader: Reader, ehr: Ehr) -> None:
    ehr.batch_fails = EhrUnreachable("ReadTimeout", unknown=True)
    ehr.read_fails = EhrUnreachable("ReadTimeout")
    assert all(isinstance(one, Failed) for one in ask(reader, PATIENTS))
    assert ehr.reads == PATIENTS[:1]


def test_one_lost_answer_does_not_end_it_and_two_do(reader: Reader, ehr: Ehr) -> None:
    ehr.batch_fails = EhrUnreachable("ReadTimeout", unknown=True)
    for name, batches in (("a", 1), ("b", 2), ("c", 2)):
        assert all(one.state == "found" for one in ask(reader, [f"Patient/{name}{n}" for n in range(5)]))
        assert len(ehr.batches) == batches


def test_requests_grow_smaller_where_they_take_long() -> None:
    together = Together()
    assert [len(part) for part in together.parts(range(2 * MOST))] == [MOST, MOST]
    together.took(SLOW + 1)
    assert len(together.parts(range(MOST))) == 2
    together.took(0.01)
    assert len(together.parts(range(MOST))) == 1


def test_a_search_from_before_a_change_is_not_believed(reader: Reader, ehr: Ehr) -> None:
    searches = [f"RelatedPerson?patient=Patient/p{n}" for n in range(5)]
    assert all(isinstance(one, Found) for one in ask(reader, [*searches, *PATIENTS]))
    reader.outdate("main", "RelatedPerson", time.monotonic_ns())
    assert [reader.get("main", what) for what in searches] == [None] * 5
    assert all(isinstance(reader.get("main", what), Found) for what in PATIENTS)
    assert all(isinstance(one, Found) for one in ask(reader, searches))
