"""A patient's decision reaches the EHR once, changes nothing else, and never overwrites somebody faster."""

import copy
import json
from types import SimpleNamespace

import pytest
import requests
import responses

from bridge.errors import EhrUnreachable
from bridge.fhir import build, rawjson
from bridge.fhir.client import EhrClient, Missing
from bridge.fhir.decisions import AlreadySo, Change, Expected, Refusal, cancel, confirm, moved
from bridge.fhir.projection import project
from bridge.fhir.writeback import Done, Held, Refused, carry_out
from bridge.settings import Auth

BASE = "https://ehr.example/fhir"
START = "2026-12-01T09:30:00+01:00"
PAT = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"


def who(reference, status="needs-action", **more):
    return {"actor": {"reference": reference, **more}, "status": status, "required": "required"}


def visit(*participants, status="booked", **more):
    return {
        "resourceType": "Appointment",
        "id": "a1",
        "meta": {"versionId": "1"},
        "status": status,
        "start": START,
        "end": "2026-12-01T09:50:00+01:00",
        "participant": list(participants) or [who("Practitioner/d1", "accepted"), who("Patient/p1")],
        "unknownElement": {"b": 1, "a": [1.5]},
        **more,
    }


def apply(ops, resource):
    """RFC 6902 as far as we use it."""
    now = copy.deepcopy(resource)
    for op in ops:
        *path, last = [int(part) if part.isdigit() else part for part in op["path"].strip("/").split("/")]
        at = now
        for part in path:
            at = at[part]
        if op["op"] == "test":
            if (at[last] if isinstance(at, list) else at.get(last)) != op["value"]:
                return None
        else:
            at[last] = op["value"]
    return now


def decided(decision):
    assert isinstance(decision, Change)
    return decision.resource


# --- deciding


def test_confirm_accepts_for_the_patient_and_touches_nothing_else():
    before = visit()
    kept = copy.deepcopy(before)
    now = decided(confirm(before, "Patient/p1", "Patient/p1"))
    assert before == kept
    assert now["participant"][1].pop("status") == "accepted"
    assert kept["participant"][1].pop("status") == "needs-action"
    assert now == kept
    assert list(now) == list(kept)


def test_confirm_leaves_pending_to_the_ehr():
    assert decided(confirm(visit(status="pending"), "Patient/p1", "Patient/p1"))["status"] == "pending"


def test_confirm_by_a_guardian_accepts_for_the_child_and_for_the_guardian_who_comes_along():
    before = visit(who("Patient/p1"), who("RelatedPerson/r1"), who("RelatedPerson/r2"))
    now = decided(confirm(before, "Patient/p1", "RelatedPerson/r1"))
    assert [one["status"] for one in now["participant"]] == ["accepted", "accepted", "needs-action"]


def test_confirm_by_a_guardian_who_is_the_only_one_named():
    now = decided(confirm(visit(who("RelatedPerson/r1")), "Patient/p1", "RelatedPerson/r1"))
    assert now["participant"][0]["status"] == "accepted"


def test_cancel_says_who_cancelled_in_the_words_of_r4():
    now = decided(cancel(visit(), "Patient/p1", "Patient/p1"))
    assert now["status"] == "cancelled"
    assert now["cancelationReason"]["coding"][0]["system"] == PAT
    assert now["cancelationReason"]["coding"][0]["code"] == "pat"
    assert [one["status"] for one in now["participant"]] == ["accepted", "declined"]
    assert (now["start"], now["unknownElement"]) == (START, {"b": 1, "a": [1.5]})


def test_cancel_spells_the_reason_with_two_l_in_r5():
    now = decided(cancel(visit(), "Patient/p1", "Patient/p1", fhir_version="R5"))
    assert "cancellationReason" in now
    assert "cancelationReason" not in now


@pytest.mark.parametrize(
    "other",
    [
        who("Patient/p2", "accepted"),
        who("https://other.example/fhir/Patient/p1", "accepted"),
        {"actor": {"type": "Patient", "identifier": {"value": "X"}}, "status": "accepted"},
        who("Group/g1", "accepted"),
    ],
    ids=["another", "another server's", "by identifier", "a group"],
)
@pytest.mark.parametrize(("decide", "answer"), [(confirm, "accepted"), (cancel, "declined")])
def test_in_a_group_visit_only_the_own_participant_answers(other, decide, answer):
    now = decided(decide(visit(who("Patient/p1"), other), "Patient/p1", "Patient/p1"))
    assert now["participant"][0]["status"] == answer
    assert now["participant"][1] == other
    assert now["status"] == "booked"
    assert "cancelationReason" not in now


@pytest.mark.parametrize("reference", ["Patient/p1/_history/4", f"{BASE}/Patient/p1"])
def test_the_patient_may_be_written_versioned_or_absolute(reference):
    client = EhrClient(SimpleNamespace(key="main", base_url=BASE, auth=Auth("none")))
    now = decided(confirm(visit(who(reference)), "Patient/p1", "Patient/p1", local=client.local))
    assert now["participant"][0]["status"] == "accepted"


@pytest.mark.parametrize(
    "appointment",
    [
        visit(who("Patient/p2")),
        visit(who("https://other.example/fhir/Patient/p1")),
        visit({"actor": {"display": "Ana"}, "status": "accepted"}),
        visit({"type": [{"text": "patient"}], "status": "accepted"}),
        visit(participant="odd"),
        visit(participant=["odd", {"actor": "odd"}]),
    ],
    ids=["another", "another server's", "display only", "no actor", "no list", "odd items"],
)
@pytest.mark.parametrize("decide", [confirm, cancel])
def test_who_is_not_named_in_the_visit_changes_nothing(appointment, decide):
    assert isinstance(decide(appointment, "Patient/p1", "Patient/p1"), Refusal)


@pytest.mark.parametrize(
    "status", ["arrived", "checked-in", "fulfilled", "noshow", "entered-in-error", None, 7, "x" * 50]
)
@pytest.mark.parametrize("decide", [confirm, cancel])
def test_a_visit_that_is_over_or_has_begun_is_not_answered(status, decide):
    assert isinstance(decide(visit(status=status), "Patient/p1", "Patient/p1"), Refusal)


def test_what_holds_already_is_not_written_again():
    assert confirm(visit(who("Patient/p1", "accepted")), "Patient/p1", "Patient/p1") == AlreadySo()
    assert cancel(visit(status="cancelled"), "Patient/p1", "Patient/p1") == AlreadySo()
    group = visit(who("Patient/p1", "declined"), who("Patient/p2"))
    assert cancel(group, "Patient/p1", "Patient/p1") == AlreadySo()
    assert isinstance(confirm(visit(status="cancelled"), "Patient/p1", "Patient/p1"), Refusal)


def test_a_participant_without_status_gets_one():
    before = visit({"actor": {"reference": "Patient/p1"}})
    change = confirm(before, "Patient/p1", "Patient/p1")
    assert decided(change)["participant"][0]["status"] == "accepted"
    assert change.ops[-1]["op"] == "add"


@pytest.mark.parametrize("decide", [confirm, cancel])
def test_the_patch_does_what_the_put_does_and_tests_what_it_relies_on(decide):
    before = visit(who("Practitioner/d1", "accepted"), who("Patient/p1"))
    change = decide(before, "Patient/p1", "Patient/p1")
    assert apply(change.ops, before) == change.resource
    other_person_at_that_place = visit(who("Patient/p1"), who("Practitioner/d1"))
    assert apply(change.ops, other_person_at_that_place) is None
    assert apply(change.ops, visit(start="2026-12-02T09:30:00+01:00")) is None


@pytest.mark.parametrize(
    ("now", "gone"),
    [
        ({}, False),
        ({"start": "2026-12-01T08:30:00Z"}, False),
        ({"start": "2026-12-01T08:30:00.000Z"}, False),
        ({"start": "2026-12-01T09:40:00+01:00"}, True),
        ({"start": "2026-12-01T09:30:00"}, True),
        ({"start": None}, True),
        ({"start": "soon"}, True),
        ({"status": "pending"}, False),
        ({"status": "cancelled"}, True),
        ({"status": "arrived"}, True),
    ],
    ids=str,
)
def test_moved_compares_instants_and_leaving_the_open_states(now, gone):
    assert moved(visit(**now), Expected(START, "booked")) is gone
    assert moved(visit(**now), Expected()) is False


# --- carrying out


class Server:
    """A small EHR on the mocked wire: versions, If-Match, and a script of what goes wrong with the next writes."""

    def __init__(self, wire, resource, etags=True):
        self.held = copy.deepcopy(resource)
        self.version = 1
        self.etags = etags
        self.writes = []
        self.script = []  # functions (server) -> None | exception | (status, body), called before a write is looked at
        for method in (responses.GET, responses.PUT, responses.PATCH):
            wire.add_callback(method, f"{BASE}/Appointment/a1", getattr(self, method.lower()))

    def answer(self, status=200):
        self.held["meta"] = {"versionId": str(self.version)} if self.etags else {}
        headers = {"ETag": f'W/"{self.version}"'} if self.etags else {}
        return status, headers, rawjson.dumps(self.held)

    def get(self, _request):
        return self.answer()

    def put(self, request):
        return self.write(request, lambda: rawjson.loads(request.body))

    def patch(self, request):
        return self.write(request, lambda: apply(rawjson.loads(request.body), self.held))

    def write(self, request, wanted):
        self.writes.append(request)
        after = None
        if self.script:
            what = self.script.pop(0)(self)
            if isinstance(what, tuple):
                return what[0], {}, what[1]
            after = what
        if request.headers.get("If-Match") != f'W/"{self.version}"':
            return 409, {}, json.dumps({"resourceType": "OperationOutcome", "issue": [{"code": "processing"}]})
        new = wanted()
        if new is None:
            return 400, {}, ""
        self.put_in(new)
        if after is not None:
            raise after
        return self.answer()

    def put_in(self, new):
        self.held = new
        self.version += 1


@pytest.fixture
def wire():
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        yield mocked


@pytest.fixture
def client():
    made = EhrClient(SimpleNamespace(key="main", base_url=BASE, auth=Auth("none")))
    yield made
    made.close()


def run(client, verb="confirm", **options):
    return carry_out(
        client, verb, "Appointment/a1", "Patient/p1", "Patient/p1", expected=Expected(START, "booked"), **options
    )


def second_writer(**changes):
    def write(server):
        server.put_in({**server.held, **changes})

    return write


@pytest.mark.parametrize("mode", ["put", "patch"])
@pytest.mark.parametrize(("verb", "answer"), [("confirm", "accepted"), ("cancel", "declined")])
def test_a_decision_is_written_once(wire, client, mode, verb, answer):
    server = Server(wire, visit())
    wanted = []
    done = run(client, verb, mode=mode, about_to_write=wanted.append)
    assert isinstance(done, Done)
    assert done.written
    assert (done.etag, done.resource["participant"][1]["status"]) == ('W/"2"', answer)
    assert len(server.writes) == len(wanted) == 1
    assert {**wanted[0], "meta": None} == {**server.held, "meta": None}


@pytest.mark.parametrize("mode", ["put", "patch"])
def test_a_second_writer_between_read_and_write_keeps_what_they_wrote(wire, client, mode):
    server = Server(wire, visit())
    server.script = [second_writer(comment="bring the films", description="8.10")]
    done = run(client, mode=mode)
    assert isinstance(done, Done)
    assert server.held["comment"] == "bring the films"
    assert server.held["participant"][1]["status"] == "accepted"
    assert len(server.writes) == 2


@pytest.mark.parametrize(
    "changes", [{"start": "2026-12-02T09:30:00+01:00"}, {"status": "cancelled"}, {"status": "arrived"}], ids=str
)
def test_a_visit_that_changed_meanwhile_is_not_confirmed(wire, client, changes):
    server = Server(wire, visit())
    server.script = [second_writer(**changes)]
    assert run(client) == Refused("changed since")
    assert server.held["participant"][1]["status"] == "needs-action"


def test_a_moved_visit_is_not_confirmed_by_an_old_accepted(wire, client):
    server = Server(wire, visit(who("Patient/p1", "accepted"), start="2026-12-02T09:30:00+01:00"))
    assert run(client) == Refused("changed since")
    assert server.writes == []


def test_a_moved_visit_is_not_cancelled(wire, client):
    Server(wire, visit(start="2026-12-02T09:30:00+01:00"))
    assert run(client, "cancel") == Refused("changed since")


def test_cancelling_what_somebody_cancelled_is_done(wire, client):
    server = Server(wire, visit(status="cancelled"))
    done = run(client, "cancel")
    assert isinstance(done, Done)
    assert not done.written
    assert server.writes == []


def test_three_faster_writers_are_enough_for_a_person_to_look(wire, client):
    server = Server(wire, visit())
    server.script = [second_writer(comment=str(n)) for n in range(3)]
    assert isinstance(run(client), Held)
    assert len(server.writes) == 3


@pytest.mark.parametrize("mode", ["put", "patch"])
@pytest.mark.parametrize("verb", ["confirm", "cancel"])
def test_a_lost_answer_is_looked_up_not_written_again(wire, client, mode, verb):
    server = Server(wire, visit())
    server.script = [lambda _: requests.ReadTimeout()]  # arrived, the answer did not
    done = run(client, verb, mode=mode)
    assert isinstance(done, Done)
    assert done.written
    assert done.etag == 'W/"2"'
    assert len(server.writes) == 1


def test_a_write_that_never_arrived_is_written_again(wire, client):
    server = Server(wire, visit())
    server.script = [lambda _: (504, "")]
    done = run(client)
    assert isinstance(done, Done)
    assert server.version == 2
    assert len(server.writes) == 2


def test_a_stale_answer_after_our_own_lost_write_is_our_own_success(wire, client):
    server = Server(wire, visit())

    def ours_then_theirs(server):
        server.put_in(copy.deepcopy(confirm(server.held, "Patient/p1", "Patient/p1").resource))
        return (502, "<html>")

    server.script = [ours_then_theirs]
    assert isinstance(run(client), Done)
    assert server.version == 2


def test_an_ehr_that_stays_silent_lets_the_row_wait(wire, client):
    server = Server(wire, visit())
    server.script = [lambda _: (504, "")] * 3
    with pytest.raises(EhrUnreachable) as caught:
        run(client)
    assert caught.value.unknown
    assert len(server.writes) == 3


def test_an_ehr_that_is_down_lets_the_row_wait(wire, client):
    server = Server(wire, visit())
    server.script = [lambda _: (503, "")]
    with pytest.raises(EhrUnreachable):
        run(client)
    assert len(server.writes) == 1
    assert server.version == 1


@pytest.mark.parametrize("status", [404, 410])
def test_a_visit_that_is_gone(wire, client, status):
    wire.get(f"{BASE}/Appointment/a1", status=status)
    assert isinstance(run(client), Refused)


@pytest.mark.parametrize(("status", "fate"), [(400, Refused), (405, Refused), (422, Refused), (401, Held), (403, Held)])
@pytest.mark.parametrize("mode", ["put", "patch"])
def test_an_ehr_that_says_no(wire, client, mode, status, fate):
    server = Server(wire, visit())
    server.script = [lambda _: (status, '{"resourceType":"OperationOutcome","issue":[{"code":"business-rule"}]}')] * 3
    outcome = run(client, mode=mode)
    assert isinstance(outcome, fate)
    assert server.version == 1


def test_a_failed_test_of_a_patch_is_decided_again(wire, client):
    server = Server(wire, visit())
    server.script = [lambda _: (400, "")]
    assert isinstance(run(client, mode="patch"), Done)
    assert len(server.writes) == 2


def test_without_a_version_nothing_is_written_unguarded(wire, client):
    server = Server(wire, visit(), etags=False)
    assert isinstance(run(client), Held)
    assert server.writes == []


def test_the_body_of_a_put_differs_in_the_answer_only(wire, client):
    source = (
        '{"resourceType":"Appointment","id":"a1","meta":{"versionId":"1","lastUpdated":"2026-11-20T10:00:00.1882432Z"},'
        '"extension":[{"url":"u","valueDecimal":1.10}],"status":"booked","start":"2026-12-01T09:30:00+01:00","odd":1e3,'
        '"participant":[{"actor":{"reference":"Patient/p1"},"status":"needs-action"}]}'
    )
    wire.get(f"{BASE}/Appointment/a1", body=source, headers={"ETag": 'W/"1"'})
    wire.put(f"{BASE}/Appointment/a1", body=source)
    run(client)
    assert wire.calls[-1].request.body.decode() == source.replace("needs-action", "accepted")


# --- projections


def told(state="sent", **more):
    return build.communication_out(
        message="m1", state=state, patient="Patient/p1", recipient="Patient/p1", about=[], text="Hola", **more
    )


class Communications:
    def __init__(self, wire):
        self.held = {}
        self.posts = self.puts = 0
        self.lose = False
        self.conflicts = 0
        wire.add_callback(responses.POST, f"{BASE}/Communication", self.post)
        wire.add_callback(responses.GET, f"{BASE}/Communication", self.search)
        wire.add_callback(responses.GET, f"{BASE}/Communication/c1", lambda _: self.one())
        wire.add_callback(responses.PUT, f"{BASE}/Communication/c1", self.put)

    def one(self, status=200):
        return (status, {}, json.dumps(self.held)) if self.held else (404, {}, "")

    def post(self, request):
        self.posts += 1
        if self.held:
            return self.one()
        self.held = {"id": "c1", "meta": {"versionId": "1"}, **json.loads(request.body)}
        if self.lose:
            raise requests.ReadTimeout
        return self.one(201)

    def search(self, request):
        assert request.params == {"identifier": "urn:bridge:message|m1"}
        return 200, {}, json.dumps({"resourceType": "Bundle", "entry": [{"resource": self.held}] if self.held else []})

    def put(self, request):
        self.puts += 1
        if self.conflicts:
            self.conflicts -= 1
            return 412, {}, ""
        self.held = json.loads(request.body)
        return self.one()


def test_a_projection_is_created_then_brought_forward_in_place(wire, client):
    ehr = Communications(wire)
    written = project(client, told())
    assert (written.reference, written.created) == ("Communication/c1", True)
    ehr.held["note"] = [{"text": "theirs"}]
    ehr.held["identifier"].append({"system": "theirs", "value": "9"})
    project(client, told("failed", reason="system-error"), known="Communication/c1")
    assert (ehr.held["status"], ehr.held["note"]) == ("not-done", [{"text": "theirs"}])
    assert ehr.held["identifier"][1] == {"system": "theirs", "value": "9"}
    project(client, told("delivered"), known="Communication/c1")
    assert ehr.held["status"] == "completed"
    assert "statusReason" not in ehr.held
    assert (ehr.posts, ehr.puts) == (1, 2)


def test_a_create_whose_answer_was_lost_is_searched_before_it_is_tried_again(wire, client):
    ehr = Communications(wire)
    ehr.lose = True
    with pytest.raises(EhrUnreachable) as caught:
        project(client, told())
    assert caught.value.unknown
    written = project(client, told("delivered"), look_first=True)
    assert written.reference == "Communication/c1"
    assert (ehr.posts, ehr.held["status"]) == (1, "completed")


def test_a_lost_create_that_never_arrived_is_made_now(wire, client):
    ehr = Communications(wire)
    assert project(client, told(), look_first=True).created
    assert ehr.posts == 1


def test_a_conditional_create_that_finds_ours_brings_it_forward(wire, client):
    ehr = Communications(wire)
    project(client, told())
    project(client, told("delivered"))
    assert ehr.held["status"] == "completed"


def test_what_holds_already_costs_no_write(wire, client):
    ehr = Communications(wire)
    project(client, told())
    project(client, told(), known="Communication/c1")
    assert ehr.puts == 0


def test_what_somebody_deleted_there_stays_deleted(wire, client):
    ehr = Communications(wire)
    assert project(client, told(), known="Communication/c1") == Missing()
    assert ehr.posts == 0


def test_a_projection_meets_a_faster_writer(wire, client):
    ehr = Communications(wire)
    project(client, told())
    ehr.conflicts = 1
    project(client, told("delivered"), known="Communication/c1")
    assert ehr.held["status"] == "completed"
    ehr.conflicts = 3
    with pytest.raises(EhrUnreachable):
        project(client, told("failed"), known="Communication/c1")
