"""Which telecom, in which digits, in which order: as found in reference/fhir.md §13."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from bridge.mappers.contact import canonical, phones

CASES = sorted((Path(__file__).parent / "testdata/contact").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_phones(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    got = phones(case["telecom"], region=case["region"], now=datetime.fromisoformat(case["now"]))
    assert [phone.wa_id for phone in got] == case["expect"], case["why"]


@pytest.mark.parametrize(
    ("wa_id", "same"),
    [
        ("5215512345678", "525512345678"),  # Mexico: wa_ids keep the old 1
        ("525512345678", "525512345678"),
        ("553181234567", "5531981234567"),  # Brazil: wa_ids lack the ninth digit
        ("551131234567", "551131234567"),  # a landline in São Paulo stays
        ("5491123456789", "5491123456789"),
        ("541123456789", "541123456789"),  # may be another subscriber than 549…
        ("34600123456", "34600123456"),
    ],
)
def test_spellings_of_one_phone(wa_id: str, same: str) -> None:
    assert canonical(wa_id) == same
    assert canonical(canonical(wa_id)) == same
