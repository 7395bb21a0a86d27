"""Listeners inside this process: granian takes the bytes, a loop of our own reads each body to its end, threads answer.

A request gets a thread only when all of it is here: a sender that dribbles its body, or sends half of it and waits, holds
a few bytes of memory and no thread, so it delays nobody. Flask stays plain WSGI behind this. What a listener's `straight`
takes gets no thread at all: the loop hands it to the group commit, and whoever commits it answers.

granian's own `Server` puts its worker into a child process; a killed engine would leave that child behind, holding the
port. The worker itself runs anywhere, so it runs here.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import queue
import re
import resource
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from flask import Request
from granian import _futures
from granian._granian import RSGIProtocolClosed as ProtocolClosed
from granian._granian import RSGIProtocolError as ProtocolError
from granian._granian import RSGIWorker, WorkerSignal
from granian.http import HTTP1Settings
from granian.net import SocketSpec  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

BACKLOG = 1024
CONNECTIONS = 16_384  # at once, idle ones included; fewer where the process may not open as many files
SPARE_FILES = 256  # for the database, the EHR, WhatsApp
BODY_TIME = 20.0  # seconds from a request's head to the end of its body
LAST_BODIES = 1.0  # seconds that bodies on their way still have when it stops
TICK = 0.5  # seconds between looks at bodies that take too long
SMALL = 65_536  # bytes; larger bodies share a budget while they are read and answered
BUDGET = 64 * 1024 * 1024  # bytes; who finds it spent is told to come again
DEFAULT_LIMIT = 1024 * 1024  # bytes of a body
WAITING = 4_096  # requests that are read and not answered; more are told to come again. Slow bodies do not count
_WORKER: Any = RSGIWorker  # granian's stubs describe an older signature
_SOCKET: Any = SocketSpec
_SCHEDULER: Any = _futures._new_cbscheduler
_SLASHES = re.compile("/{2,}")

COME_AGAIN = [("Retry-After", "2")]
Answer = tuple[int, list[tuple[str, str]], bytes]


class Exchange:
    """One request whose body is here, and its answer: given once, from any thread."""

    __slots__ = ("_ended", "_proto", "body", "headers", "method", "path", "scope")

    def __init__(self, scope: Any, body: bytes, proto: Any, ended: Callable[[], object]) -> None:
        self.scope, self.body, self._proto, self._ended = scope, body, proto, ended
        self.method: str = scope.method
        self.path: str = scope.path
        self.headers = scope.headers

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        try:
            with suppress(ProtocolClosed):  # the sender has gone
                self._proto.response_bytes(status, headers, body)
        finally:
            self.body = b""
            self._ended()


Straight = Callable[[Exchange], bool]


class Listener:
    """One address, one WSGI application.

    Args:
        app: answers a request from its environ; its input is always complete.
        limit: path -> the most bytes its body may have; more is 413 before it is read, or as soon as it goes over.
        straight: takes an exchange before the application is asked, and says whether it has: then it answers, at once or
            later. It is called on the loop for small bodies, so it must not wait for anything.
    """

    def __init__(
        self, app: Any, host: str, port: int, threads: int, name: str, limit: Callable[[str], int] | None = None,
        straight: Straight | None = None,
    ) -> None:  # fmt: skip
        self._app = app
        self._straight = straight
        self._limit = limit or (lambda path: DEFAULT_LIMIT)
        self._name = name
        self._threads = threads
        self._address = (host, str(port))
        self._socket = _SOCKET(host, port, BACKLOG).build()
        self._signal = WorkerSignal()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._work: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        self._count = threading.Lock()
        self._running = 0  # requests between their head and their answer
        self._unanswered = 0  # those of them whose body is here
        self._held = 0  # bytes of the budget in use
        self._reading: dict[asyncio.Task[Any] | None, float] = {}  # bodies on their way, and until when; the loop's own
        self._closing = False

    def start(self) -> None:
        """Returns when it accepts connections."""
        for n in range(self._threads):
            threading.Thread(target=self._answer, name=f"{self._name}-{n}", daemon=True).start()
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """No new requests; those running end."""
        self._closing = True
        with suppress(RuntimeError):  # the loop never ran
            self._loop.call_soon_threadsafe(self._loop.call_later, LAST_BODIES, self._give_up, math.inf)
        self._signal.set()
        self._thread.join(10)
        for _ in range(self._threads):
            self._work.put(None)

    def load(self) -> tuple[int, int]:
        """(requests between head and answer, bytes of large bodies held for them): a gauge."""
        with self._count:
            return self._running, self._held

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        closed = asyncio.Event()
        self._signal.add_cb(lambda: self._loop.call_soon_threadsafe(closed.set))
        worker = _WORKER(
            1, (None, self._socket), None, 1, 8, 1, 30, _connections(), "1", HTTP1Settings(), None,
            False, None, False, None, None, None, "tls1.3", None, [], False, (None, None),
        )  # fmt: skip
        scheduler = _SCHEDULER(self._loop, self._take, impl_asyncio=True)
        worker.serve_mtr(scheduler, self._loop, self._signal)
        self._ready.set()
        self._loop.run_until_complete(self._until(closed))
        self._loop.close()

    async def _until(self, closed: asyncio.Event) -> None:
        """Run until the worker has closed and what was here is answered; meanwhile see to bodies that do not come."""
        while not closed.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(closed.wait(), TICK)
            self._give_up(self._loop.time())
        for _ in range(900):  # 9 s
            if not self._running:
                break
            await asyncio.sleep(0.01)

    def _give_up(self, now: float) -> None:
        for task in [task for task, until in self._reading.items() if task is not None and until < now]:
            task.cancel()

    # --- reading, on the loop --------------------------------------------------------------------------------------

    async def _take(self, watcher: Any) -> None:
        """One request: its body, then its turn. The thread that answers it ends it; what has no turn ends here."""
        scope, proto = watcher.scope, watcher.proto
        held = 0
        self._hold(0, 1)
        try:
            length, limit = _length(scope.headers.get("content-length")), self._limit(scope.path)
            body: bytes | int = b""
            if length is not None and length > limit:
                body = 413
            elif self._closing or self._unanswered > WAITING:
                body = 503
            elif length or (length is None and "transfer-encoding" in scope.headers):
                body = await self._body(proto, length, limit)
                held = len(body) if not isinstance(body, int) and len(body) > SMALL else 0
            if not isinstance(body, int):
                with self._count:
                    self._unanswered += 1
                exchange = Exchange(scope, body, proto, partial(self._ended, held))
                if held or not self._taken(exchange):
                    self._work.put(exchange)
                return
            with suppress(ProtocolClosed):
                proto.response_empty(body, COME_AGAIN if body == 503 else [("Connection", "close")])
        except BaseException:
            log.exception("a request could not be read")
            self._hold(-held, -1)
            watcher.done()  # granian says 500
            raise
        self._hold(-held, -1)

    def _ended(self, held: int) -> None:
        """An exchange was answered; `held`: bytes of the budget that its body used."""
        with self._count:
            self._unanswered -= 1
        self._hold(-held, -1)

    def _hold(self, size: int, requests: int = 0) -> int:
        """Count bytes and requests that begin (negative: end); what is held then."""
        with self._count:
            self._running += requests
            self._held += size
            return self._held

    async def _body(self, proto: Any, length: int | None, limit: int) -> bytes | int:
        """All of the body, or the status that says why not."""
        parts, size, held = [], 0, 0
        task = asyncio.current_task()
        self._reading[task] = self._loop.time() + BODY_TIME
        try:
            if length is not None and length <= SMALL:
                whole = bytes(await proto())
                return whole if len(whole) == length else 400  # it hung up in the middle: nothing of this is stored
            async for chunk in proto:
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    return 413
                held += len(chunk)
                if self._hold(len(chunk)) > BUDGET:
                    return 503
        except (ProtocolClosed, ProtocolError):
            return 400  # it has gone
        except asyncio.CancelledError:
            return 408  # given up
        finally:
            del self._reading[task]
            self._hold(-held)
        if length is not None and size != length:
            return 400
        self._hold(size if size > SMALL else 0)
        return b"".join(parts)

    # --- answering -------------------------------------------------------------------------------------------------

    def _taken(self, exchange: Exchange) -> bool:
        """Whether `straight` sees to it; what trips that is answered here."""
        try:
            return self._straight is not None and self._straight(exchange)
        except Exception:
            log.exception("a request could not be answered")
            exchange.answer(500, [], b"")
            return True

    def _answer(self) -> None:
        """On threads: large bodies, and everything that needs the application."""
        while (exchange := self._work.get()) is not None:
            if not self._taken(exchange):
                try:
                    answer = _call(self._app, _environ(exchange.scope, exchange.body, self._address))
                except Exception:
                    log.exception("a request could not be answered")
                    answer = (500, [], b"")
                exchange.answer(*answer)
                del answer
            del exchange  # a body must not outlive its answer because a thread rests


def _length(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _environ(scope: Any, body: bytes, address: tuple[str, str]) -> dict[str, Any]:
    """PEP 3333. Equal header names are joined; an underscore in a name is dropped, it could pass for another header."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": address[0],
        "SERVER_PORT": address[1],
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope.headers.items():
        if "_" in name:
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]}, {value}" if key in environ else value
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if (given := environ.pop(f"HTTP_{key}", None)) is not None:
            environ[key] = given
    if "HTTP_TRANSFER_ENCODING" in environ:  # it is all here, so its length is known
        del environ["HTTP_TRANSFER_ENCODING"]
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _call(app: Any, environ: dict[str, Any]) -> Answer:
    """Run a WSGI application to its end."""
    begun: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        del exc_info
        begun[:] = [int(status[:3]), headers]
        return lambda _: None

    chunks: Iterable[bytes] = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    return begun[0], begun[1], body


def _connections() -> int:
    """How many connections may be open: as many files as the process may open, up to what we ever want."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(64, min(CONNECTIONS, soft - SPARE_FILES))


def one_slash(application: Any) -> Any:
    """The application, with slashes that stand in a row taken as one: endpoints end in a slash, servers add another."""

    def called(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        if "//" in path:
            environ["PATH_INFO"] = _SLASHES.sub("/", path)
        return application(environ, start_response)

    return called


def read_body(incoming: Request, limit: int) -> bytes | None:
    """The body, or None when it is larger; the listener has refused the largest before they came here."""
    length = incoming.content_length
    if length is not None and length > limit:
        return None
    return bytes(incoming.environ["wsgi.input"].read(length)) if length else b""
