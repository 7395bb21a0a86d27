"""What one Consent says of messages: the traps of reference/fhir.md §8, one file each."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.errors import UnreadableResource
from bridge.mappers.consent import read_decisions, read_statement

CASES = sorted((Path(__file__).parent / "testdata/consent").glob("*.json"))
CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).parents[3] / "shared/corpus")) / "fhir"
LOINC_ONLY = (SimpleNamespace(category="http://loinc.org|89057-4", purposes=("appointments", "results")),)
NOW = datetime.fromisoformat("2026-11-24T12:00:00Z")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_consent(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    expect = case["expect"]
    got = read_decisions(
        case["consent"], LOINC_ONLY, fhir_version=case["fhir_version"], now=datetime.fromisoformat(case["now"])
    )
    if expect["decision"] is None:  # speaks of no purpose of ours
        assert got == (), case["why"]
        return
    assert [decision.purpose for decision in got] == ["appointments", "results"]
    for decision in got:
        assert decision.decision == expect["decision"], case["why"]
        assert decision.consent_ref == "Consent/c1"
        assert decision.patient == expect.get("patient", "Patient/ana")
        if "decided_at" in expect:
            assert decision.decided_at == datetime.fromisoformat(expect["decided_at"]), case["why"]


def test_a_bare_date_begins_at_midnight_of_the_site() -> None:
    consent = {
        "resourceType": "Consent",
        "id": "c1",
        "status": "active",
        "category": [{"coding": [{"system": "http://loinc.org", "code": "89057-4"}]}],
        "dateTime": "2026-11-20",
        "provision": {"type": "permit"},
    }
    got = read_decisions(consent, LOINC_ONLY, fhir_version="R4", now=NOW, zone="America/Sao_Paulo")
    assert got[0].decided_at == datetime.fromisoformat("2026-11-20T03:00:00Z")


def test_nesting_without_end_does_not_exhaust_the_stack() -> None:
    provision: dict[str, Any] = {"type": "deny"}
    for _ in range(5000):
        provision = {"provision": [provision]}
    consent = {
        "resourceType": "Consent",
        "id": "c1",
        "status": "active",
        "category": [{"coding": [{"system": "http://loinc.org", "code": "89057-4"}]}],
        "policyRule": {"coding": [{"code": "OPTIN"}]},
        "provision": provision,
    }
    assert read_decisions(consent, LOINC_ONLY, fhir_version="R4", now=NOW)[0].decision == "deny"


def test_a_consent_without_id_is_unreadable() -> None:
    with pytest.raises(UnreadableResource):
        read_statement({"resourceType": "Consent", "status": "active"}, LOINC_ONLY, fhir_version="R4")


def corpus_rows() -> list[dict[str, Any]]:
    index = CORPUS / "index.json"
    rows = json.loads(index.read_text(encoding="utf-8"))["files"] if index.exists() else []
    return [row for row in rows if row["expect"].get("type") == "Consent"]


@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus here")
@pytest.mark.parametrize("row", corpus_rows(), ids=lambda row: row["file"])
def test_corpus(row: dict[str, Any]) -> None:
    consent = json.loads((CORPUS / row["file"]).read_text(encoding="utf-8"))
    version = {"4.0.1": "R4", "4.3.0": "R4B", "5.0.0": "R5"}[row["fhirVersion"]]
    statement = read_statement(consent, LOINC_ONLY, fhir_version=version)
    assert statement.says == row["expect"]["messaging"] == "silent"
    assert read_decisions(consent, LOINC_ONLY, fhir_version=version, now=NOW) == ()
    # and what it would say at a site that recognises its category
    category = consent["category"][0]["coding"][0]
    recognised = (SimpleNamespace(category=f"{category['system']}|{category['code']}", purposes=("appointments",)),)
    (decision,) = read_decisions(consent, recognised, fhir_version=version, now=NOW)
    assert decision.decision == row["expect"]["if_recognised"]
    assert decision.patient == row["expect"]["subject"]
