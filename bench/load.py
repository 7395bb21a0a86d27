"""`python -m bench.load`: the load, a process of its own. Reads one job as JSON from stdin, makes every byte of its requests,
says so, waits for a line, and throws them over kept connections; prints what was answered and how long it took.

HTTP is written by hand (about 40 us of CPU a request): the load shares two cores with the engine, and what it burns is
missing there. Closed loop: a connection asks again when it was answered. With `rate` the requests have times of their own,
and a latency counts from that time on, so that a stalled door is not spared by a load that waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bench import bodies


class _Run:
    """What is left to send, and what came of it."""

    def __init__(self, requests: Sequence[bytes], rate: float) -> None:
        self.requests, self.rate = requests, rate
        self.next = 0
        self.begun = 0.0
        self.latencies: list[float] = []
        self.answers: Counter[str] = Counter()
        self.done = asyncio.get_running_loop().create_future()

    def answered(self, status: str, latency: float) -> None:
        self.answers[status] += 1
        self.latencies.append(latency)
        if len(self.latencies) == len(self.requests) and not self.done.done():
            self.done.set_result(time.monotonic())


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self._run = run
        self._transport: Any = None
        self._since = 0.0
        self._buffer = b""
        self._asked = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self) -> None:
        run = self._run
        index = run.next
        if index >= len(run.requests):
            return
        run.next += 1
        now = time.monotonic()
        due = run.begun + index / run.rate if run.rate else now
        if due > now:
            asyncio.get_running_loop().call_later(due - now, self._send, index, due)
        else:
            self._send(index, due)

    def _send(self, index: int, due: float) -> None:
        self._since, self._asked = due, True
        self._transport.write(self._run.requests[index])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self._buffer, self._asked = rest[length:], False
        self._run.answered(head[9:12].decode(), time.monotonic() - self._since)
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._asked:
            self._run.answered("lost", time.monotonic() - self._since)


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def prepare(job: dict[str, Any]) -> list[bytes]:
    host = f"127.0.0.1:{job['port']}"
    if job["kind"] == "appointments":
        made = bodies.appointments(job["run"], job["first"], job["count"], datetime.fromisoformat(job["start"]))
        return bodies.pushes(host, job["secret"], made)
    return bodies.webhooks(host, job["secret"], bodies.statuses(job["sent"], job["names"]), job["size"])


async def throw(requests: Sequence[bytes], port: int, connections: int, rate: float) -> dict[str, Any]:
    """Send everything; returns the result line."""
    loop = asyncio.get_running_loop()
    run = _Run(requests, rate)
    made = [await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port) for _ in range(connections)]
    run.begun = begun = time.monotonic()
    for _, protocol in made:
        protocol.ask()
    ended = await run.done
    for transport, _ in made:
        transport.close()
    values = sorted(run.latencies)
    return {
        "requests": len(requests), "seconds": ended - begun, "answers": dict(run.answers), "rate": len(requests) / (ended - begun),
        "p50_ms": percentile(values, 0.5) * 1000, "p99_ms": percentile(values, 0.99) * 1000, "max_ms": values[-1] * 1000,
        "cpu_us": time.process_time() / len(requests) * 1e6,
    }  # fmt: skip


def main() -> None:
    job = json.loads(sys.stdin.readline())
    requests = prepare(job)
    gc.freeze()
    print(json.dumps({"ready": len(requests)}), flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(throw(requests, job["port"], job["connections"], job.get("rate", 0)))), flush=True)


if __name__ == "__main__":
    main()
