"""The same promises over every adapter: a lost reply is never retried; a number, name or token never shows in an error
or a log line; any reply at all is a receipt or a named error. A new adapter adds its name to `bridge.outbound.providers`."""

from __future__ import annotations

import asyncio
import json
import logging
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.outbound.carrier import Answer, Carrier, NotSent, Outcome, Unknown
from bridge.outbound.message import Address, Interactive, Outgoing, QuickReply, Template, Text, check
from bridge.outbound.providers import PROVIDERS
from bridge.outbound.providers.receipts import Accepted, Refused, Unreadable
from tests.outbound.wire import Reader, Wire, Writer, answer, closed_port, serving

TOKEN, NUMBER, NAME = "EAAG-token-nobody-may-see", "34600111222", "Ana Ejemplo"
OUTGOING = [
    Outgoing(
        Address(NUMBER),
        Template("appointment_booked", "es", (("name", NAME),), buttons=(QuickReply(0, "b1.7.3"),)),
        "b1.7.1",
    ),
    Outgoing(Address(NUMBER), Text(f"Gracias, {NAME}."), "b1.8.1"),
    Outgoing(Address(None, "US.13491208655302741918"), Interactive(f"¿{NAME}?", (("a", "Sí"), ("b", "No"))), "b1.9.1"),
]
ADAPTERS = pytest.mark.parametrize("adapter", PROVIDERS.values(), ids=list(PROVIDERS))


def number(port: int) -> SimpleNamespace:
    return SimpleNamespace(
        base_url=f"http://127.0.0.1:{port}", api_version="v23.0", phone_number_id="1000", access_token=TOKEN
    )


async def posted(adapter: ModuleType, carrier: Carrier, port: int, outgoing: Outgoing) -> Outcome:
    return await carrier.post(adapter.endpoint(number(port)), adapter.headers(number(port)), adapter.payload(outgoing))


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (TOKEN, NUMBER, NAME, "US.13491208655302741918") if secret in text]


@ADAPTERS
@pytest.mark.parametrize("outgoing", OUTGOING, ids=lambda outgoing: type(outgoing.content).__name__)
def test_a_lost_reply_is_never_retried(
    adapter: ModuleType, outgoing: Outgoing, caplog: pytest.LogCaptureFixture
) -> None:
    async def lose(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)

    async def play() -> tuple[Outcome, Wire]:
        async with serving(lose) as wire, Carrier(timeout=1) as carrier:
            outcome = await posted(adapter, carrier, wire.port, outgoing)
            await asyncio.sleep(0.1)  # a retry would come now
            return outcome, wire

    with caplog.at_level(logging.DEBUG):
        outcome, wire = asyncio.run(play())
    assert isinstance(outcome, Unknown)
    assert len(wire.requests) == 1
    assert secrets_in(repr(outcome) + caplog.text) == []


@ADAPTERS
def test_nobody_there_sent_nothing_and_says_nothing(adapter: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> Outcome:
        async with Carrier(timeout=1) as carrier:
            return await posted(adapter, carrier, closed_port(), OUTGOING[0])

    with caplog.at_level(logging.DEBUG):
        outcome = asyncio.run(play())
    assert isinstance(outcome, NotSent)
    assert secrets_in(repr(outcome) + caplog.text) == []


@ADAPTERS
def test_a_refusal_that_quotes_us_is_not_repeated_in_words(
    adapter: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """Graph puts the recipient's number and our parameters into error messages."""
    words = json.dumps(
        {"error": {"code": 131026, "message": f"{NUMBER} {NAME} {TOKEN}", "error_data": {"details": NAME}}}
    ).encode()

    async def refuse(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer("400 Bad Request", words))
        await writer.drain()

    async def play() -> Outcome:
        async with serving(refuse) as wire, Carrier(timeout=1) as carrier:
            return await posted(adapter, carrier, wire.port, OUTGOING[0])

    with caplog.at_level(logging.DEBUG):
        outcome = asyncio.run(play())
        assert isinstance(outcome, Answer)
        receipt = adapter.receipt(outcome.status, outcome.body)
    assert isinstance(receipt, Refused)
    assert secrets_in(repr(outcome) + repr(receipt) + caplog.text) == []


@ADAPTERS
@given(status=st.integers(100, 599), body=st.binary(max_size=200))
@example(status=200, body=b"[" * 100_000)
@example(status=400, body=b'{"error":' * 50_000)
@example(status=200, body=b'{"messages":[{"id":"\\u0000"}]}')
@example(status=200, body=b'{"messages":[{"id":"\\ud800"}]}')
@example(status=400, body=b'{"error":{"code":1e999}}')
def test_any_reply_is_a_receipt(adapter: ModuleType, status: int, body: bytes) -> None:
    _is_a_receipt(adapter, status, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["messages", "contacts", "id", "error", "code", "wa_id"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@ADAPTERS
@given(status=st.integers(-1, 1000), body=JSON)
def test_any_json_is_a_receipt(adapter: ModuleType, status: int, body: object) -> None:
    _is_a_receipt(adapter, status, json.dumps(body).encode())


def _is_a_receipt(adapter: ModuleType, status: int, body: bytes) -> None:
    receipt = adapter.receipt(status, body)
    assert isinstance(receipt, Accepted | Refused | Unreadable)
    if isinstance(receipt, Accepted):
        assert 200 <= status < 300
        assert receipt.wamid
    if isinstance(receipt, Refused):
        assert 300 <= status < 600
        assert receipt.reaction.kind == "unsure" or status < 500


@ADAPTERS
@pytest.mark.parametrize("outgoing", OUTGOING, ids=lambda outgoing: type(outgoing.content).__name__)
def test_the_callback_goes_along(adapter: ModuleType, outgoing: Outgoing) -> None:
    assert check(outgoing) == []
    assert outgoing.callback.encode() in adapter.payload(outgoing)


@ADAPTERS
def test_the_token_is_in_the_headers_only(adapter: ModuleType) -> None:
    assert TOKEN not in adapter.endpoint(number(1))
    assert any(TOKEN in value for value in adapter.headers(number(1)).values())
