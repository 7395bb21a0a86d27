"""What the EHR answers, as values or one of two errors; and that nothing but the configured base is ever asked."""

import json
import socket
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import requests
import responses
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from bridge.errors import BridgeError, EhrRefused, EhrUnreachable
from bridge.fhir import client as module
from bridge.fhir.client import Conflict, Deleted, EhrClient, Missing, NotModified, Resource, Written
from bridge.settings import Auth

BASE = "https://ehr.example/fhir"
A1 = f"{BASE}/Appointment/a1"
BODY = b'{"resourceType":"Appointment","id":"a1","meta":{"versionId":"3","lastUpdated":"2026-12-01T08:30:00.1234567Z"},"x":1.10}'
HTML = "<!DOCTYPE html><html>Maria Perez</html>"
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"code": "processing", "diagnostics": "Maria Perez"}]}


def make(auth=None, base=BASE) -> EhrClient:
    ehr = SimpleNamespace(key="main", base_url=base, auth=auth or Auth("bearer", token="tok"))
    return EhrClient(ehr, clock=lambda: 1_790_000_000.0)


@pytest.fixture
def ehr():
    client = make()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        client.wire = wire
        yield client
    client.close()


# --- names


@pytest.mark.parametrize(
    ("reference", "local"),
    [
        ("Appointment/a1", "Appointment/a1"),
        ("Appointment/a1/_history/3", "Appointment/a1"),
        (f"{BASE}/Appointment/a1", "Appointment/a1"),
        ("HTTPS://EHR.example:443/fhir/Appointment/a1", "Appointment/a1"),
        ("http://ehr.example/fhir/Appointment/a1", None),
        ("https://ehr.example:444/fhir/Appointment/a1", None),
        ("https://evil.example/fhir/Appointment/a1", None),
        ("https://ehr.example@evil.example/fhir/Appointment/a1", None),
        ("https://ehr.example.evil.example/fhir/Appointment/a1", None),
        ("https://ehr.example/admin/Appointment/a1", None),
        ("https://ehr.example/fhirx/Appointment/a1", None),
        (f"{BASE}/Appointment/a1?_format=xml", None),
        (f"{BASE}/../admin/Appointment/a1", None),
        ("Appointment/..", None),
        ("Appointment/.", None),
        ("Appointment/../../admin", None),
        ("Appointment/a%2fb", None),
        ("Appointment/a\n", None),
        ("//evil.example/Appointment/a1", None),
        ("/Appointment/a1", None),
        ("#contained", None),
        ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", None),
        ("appointment/a1", None),
        ("Appointment/" + "a" * 65, None),
        ("https://[bad/Appointment/a1", None),
        ("", None),
    ],
)
def test_only_what_is_under_the_base_has_a_local_name(reference, local):
    assert make().local(reference) == local


def test_what_has_no_local_name_is_never_asked_for(ehr):
    for verb in (ehr.read, lambda r: ehr.update(r, b"{}", None), lambda r: ehr.patch(r, [], None)):
        with pytest.raises(EhrRefused):
            verb("https://evil.example/fhir/Appointment/a1")
    assert len(ehr.wire.calls) == 0


# --- reading


def test_a_read_keeps_the_bytes_and_the_version(ehr):
    ehr.wire.get(A1, body=BODY, headers={"ETag": 'W/"3"'})
    got = ehr.read("Appointment/a1")
    assert isinstance(got, Resource)
    assert (got.body, got.etag, got.version, got.reference) == (BODY, 'W/"3"', "3", "Appointment/a1")
    assert got.last_updated == datetime(2026, 12, 1, 8, 30, 0, 123456, tzinfo=UTC)
    sent = ehr.wire.calls[0].request.headers
    assert (sent["Accept"], sent["Authorization"]) == ("application/fhir+json", "Bearer tok")


@pytest.mark.parametrize(
    ("header", "etag", "version"), [(None, 'W/"3"', "3"), ("3", 'W/"3"', "3"), ('"3"', '"3"', "3")], ids=str
)
def test_an_etag_is_kept_verbatim_quoted_where_bare_and_made_of_the_version_where_missing(ehr, header, etag, version):
    ehr.wire.get(A1, body=BODY, headers={"ETag": header} if header else {})
    got = ehr.read("Appointment/a1")
    assert (got.etag, got.version) == (etag, version)


def test_unchanged_since_the_version_we_hold(ehr):
    ehr.wire.get(A1, status=304, match=[responses.matchers.header_matcher({"If-None-Match": 'W/"3"'})])
    assert ehr.read("Appointment/a1", 'W/"3"') == NotModified()


@pytest.mark.parametrize(("status", "answer"), [(404, Missing()), (410, Deleted())])
def test_not_there(ehr, status, answer):
    ehr.wire.get(A1, status=status, json=OUTCOME)
    assert ehr.read("Appointment/a1") == answer


@pytest.mark.parametrize("status", [200, 404, 410, 502])
def test_a_gateways_page_means_wait(ehr, status):
    ehr.wire.get(A1, status=status, body=HTML, content_type="text/html")
    with pytest.raises(EhrUnreachable) as caught:
        ehr.read("Appointment/a1")
    assert "Maria" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"a1"}', b"null", b"\x00\xff"])
def test_a_200_that_is_no_fhir_means_wait(ehr, body):
    ehr.wire.get(A1, body=body)
    with pytest.raises(EhrUnreachable):
        ehr.read("Appointment/a1")


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Appointment", "id": "a2"},
        {"resourceType": "Patient", "id": "a1"},
        {"resourceType": "Appointment"},
        OUTCOME,
    ],
)
def test_another_resource_in_the_answer_is_refused(ehr, body):
    ehr.wire.get(A1, json=body)
    with pytest.raises(EhrRefused) as caught:
        ehr.read("Appointment/a1")
    assert caught.value.codes == (("processing",) if body is OUTCOME else ())


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("Mon, 21 Sep 2020 14:13:30 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_try_later_says_when(ehr, status, retry_after, seconds):
    ehr.wire.get(A1, status=status, json=OUTCOME, headers={"Retry-After": retry_after} if retry_after else {})
    with pytest.raises(EhrUnreachable) as caught:
        ehr.read("Appointment/a1")
    assert caught.value.retry_after == seconds
    assert caught.value.unknown is False
    assert caught.value.retryable


@pytest.mark.parametrize("status", [400, 403, 405, 422, 501])
def test_no_for_good_carries_the_codes_and_not_the_diagnostics(ehr, status):
    ehr.wire.get(A1, status=status, json=OUTCOME)
    with pytest.raises(EhrRefused) as caught:
        ehr.read("Appointment/a1")
    assert (caught.value.status, caught.value.codes) == (status, ("processing",))
    assert "Maria" not in str(caught.value)


def test_an_answer_without_end_is_cut(ehr, monkeypatch):
    monkeypatch.setattr(module, "MAX_BODY", 1 << 20)
    ehr.wire.get(A1, body=b"x" * (2 << 20))
    with pytest.raises(EhrRefused, match="over"):
        ehr.read("Appointment/a1")


def test_a_trickle_is_cut(ehr, monkeypatch):
    monkeypatch.setattr(module, "DEADLINE", -1.0)
    ehr.wire.get(A1, body=BODY)
    with pytest.raises(EhrUnreachable):
        ehr.read("Appointment/a1")


# --- redirects, tokens, connections


def test_a_redirect_to_another_host_is_not_followed(ehr):
    ehr.wire.get(A1, status=302, headers={"Location": "https://evil.example/fhir/Appointment/a1"})
    with pytest.raises(EhrRefused, match="outside"):
        ehr.read("Appointment/a1")
    assert len(ehr.wire.calls) == 1


def test_a_redirect_under_the_base_is(ehr):
    ehr.wire.get(A1, status=307, headers={"Location": "/fhir/v2/Appointment/a1"})
    ehr.wire.get(f"{BASE}/v2/Appointment/a1", body=BODY)
    assert ehr.read("Appointment/a1").version == "3"


def test_a_redirect_in_circles_ends(ehr):
    ehr.wire.get(A1, status=302, headers={"Location": A1})
    with pytest.raises(EhrRefused, match="circles"):
        ehr.read("Appointment/a1")


def test_a_redirect_of_a_write_is_not_followed(ehr):
    ehr.wire.put(A1, status=308, headers={"Location": A1})
    with pytest.raises(EhrRefused, match="redirect"):
        ehr.update("Appointment/a1", b"{}", None)
    assert len(ehr.wire.calls) == 1


def test_a_401_drops_the_token_and_tries_once_more():
    client = make(Auth("client_secret", token_url="https://ehr.example/token", client_id="c", client_secret="s"))
    with responses.RequestsMock() as wire:
        for token in ("t1", "t2"):
            wire.post("https://ehr.example/token", json={"access_token": token, "expires_in": 300})
        wire.get(A1, status=401, match=[responses.matchers.header_matcher({"Authorization": "Bearer t1"})])
        wire.get(A1, body=BODY, match=[responses.matchers.header_matcher({"Authorization": "Bearer t2"})])
        assert isinstance(client.read("Appointment/a1"), Resource)
    with responses.RequestsMock() as wire:  # and no third time
        wire.post("https://ehr.example/token", json={"access_token": "t3", "expires_in": 300})
        wire.get(A1, status=401)
        with pytest.raises(EhrRefused) as caught:
            client.read("Appointment/a1")
        assert caught.value.status == 401
        assert len(wire.calls) == 3


def test_a_401_to_a_fixed_secret_is_final(ehr):
    ehr.wire.get(A1, status=401)
    with pytest.raises(EhrRefused):
        ehr.read("Appointment/a1")
    assert len(ehr.wire.calls) == 1


def test_a_netrc_never_replaces_our_header(ehr, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine ehr.example login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    ehr.wire.get(A1, body=BODY)
    ehr.read("Appointment/a1")
    assert ehr.wire.calls[0].request.headers["Authorization"] == "Bearer tok"


def test_a_stale_connection_costs_a_read_one_more_try(ehr):
    ehr.wire.get(A1, body=requests.ConnectionError(ProtocolError("Connection aborted.")))
    ehr.wire.get(A1, body=BODY)
    assert isinstance(ehr.read("Appointment/a1"), Resource)


NEVER_STOOD = requests.ConnectionError(MaxRetryError(None, A1, NewConnectionError(None, "refused")))
LOST = [
    requests.ReadTimeout(),
    requests.ConnectionError(ProtocolError("Connection aborted.")),
    requests.exceptions.ChunkedEncodingError(),
]


@pytest.mark.parametrize(
    ("error", "unknown"),
    [(NEVER_STOOD, False), (requests.ConnectTimeout(), False), *[(lost, True) for lost in LOST]],
    ids=repr,
)
def test_a_write_is_unknown_only_once_a_connection_stood(ehr, error, unknown):
    ehr.wire.put(A1, body=error)
    ehr.wire.post(f"{BASE}/Communication", body=error)
    for write in (lambda: ehr.update("Appointment/a1", b"{}", None), lambda: ehr.create("Communication", b"{}")):
        with pytest.raises(EhrUnreachable) as caught:
            write()
        assert caught.value.unknown is unknown
    assert len(ehr.wire.calls) == 2  # never twice


def test_a_port_where_nobody_listens_is_not_unknown():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = make(base=f"http://127.0.0.1:{port}/fhir")
    with pytest.raises(EhrUnreachable) as caught:
        client.create("Communication", b"{}")
    assert not caught.value.unknown
    assert str(port) not in str(caught.value)
    client.close()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 201 Crea", b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"], ids=len
)
def test_a_connection_that_ends_before_the_answer_does_is_unknown(answer):
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            peer, _ = listener.accept()
            with peer:
                got.append(peer.recv(65536))
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        client = make(base=f"http://127.0.0.1:{listener.getsockname()[1]}/fhir")
        with pytest.raises(EhrUnreachable) as caught:
            client.create("Communication", b"{}")
        thread.join()
        client.close()
    assert caught.value.unknown
    assert len(got) == 1
    assert got[0].startswith(b"POST /fhir/Communication ")


# --- search


def page(*entries, following=None):
    links = [{"relation": "next", "url": following}] if following else []
    return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": list(entries)}


def match(reference, mode="match"):
    kind, name = reference.split("/")
    return {"resource": {"resourceType": kind, "id": name, "meta": {"versionId": "1"}}, "search": {"mode": mode}}


def test_search_follows_pages_and_leaves_outcomes_out(ehr):
    ehr.wire.get(
        f"{BASE}/Appointment",
        json=page(
            match("Appointment/a1"),
            match("Patient/p1", "include"),
            {"resource": OUTCOME, "search": {"mode": "outcome"}},
            {"resource": OUTCOME},
            {"fullUrl": "x"},
            "odd",
            following=f"{BASE}?_getpages=7",
        ),
    )
    ehr.wire.get(f"{BASE}?_getpages=7", json=page(match("Appointment/a2")))
    found = list(ehr.search("Appointment", {"_lastUpdated": "ge2026-12-01T00:00:00Z", "status": "booked,pending"}))
    assert [one.reference for one in found] == ["Appointment/a1", "Patient/p1", "Appointment/a2"]
    assert found[0].etag == 'W/"1"'
    assert ehr.wire.calls[0].request.url.endswith("_lastUpdated=ge2026-12-01T00%3A00%3A00Z&status=booked%2Cpending")


def test_a_total_of_zero_has_no_entry(ehr):
    ehr.wire.get(f"{BASE}/Appointment", json={"resourceType": "Bundle", "type": "searchset", "total": 0})
    assert list(ehr.search("Appointment", {})) == []


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/fhir?_getpages=7", "https://ehr.example/admin", f"{BASE}/../admin", "file:///etc/passwd", 7],
)
def test_a_next_page_elsewhere_is_refused_rather_than_cut(ehr, following):
    ehr.wire.get(f"{BASE}/Appointment", json=page(match("Appointment/a1"), following=following))
    with pytest.raises(EhrRefused, match="outside"):
        list(ehr.search("Appointment", {}))
    assert len(ehr.wire.calls) == 1


def test_paging_in_circles_ends(ehr, monkeypatch):
    monkeypatch.setattr(module, "PAGES", 3)
    ehr.wire.get(f"{BASE}/Appointment", json=page(match("Appointment/a1"), following=f"{BASE}/Appointment?"))
    with pytest.raises(EhrRefused, match="pages"):
        list(ehr.search("Appointment", {}))
    assert len(ehr.wire.calls) == 3


def test_find_by_identifier_believes_only_the_identifier_itself(ehr):
    ours = match("Communication/c2")
    ours["resource"]["identifier"] = [{"system": "urn:bridge:message", "value": "m1"}]
    ehr.wire.get(f"{BASE}/Communication", json=page(match("Communication/c1"), ours))
    assert ehr.find_by_identifier("Communication", "urn:bridge:message", "m1").reference == "Communication/c2"
    assert ehr.find_by_identifier("Communication", "urn:bridge:message", "m2") is None


# --- writing


def test_update_is_guarded_and_sends_the_bytes_it_was_given(ehr):
    ehr.wire.put(A1, body=BODY, headers={"ETag": 'W/"4"'})
    written = ehr.update("Appointment/a1", BODY, 'W/"3"')
    assert isinstance(written, Written)
    assert (written.reference, written.etag, written.resource["id"]) == ("Appointment/a1", 'W/"4"', "a1")
    sent = ehr.wire.calls[0].request
    assert sent.body == BODY
    assert sent.headers["If-Match"] == 'W/"3"'
    assert sent.headers["Content-Type"] == "application/fhir+json"


def test_a_patch_answer_without_etag_takes_it_from_the_resource(ehr):
    ehr.wire.patch(A1, body=BODY)
    written = ehr.patch("Appointment/a1", [{"op": "replace", "path": "/status", "value": "cancelled"}], 'W/"2"')
    assert written.etag == 'W/"3"'
    assert ehr.wire.calls[0].request.headers["Content-Type"] == "application/json-patch+json"


@pytest.mark.parametrize("status", [409, 412])
def test_somebody_wrote_first(ehr, status):
    ehr.wire.put(A1, status=status, json=OUTCOME)
    assert ehr.update("Appointment/a1", b"{}", 'W/"1"') == Conflict(status)


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, ""), (502, HTML), (504, ""), (200, HTML), (200, '{"resourceType":"Appointment","id":"a9"}')],
)
def test_a_write_whose_answer_says_nothing_is_unknown(ehr, status, body):
    ehr.wire.put(A1, status=status, body=body)
    with pytest.raises(EhrUnreachable) as caught:
        ehr.update("Appointment/a1", b"{}", 'W/"1"')
    assert caught.value.unknown


@pytest.mark.parametrize("status", [429, 503])
def test_a_write_that_was_turned_away_is_not_unknown(ehr, status):
    ehr.wire.put(A1, status=status)
    with pytest.raises(EhrUnreachable) as caught:
        ehr.update("Appointment/a1", b"{}", 'W/"1"')
    assert not caught.value.unknown


def test_an_empty_answer_to_a_write_is_enough(ehr):
    ehr.wire.put(A1, status=200)
    assert ehr.update("Appointment/a1", b"{}", 'W/"1"') == Written("Appointment/a1", None, None, None)


@pytest.mark.parametrize(
    "location",
    [
        f"{BASE}/Communication/77/_history/1",
        "Communication/77/_history/1",
        "http://inside:8080/fhir/Communication/77/_history/1",
    ],
)
def test_a_create_without_body_takes_id_and_version_from_location(ehr, location):
    ehr.wire.post(f"{BASE}/Communication", status=201, headers={"Location": location})
    written = ehr.create("Communication", b"{}", ("urn:bridge:message", "msg 1&x"))
    assert (written.reference, written.etag, written.created) == ("Communication/77", 'W/"1"', True)
    assert ehr.wire.calls[0].request.headers["If-None-Exist"] == "identifier=urn:bridge:message|msg%201%26x"


def test_a_conditional_create_that_found_ours_and_says_nothing_is_looked_up(ehr):
    ours = match("Communication/c2")
    ours["resource"]["identifier"] = [{"system": "urn:bridge:message", "value": "m1"}]
    ehr.wire.post(f"{BASE}/Communication", status=200)
    ehr.wire.get(f"{BASE}/Communication", json=page(ours))
    written = ehr.create("Communication", b"{}", ("urn:bridge:message", "m1"))
    assert (written.reference, written.created) == ("Communication/c2", False)


def test_a_create_that_names_no_id_is_unknown(ehr):
    ehr.wire.post(f"{BASE}/Communication", status=201, json=OUTCOME)
    with pytest.raises(EhrUnreachable) as caught:
        ehr.create("Communication", b"{}")
    assert caught.value.unknown


def test_several_with_our_identifier_are_for_a_person(ehr):
    ehr.wire.post(f"{BASE}/Communication", status=412, json=OUTCOME)
    with pytest.raises(EhrRefused) as caught:
        ehr.create("Communication", b"{}", ("s", "v"))
    assert caught.value.status == 412


def test_a_batch_answers_entry_by_entry(ehr):
    answers = [
        {"response": {"status": "201 Created", "location": "Communication/1/_history/1", "etag": "1"}},
        {"response": {"status": "400 Bad Request", "outcome": OUTCOME}},
    ]
    ehr.wire.post(BASE, json={"resourceType": "Bundle", "type": "batch-response", "entry": answers})
    entries = [
        {"request": {"method": "POST", "url": "Communication"}, "resource": {"resourceType": "Communication"}}
    ] * 2
    first, second = ehr.batch(entries)
    assert (first.status, first.reference, first.etag) == (201, "Communication/1", 'W/"1"')
    assert (second.status, second.reference, second.codes) == (400, None, ("processing",))
    sent = json.loads(ehr.wire.calls[0].request.body)
    assert (sent["type"], len(sent["entry"])) == ("batch", 2)


def test_a_batch_whose_answers_do_not_match_is_unknown(ehr):
    ehr.wire.post(BASE, json={"resourceType": "Bundle", "type": "batch-response", "entry": []})
    with pytest.raises(EhrUnreachable) as caught:
        ehr.batch([{"request": {"method": "POST", "url": "Communication"}}])
    assert caught.value.unknown


def test_metadata(ehr):
    ehr.wire.get(f"{BASE}/metadata", json={"resourceType": "CapabilityStatement"})
    assert ehr.metadata()["resourceType"] == "CapabilityStatement"


def test_an_ehr_without_base_is_never_asked():
    with pytest.raises(EhrRefused, match="base_url"):
        make(base=None)


@settings(max_examples=60, deadline=None)
@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_any_answer_is_a_value_or_a_named_error(status, body):
    client = make()
    with responses.RequestsMock() as wire:
        wire.add(responses.GET, A1, status=status, body=body)
        wire.add(responses.PUT, A1, status=status, body=body)
        for ask in (lambda: client.read("Appointment/a1"), lambda: client.update("Appointment/a1", b"{}", None)):
            try:
                assert ask() is not None
            except BridgeError as error:
                assert len(str(error)) < 200
