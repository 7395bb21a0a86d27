"""Listeners inside this process: granian's WSGI worker on threads of its own, one per listener; and how a body is read.

granian's own `Server` puts its worker into a child process; a killed engine would leave that child behind, holding the
port. The worker itself runs anywhere, so it runs here.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

from flask import Request
from granian import _futures
from granian._granian import WorkerSignal, WSGIWorker
from granian.http import HTTP1Settings
from granian.net import SocketSpec  # type: ignore[attr-defined]
from granian.wsgi import _callback_wrapper

BACKLOG = 1024
_WORKER: Any = WSGIWorker  # granian's stubs describe an older signature
_SOCKET: Any = SocketSpec
_SCHEDULER: Any = _futures._new_cbscheduler
CHUNK = 65_536
_SLASHES = re.compile("/{2,}")


class Listener:
    """One address, one application."""

    def __init__(self, app: Any, host: str, port: int, threads: int, name: str) -> None:
        self._app = app
        self._threads = threads
        self._socket = _SOCKET(host, port, BACKLOG).build()
        self._signal = WorkerSignal()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Returns when it accepts connections."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """No new requests; those running end."""
        self._signal.set()
        self._thread.join(5)

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        done = threading.Event()
        self._signal.add_cb(done.set)
        worker = _WORKER(
            1, (None, self._socket), None, 1, 8, self._threads, 30, 4 * self._threads, "1", HTTP1Settings(), None, None,
            False, None, None, None, "tls1.3", None, [], False, (None, None),
        )  # fmt: skip
        scheduler = _SCHEDULER(loop, _callback_wrapper(self._app, {}, None), impl_asyncio=True)
        worker.serve_mtr(scheduler, loop, self._signal)
        self._ready.set()
        done.wait()
        loop.close()


def one_slash(application: Any) -> Any:
    """The application, with slashes that stand in a row taken as one: endpoints end in a slash, servers add another."""

    def called(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        if "//" in path:
            environ["PATH_INFO"] = _SLASHES.sub("/", path)
        return application(environ, start_response)

    return called


def read_body(incoming: Request, limit: int) -> bytes | None:
    """The body, or None when it is larger: told by its length before it is read, else as soon as it goes over."""
    length = incoming.content_length
    if length is not None and length > limit:
        return None
    stream = incoming.environ["wsgi.input"]
    if length is not None:
        return bytes(stream.read(length)) if length else b""
    if "chunked" not in incoming.headers.get("Transfer-Encoding", "").lower():
        return b""
    parts, size = [], 0
    while chunk := stream.read(CHUNK):
        size += len(chunk)
        if size > limit:
            return None
        parts.append(chunk)
    return b"".join(parts)
