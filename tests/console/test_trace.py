"""From an event to everything it caused, over the running engine's API: complete, in plain words, and without a patient in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.sandbox import people
from bridge.sandbox.people import ANA_PHONE
from bridge.sandbox.world import World

BOOKED, SAID = "Appointment/t1", "no puedo esperar más"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A visit booked and confirmed, something written, and a result that nobody may be told of."""
    folder = tmp_path_factory.mktemp("trace")
    with World(folder, polite=True, site={"quiet_hours": {"from": "03:00", "to": "03:01"}}) as world:
        world.start_engine()
        world.save(people.appointment("t1", datetime.now(UTC) + timedelta(days=8)))
        world.whatsapp.wait_for(lambda _: world.bubbles(ANA_PHONE), 20)
        world.whatsapp.post("tap", who=ANA_PHONE, wamid=world.bubbles(ANA_PHONE)[0]["wamid"], index=0)
        world.whatsapp.wait_for(lambda _: len(world.bubbles(ANA_PHONE)) == 3, 20)  # booked, tapped, confirmed
        world.whatsapp.post("say", who=ANA_PHONE, text=SAID)
        world.whatsapp.wait_for(lambda _: len(world.bubbles(ANA_PHONE)) == 5, 20)
        world.save(people.report("r1", "Patient/ana", datetime.now(UTC)))
        world.ehr.wait_for(lambda _: "suppressed" in {one["event"]["fate"] for one in events(world)}, 20)
        world.whatsapp.wait_for(lambda _: quiet(world), 30)
        yield world


def quiet(world: World) -> bool:
    """Nothing changes any more what is read here twice. In this order: a status that is applied asks for a write."""
    if not world.whatsapp.get("idle", timeout=5)["idle"]:
        return False
    kinds = ("events?kind=status", "events?kind=message", "events?kind=notification")
    if any(each["fate"] is None for kind in kinds for each in get(world, kind).json()["events"]):
        return False
    states = {w["state"] for one in events(world) for w in one["writes"]}
    return bool(states) and not states & {"asked", "sending"}


def get(world: World, path: str, **headers: str) -> requests.Response:
    return requests.get(f"{world.console}/api/v1/{path}", headers=headers, timeout=10)


def events(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(world, "events?expand=trace").json()["events"]
    return found


def one(world: World, kind: str, turn: str = "") -> dict[str, Any]:
    """The oldest trace of that kind of event (and turn)."""
    fitting = [
        e for e in events(world) if e["event"]["kind"] == kind and (not turn or turn in {t["kind"] for t in e["turns"]})
    ]
    return fitting[-1]


def test_news(world: World) -> None:
    trace = one(world, "notification")
    assert (trace["event"]["about"], trace["event"]["fate"], trace["event"]["planned"]) == (BOOKED, "planned", 3)
    news = trace["messages"][0]
    assert (news["mapping"], news["template"], news["event"]) == (
        "appointment-booked", "appointment_booked", "appointment.booked",
    )  # fmt: skip
    assert [(post["n"], post["outcome"], post["http"]) for post in news["posts"]] == [(1, "accepted", 200)]
    assert {m["offset"] for m in trace["messages"] if m["state"] == "planned"} == {"3d", "24h"}
    assert [(w["verb"], w["state"]) for w in trace["writes"]] == [("communication", "done")]
    assert [step["what"] for step in trace["steps"]][:4] == ["received", "decided", "message", "sent"]
    assert "understood: 3 to send" in {step["text"] for step in trace["steps"]}


def test_a_tap_leads_to_the_write_and_its_answer(world: World) -> None:
    trace = one(world, "message", "tap")
    tapped = one(world, "notification")["messages"][0]["id"]
    assert [turn["tapped"] for turn in trace["turns"]] == [tapped]
    assert {(w["verb"], w["state"]) for w in trace["writes"]} == {("confirm", "done"), ("communication-in", "done")}
    assert [m["event"] for m in trace["messages"]] == ["answer.confirmed"]


def test_free_text_waits_for_a_person(world: World) -> None:
    trace = one(world, "message", "text")
    assert trace["turns"][0]["waits_for_person"]
    assert any("for a person" in step["text"] and step["mood"] == "wait" for step in trace["steps"])


def test_every_id_finds_its_trace(world: World) -> None:
    trace = one(world, "message", "tap")
    event = trace["event"]["id"]
    for row in (*trace["turns"], *trace["writes"]):
        assert get(world, f"trace/{row['id']}").json()["event"]["id"] == event
    assert get(world, f"trace/{event}").json() == trace
    message = get(world, f"trace/{trace['turns'][0]['tapped']}").json()
    assert [m["id"] for m in message["messages"]] == [trace["turns"][0]["tapped"]]
    assert [t["id"] for t in message["turns"]] == [trace["turns"][0]["id"]]
    assert message["event"]["about"] == BOOKED


@pytest.mark.parametrize("name", ["evt_1", "msg_", "evt_1x", "wamid.HBgL", "evt_99999999999999999999", "evt_１", "x"])
def test_no_such_id(world: World, name: str) -> None:
    assert get(world, f"trace/{name}").status_code == 404


def test_pages_and_follows(world: World) -> None:
    all_of_them = [e["event"]["id"] for e in events(world)]
    first = get(world, "events?limit=2").json()["events"]
    assert [e["id"] for e in first] == all_of_them[:2]
    rest = get(world, f"events?before={all_of_them[1]}").json()["events"]
    assert [e["id"] for e in rest] == all_of_them[2:]
    assert get(world, f"events?after={all_of_them[0]}").json()["events"] == []
    kinds = {e["kind"] for e in get(world, "events?kind=status").json()["events"]}
    assert kinds == {"status"}  # quiet unless asked for


def test_unchanged_is_not_sent_again(world: World) -> None:
    tag = get(world, "events").headers["ETag"]
    again = get(world, "events", **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_of_a_patient_is_in_it(world: World) -> None:
    shown = json.dumps(events(world), ensure_ascii=False) + get(world, "clock").text
    for secret in (ANA_PHONE, "Ana", "Gómez", SAID, "Ruiz", "Consultas", "wamid", "Hemograma", "Confirmar"):
        assert secret not in shown, secret


def test_the_clock_says_when_the_next_message_is_due(world: World, tmp_path: Path) -> None:
    due = datetime.fromisoformat(get(world, f"clock?about={BOOKED}").json()["next_due"])
    start = datetime.fromisoformat(world.held(BOOKED)["start"])
    assert timedelta(days=2, hours=22) < start - due < timedelta(days=3, hours=2)  # a night of changing clocks included
    assert get(world, "clock?about=Appointment/other").json()["next_due"] is None
