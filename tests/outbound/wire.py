"""A socket server that misbehaves as told, for what only a real wire can show."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Behaviour = Callable[["Wire", Reader, Writer], Awaitable[None]]


@dataclass
class Wire:
    """What the server saw."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)  # each whole: head and body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v23.0/1000/messages"

    async def request(self, reader: Reader) -> bytes:
        """Read one whole request and count it."""
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        whole = head + await reader.readexactly(size)
        self.requests.append(whole)
        return whole


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[Wire]:
    """Serve every connection by `behaviour`; all are closed at the end."""
    wire = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: Reader, writer: Writer) -> None:
        wire.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await behaviour(wire, reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def reset(writer: Writer) -> None:
    """Close with RST: what a crashed process or a firewall does."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(status: str, body: bytes, *headers: str, size: int | None = None) -> bytes:
    """An HTTP answer; `size` lies about the body's length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if size is None else size}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
