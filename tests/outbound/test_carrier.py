"""The carrier against a server that closes before, during and after the request, answers late, with HTML, with half a body."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest

from bridge.outbound.carrier import MAX_ANSWER, Answer, Carrier, NotSent, Outcome, Unknown
from tests.outbound.wire import Behaviour, Reader, Wire, Writer, answer, closed_port, reset, serving

TOKEN = "EAAG-token-nobody-may-see"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
BODY = b'{"to": "+34600111222", "text": {"body": "Ana Ejemplo"}}'


async def close_at_once(wire: Wire, reader: Reader, writer: Writer) -> None:
    writer.close()


async def reset_at_once(wire: Wire, reader: Reader, writer: Writer) -> None:
    reset(writer)


async def close_during(wire: Wire, reader: Reader, writer: Writer) -> None:
    await reader.readexactly(20)
    reset(writer)


async def close_after(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.close()


async def reset_after(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    reset(writer)


async def late(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    await asyncio.sleep(30)


async def half_body(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(answer("200 OK", b'{"messages":[{"id"', size=120))
    await writer.drain()


async def length_beyond_body(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(answer("200 OK", b'{"messages":[{"id":"wamid.1"}]}', size=500))
    await asyncio.sleep(30)


async def bad_chunks(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXYZ\r\nrest\r\n0\r\n\r\n")
    await writer.drain()


async def chunks_cut_off(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await writer.drain()


async def not_http(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def head_cut_off(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await writer.drain()


async def endless(wire: Wire, reader: Reader, writer: Writer) -> None:
    await wire.request(reader)
    writer.write(answer("200 OK", b"x" * 1000, size=10 * MAX_ANSWER))
    for _ in range(200):
        writer.write(b"x" * 65_536)
        await writer.drain()


UNKNOWN = [
    close_at_once,
    reset_at_once,
    close_during,
    close_after,
    reset_after,
    late,
    half_body,
    length_beyond_body,
    bad_chunks,
    chunks_cut_off,
    not_http,
    head_cut_off,
    endless,
]


async def meet(behaviour: Behaviour, *, times: int = 1) -> tuple[list[Outcome], Wire]:
    async with serving(behaviour) as wire, Carrier(timeout=0.6) as carrier:
        return [await carrier.post(wire.url, HEADERS, BODY) for _ in range(times)], wire


@pytest.mark.parametrize("behaviour", UNKNOWN, ids=lambda behaviour: behaviour.__name__)
def test_after_a_connection_the_outcome_is_unknown_and_nothing_is_posted_again(
    behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        (outcome,), wire = asyncio.run(meet(behaviour))
    assert isinstance(outcome, Unknown), outcome
    assert wire.connections == 1
    assert len(wire.requests) <= 1
    for shown in (outcome.reason, caplog.text):
        assert TOKEN not in shown
        assert "34600111222" not in shown
        assert "Ana" not in shown


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b'{"messages":[{"id":"wamid.1"}]}'),
        ("400 Bad Request", b'{"error":{"code":131026}}'),
        ("502 Bad Gateway", b"<html><h1>502 Bad Gateway</h1></html>"),
        ("200 OK", b""),
        ("500 Internal Server Error", bytes(range(256))),
    ],
)
def test_a_whole_answer_is_handed_over_as_it_is(status: str, body: bytes) -> None:
    async def reply(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer(status, body))
        await writer.drain()

    (outcome,), wire = asyncio.run(meet(reply))
    assert outcome == Answer(int(status.split(maxsplit=1)[0]), body)
    assert wire.requests[0].endswith(b"\r\n\r\n" + BODY)
    assert wire.requests[0].startswith(b"POST /v23.0/1000/messages HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7", 7.0),
        ("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Retry-After: nan", None),
        ("X: 1", None),
    ],
)
def test_retry_after_in_seconds_is_read(header: str, seconds: float | None) -> None:
    async def reply(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer("429 Too Many Requests", b"", header))
        await writer.drain()

    (outcome,), _ = asyncio.run(meet(reply))
    assert outcome == Answer(429, b"", seconds)


def test_a_redirect_is_an_answer_and_nobody_goes_there() -> None:
    async def elsewhere(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)

    async def play() -> tuple[Outcome, Wire]:
        async with serving(elsewhere) as other:

            async def redirect(wire: Wire, reader: Reader, writer: Writer) -> None:
                await wire.request(reader)
                writer.write(answer("307 Temporary Redirect", b"", f"Location: {other.url}"))
                await writer.drain()

            async with serving(redirect) as wire, Carrier(timeout=0.6) as carrier:
                return await carrier.post(wire.url, HEADERS, BODY), other

    outcome, other = asyncio.run(play())
    assert outcome == Answer(307, b"")
    assert other.connections == 0


def test_a_kept_connection_that_closes_on_the_second_request_is_not_tried_again() -> None:
    """aiohttp repeats idempotent methods here; a repeated POST would be a second message."""

    async def one_answer_then_close(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer("200 OK", b"{}"))
        await wire.request(reader)

    outcomes, wire = asyncio.run(meet(one_answer_then_close, times=2))
    assert outcomes[0] == Answer(200, b"{}")
    assert isinstance(outcomes[1], Unknown)
    assert (wire.connections, len(wire.requests)) == (1, 2)


def test_the_same_server_does_catch_a_repeated_request() -> None:
    """The probe of the test above: with PUT, which aiohttp repeats, it counts three requests for two calls."""

    async def one_answer_then_close(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer("200 OK", b"{}"))
        await wire.request(reader)

    async def play() -> Wire:
        async with serving(one_answer_then_close) as wire, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.put(wire.url, data=BODY) as reply:
                    await reply.read()
            return wire

    wire = asyncio.run(play())
    assert (wire.connections, len(wire.requests)) == (2, 3)


def test_a_kept_connection_is_used_again() -> None:
    async def keep(wire: Wire, reader: Reader, writer: Writer) -> None:
        while True:
            await wire.request(reader)
            writer.write(answer("200 OK", b"{}"))

    outcomes, wire = asyncio.run(meet(keep, times=3))
    assert outcomes == [Answer(200, b"{}")] * 3
    assert (wire.connections, len(wire.requests)) == (1, 3)


def test_a_kept_connection_known_to_be_closed_is_replaced() -> None:
    async def one_each(wire: Wire, reader: Reader, writer: Writer) -> None:
        await wire.request(reader)
        writer.write(answer("200 OK", b"{}"))

    async def play() -> tuple[list[Outcome], Wire]:
        async with serving(one_each) as wire, Carrier(timeout=0.6) as carrier:
            first = await carrier.post(wire.url, HEADERS, BODY)
            await asyncio.sleep(0.1)  # its FIN is here
            return [first, await carrier.post(wire.url, HEADERS, BODY)], wire

    outcomes, wire = asyncio.run(play())
    assert outcomes == [Answer(200, b"{}")] * 2
    assert (wire.connections, len(wire.requests)) == (2, 2)


def post(url: str, headers: dict[str, str] = HEADERS) -> Outcome:
    async def play() -> Outcome:
        async with Carrier(timeout=2, connect_timeout=0.3) as carrier:
            return await carrier.post(url, headers, BODY)

    return asyncio.run(play())


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:{closed_port()}/",
        "http://bridge.invalid/",
        "not a url",
        "http://",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:99999/",
    ],
    ids=["closed", "no_name", "no_url", "no_host", "ftp", "no_port"],  # the closed port is another one each time
)
def test_without_a_connection_nothing_was_sent(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        outcome = post(url)
    assert isinstance(outcome, NotSent), outcome
    assert TOKEN not in outcome.reason + caplog.text


@pytest.mark.parametrize("behaviour", [late, not_http, close_at_once], ids=["silent", "plain", "closes"])
def test_tls_that_is_never_agreed_sent_nothing(behaviour: Behaviour) -> None:
    async def plain(wire: Wire, reader: Reader, writer: Writer) -> None:
        if behaviour is not_http:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        elif behaviour is late:
            await asyncio.sleep(30)

    async def play() -> tuple[Outcome, Wire]:
        async with serving(plain) as wire, Carrier(timeout=2, connect_timeout=0.3) as carrier:
            return await carrier.post(wire.url.replace("http:", "https:"), HEADERS, BODY), wire

    outcome, wire = asyncio.run(play())
    assert isinstance(outcome, NotSent), outcome
    assert wire.requests == []


def test_no_place_in_the_pool_in_time_sent_nothing() -> None:
    async def play() -> tuple[list[Outcome], Wire]:
        async with serving(late) as wire, Carrier(limit=1, timeout=1, connect_timeout=0.3) as carrier:
            return list(await asyncio.gather(*(carrier.post(wire.url, HEADERS, BODY) for _ in range(3)))), wire

    outcomes, wire = asyncio.run(play())
    assert [type(outcome) for outcome in outcomes] == [Unknown, NotSent, NotSent]
    assert len(wire.requests) == 1


@pytest.mark.parametrize("value", ["Bearer a\r\nX: 1", "Bearer a\n", "Bearer \0", "Bearer é"])
def test_a_header_that_no_wire_can_carry_is_never_connected_for(value: str) -> None:
    async def play() -> tuple[Outcome, Wire]:
        async with serving(late) as wire, Carrier(timeout=0.6) as carrier:
            return await carrier.post(wire.url, {"Authorization": value}, BODY), wire

    outcome, wire = asyncio.run(play())
    assert isinstance(outcome, NotSent)
    assert "Bearer" not in outcome.reason
    assert wire.connections == 0


def test_a_cancelled_post_is_not_turned_into_an_outcome() -> None:
    async def play() -> None:
        async with serving(late) as wire, Carrier() as carrier:
            task = asyncio.create_task(carrier.post(wire.url, HEADERS, BODY))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(play())


def test_an_answer_does_not_show_its_body() -> None:
    assert "34600111222" not in repr(Answer(200, BODY))
