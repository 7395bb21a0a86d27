"""Two versions of a resource -> event names, as tables; and that nothing a sender writes breaks the reading of it."""

from __future__ import annotations

import json
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UnreadableResource
from bridge.mappers.events import RESOURCES, appointment, same

HERE = Path(__file__).parent / "testdata"
CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).parents[4] / "shared/corpus")) / "fhir"
CASES = sorted(path for kind in ("appointment", "diagnosticreport", "consent") for path in (HERE / kind).glob("*.json"))
TYPES = {"appointment": "Appointment", "diagnosticreport": "DiagnosticReport", "consent": "Consent"}
RECOGNISE = (
    SimpleNamespace(category="http://loinc.org|89057-4", purposes=("appointments",)),
    SimpleNamespace(category="https://site.example|results", purposes=("results",)),
)


def instant(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def project(kind: str, resource: dict[str, Any], case: dict[str, Any]) -> Any:
    return RESOURCES[kind].project(
        resource,
        case.get("fhir_version", "R4"),
        zone=case.get("zone"),
        recognise=RECOGNISE,
        now=instant(case.get("now")),
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_events(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    kind = TYPES[path.parent.name]
    before = project(kind, case["previous"], case) if case["previous"] else None
    if case["expect"] == "unreadable":
        with pytest.raises(UnreadableResource):
            RESOURCES[kind].events(before, project(kind, case["current"], case))
        return
    now = project(kind, case["current"], case)
    named = RESOURCES[kind].events(before, now)
    assert list(named) == case["expect"], case["why"]
    assert set(named) <= set(RESOURCES[kind].names)
    # through the ledger and back it is the same news
    again = RESOURCES[kind].from_json(json.loads(json.dumps(RESOURCES[kind].to_json(now))))
    assert same(now, again)
    assert RESOURCES[kind].events(again, now) == ()


@pytest.mark.parametrize("path", sorted((HERE / "appointment_projection").glob("*.json")), ids=lambda path: path.stem)
def test_what_is_read_of_an_appointment(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    got = appointment.to_json(project("Appointment", case["resource"], case))
    for key, expected in case["expect"].items():
        if key == "start":
            assert instant(got[key]) == instant(expected), case["why"]
        else:
            assert got[key] == expected, case["why"]


def test_a_patient_taken_out_of_a_group_visit_is_cancelled_and_a_new_one_booked() -> None:
    def visit(*patients: str) -> appointment.Appointment:
        return appointment.project(
            {
                "resourceType": "Appointment",
                "id": "a1",
                "status": "booked",
                "start": "2026-12-01T08:30:00Z",
                "participant": [{"actor": {"reference": patient}} for patient in patients],
            },
            "R4",
        )

    before, now = visit("Patient/a", "Patient/b"), visit("Patient/b", "Patient/c")
    told = {
        patient: appointment.events(appointment.seen_by(before, patient), appointment.seen_by(now, patient) or now)
        for patient in ("Patient/a", "Patient/b", "Patient/c")
    }
    assert told == {
        "Patient/a": ("appointment.cancelled",),
        "Patient/b": (),
        "Patient/c": ("appointment.booked",),
    }


def test_deleted_in_the_ehr_takes_a_promise_back() -> None:
    visit = appointment.project(
        {"resourceType": "Appointment", "id": "a1", "status": "booked", "start": "2026-12-01T08:30:00Z"}, "R4"
    )
    assert appointment.events(visit, appointment.gone(visit)) == ("appointment.cancelled",)


def test_none_is_the_same_as_nothing() -> None:
    visit = appointment.project({"resourceType": "Appointment", "id": "a1", "status": "proposed"}, "R4")
    assert not same(None, visit)
    assert not same(None, None)


def test_an_id_of_an_odd_alphabet_stays_out_of_the_message() -> None:
    with pytest.raises(UnreadableResource) as caught:
        appointment.project({"resourceType": "Appointment", "id": "Ana_García", "start": "x"}, "R4")
    assert "Ana" not in str(caught.value)


VERSIONS = {"4.0.1": "R4", "4.3.0": "R4B", "5.0.0": "R5"}


def corpus_rows() -> list[dict[str, Any]]:
    index = CORPUS / "index.json"
    if not index.exists():
        return []
    rows = json.loads(index.read_text(encoding="utf-8"))["files"]
    return [row for row in rows if row["expect"].get("class") == "resource" and row["expect"]["type"] in RESOURCES]


@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus here")
@pytest.mark.parametrize("row", corpus_rows(), ids=lambda row: row["file"])
def test_corpus(row: dict[str, Any]) -> None:
    expect = row["expect"]
    resource = json.loads((CORPUS / row["file"]).read_text(encoding="utf-8"))
    kind = RESOURCES[expect["type"]]
    version = VERSIONS[row["fhirVersion"]]
    if not expect["supported"]:
        with pytest.raises(UnreadableResource):
            kind.project(resource, version)
        return
    got = kind.project(resource, version, recognise=RECOGNISE[:1])
    assert got.reference == f"{expect['type']}/{expect['id']}"
    assert got.status == expect["status"]
    if "patients" in expect:
        assert list(kind.patients(got)) == expect["patients"]
        assert got.start == instant(expect["start"])
    if "subject" in expect:
        assert got.subject == expect["subject"]
    if "messaging" in expect:
        assert got.decision == expect["messaging"]


KEYS = (
    "status", "start", "end", "participant", "actor", "reference", "type", "coding", "code", "system", "subject", "period",
    "contained", "id", "category", "provision", "decision", "dateTime", "policyRule", "patient", "display", "identifier",
)  # fmt: skip
ATOMS = (
    None,
    True,
    False,
    "",
    "2026-12-01T08:30:00Z",
    "2026-12-01",
    "booked",
    "Patient/p1",
    float("nan"),
    float("inf"),
)


def grown(seed: bytes) -> dict[str, Any]:
    """A tree of anything under the names of FHIR, as these bytes say: drawn in a tenth of the time that hypothesis takes to
    draw the tree itself, of which a busy machine had too little; and it shrinks towards nothing all the same."""
    left = iter(seed)

    def take(count: int) -> bytes:
        return bytes(next(left, 0) for _ in range(count))

    def members(most: int, depth: int) -> dict[str, Any]:
        return {KEYS[take(1)[0] % len(KEYS)]: value(depth) for _ in range(take(1)[0] % (most + 1))}

    def value(depth: int) -> Any:
        kind = take(1)[0] % (10 if depth < 5 else 6)
        if kind < 2:
            return ATOMS[take(1)[0] % len(ATOMS)]
        if kind == 2:
            return int.from_bytes(take(1 + take(1)[0] % 12), signed=True)
        if kind == 3:
            return struct.unpack("d", take(8))[0]
        if kind < 6:
            return take(2 * (take(1)[0] % 13)).decode("utf-16-le", "surrogatepass" if kind == 4 else "replace")
        if kind == 6:
            return [value(depth + 1) for _ in range(take(1)[0] % 4)]
        return members(4, depth + 1)

    return members(8, 0)


@given(
    kind=st.sampled_from(sorted(RESOURCES)),
    body=st.binary(min_size=20, max_size=200).map(grown),
    version=st.sampled_from(["R4", "R4B", "R5"]),
    zone=st.sampled_from([None, "Europe/Madrid"]),
)
def test_whatever_stands_there_it_is_read_or_named_unreadable(
    kind: str, body: dict[str, Any], version: str, zone: str | None
) -> None:
    resource = {"id": "x1", "status": "booked", **body, "resourceType": kind}
    now = datetime(2026, 11, 24, tzinfo=UTC)
    try:
        got = RESOURCES[kind].project(resource, version, zone=zone, recognise=RECOGNISE, now=now)
        RESOURCES[kind].events(None, got)
    except UnreadableResource as problem:
        assert kind in str(problem)
        return
    assert same(got, RESOURCES[kind].from_json(json.loads(json.dumps(RESOURCES[kind].to_json(got)))))
