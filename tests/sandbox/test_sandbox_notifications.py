"""What the pretend EHR's Subscriptions send, by generation and dialect, and how long it tries."""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import requests

from bridge.sandbox import people
from bridge.sandbox.ehr.subscriptions import HAPI, MEDPLUM_SECRET
from bridge.sandbox.launch import Running, start_ehr

START = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
TOPIC = "https://ehr.example/topics/appointment-any"
VISIT = people.appointment("a1", START)


def statuses(receiver) -> list[dict]:
    return [got.json["entry"][0]["resource"] for got in receiver.got]


def parameters(resource: dict) -> dict:
    return {
        item["name"]: next((value for key, value in item.items() if key.startswith("value")), item.get("part"))
        for item in resource["parameter"]
    }


def put(ehr: Running, resource: dict) -> None:
    requests.put(f"{ehr.url}/{resource['resourceType']}/{resource['id']}", json=resource, timeout=10).raise_for_status()


def test_r4_criteria_is_a_put_below_the_endpoint(ehr: Running, receiver) -> None:
    ehr.post(
        "seed",
        resources=[
            people.subscription("s", "Appointment?", receiver.url, header="Authorization: Bearer door:secret"),
            VISIT,
            people.ana(),
        ],
    )
    assert ehr.idle()
    (got,) = receiver.got
    assert (got.method, got.path, got.headers["if-match"], got.headers["authorization"]) == (
        "PUT",
        "/door/Appointment/a1",
        'W/"1"',
        "Bearer door:secret",
    )
    assert (got.json["id"], got.json["meta"]["versionId"]) == ("a1", "1")
    assert "door:secret" not in ehr.journal.read_text()


def test_criteria_test_the_new_value_only(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.subscription("s", "Appointment?status=booked", receiver.url), VISIT])
    ehr.put("resources/Appointment/a1", VISIT | {"status": "cancelled"})
    ehr.delete("resources/Appointment/a1")
    assert ehr.idle()
    assert len(receiver.got) == 1


def test_empty_post_names_nothing(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url, payload=None), VISIT])
    assert ehr.idle()
    (got,) = receiver.got
    assert (got.method, got.path, got.body) == ("POST", "/door", b"")
    assert "urlencoded" in got.headers["content-type"]


def test_extensions_send_deletes_and_strip_versions(ehr: Running, receiver) -> None:
    order = people.subscription("s", "Appointment?", receiver.url)
    order["channel"]["extension"] = [
        {"url": HAPI + "subscription-send-delete-messages", "valueBoolean": True},
        {"url": HAPI + "subscription-resthook-strip-version-ids", "valueBoolean": True},
    ]
    ehr.post("seed", resources=[order, VISIT])
    assert ehr.idle()
    ehr.delete("resources/Appointment/a1")
    assert ehr.idle()
    first, second = receiver.got
    assert "if-match" not in first.headers
    assert "versionId" not in first.json["meta"]
    assert (second.method, second.path) == ("DELETE", "/door/Appointment/a1")


def test_r4_backport_greets_then_notifies(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.topic_subscription("s", TOPIC, receiver.url, content="id-only")])
    ehr.wait_for(lambda running: running.get("state")["subscriptions"]["s"]["status"] == "active")
    put(ehr, VISIT)
    assert ehr.idle()
    handshake, event = (parameters(status) for status in statuses(receiver))
    assert (handshake["type"], handshake["events-since-subscription-start"]) == ("handshake", "0")
    assert (event["type"], event["events-since-subscription-start"], event["topic"]) == (
        "event-notification",
        "1",
        TOPIC,
    )
    parts = {part["name"]: part for part in event["notification-event"]}
    assert parts["focus"]["valueReference"]["reference"] == f"{ehr.url}/Appointment/a1"
    assert "valueInstant" in parts["timestamp"]
    bundle = receiver.got[1].json
    assert (bundle["type"], "resource" in bundle["entry"][1], "request" in bundle["entry"][0]) == (
        "history",
        False,
        True,
    )
    assert ehr.post("subscriptions/s/heartbeat") == {"delivered": True}
    assert parameters(statuses(receiver)[2])["events-since-subscription-start"] == "1"


@pytest.mark.parametrize(("content", "entries"), [("empty", 1), ("id-only", 2), ("full-resource", 2)])
def test_r5_content_levels(tmp_path, receiver, content: str, entries: int) -> None:
    with start_ehr(tmp_path / "j.jsonl", fhir_version="R5") as ehr:
        ehr.post(
            "seed",
            resources=[
                people.topic_subscription(
                    "s", TOPIC, receiver.url, content=content, r5=True, header="Authorization: Bearer x"
                ),
                VISIT,
            ],
        )
        ehr.wait_for(lambda _: len(receiver.got) == 2)
    event = next(got for got in receiver.got if got.json["entry"][0]["resource"]["type"] == "event-notification")
    bundle = event.json
    assert (bundle["type"], len(bundle["entry"]), event.headers["authorization"]) == (
        "subscription-notification",
        entries,
        "Bearer x",
    )
    status = bundle["entry"][0]["resource"]
    assert (status["eventsSinceSubscriptionStart"], "focus" in status["notificationEvent"][0]) == (
        "1",
        content != "empty",
    )
    assert ("resource" in bundle["entry"][-1]) == (content != "id-only")


def test_hapi_topics_are_bare(tmp_path, receiver) -> None:
    with start_ehr(tmp_path / "j.jsonl", dialect="hapi") as ehr:
        ehr.post(
            "seed", resources=[people.topic_subscription("s", TOPIC, receiver.url, content="full-resource"), VISIT]
        )
        assert ehr.idle()
        ehr.post("subscriptions/restart-counters")
        ehr.put("resources/Appointment/a1", VISIT | {"status": "cancelled"})
        assert ehr.idle()
    assert [parameters(status)["events-since-subscription-start"] for status in statuses(receiver)] == ["1", "1"]
    entry = receiver.got[0].json["entry"]
    assert "request" not in entry[0]
    assert entry[1]["fullUrl"] == "Appointment/a1/_history/1"
    assert "timestamp" not in receiver.got[0].json


def test_hapi_repeats_until_it_gets_fhir_back(tmp_path, receiver) -> None:
    receiver.answer = b"{}"
    with start_ehr(tmp_path / "j.jsonl", dialect="hapi", arguments=["--retry-base", "0.05"]) as ehr:
        ehr.post("seed", resources=[people.topic_subscription("s", TOPIC, receiver.url), VISIT])
        ehr.wait_for(lambda _: len(receiver.got) >= 3)
        receiver.answer = b'{"resourceType":"Bundle","type":"transaction-response"}'
        assert ehr.idle()
        assert ehr.get("state")["lost"] == 0


def test_athenahealth_numbers_restart_and_ids_hold(tmp_path, receiver) -> None:
    order = people.topic_subscription("s", TOPIC, receiver.url, max_count=5)
    order["extension"] = [{"url": MEDPLUM_SECRET, "valueString": "hub"}]
    with start_ehr(tmp_path / "j.jsonl", dialect="athenahealth") as ehr:
        ehr.post("seed", resources=[order, VISIT])
        assert ehr.idle()
        ehr.put("resources/Appointment/a1", VISIT | {"status": "cancelled"})
        assert ehr.idle()
    first, second = statuses(receiver)
    assert [status["notificationEvent"][0]["eventNumber"] for status in (first, second)] == ["1", "1"]
    assert first["notificationEvent"][0]["id"] != second["notificationEvent"][0]["id"]
    assert (
        receiver.got[0].headers["x-hub-signature"]
        == "sha256=" + hmac.new(b"hub", receiver.got[0].body, hashlib.sha256).hexdigest()
    )


def test_medplum_signs_and_says_delete(tmp_path, receiver) -> None:
    order = people.subscription("s", "Appointment?", receiver.url) | {
        "extension": [{"url": MEDPLUM_SECRET, "valueString": "m"}]
    }
    order["channel"]["extension"] = [{"url": HAPI + "subscription-send-delete-messages", "valueBoolean": True}]
    with start_ehr(tmp_path / "j.jsonl", dialect="medplum") as ehr:
        ehr.post("seed", resources=[order, VISIT])
        assert ehr.idle()
        ehr.delete("resources/Appointment/a1")
        assert ehr.idle()
    created, deleted = receiver.got
    assert (created.method, created.path, created.headers["x-medplum-interaction"]) == ("POST", "/door", "create")
    assert created.headers["x-signature"] == hmac.new(b"m", created.body, hashlib.sha256).hexdigest()
    assert not created.json["meta"]["versionId"].isdigit()
    assert (deleted.headers["x-medplum-deleted-resource"], deleted.body) == ("Appointment/a1", b"{}")


def test_several_events_share_a_bundle(ehr: Running, receiver) -> None:
    receiver.close()
    ehr.post("settings", retry={"base": 0.3, "growth": 1.0, "span": 20})
    ehr.post("seed", resources=[people.topic_subscription("s", TOPIC, receiver.url, content="id-only", max_count=10)])
    ehr.post("faults", delay=0.2)
    receiver.open()
    ehr.post("seed", resources=[people.topic_subscription("s", TOPIC, receiver.url, content="id-only", max_count=10)])
    ehr.post("seed", resources=[people.appointment(f"a{n}", START) for n in range(6)])
    assert ehr.idle()
    events = [len(got.json["entry"]) - 1 for got in receiver.got]
    assert sum(events) == 6
    assert max(events) > 1


def test_a_dead_engine_gets_it_when_it_is_back(ehr: Running, receiver) -> None:
    receiver.close()
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url), VISIT])
    ehr.wait_for(lambda running: len(running.lines(dir="answer", delivered=False)) >= 2)
    receiver.open()
    assert ehr.idle()
    assert len(receiver.got) == 1
    assert ehr.lines(dir="answer")[0]["error"] == "ClientConnectorError"


def test_lost_after_the_span(ehr: Running, closed_port: int) -> None:
    ehr.post("settings", retry={"base": 0.05, "growth": 1.0, "span": 0.12})
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", f"http://127.0.0.1:{closed_port}/x"), VISIT])
    assert ehr.idle()
    assert ehr.get("state")["lost"] == 1
    assert len(ehr.lines(dir="out")) == 3


def test_drop_and_duplicate(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url)])
    ehr.post("faults", drop=1.0)
    put(ehr, VISIT)
    ehr.post("faults", drop=0.0, duplicate=1.0)
    put(ehr, VISIT | {"status": "cancelled"})
    assert ehr.idle()
    assert [got.headers["if-match"] for got in receiver.got] == ['W/"2"', 'W/"2"']


def test_echo_before_the_answer(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url)])
    ehr.post("faults", notify_first=True)
    put(ehr, VISIT)
    assert len(receiver.got) == 1  # already there when the PUT was answered
    notified = next(line["seq"] for line in ehr.lines(dir="out"))
    answered = next(line["seq"] for line in ehr.lines(dir="in", method="PUT"))
    assert notified < answered


def test_an_old_push_comes_again(ehr: Running, receiver) -> None:
    ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url), VISIT])
    ehr.put("resources/Appointment/a1", VISIT | {"status": "cancelled"})
    assert ehr.idle()
    ehr.post("subscriptions/s/resend", reference="Appointment/a1", version="1")
    assert ehr.idle()
    assert [got.json["status"] for got in receiver.got][-1] == "booked"


def test_r4b_backport_has_a_subscription_status(tmp_path, receiver) -> None:
    with start_ehr(tmp_path / "j.jsonl", fhir_version="R4B") as ehr:
        ehr.post("seed", resources=[people.topic_subscription("s", TOPIC, receiver.url, content="full-resource")])
        ehr.wait_for(lambda running: running.get("state")["subscriptions"]["s"]["status"] == "active")
        put(ehr, VISIT)
        assert ehr.idle()
    handshake, event = (got.json for got in receiver.got)
    assert (handshake["type"], handshake["entry"][0]["resource"]["type"]) == ("history", "handshake")
    status, focus = event["entry"]
    assert (status["resource"]["resourceType"], status["resource"]["notificationEvent"][0]["eventNumber"]) == (
        "SubscriptionStatus",
        "1",
    )
    assert (focus["resource"]["id"], focus["request"]["method"], focus["response"]["status"]) == ("a1", "POST", "201")


def test_polite_keeps_order(tmp_path, receiver) -> None:
    with start_ehr(tmp_path / "j.jsonl", polite=True) as ehr:
        ehr.post("seed", resources=[people.subscription("s", "Appointment?", receiver.url)])
        for minutes in range(10, 60):
            ehr.put("resources/Appointment/a1", people.appointment("a1", START, minutes=minutes))
        assert ehr.idle()
    assert [got.json["minutesDuration"] for got in receiver.got] == list(range(10, 60))


def test_subscription_by_fhir_becomes_active_and_stops_when_off(ehr: Running, receiver) -> None:
    created = requests.post(
        f"{ehr.url}/Subscription", json=people.subscription("x", "Appointment?", receiver.url), timeout=10
    ).json()
    assert created["status"] == "requested"
    url = f"{ehr.url}/Subscription/{created['id']}"
    held = requests.get(url, timeout=10).json()
    assert held["status"] == "active"
    requests.put(url, json=held | {"status": "off"}, timeout=10).raise_for_status()
    put(ehr, VISIT)
    time.sleep(0.1)
    assert receiver.got == []
