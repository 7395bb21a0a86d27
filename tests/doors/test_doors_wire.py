"""Senders that misbehave below HTTP: slow, half-closed, pipelined, badly chunked. The doors go on for everybody else."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest

import bridge.http
from tests.corpus.running import EHR_SECRET, Doors, running
from tests.doors.hostile import appointment

JSON = (("Content-Type", "application/fhir+json"),)
HEAD = b"POST /whatsapp/hospital/webhook HTTP/1.1\r\nHost: x\r\n"
SOON = 1.0  # seconds; typically 3-10 ms
STALLS = {
    "idle": b"",
    "half a head": HEAD + b"X-",
    "a body that does not come": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "a large body that does not come": HEAD + b"Content-Length: 2000000\r\n\r\n{",
    "a chunk and no more": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "waits for 100 and sends nothing": HEAD + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with running() as found:
        found.push("PUT", "Appointment/first", appointment("first"), JSON)
        yield found


def good(doors: Doors, name: str = "g1") -> float:
    """Seconds that a good push takes."""
    begun = time.monotonic()
    assert doors.push("PUT", f"Appointment/{name}", appointment(name), JSON)[0] == 200
    return time.monotonic() - begun


@pytest.mark.parametrize("name", STALLS)
def test_many_that_stall_hold_up_nobody(doors: Doors, name: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stalled = stack.enter_context(doors.connect())
            if STALLS[name]:
                stalled.sendall(STALLS[name])
        assert max(good(doors) for _ in range(5)) < SOON


def test_half_bodies_use_up_no_place_of_whole_ones(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may send half a body; only requests that are here and wait for their commit are counted against the limit."""
    monkeypatch.setattr(bridge.http, "WAITING", 20)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(doors.connect()).sendall(STALLS["a body that does not come"])
        for _ in range(5):
            good(doors)


def test_what_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.http, "BODY_TIME", 0.5)
    with running() as doors:
        for name in ("a body that does not come", "a large body that does not come", "a chunk and no more"):
            with doors.connect() as stalled:
                stalled.sendall(STALLS[name])
                assert stalled.recv(4096).startswith(b"HTTP/1.1 408")
                assert stalled.recv(4096) == b""
        assert doors.rows() == []
        assert doors.engine.doors.load() == (0, 0)


@pytest.mark.parametrize("length", [1_000, 2_000_000])
def test_half_closed_in_the_middle(doors: Doors, length: int) -> None:
    """The secret is right and half of the body is here: that is no event, and the sender will come again."""
    before = len(doors.rows())
    head = f"POST /ehr/main/appointments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {EHR_SECRET}\r\n"
    with doors.connect() as sender:
        sender.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + appointment("half"))
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(4096).startswith(b"HTTP/1.1 400")
    assert len(doors.rows()) == before


def test_reset_in_the_middle(doors: Doors) -> None:
    before = len(doors.rows())
    for _ in range(20):
        sender = doors.connect()
        sender.sendall(STALLS["a large body that does not come"])
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sender.close()
    assert good(doors) < SOON
    assert len(doors.rows()) == before + 1
    until = time.monotonic() + 5
    while doors.engine.doors.load() != (0, 0) and time.monotonic() < until:
        time.sleep(0.02)
    assert doors.engine.doors.load() == (0, 0)


def request(body: bytes, more: str = "") -> bytes:
    head = f"PUT /ehr/main/appointments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {EHR_SECRET}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answers(doors: Doors, raw: bytes, count: int = 1) -> bytes:
    with doors.connect() as sender:
        sender.sendall(raw)
        said = b""
        while said.count(b"HTTP/1.1 ") < count:
            more = sender.recv(65_536)
            if not more:
                break
            said += more
        return said


def test_pipelined(doors: Doors) -> None:
    since = len(doors.rows())
    said = answers(doors, b"".join(request(appointment(f"p{n}")) for n in range(20)), 20)
    assert said.count(b"HTTP/1.1 200 OK") == 20
    assert len(doors.rows()) == since + 20


CHUNKED = f"POST /ehr/main/appointments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {EHR_SECRET}\r\n".encode()


def test_chunked_as_it_should_be(doors: Doors) -> None:
    since, body = len(doors.rows()), appointment("c1")
    parts = b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
    said = answers(doors, CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    (row,) = doors.rows()[since:]
    assert row.fate != "unusable"


@pytest.mark.parametrize(
    "body",
    [
        b"ZZ\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nabc",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"3;" + b"x" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    ],
)
def test_bad_chunks(doors: Doors, body: bytes) -> None:
    with doors.connect() as sender:
        sender.settimeout(2)
        with contextlib.suppress(OSError):
            sender.sendall(CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + body)
            assert not sender.recv(4096).startswith(b"HTTP/1.1 5")
    assert good(doors) < SOON


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: abc\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"Content-Length: 99999999999999999999999999\r\n\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\nabc",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"X-Long: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"X-Many: 1\r\n" * 2_000 + b"\r\n",
        b"X-Null: a\x00b\r\n\r\n",
        b"X Bad Name: a\r\n\r\n",
        b"X-Bytes: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b" folded: a\r\n\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_odd_heads(doors: Doors, head: bytes) -> None:
    with doors.connect() as sender:
        sender.settimeout(2)
        with contextlib.suppress(OSError):
            sender.sendall(CHUNKED + head)
            assert not sender.recv(4096).startswith(b"HTTP/1.1 5")
    assert good(doors) < SOON


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,  # somebody speaks TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT ehr.example:443 HTTP/1.1\r\nHost: ehr.example:443\r\n\r\n",
        b"GET /ehr/main/appointments HTTP/0.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n" * 5_000,
        b"\x00" * 5_000,
    ],
)
def test_not_our_protocol(doors: Doors, raw: bytes) -> None:
    with doors.connect() as sender:
        sender.settimeout(2)
        with contextlib.suppress(OSError):
            sender.sendall(raw)
            assert not sender.recv(4096).startswith(b"HTTP/1.1 5")
    assert good(doors) < SOON
