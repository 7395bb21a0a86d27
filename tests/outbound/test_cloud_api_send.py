"""Cloud API: payloads against Meta's own description, answers as Meta and the things in front of it really give them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.outbound.message import Address, Interactive, Outgoing, QuickReply, Template, Text
from bridge.outbound.providers import cloud_api
from bridge.outbound.providers.cloud_api import Accepted, Refused, Unreadable
from tests.outbound.meta_openapi import FILE, send_validator

TO = Address("34600111222")
BOOKED = Template(
    "appointment_booked",
    "es",
    (("first_name", "Ana"), ("day", "martes 1 de diciembre")),
    buttons=(QuickReply(0, "b1.7.3.confirm"), QuickReply(1, "b1.7.3.cancel")),
)
MESSAGES = {
    "template": Outgoing(TO, BOOKED, "b1.7.1"),
    "template without blanks": Outgoing(TO, Template("consent_request", "pt_BR"), "b1.7.1"),
    "positional": Outgoing(TO, Template("old_one", "en", (("1", "Ana"),), named=False), "b1.7.1"),
    "user id": Outgoing(Address(None, "US.13491208655302741918"), BOOKED, "b1.7.2"),
    "text": Outgoing(TO, Text("¿Qué día le va mejor? 😀"), "b1.8.1"),
    "interactive": Outgoing(TO, Interactive("¿Anular la cita?", (("q1.yes", "Sí, anular"), ("q1.no", "No"))), "b1.9.1"),
}
RECEIPTS = sorted((Path(__file__).parent / "testdata/cloud_api_receipts").glob("*.json"))


def sent(outgoing: Outgoing) -> dict[str, Any]:
    found = json.loads(cloud_api.payload(outgoing))
    assert isinstance(found, dict)
    return found


@pytest.mark.skipif(not FILE.is_file(), reason="Meta's description is not on this machine")
@pytest.mark.parametrize("name", MESSAGES)
def test_meta_s_own_description_takes_it(name: str) -> None:
    assert [error.message for error in send_validator().iter_errors(sent(MESSAGES[name]))] == []


def without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        del body[path[-1]]

    return change


def with_(value: Any, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = value

    return change


@pytest.mark.skipif(not FILE.is_file(), reason="Meta's description is not on this machine")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("template", without("messaging_product")),
        ("template", without("to")),
        ("user id", without("recipient")),
        ("template", without("template", "language")),
        ("template", with_(0, "template", "components", 1, "index")),
        ("template", with_("quick", "template", "components", 1, "sub_type")),
        ("template", with_("extra", "surprise")),
        ("interactive", with_("x" * 21, "interactive", "action", "buttons", 0, "reply", "title")),
        ("text", without("type")),
    ],
)
def test_meta_s_description_refuses_what_is_wrong(name: str, change: Callable[[dict[str, Any]], None]) -> None:
    body = copy.deepcopy(sent(MESSAGES[name]))
    change(body)
    assert list(send_validator().iter_errors(body))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_frame_of_every_message(name: str) -> None:
    body = sent(MESSAGES[name])
    assert body["messaging_product"] == "whatsapp"
    assert body["recipient_type"] == "individual"
    assert body["biz_opaque_callback_data"] == MESSAGES[name].callback
    assert ("to" in body) != ("recipient" in body)


def test_a_number_gets_its_plus_and_a_user_id_its_own_field() -> None:
    assert sent(MESSAGES["template"])["to"] == "+34600111222"
    assert sent(MESSAGES["user id"])["recipient"] == "US.13491208655302741918"
    both = Outgoing(Address("34600111222", "US.13491208655302741918"), BOOKED, "b1.7.1")
    assert "recipient" not in sent(both)


def test_a_template_as_meta_wants_it() -> None:
    assert sent(MESSAGES["template"])["template"] == {
        "name": "appointment_booked",
        "language": {"code": "es"},
        "components": [
            {
                "type": "body",
                "parameters": [
                    {"type": "text", "text": "Ana", "parameter_name": "first_name"},
                    {"type": "text", "text": "martes 1 de diciembre", "parameter_name": "day"},
                ],
            },
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": "0",
                "parameters": [{"type": "payload", "payload": "b1.7.3.confirm"}],
            },
            {
                "type": "button",
                "sub_type": "quick_reply",
                "index": "1",
                "parameters": [{"type": "payload", "payload": "b1.7.3.cancel"}],
            },
        ],
    }
    assert sent(MESSAGES["positional"])["template"]["components"][0]["parameters"] == [{"type": "text", "text": "Ana"}]
    assert "components" not in sent(MESSAGES["template without blanks"])["template"]


def test_where_and_as_whom() -> None:
    number = SimpleNamespace(
        base_url="http://127.0.0.1:8720/", api_version="v23.0", phone_number_id="1000", access_token="EAAG"
    )
    assert cloud_api.endpoint(number) == "http://127.0.0.1:8720/v23.0/1000/messages"
    assert cloud_api.headers(number) == {"Authorization": "Bearer EAAG", "Content-Type": "application/json"}


@pytest.mark.parametrize("path", RECEIPTS, ids=lambda path: path.stem)
def test_receipt(path: Path) -> None:
    """A case: why, status, body (JSON) or text (as it is), expect."""
    case = json.loads(path.read_text(encoding="utf-8"))
    body = case["text"].encode() if "text" in case else json.dumps(case["body"]).encode()
    found = cloud_api.receipt(case["status"], body)
    if isinstance(found, Accepted):
        got = {
            "accepted": found.wamid,
            "wa_id": found.wa_id,
            "user_id": found.user_id,
            "message_status": found.message_status,
        }
    elif isinstance(found, Refused):
        got = {"refused": found.code, "http": found.http, "kind": found.reaction.kind}
    else:
        assert isinstance(found, Unreadable)
        got = {"unreadable": found.reason}
    assert got == case["expect"]


def test_there_are_cases() -> None:
    assert len(RECEIPTS) >= 15
