"""The pretend EHR over HTTP: versions, conditional writes, Bundles, searches, and faults."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import requests

from bridge.sandbox import people
from bridge.sandbox.launch import Running, SandboxFailed, start_ehr

START = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
PATCH = {"Content-Type": "application/json-patch+json"}
ACCEPT = [{"op": "replace", "path": "/participant/0/status", "value": "accepted"}]


@pytest.fixture
def held(ehr: Running) -> Running:
    ehr.post("seed", resources=[*people.everybody(), people.appointment("a1", START)])
    return ehr


def read(ehr: Running, path: str, **headers: str) -> requests.Response:
    return requests.get(
        f"{ehr.url}/{path}", headers={key.replace("_", "-"): value for key, value in headers.items()}, timeout=10
    )


def put(ehr: Running, resource: dict, **headers: str) -> requests.Response:
    path = f"{resource['resourceType']}/{resource['id']}"
    return requests.put(
        f"{ehr.url}/{path}",
        json=resource,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        timeout=10,
    )


def bundle(kind: str, *entries: dict) -> dict:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def test_read_has_etag_and_answers_304(held: Running) -> None:
    first = read(held, "Appointment/a1")
    assert (first.status_code, first.headers["ETag"], first.headers["Content-Type"].split(";")[0]) == (
        200,
        'W/"1"',
        "application/fhir+json",
    )
    again = read(held, "Appointment/a1", If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert read(held, "Appointment/none").status_code == 404


def test_update_with_stale_if_match_changes_nothing(held: Running) -> None:
    moved = people.appointment("a1", START, minutes=45)
    assert put(held, moved, If_Match='W/"1"').headers["ETag"] == 'W/"2"'
    stale = put(held, people.appointment("a1", START, minutes=60), If_Match='W/"1"')
    assert (stale.status_code, stale.json()["resourceType"]) == (412, "OperationOutcome")
    assert read(held, "Appointment/a1").json()["minutesDuration"] == 45
    assert read(held, "Appointment/a1/_history/1").json()["minutesDuration"] == 30
    assert [entry["request"]["method"] for entry in read(held, "Appointment/a1/_history").json()["entry"]] == [
        "PUT",
        "POST",
    ]


def test_hapi_answers_409_where_others_say_412(tmp_path) -> None:
    with start_ehr(tmp_path / "hapi.jsonl", dialect="hapi") as ehr:
        ehr.post("seed", resources=[people.appointment("a1", START)])
        refused = put(ehr, people.appointment("a1", START), If_Match='W/"9"')
        assert (refused.status_code, refused.json()["issue"][0]["code"]) == (409, "processing")


def test_hapi_leaves_etags_out(tmp_path) -> None:
    with start_ehr(tmp_path / "hapi.jsonl", dialect="hapi") as ehr:
        ehr.post("seed", resources=[people.appointment("a1", START)])
        patched = requests.patch(f"{ehr.url}/Appointment/a1", data=json.dumps(ACCEPT), headers=PATCH, timeout=10)
        assert ("ETag" in patched.headers, patched.json()["meta"]["versionId"]) == (False, "2")
        entry = {
            "resource": people.appointment("a1", START),
            "request": {"method": "PUT", "url": "Appointment/a1", "ifMatch": 'W/"2"'},
        }
        answer = requests.post(ehr.url, json=bundle("transaction", entry), timeout=10).json()
        assert answer["entry"][0]["response"]["etag"] == "3"


def test_restored_from_a_backup_counts_on(held: Running) -> None:
    for minutes in (40, 50, 60):
        held.put("resources/Appointment/a1", people.appointment("a1", START, minutes=minutes))
    held.post("restore", reference="Appointment/a1", version="2")
    assert (read(held, "Appointment/a1").headers["ETag"], read(held, "Appointment/a1").json()["minutesDuration"]) == (
        'W/"2"',
        40,
    )
    assert held.patch("resources/Appointment/a1", ACCEPT) == {"version": "3"}
    with pytest.raises(SandboxFailed):
        held.post("restore", reference="Appointment/a1", version="9")


def test_patch_with_test_operation(held: Running) -> None:
    url = f"{held.url}/Appointment/a1"
    failing = [{"op": "test", "path": "/status", "value": "cancelled"}, *ACCEPT]
    assert requests.patch(url, data=json.dumps(failing), headers=PATCH, timeout=10).status_code == 400
    assert (
        requests.patch(url, data=json.dumps(ACCEPT), headers=PATCH | {"If-Match": 'W/"7"'}, timeout=10).status_code
        == 412
    )
    assert (
        requests.patch(url, data=json.dumps(ACCEPT), headers=PATCH | {"If-Match": 'W/"1"'}, timeout=10).status_code
        == 200
    )
    assert read(held, "Appointment/a1").json()["participant"][0]["status"] == "accepted"


def test_create_if_none_exist_creates_once(ehr: Running) -> None:
    communication = {
        "resourceType": "Communication",
        "status": "completed",
        "identifier": [{"system": "urn:bridge", "value": "msg_1"}],
    }
    headers = {"If-None-Exist": "identifier=urn:bridge|msg_1"}
    first = requests.post(f"{ehr.url}/Communication", json=communication, headers=headers, timeout=10)
    second = requests.post(f"{ehr.url}/Communication", json=communication, headers=headers, timeout=10)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["Location"].endswith(f"/Communication/{first.json()['id']}/_history/1")
    assert second.json()["id"] == first.json()["id"]


def test_delete_answers_410_afterwards(held: Running) -> None:
    assert requests.delete(f"{held.url}/Appointment/a1", timeout=10).status_code == 204
    gone = read(held, "Appointment/a1")
    assert (gone.status_code, gone.headers["Location"].endswith("/_history/2")) == (410, True)
    assert read(held, "Appointment?patient=ana").json()["total"] == 0


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("_id=a1", ["a1"]),
        ("patient=ana", ["a1"]),
        ("patient=Patient/beatriz", []),
        ("actor=Practitioner/ruiz&status=booked,pending", ["a1"]),
        ("status=cancelled", []),
        ("date=2026-12-01", ["a1"]),
        ("date=ge2026-12-01T09:30:00Z&date=lt2026-12-02", ["a1"]),
        ("date=gt2026-12-01", []),
        ("date=lt2026-12-01T09:30:00Z", []),
        ("identifier=https://ehr.example/appointments|cita-a1", ["a1"]),
        ("identifier=cita-a2", []),
        ("_lastUpdated=ge2020-01-01", ["a1"]),
        ("_lastUpdated=gt2999-01-01", []),
    ],
)
def test_search(held: Running, query: str, ids: list[str]) -> None:
    found = read(held, f"Appointment?{query}").json()
    assert [entry["resource"]["id"] for entry in found.get("entry", [])] == ids
    assert found["total"] == len(ids)


def test_search_by_phone_category_and_unknown_parameter(held: Running) -> None:
    held.post("seed", resources=[people.consent("c1", "Patient/ana", START)])
    assert read(held, "Patient?telecom=%2B34612000101").json()["entry"][0]["resource"]["id"] == "ana"
    assert read(held, "Consent?patient=Patient/ana&category=http://loinc.org|89057-4").json()["total"] == 1
    assert read(held, "RelatedPerson?patient=mateo").json()["total"] == 1
    assert read(held, "Appointment?colour=red").status_code == 400


def test_include_and_paging(held: Running) -> None:
    held.post("seed", resources=people.slots("s", START, 5))
    page = read(held, "Slot?schedule=Schedule/s&status=free&_count=2").json()
    assert (len(page["entry"]), page["total"]) == (2, 5)
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    assert [entry["resource"]["id"] for entry in requests.get(following, timeout=10).json()["entry"]] == ["s-2", "s-3"]
    included = read(held, "Appointment?_id=a1&_include=Appointment:patient&_include=Appointment:location").json()[
        "entry"
    ]
    assert [(entry["resource"]["resourceType"], entry["search"]["mode"]) for entry in included] == [
        ("Appointment", "match"),
        ("Patient", "include"),
        ("Location", "include"),
    ]


def test_transaction_holds_whole_or_not_at_all(held: Running) -> None:
    reply = {
        "fullUrl": "urn:uuid:1",
        "resource": {"resourceType": "Communication", "status": "completed"},
        "request": {"method": "POST", "url": "Communication"},
    }
    follow = {
        "resource": {
            "resourceType": "Communication",
            "status": "completed",
            "inResponseTo": [{"reference": "urn:uuid:1"}],
        },
        "request": {"method": "POST", "url": "Communication"},
    }
    stale = {
        "resource": people.appointment("a1", START),
        "request": {"method": "PUT", "url": "Appointment/a1", "ifMatch": 'W/"9"'},
    }
    assert requests.post(held.url, json=bundle("transaction", reply, stale), timeout=10).status_code == 412
    assert read(held, "Communication").json()["total"] == 0
    answer = requests.post(held.url, json=bundle("transaction", reply, follow), timeout=10).json()
    assert [entry["response"]["status"] for entry in answer["entry"]] == ["201", "201"]
    assert (
        answer["entry"][1]["resource"]["inResponseTo"][0]["reference"]
        == f"Communication/{answer['entry'][0]['resource']['id']}"
    )
    batch = requests.post(held.url, json=bundle("batch", stale, reply), timeout=10).json()
    assert [entry["response"]["status"] for entry in batch["entry"]] == ["412", "201"]


def test_second_writer_slips_in_before_the_put(held: Running) -> None:
    read_first = read(held, "Appointment/a1")
    held.post(
        "before-write", reference="Appointment/a1", patch=[{"op": "replace", "path": "/minutesDuration", "value": 50}]
    )
    ours = read_first.json() | {"comment": "ours"}
    assert put(held, ours, If_Match=read_first.headers["ETag"]).status_code == 412
    now = read(held, "Appointment/a1")
    assert now.json()["minutesDuration"] == 50
    assert put(held, now.json() | {"comment": "ours"}, If_Match=now.headers["ETag"]).status_code == 200


def test_injected_conflict_is_counted(held: Running) -> None:
    held.post("faults", conflict={"status": 409, "times": 1, "reference": "Appointment/a1"})
    assert [put(held, people.appointment("a1", START)).status_code for _ in range(2)] == [409, 200]


def test_answer_dropped_after_the_write_holds(held: Running) -> None:
    held.post("faults", drop_answer=1)
    with pytest.raises(requests.ConnectionError):
        put(held, people.appointment("a1", START, minutes=45))
    assert read(held, "Appointment/a1").json()["minutesDuration"] == 45
    (line,) = held.lines(dir="in", effect="write")
    assert (line["status"], line["fault"], line["ids"]["written"]) == (
        None,
        "drop_answer",
        ["Appointment/a1/_history/2"],
    )


@pytest.mark.parametrize("how", ["close", "refused"])
def test_down_and_up_again(held: Running, how: str) -> None:
    held.post("faults", down=how)
    with pytest.raises(requests.ConnectionError):
        read(held, "Appointment/a1")
    held.post("faults", down="")
    assert read(held, "Appointment/a1").status_code == 200


def test_html_from_a_gateway(held: Running) -> None:
    held.post("faults", down="html")
    assert "Bad Gateway" in read(held, "Appointment/a1").text
    held.delete("faults")
    assert read(held, "metadata").json()["fhirVersion"] == "4.0.1"
    with pytest.raises(SandboxFailed, match="no such fault"):
        held.post("faults", nonsense=1)


def test_token(tmp_path) -> None:
    with start_ehr(tmp_path / "j.jsonl", token="secret-of-the-ehr") as ehr:
        assert read(ehr, "metadata").status_code == 401
        assert read(ehr, "metadata", Authorization="Bearer secret-of-the-ehr").status_code == 200
        ehr.get("state")
    assert "secret-of-the-ehr" not in (tmp_path / "j.jsonl").read_text()


def test_journal_goes_on_over_a_restart(tmp_path) -> None:
    journal = tmp_path / "j.jsonl"
    for _ in range(2):
        with start_ehr(journal) as ehr:
            put(ehr, people.appointment("a1", START))
    numbers = [line["seq"] for line in ehr.lines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(ehr.lines(dir="in", effect="write")) == 2
