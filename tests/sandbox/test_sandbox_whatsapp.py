"""The pretend Graph API: what it takes, what it refuses and with which code, and what the phones show."""

from __future__ import annotations

import json

import pytest
import requests

from bridge.sandbox.launch import Running, SandboxFailed

NUMBER = "106540352242922"
ANA = "34612000101"
VALUES = {
    "patient_name": "Ana",
    "day": "miércoles, 25 de noviembre de 2026",
    "time": "15:30",
    "doctor": "Dra. Ruiz",
    "place": "Consultas externas, planta 2",
}
AUTH = {"Authorization": "Bearer t0ken"}


def body(values: dict[str, str]) -> dict:
    return {
        "type": "body",
        "parameters": [{"type": "text", "parameter_name": name, "text": text} for name, text in values.items()],
    }


def button(index: object, payload: str = "c:1", **more: object) -> dict:
    return {
        "type": "button",
        "sub_type": "quick_reply",
        "index": index,
        "parameters": [{"type": "payload", "payload": payload}],
    } | more


def template(
    values: dict[str, str] = VALUES,
    *,
    name: str = "appointment_booked",
    language: str = "es",
    buttons: tuple[dict, ...] = (),
    **more: object,
) -> dict:
    node = {"name": name, "language": {"code": language}, "components": [body(values), *buttons]}
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": f"+{ANA}",
        "type": "template",
        "template": node,
    } | more


def text(words: str = "Hola", **more: object) -> dict:
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": ANA,
        "type": "text",
        "text": {"body": words},
    } | more


def interactive(node: dict) -> dict:
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": ANA,
        "type": "interactive",
        "interactive": node,
    }


def replies(*buttons: tuple[str, str]) -> dict:
    return interactive(
        {
            "type": "button",
            "body": {"text": "¿Seguro?"},
            "action": {
                "buttons": [{"type": "reply", "reply": {"id": name, "title": title}} for name, title in buttons]
            },
        }
    )


def send(whatsapp: Running, message: object, *, number: str = NUMBER, headers: dict = AUTH) -> requests.Response:
    data = message if isinstance(message, bytes) else json.dumps(message)
    return requests.post(f"{whatsapp.url}/v23.0/{number}/messages", data=data, headers=headers, timeout=10)


def code(response: requests.Response) -> int:
    return response.json()["error"]["code"]


def test_template_becomes_a_bubble_with_ticks(polite: Running) -> None:
    answer = send(polite, template(buttons=(button("0", "confirm:1"),), biz_opaque_callback_data="b1.1.1")).json()
    assert answer["contacts"] == [{"input": f"+{ANA}", "wa_id": ANA, "user_id": answer["contacts"][0]["user_id"]}]
    assert answer["messages"][0]["message_status"] == "accepted"
    assert polite.idle()
    (bubble,) = polite.get(f"phone/{ANA}")["bubbles"]
    assert bubble["body"].startswith(
        "Hola, Ana. Su cita quedó reservada.\nDía: miércoles, 25 de noviembre de 2026\nHora: 15:30"
    )
    assert [item["title"] for item in bubble["buttons"]] == ["Confirmar", "Cambiar la cita", "Cancelar la cita"]
    assert (bubble["buttons"][0]["payload"], bubble["buttons"][1]["payload"]) == ("confirm:1", "Cambiar la cita")
    assert (bubble["status"], bubble["wamid"], bubble["callback"]) == ("read", answer["messages"][0]["id"], "b1.1.1")
    (line,) = polite.lines(dir="in", effect="message")
    assert line["ids"] == {"to": f"+{ANA}", "callback": "b1.1.1", "wamid": bubble["wamid"]}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"not json", 100),
        (b"[]", 100),
        (template() | {"messaging_product": "sms"}, 100),
        ({key: value for key, value in template().items() if key != "recipient_type"}, 100),
        ({key: value for key, value in template().items() if key != "to"}, 131008),
        (template(to="abc"), 131009),
        (template(biz_opaque_callback_data="x" * 513), 131009),
        (template(name="nobody_knows"), 132001),
        (template(language="fr"), 132001),
        (template({key: value for key, value in VALUES.items() if key != "time"}), 132000),
        (template(VALUES | {"more": "x"}), 132000),
        (template({"other" if key == "time" else key: value for key, value in VALUES.items()}), 100),
        (template(VALUES | {"time": ""}), 131008),
        (template(VALUES | {"time": "15:30\n"}), 132018),
        (template(VALUES | {"time": "15     30"}), 132018),
        (template(VALUES | {"place": "x" * 1024}), 132005),
        (template(buttons=(button("3"),)), 131009),
        (template(buttons=(button("0"), button("0"))), 131009),
        (template(buttons=(button("0", "x" * 257),)), 131009),
        (template(buttons=(button("0", sub_type="url"),)), 131009),
        (template(type="hologram"), 131051),
    ],
)
def test_refused_before_anything_is_sent(polite: Running, message: object, expected: int) -> None:
    refused = send(polite, message)
    assert code(refused) == expected
    assert refused.status_code >= 400
    assert polite.get("state")["accepted"] == 0
    assert polite.lines(dir="in")[-1]["ids"]["code"] == expected


def test_authentication_and_unknown_number(polite: Running) -> None:
    assert (
        send(polite, template(), headers={}).status_code,
        code(send(polite, template(), headers={"Authorization": "Bearer other"})),
    ) == (401, 190)
    unknown = send(polite, template(), number="999").json()["error"]
    assert (unknown["code"], unknown["error_subcode"]) == (100, 33)
    assert "t0ken" not in polite.journal.read_text()


def test_free_text_needs_an_open_window(polite: Running) -> None:
    assert code(send(polite, text())) == 131047
    polite.post("say", who=ANA, text="Hola")
    assert send(polite, text()).status_code == 200
    assert polite.get(f"phone/{ANA}")["window_open"]
    polite.post("clock", offset_seconds=24 * 3600 + 60)
    assert code(send(polite, text())) == 131047
    assert send(polite, template()).status_code == 200
    polite.post("settings", window=False)
    assert send(polite, text()).status_code == 200


def test_pair_rate(polite: Running) -> None:
    polite.post("settings", pair_burst=3, pair_seconds=6)
    assert [send(polite, template()).status_code for _ in range(3)] == [200, 200, 200]
    assert code(send(polite, template())) == 131056
    assert send(polite, template(to="+34612000102")).status_code == 200


def test_throughput_and_tier(polite: Running) -> None:
    polite.post("settings", throughput=2)
    answers = [send(polite, template()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (code(answers[2]), "Retry-After" in answers[2].headers) == (130429, True)
    polite.post("settings", throughput=0, tier=2)
    people = ["+34612000201", "+34612000202", "+34612000203"]
    answers = [send(polite, template(to=to)) for to in people]
    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert code(answers[2]) == 131048
    assert send(polite, template(to=people[0])).status_code == 200


def test_interactive_checks(polite: Running) -> None:
    polite.post("say", who=ANA, text="CANCELAR")
    assert send(polite, replies(("q1:yes", "Sí, cancelar"), ("q1:no", "No"))).status_code == 200
    for wrong in (
        replies(),
        replies(*[(str(n), str(n)) for n in range(4)]),
        replies(("a", "x" * 21)),
        replies(("a", "A"), ("a", "B")),
    ):
        assert code(send(polite, wrong)) == 131009
    rows = [{"id": str(n), "title": f"Hora {n}"} for n in range(11)]
    listed = {
        "type": "list",
        "body": {"text": "Elija"},
        "action": {"button": "Horas", "sections": [{"title": "Día", "rows": rows}]},
    }
    assert code(send(polite, interactive(listed))) == 131009
    listed["action"]["sections"][0]["rows"] = rows[:10]
    assert send(polite, interactive(listed)).status_code == 200
    polite.post("tap", who=ANA, id="4")
    assert polite.get(f"phone/{ANA}")["bubbles"][-1]["body"] == "Hora 4"


def test_paused_template(polite: Running, receiver) -> None:
    polite.post("templates/appointment_booked", status="PAUSED")
    assert code(send(polite, template())) == 132015
    assert polite.idle()
    events = [change for got in receiver.got for change in got.json["entry"][0]["changes"]]
    assert {(change["field"], change["value"]["event"]) for change in events} == {
        ("message_template_status_update", "PAUSED")
    }
    polite.post("templates/appointment_booked", status="APPROVED", tell=False)
    assert send(polite, template()).status_code == 200


def test_somebody_without_a_number(polite: Running, receiver) -> None:
    polite.post("people", user_id="ES.98765", name="Sin Número", shows_number=False)
    assert code(send(polite, template(to=None) | {"recipient": "ES.11111"})) == 131026
    message = {key: value for key, value in template().items() if key != "to"} | {"recipient": "ES.98765"}
    assert send(polite, message).json()["contacts"] == [{"input": "ES.98765", "user_id": "ES.98765"}]
    polite.post("tap", who="ES.98765", index=0)
    assert polite.idle()
    assert {("recipient_id" in item, item["recipient_user_id"]) for item in receiver.items("statuses")} == {
        (False, "ES.98765")
    }
    (tapped,) = receiver.items("messages")
    assert ("from" in tapped, tapped["from_user_id"], tapped["button"]["text"]) == (False, "ES.98765", "Confirmar")
    assert all("wa_id" not in contact for contact in receiver.items("contacts"))


def test_blocked_and_unknown_numbers_fail_afterwards(polite: Running, receiver) -> None:
    polite.post("block", who=ANA)
    polite.post("people", wa_id="34612000999", exists=False)
    assert [send(polite, template(to=to)).status_code for to in (ANA, "34612000999")] == [200, 200]
    assert polite.idle()
    assert [(item["status"], item["errors"][0]["code"]) for item in receiver.items("statuses")] == [
        ("failed", 131026)
    ] * 2
    assert polite.get(f"phone/{ANA}")["bubbles"] == []


@pytest.mark.parametrize("what", ["close", "refuse_body", "html500", "error", "storm"])
def test_faults_before_acceptance(polite: Running, what: str) -> None:
    polite.post("faults", what=what, code=131016)
    try:
        response = send(polite, template())
        assert response.status_code in {500, 503, 429}
        assert ("<html" in response.text) == (what == "html500")
    except requests.ConnectionError:
        assert what in {"close", "refuse_body"}
    assert polite.get("state")["accepted"] == 0
    assert send(polite, template()).status_code == 200


@pytest.mark.parametrize("what", ["drop_answer", "delay", "unreadable", "html500_after"])
def test_faults_after_acceptance(polite: Running, what: str) -> None:
    polite.post("faults", what=what, seconds=0.2)
    try:
        response = send(polite, template())
        if what == "delay":
            assert response.elapsed.total_seconds() >= 0.2
        elif what == "unreadable":
            with pytest.raises(requests.JSONDecodeError):
                response.json()
        else:
            assert (what, response.status_code) == ("html500_after", 500)
    except requests.ConnectionError:
        assert what == "drop_answer"
    assert len(polite.get(f"phone/{ANA}")["bubbles"]) == 1
    (line,) = polite.lines(dir="in", effect="message")
    assert line["fault"] == what


def test_failed_status_by_rule(polite: Running, receiver) -> None:
    polite.post("faults", [{"what": "fail_status", "code": 131049, "to": ANA, "times": 1}])
    send(polite, template(to="34612000222"))
    send(polite, template())
    assert polite.idle()
    failed = [item for item in receiver.items("statuses") if item["status"] == "failed"]
    assert [(item["recipient_id"], item["errors"][0]["code"]) for item in failed] == [(ANA, 131049)]
    with pytest.raises(SandboxFailed, match="no such fault"):
        polite.post("faults", what="nonsense")


def test_connections_refused_and_back(polite: Running) -> None:
    polite.post("down", down=True)
    with pytest.raises(requests.ConnectionError):
        send(polite, template())
    polite.post("down", down=False)
    assert send(polite, template()).status_code == 200


def test_media_both_ways(polite: Running, receiver) -> None:
    uploaded = requests.post(
        f"{polite.url}/v23.0/{NUMBER}/media",
        headers=AUTH,
        data={"messaging_product": "whatsapp", "type": "application/pdf"},
        files={"file": ("a.pdf", b"%PDF\r\n--x", "application/pdf")},
        timeout=10,
    ).json()
    assert uploaded["id"].isdigit()
    polite.post("send", who=ANA, kind="voice")
    assert (
        send(polite, text() | {"type": "document", "document": {"id": uploaded["id"], "filename": "a.pdf"}}).status_code
        == 200
    )
    assert code(send(polite, text() | {"type": "document", "document": {"id": "1"}})) == 131009
    info = requests.get(f"{polite.url}/v23.0/{uploaded['id']}", headers=AUTH, timeout=10).json()
    assert info["file_size"] == "9"
    assert requests.get(info["url"], headers=AUTH, timeout=10).content == b"%PDF\r\n--x"
    assert requests.get(info["url"], timeout=10).status_code == 401
    assert polite.idle()
    (heard,) = receiver.items("messages")
    assert (heard["type"], heard["audio"]["voice"]) == ("audio", True)


def test_account_reads(polite: Running) -> None:
    listed = requests.get(
        f"{polite.url}/v23.0/102290129340398/message_templates",
        headers=AUTH,
        params={"name": "appointment_booked"},
        timeout=10,
    ).json()["data"]
    assert {item["language"] for item in listed} == {"es", "en", "pt_BR"}
    assert requests.get(f"{polite.url}/v23.0/{NUMBER}", headers=AUTH, timeout=10).json()["quality_rating"] == "GREEN"
    assert requests.get(f"{polite.url}/v23.0/424242", headers=AUTH, timeout=10).status_code == 400


def test_mark_read(polite: Running) -> None:
    said = polite.post("say", who=ANA, text="hola")["wamid"]
    seen = {"messaging_product": "whatsapp", "status": "read", "message_id": said, "typing_indicator": {"type": "text"}}
    assert send(polite, seen).json() == {"success": True}
    assert polite.get(f"phone/{ANA}")["bubbles"][0]["status"] == "read"
    assert code(send(polite, seen | {"message_id": "wamid.none"})) == 131009


def test_rewritten_numbers(polite: Running) -> None:
    """Brazil's ninth digit goes outside the south-east: compare by the wa_id answered, never by the number sent."""
    assert send(polite, template(to="+5561912345678")).json()["contacts"][0]["wa_id"] == "556112345678"
    assert send(polite, template(to="+5511912345678")).json()["contacts"][0]["wa_id"] == "5511912345678"
