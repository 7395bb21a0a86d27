"""Webhooks of the pretend WhatsApp: signed over the raw bytes, read by an independent parser, and hostile by default."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from pathlib import Path

import pytest
import requests
from test_sandbox_whatsapp import ANA, AUTH, NUMBER, button, send, template, text

from bridge.sandbox.launch import Running, start_whatsapp

APP_SECRET = "app-secret-of-nobody"
TEMPLATES = Path(__file__).parents[2] / "config/templates"


def test_signature_is_over_the_ascii_bytes(polite: Running, receiver) -> None:
    polite.post("people", wa_id=ANA, name="Ána Ñandú 🙂")
    polite.post("say", who=ANA, text="¿Mañana? 🙂")
    assert polite.idle()
    (got,) = receiver.got
    assert got.body.isascii()
    assert b"\\u00bfMa\\u00f1ana? \\ud83d\\ude42" in got.body
    assert (
        got.headers["x-hub-signature-256"]
        == "sha256=" + hmac.new(APP_SECRET.encode(), got.body, hashlib.sha256).hexdigest()
    )
    assert receiver.items("messages")[0]["text"]["body"] == "¿Mañana? 🙂"


def test_statuses_carry_what_metas_do(polite: Running, receiver) -> None:
    wamid = send(polite, template(biz_opaque_callback_data="b1.7.1")).json()["messages"][0]["id"]
    assert polite.idle()
    items = receiver.items("statuses")
    assert [(item["id"], item["status"], item["biz_opaque_callback_data"]) for item in items] == [
        (wamid, name, "b1.7.1") for name in ("sent", "delivered", "read")
    ]
    assert items[0]["pricing"] == {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}
    assert ("conversation" in items[0], "pricing" in items[2]) == (True, False)
    assert all(
        change["value"]["metadata"]["phone_number_id"] == NUMBER
        for got in receiver.got
        for change in got.json["entry"][0]["changes"]
    )
    assert [contact["wa_id"] for contact in receiver.items("contacts")] == [ANA] * 3


def test_handshake(polite: Running, receiver) -> None:
    receiver.answer = b"1158201444"
    assert polite.get("verify") == {"verified": True, "status": 200}
    assert "hub.verify_token=v" in receiver.got[0].path


def test_duplicates_batches_and_disorder(tmp_path: Path, receiver) -> None:
    with start_whatsapp(
        tmp_path / "j.jsonl",
        webhook_url=receiver.url,
        app_secret=APP_SECRET,
        templates=TEMPLATES,
        arguments=["--throughput", "0", "--pair-seconds", "0", "--seed", "3"],
    ) as hostile:
        session = requests.Session()
        for _ in range(60):
            session.post(
                f"{hostile.url}/v23.0/{NUMBER}/messages", json=template(), headers=AUTH, timeout=10
            ).raise_for_status()
        assert hostile.idle(20)
    keys = [(item["id"], item["status"]) for item in receiver.items("statuses")]
    assert len(set(keys)) == 180  # nothing lost
    assert len(keys) > 180  # some twice
    assert len(receiver.got) < len(keys)  # several in a POST
    first = {}
    for at, key in enumerate(keys):
        first.setdefault(key, at)
    overtaken = [wamid for wamid, name in first if name == "read" and first[wamid, "read"] < first[wamid, "delivered"]]
    assert overtaken


def test_what_met_a_closed_door_comes_again_newest_first(tmp_path: Path, receiver) -> None:
    receiver.status = 503
    arguments = ["--retry-base", "0.4", "--read-after", "-1"]
    with start_whatsapp(
        tmp_path / "j.jsonl",
        webhook_url=receiver.url,
        app_secret=APP_SECRET,
        templates=TEMPLATES,
        polite=True,
        arguments=arguments,
    ) as whatsapp:
        whatsapp.post("say", who=ANA, text="uno")
        whatsapp.post("say", who=ANA, text="dos")
        whatsapp.wait_for(lambda _: len(receiver.got) >= 4)  # both refused, tried again after 0.4 s, refused again
        receiver.close()
        receiver.got.clear()
        whatsapp.post("say", who=ANA, text="tres")
        whatsapp.wait_for(lambda running: any(line.get("error") for line in running.lines(dir="answer")))
        receiver.status = 200
        receiver.open()
        assert whatsapp.get("state")["webhooks"]["waiting"] == 3
        whatsapp.post("retry-now")
        assert whatsapp.idle()
        attempts = [line for line in whatsapp.lines(dir="out") if line["ids"]["attempts"] > 1]
    assert [item["text"]["body"] for item in receiver.items("messages")] == ["tres", "dos", "uno"]
    assert attempts


def test_back_off_doubles(tmp_path: Path, closed_port: int) -> None:
    with start_whatsapp(
        tmp_path / "j.jsonl",
        webhook_url=f"http://127.0.0.1:{closed_port}/",
        app_secret=APP_SECRET,
        polite=True,
        arguments=["--retry-base", "0.2"],
    ) as whatsapp:
        whatsapp.post("say", who=ANA, text="hola")
        whatsapp.wait_for(lambda running: len(running.lines(dir="out")) >= 4)
        at = [line["at"] for line in whatsapp.lines(dir="out")]
    gaps = [later - sooner for sooner, later in itertools.pairwise(at)]
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert gaps[2] >= 0.8


def test_survives_its_client_and_keeps_going(polite: Running, receiver) -> None:
    receiver.close()
    send(polite, template())
    polite.wait_for(lambda running: running.get("state")["webhooks"]["waiting"] == 3)
    receiver.open()
    polite.post("retry-now")
    assert polite.idle()
    assert {item["status"] for item in receiver.items("statuses")} == {"sent", "delivered", "read"}


# --- an independent judge


@pytest.fixture
def judge():
    """pywa as a reader of our webhooks: every typed update it makes, newest last."""
    from pywa import WhatsApp

    updates: list = []
    client = WhatsApp(
        phone_id=NUMBER,
        token="t",
        server=None,
        app_secret=APP_SECRET,
        verify_token="v",
        filter_updates=False,
        skip_duplicate_updates=False,
        validate_updates=True,
    )
    for name in (
        "message",
        "callback_button",
        "callback_selection",
        "message_status",
        "template_status_update",
        "phone_number_change",
        "user_marketing_preferences",
    ):
        getattr(client, f"on_{name}")(lambda _, update: updates.append(update))
    return client, updates


def read(judge, got) -> object:
    client, updates = judge
    before = len(updates)
    assert client.webhook_update_validator(got.body, got.headers["x-hub-signature-256"]) is None
    assert client.webhook_update_handler(got.body)[1] == 200
    assert len(updates) == before + 1, f"no typed update for {got.body!r}"
    return updates[-1]


def test_pywa_reads_messages(polite: Running, receiver, judge) -> None:
    from pywa import types

    wamid = send(polite, template(buttons=(button("0", "c1.abc"),), biz_opaque_callback_data="b1.9.1")).json()[
        "messages"
    ][0]["id"]
    assert polite.idle()
    for got, name in zip(list(receiver.got), ("sent", "delivered", "read"), strict=True):
        status = read(judge, got)
        assert (type(status), status.id, status.status.value, status.tracker) == (
            types.MessageStatus,
            wamid,
            name,
            "b1.9.1",
        )
    receiver.got.clear()
    tapped = polite.post("tap", who=ANA, wamid=wamid, index=0)["wamid"]
    assert polite.idle()
    update = read(judge, receiver.got.pop())
    assert (type(update), update.id, update.data, update.title, update.reply_to_message.id) == (
        types.CallbackButton,
        tapped,
        "c1.abc",
        "Confirmar",
        wamid,
    )
    polite.post("tap", who=ANA, wamid=wamid, index=0, with_context=False)
    assert polite.idle()
    assert read(judge, receiver.got.pop()).data == "c1.abc"
    said = polite.post("say", who=ANA, text="¿Mañana?")["wamid"]
    assert polite.idle()
    update = read(judge, receiver.got.pop())
    assert (type(update), update.id, update.text, update.from_user.wa_id) == (types.Message, said, "¿Mañana?", ANA)


def test_pywa_reads_the_rest(polite: Running, receiver, judge) -> None:
    from pywa import types

    kinds = {
        "voice": "audio",
        "image": "image",
        "document": "document",
        "sticker": "sticker",
        "video": "video",
        "location": "location",
        "contacts": "contacts",
        "reaction": "reaction",
        "unsupported": "unsupported",
    }
    send(polite, template())
    assert polite.idle()
    receiver.got.clear()
    for kind, expected in kinds.items():
        wamid = polite.post("send", who=ANA, kind=kind)["wamid"]
        assert polite.idle()
        update = read(judge, receiver.got.pop())
        assert (type(update), update.id, update.type.value) == (types.Message, wamid, expected)
    asked = {
        "type": "button",
        "body": {"text": "¿Seguro?"},
        "action": {"buttons": [{"type": "reply", "reply": {"id": "q1:yes", "title": "Sí"}}]},
    }
    send(polite, text() | {"type": "interactive", "interactive": asked})
    assert polite.idle()
    receiver.got.clear()
    polite.post("tap", who=ANA, title="Sí")
    assert polite.idle()
    update = read(judge, receiver.got.pop())
    assert (type(update), update.data) == (types.CallbackButton, "q1:yes")
    polite.post("faults", what="fail_status", code=131026)
    failed = send(polite, template()).json()["messages"][0]["id"]
    assert polite.idle()
    update = read(judge, receiver.got.pop())
    assert (update.id, update.status.value, update.error.code) == (failed, "failed", 131026)
    polite.post("templates/appointment_booked", status="PAUSED")
    assert polite.idle()
    assert type(read(judge, receiver.got.pop())) is types.TemplateStatusUpdate
    polite.post("preference", who=ANA, value="stop")
    polite.idle()
    assert type(read(judge, receiver.got.pop())) is types.UserMarketingPreferences
    polite.post("change-number", who=ANA, new_number="34612000888")
    polite.idle()
    assert type(read(judge, receiver.got.pop())) is types.PhoneNumberChange


def test_pywa_refuses_changed_bytes(polite: Running, receiver, judge) -> None:
    polite.post("say", who=ANA, text="hola")
    assert polite.idle()
    (got,) = receiver.got
    changed = json.dumps(got.json).encode()
    refused = judge[0].webhook_update_validator(changed, got.headers["x-hub-signature-256"])
    assert refused is not None
    assert refused[1] == 403


def test_nothing_is_lost_in_big_batches(tmp_path: Path, receiver) -> None:
    """Held back, then let go: hundreds of updates share a POST, and each arrives (the rate is `bench/`'s to measure)."""
    with start_whatsapp(
        tmp_path / "j.jsonl",
        webhook_url=receiver.url,
        app_secret=APP_SECRET,
        templates=TEMPLATES,
        arguments=["--throughput", "0", "--pair-seconds", "0"],
    ) as whatsapp:
        whatsapp.post("settings", paused=True, sent_after=0.0, delivered_after=0.0, read_after=0.0, late=0.0)
        session = requests.Session()
        for number in range(300):
            message = template(to=f"346120{number:05d}")
            session.post(
                f"{whatsapp.url}/v23.0/{NUMBER}/messages", json=message, headers=AUTH, timeout=10
            ).raise_for_status()
        time.sleep(0.2)
        assert receiver.got == []
        whatsapp.post("settings", paused=False)
        assert whatsapp.idle(20)
    assert len({(item["id"], item["status"]) for item in receiver.items("statuses")}) == 900
    assert (
        max(len(change["value"]["statuses"]) for got in receiver.got for change in got.json["entry"][0]["changes"]) > 10
    )
    assert len(receiver.got) < 100


def test_ends_with_whoever_started_it(tmp_path: Path, receiver) -> None:
    with start_whatsapp(tmp_path / "j.jsonl", webhook_url=receiver.url, app_secret=APP_SECRET) as whatsapp:
        assert whatsapp.process.stdin is not None
        whatsapp.process.stdin.close()
        assert whatsapp.process.wait(10) == 0
