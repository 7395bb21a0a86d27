"""What both pretend servers share: two listeners (one that can be shut, one for control), JSON answers, the ready line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

BACKLOG = 1024  # connections that may wait while both cores are busy with the engine

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ControlError(Exception):
    """The control API was asked for something that is not there; becomes a 400 with the message."""


def answer_json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def hang_up(request: web.BaseRequest) -> web.Response:
    """Close the connection with a reset; the response returned is never seen."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


class Listeners:
    """The public port and the control port.

    The public one also serves `/_sandbox/...`; while it is shut (connections refused, as when a server is down), the
    control port still answers, so that it can be opened again.
    """

    def __init__(self, serve: Handler, control: Handler, host: str, port: int) -> None:
        self._serve = serve
        self._control = control
        self.host = host
        self.port = port
        self.control_port = 0
        self.shut = False
        self._public: web.TCPSite | None = None
        self._runners: list[web.ServerRunner] = []

    async def start(self) -> None:
        self._runners = [await _runner(self._dispatch), await _runner(self._control_only)]
        self._public, self.port = await _listen(self._runners[0], self.host, self.port)
        _, self.control_port = await _listen(self._runners[1], self.host, 0)

    async def set_shut(self, shut: bool) -> None:
        """Refuse connections, or accept them again on the same port."""
        if shut == self.shut:
            return
        self.shut = shut
        if shut and self._public is not None:
            await self._public.stop()
            self._public = None
        elif not shut:
            self._public, self.port = await _listen(self._runners[0], self.host, self.port)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self.control_port}"

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_sandbox"):
            return await self._control_only(request)
        if self.shut:  # a connection kept alive from before
            return hang_up(request)
        return await self._serve(request)

    async def _control_only(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._control(request)
        except (ControlError, msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
            return answer_json({"error": f"{type(error).__name__}: {error}"}, 400)


async def _runner(handler: Handler) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(handler, access_log=None), access_log=None)
    await runner.setup()
    return runner


async def _listen(runner: web.ServerRunner, host: str, port: int) -> tuple[web.TCPSite, int]:
    site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_address=True, shutdown_timeout=1)
    await site.start()
    server = site._server
    assert isinstance(server, asyncio.Server)
    return site, int(server.sockets[0].getsockname()[1])


async def run_until_stopped(listeners: Listeners, ready: dict[str, Any], *, follow_stdin: bool) -> None:
    """Print the ready line, then wait for SIGTERM or SIGINT.

    Args:
        follow_stdin: end also when stdin does, so that a test runner that is killed leaves no server behind.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if follow_stdin:
        loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(sys.stdin.fileno(), 4096) else None)
    line = {"ready": True, "url": listeners.url, "control": listeners.control_url} | ready
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
    await stop.wait()
