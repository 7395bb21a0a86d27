"""`kill -9` under load: an EHR that tries again until it is answered, a peer that dies with messages on their way, a restart,
and the judgement once all is quiet. WhatsApp answers each POST after 0.2 s meanwhile, about as long as the real one takes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence

from bench import bodies
from bench.peers import judge
from bench.peers.stage import GIVE_UP, Stage
from bridge.sandbox.journal import read_journal

SENDERS = 16  # connections of the pretend EHR's notifier
AGAIN = 0.1  # seconds until an unanswered notification comes again
LATENCY = {"what": "delay", "probability": 1.0, "seconds": 0.2, "times": -1}
STILL = 3.0  # seconds without a new message that count as quiet


class Notifier:
    """Sends each notification until it is answered 200; one dead connection loses one request."""

    def __init__(self, port: int, requests: Sequence[tuple[str, bytes]]) -> None:
        self._port = port
        self._left = list(reversed(requests))
        self.acknowledged: dict[str, float] = {}  # telephone -> monotonic time of its first 200
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    async def _all(self) -> None:
        await asyncio.gather(*(self._sender() for _ in range(SENDERS)))

    async def _sender(self) -> None:
        deadline = time.monotonic() + GIVE_UP
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self._left and time.monotonic() < deadline:
            phone, request = self._left.pop()
            while time.monotonic() < deadline:
                try:
                    streams = streams or await asyncio.open_connection("127.0.0.1", self._port)
                    if await asyncio.wait_for(_ask(*streams, request), 30) == 200:
                        self.acknowledged.setdefault(phone, time.monotonic())
                        break
                except (OSError, EOFError, TimeoutError):
                    pass
                if streams:  # refused, too: what follows such a head (a page, in chunks) is nobody's business
                    streams[1].close()
                streams = None
                await asyncio.sleep(AGAIN)
        if streams:
            streams[1].close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"content-length:")
    if found:
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    return int(head[9:12])


def kill(stage: Stage, first: int, count: int) -> judge.Verdict:
    """Kill it once a third of `count` messages is accepted; patients `first` on are used up."""
    made = bodies.appointments("kill", first, count, stage.start_of_visits)
    pushes = bodies.pushes(f"127.0.0.1:{stage.port}", stage.world.environment["EHR_DOOR_SECRET"], made)
    phones = [bodies.phone(number) for number in range(first, first + count)]
    before = stage.accepted()
    stage.world.whatsapp.post("faults", [LATENCY])
    notifier = Notifier(stage.port, list(zip(phones, pushes, strict=True)))
    notifier.start()
    stage.until(lambda: stage.accepted() >= before + count // 3, "a third of the messages", every=0.01)
    stage.world.kill()
    stage.start()
    stage.until(lambda: notifier.done, "every notification acknowledged")
    _quiet(stage)
    left = _for_a_person(stage)
    stage.world.whatsapp.delete("faults")
    lines = read_journal(stage.world.whatsapp.journal)
    ours = set(phones)
    posts = [line for line in lines if line.get("effect") == "message" and line["ids"]["to"].lstrip("+") in ours]
    verdict = judge.judge(notifier.acknowledged, phones, posts)
    verdict.for_a_person = left
    verdict.statuses_lost = max(0, len(judge.reads_delivered(lines)) - stage.recorded())
    return verdict


def _quiet(stage: Stage) -> None:
    """Until nothing has left for as long as this peer may take to find what it had begun, and every status is delivered."""
    still, count = time.monotonic(), stage.accepted()
    deadline = still + GIVE_UP
    while time.monotonic() - still < max(STILL, stage.peer.patience) or not stage.idle():
        time.sleep(0.2)
        if (now := stage.accepted()) != count:
            still, count = time.monotonic(), now
        if time.monotonic() > deadline:
            return


def _for_a_person(stage: Stage) -> int:
    """bridge sends nothing again whose outcome it does not know: it lists it. We are the person who sends what did not arrive."""
    if not stage.peer.name.startswith("bridge"):
        return 0
    open_ends = [row["id"] for row in json.loads(stage.world.cli("doubts", "--json"))]
    if open_ends:
        stage.world.cli("doubts", "resend", *open_ends)
        _quiet(stage)
    return len(open_ends)
