"""Patients and RelatedPersons as EHRs write them: alive or not, whose language, which zone."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UnreadableResource
from bridge.mappers.person import read_person, refusal

CASES = sorted((Path(__file__).parent / "testdata/person").glob("*.json"))
CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).parents[3] / "shared/corpus")) / "fhir"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_person(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    if case["expect"] == "unreadable":
        with pytest.raises(UnreadableResource):
            read_person(case["resource"], region="ES", now=NOW)
        return
    person = read_person(case["resource"], region="ES", now=NOW)
    got = {**asdict(person), "refusal": refusal(person)}
    for key, expected in case["expect"].items():
        value = got[key]
        if isinstance(value, date):
            value = value.isoformat()
        assert (list(value) if isinstance(value, tuple) else value) == expected, case["why"]


def test_age_counts_completed_years() -> None:
    born = read_person({"resourceType": "Patient", "id": "p", "birthDate": "2008-02-29"}, region="ES", now=NOW)
    assert born.age(date(2026, 2, 28)) == 17
    assert born.age(date(2026, 3, 1)) == 18


def test_nothing_of_a_person_shows_when_printed() -> None:
    person = read_person(
        {
            "resourceType": "Patient",
            "id": "ana",
            "birthDate": "1980-05-17",
            "name": [{"family": "García"}],
            "telecom": [{"system": "phone", "value": "600123456"}],
        },
        region="ES",
        now=NOW,
    )
    printed = repr(person) + repr(person.phones)
    assert not any(secret in printed for secret in ("García", "600123456", "1980", "2026, 5, 17"))


EXPECTED = {  # file: (phones at a site in that region, language, whether anyone may write, human)
    "fmg-r4-patient-whatsapp.json": ("LK", ["94771234567"], None, True),
    "fmg-r4-patient-sms.json": ("LK", ["94770001122"], None, True),
    "hl7-r4-patient-example.json": ("AU", ["61334105613", "61355556473"], None, True),
    "hl7-r4-patient-example-f201-roel.json": ("NL", ["31612345678", "31201234567"], "nl_NL", True),
    "hl7-r4-patient-example-newborn.json": ("US", [], None, True),
    "hl7-r4-patient-example-animal.json": ("AU", [], None, False),
    "uscore-patient-deceased-example.json": ("US", ["15555555555"], None, False),
    "hl7-r4-relatedperson-example-newborn-mom.json": ("US", ["15555552003"], None, True),
}


@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus here")
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_corpus(name: str) -> None:
    region, phones, language, may = EXPECTED[name]
    person = read_person(json.loads((CORPUS / name).read_text(encoding="utf-8")), region=region, now=NOW)
    assert [phone.wa_id for phone in person.phones] == phones
    assert person.language == language
    assert (refusal(person) is None) is may


@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus here")
def test_every_person_of_the_corpus_is_read() -> None:
    read = 0
    for path in sorted(CORPUS.glob("*.json")):
        resource = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(resource, dict) and resource.get("resourceType") in {"Patient", "RelatedPerson"}:
            assert read_person(resource, region="US", now=NOW).reference.endswith(f"/{resource['id']}")
            read += 1
    assert read >= 15


KEYS = st.sampled_from(
    [
        "telecom",
        "value",
        "system",
        "use",
        "rank",
        "period",
        "start",
        "end",
        "extension",
        "url",
        "valueCode",
        "active",
        "link",
        "other",
        "type",
        "reference",
        "birthDate",
        "communication",
        "language",
        "coding",
        "code",
        "preferred",
        "address",
        "name",
        "relationship",
        "patient",
        "deceasedBoolean",
        "deceasedDateTime",
        "valueCoding",
    ]
)
TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "phone",
        "sms",
        "+34600123456",
        "2026-13",
        "es-ES",
        "http://hl7.org/fhir/StructureDefinition/timezone",
        "Europe/Madrid",
        "Europe",
        "https://x/messaging-channel-extension",
        "whatsapp",
        "replaced-by",
        "9999999999999999999999",
    ]
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    kind=st.sampled_from(["Patient", "RelatedPerson"]),
    body=st.dictionaries(KEYS, ANYTHING, max_size=8),
    telecom=st.lists(st.dictionaries(KEYS, ANYTHING, max_size=5), max_size=3),
)
def test_whatever_stands_there_a_person_is_read(kind: str, body: dict[str, Any], telecom: list[dict[str, Any]]) -> None:
    person = read_person({"telecom": telecom, **body, "resourceType": kind, "id": "p"}, region="ES", now=NOW)
    assert all(phone.wa_id.isdigit() for phone in person.phones)
    assert refusal(person) is None or str(refusal(person)).startswith("the ")
