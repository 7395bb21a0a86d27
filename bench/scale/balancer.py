"""The one public address in front of several doors: TCP, in turn, the next one when a door does not answer in time."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Sequence
from contextlib import suppress

ANSWER_WITHIN = 1.0  # seconds to connect: a host that is gone sends nothing back


class Balancer:
    """Connections to `port` of this machine go to `doors` (address, port)."""

    def __init__(self, port: int, doors: Sequence[tuple[str, int]], host: str = "127.0.0.1") -> None:
        self._port, self._host = port, host
        self._doors = list(doors)
        self._next = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def __enter__(self) -> Balancer:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, self._host, self._port, backlog=512))
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._next)
        for n in range(len(self._doors)):
            door = self._doors[(first + n) % len(self._doors)]
            with suppress(OSError, TimeoutError):
                there = await asyncio.wait_for(asyncio.open_connection(*door), ANSWER_WITHIN)
                await asyncio.gather(_pass(reader, there[1]), _pass(there[0], writer))
                break
        writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()
