"""Throws requests at the running doors over many kept connections, and notes every answer that was not expected."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.fuzz.inputs import Asked, Maker

ANSWER_TIME = 30.0  # seconds
WIRE_TIME = 3.0  # seconds to wait for an answer to a request that is not whole: the door gives its body 20 s
KEEP_FAILURES = 40
WAITED_BACK = 0.1  # seconds between two looks whether the engine has caught up


@dataclass(slots=True)
class Thrown:
    """What a run sent and got."""

    requests: int = 0
    inputs: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)  # inputs
    pushed: int = 0  # inputs at the EHR's door
    answers: Counter[str] = field(default_factory=Counter)
    unexpected: list[tuple[Asked, int]] = field(default_factory=list)  # (request, status; 0: hung up, -1: no answer)
    unexpected_count: int = 0
    refused: int = 0  # answers 401 and 403 to wrong proofs
    good: list[tuple[str, str]] = field(default_factory=list)
    slowest_ms: float = 0.0
    seconds: float = 0.0


class Throw:
    """One run. `hold` is asked before each request: true while the engine must catch up."""

    def __init__(self, maker: Maker, port: int, count: int, connections: int, hold: Callable[[], bool]) -> None:
        self._maker, self._port, self._count, self._connections, self._hold = maker, port, count, connections, hold
        self._n = 0
        self.thrown = Thrown()
        self.stopped = False

    def stop(self, *_: object) -> None:
        """No more inputs."""
        self.stopped = True

    def run(self) -> Thrown:
        begun = time.monotonic()
        asyncio.run(self._all())
        self.thrown.seconds = time.monotonic() - begun
        return self.thrown

    async def _all(self) -> None:
        await asyncio.gather(*(self._worker() for _ in range(self._connections)))

    async def _worker(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.thrown.inputs < self._count and not self.stopped:
            while self._hold() and not self.stopped:
                await asyncio.sleep(WAITED_BACK)
            asked = self._maker.make(self._n)
            self._n += 1
            self._sent(asked)
            if asked.kind == "wire":
                await self._odd(asked)
                continue
            begun = time.monotonic()
            status = -1
            for _ in range(2):  # a kept connection that the door has closed meanwhile is opened again
                fresh = connection is None
                try:
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", self._port)
                    status, again = await asyncio.wait_for(_exchange(*connection, asked.wire), ANSWER_TIME)
                except TimeoutError:
                    _close(connection)
                    connection = None
                    break
                except (OSError, asyncio.IncompleteReadError):
                    _close(connection)
                    connection, status = None, 0
                    if fresh:
                        break
                else:
                    if not again:
                        _close(connection)
                        connection = None
                    break
            self.thrown.slowest_ms = max(self.thrown.slowest_ms, (time.monotonic() - begun) * 1000)
            self._answered(asked, status)
        _close(connection)

    async def _odd(self, asked: Asked) -> None:
        """On a connection of its own, which ends with it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        patience = ANSWER_TIME if asked.expect <= {200, 413} else WIRE_TIME
        try:
            status, _ = await asyncio.wait_for(_exchange(reader, writer, asked.wire), patience)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        _close((reader, writer))
        self._answered(asked, status)

    def _sent(self, asked: Asked) -> None:
        thrown = self.thrown
        thrown.requests += 1
        thrown.inputs += asked.inputs
        thrown.by_kind[asked.kind] += asked.inputs
        thrown.pushed += asked.inputs if asked.push else 0

    def _answered(self, asked: Asked, status: int) -> None:
        thrown = self.thrown
        thrown.answers[{0: "hung up", -1: "no answer"}.get(status, str(status))] += 1
        if asked.kind == "wrong proof" and status in (401, 403):
            thrown.refused += 1
        if asked.good is not None and status == 200:
            thrown.good.append(asked.good)
        if status not in asked.expect:
            thrown.unexpected_count += 1
            if len(thrown.unexpected) < KEEP_FAILURES:
                thrown.unexpected.append((asked, status))


def _close(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        connection[1].close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: bytes) -> tuple[int, bool]:
    """(status, whether the connection may be used again)."""
    writer.write(wire)
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(lower[at + 15 :].split(b"\r\n", 1)[0]))
    return int(head[9:12]), b"connection: close" not in lower


def latencies(port: int, requests: list[Asked], pause: float = 0.0) -> list[float]:
    """Milliseconds of each, one after another on one connection."""

    async def one_by_one() -> list[float]:
        found = []
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for asked in requests:
            begun = time.monotonic()
            _, again = await asyncio.wait_for(_exchange(reader, writer, asked.wire), ANSWER_TIME)
            found.append((time.monotonic() - begun) * 1000)
            if not again:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(pause)
        writer.close()
        return found

    return asyncio.run(one_by_one())
