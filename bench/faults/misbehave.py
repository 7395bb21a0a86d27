"""A process of its own that misbehaves below HTTP at one port until its stdin ends: what `sockets.py` measures beside.

python -m bench.faults.misbehave KIND PORT
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator

HEAD = b"POST /whatsapp/hospital/webhook HTTP/1.1\r\nHost: x\r\n"
PROBE = b"GET /whatsapp/hospital/webhook HTTP/1.1\r\nHost: x\r\n\r\n"
BAD_CHUNKS = (
    b"zz\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhel",
    b"ffffffffffffffff\r\n{",
    b"5\r\nhello!!\r\n0\r\n\r\n",
)
IDLE, SLOW = 5000, 500
A_SECOND = 40  # connections that come and go


def connect(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=20)
    made.setblocking(False)
    return made


def send(one: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the door has given it up: that is its right
        one.send(data)


def idle(port: int) -> Iterator[None]:
    """Connections that never say anything."""
    held = [connect(port) for _ in range(IDLE)]
    while held:
        yield


def _dribble(port: int, first: bytes, then: bytes) -> Iterator[None]:
    held = [connect(port) for _ in range(SLOW)]
    for one in held:
        send(one, first)
    while True:
        for number, one in enumerate(held):
            send(one, then)
            if number % 10 == 0:
                yield


def slow_heads(port: int) -> Iterator[None]:
    """Slowloris: a header line now and then, never the last one."""
    return _dribble(port, HEAD, b"X-a: b\r\n")


def slow_bodies(port: int) -> Iterator[None]:
    """A body of a megabyte, a byte at a time."""
    return _dribble(port, HEAD + b"Content-Length: 1000000\r\n\r\n", b"{")


def _come_and_go(port: int, raw: Callable[[int], bytes], *, half_close: bool = False) -> Iterator[None]:
    number = 0
    while True:
        number += 1
        with contextlib.suppress(OSError), connect(port) as one:
            send(one, raw(number))
            if half_close:
                one.shutdown(socket.SHUT_WR)
            select.select([one], [], [], 0.2)
        yield


def half_closed(port: int) -> Iterator[None]:
    """Half of a body, and the sender's side is shut."""
    return _come_and_go(port, lambda _: HEAD + b"Content-Length: 1000\r\n\r\n{", half_close=True)


def pipelined(port: int) -> Iterator[None]:
    """Ten requests in one write, answers unread."""
    return _come_and_go(port, lambda _: PROBE * 10)


def bad_chunks(port: int) -> Iterator[None]:
    """Chunk sizes that are none, negative, too large, or do not fit."""
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return _come_and_go(port, lambda number: head + BAD_CHUNKS[number % len(BAD_CHUNKS)])


KINDS: dict[str, Callable[[int], Iterator[None]]] = {
    "5,000 idle sockets": idle, "slow heads": slow_heads, "slow bodies": slow_bodies, "half-closed": half_closed,
    "pipelined": pipelined, "bad chunk sizes": bad_chunks,
}  # fmt: skip


def main(kind: str, port: int) -> None:
    steps = KINDS[kind](port)
    next(steps)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        begun = time.monotonic()
        next(steps)
        time.sleep(max(0.0, 1 / A_SECOND - (time.monotonic() - begun)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
