"""The one function that posts to WhatsApp, for every provider. "Did a byte of the request leave us?" is decided here only.

It alone imports aiohttp, and runs on the caller's event loop. aiohttp repeats a request on a kept connection that the
server closed only for idempotent methods; a POST it never repeats (tested against a socket that counts).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypeAlias

import aiohttp

TIMEOUT = 20.0  # seconds for the whole POST: a lease lives 60 s, and no POST starts with less than 25 s of it
CONNECT_TIMEOUT = 5.0  # seconds until there is a connection, waiting for a place in the pool included
KEEP_ALIVE = 15.0  # seconds; longer, and more POSTs meet a connection that the server just closed: each of them a doubt
MAX_ANSWER = 1_000_000  # bytes; a real answer has 300

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """The other side's answer, whole. Its body may hold numbers: it is for the adapter, never for a log."""

    status: int
    body: bytes
    retry_after: float | None = None  # seconds, where Retry-After says so in seconds

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class NotSent:
    """It is certain that no byte of the request left this machine. `reason` names the failure, nothing of the request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have arrived: a second POST could tell the patient twice."""

    reason: str


Outcome: TypeAlias = Answer | NotSent | Unknown


class Carrier:
    """Posts, over a pool of kept connections. Opened by the first `post`, on the event loop that calls it."""

    def __init__(
        self,
        *,
        limit: int = 100,
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._limit = limit
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=connect_timeout, sock_connect=connect_timeout)
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pool. POSTs under way end as Unknown: let them finish first."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, written: Callable[[], None] | None = None
    ) -> Outcome:
        """POST once, following no redirect. `written` is called when the body has been written, before any answer.

        Returns:
            Answer: status line, headers and the whole body arrived within the time.
            NotSent: no connection was ever there (no name, no route, refused, TLS not agreed, none in time), or the
                request cannot be put on a wire at all.
            Unknown: anything after the connection was there.
        """
        if not all(_HEADER_NAME.match(name) and _HEADER_VALUE.match(value) for name, value in headers.items()):
            return NotSent("a header holds a character that no header may hold")
        stage = SimpleNamespace(connected=False, written=written)
        try:
            return await self._post(url, headers, body, stage)
        except aiohttp.InvalidURL:  # before the rest: it quotes the address, which is for the config check to show
            return NotSent("InvalidURL")
        except Exception as exc:  # whatever it was: what counts is whether there was a connection
            reason = type(exc).__name__  # and no more: aiohttp's messages may quote what the other side wrote
            if isinstance(exc, aiohttp.ClientOSError | OSError) and exc.errno:
                reason += f" (errno {exc.errno})"
            return Unknown(reason) if stage.connected else NotSent(reason)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes, stage: SimpleNamespace) -> Outcome:
        async with self._open().post(
            url,
            data=body,
            headers={"Accept-Encoding": "identity", "User-Agent": "fhir-whatsapp-bridge", **headers},
            allow_redirects=False,
            trace_request_ctx=stage,
        ) as reply:
            parts = bytearray()
            async for part in reply.content.iter_chunked(65_536):
                parts += part
                if len(parts) > MAX_ANSWER:
                    return Unknown("answer is far too long")
            return Answer(reply.status, bytes(parts), _seconds(reply.headers.get("Retry-After")))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            watch = aiohttp.TraceConfig()
            watch.on_connection_create_end.append(_connected)
            watch.on_connection_reuseconn.append(_connected)
            watch.on_request_chunk_sent.append(_written)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limit, limit_per_host=0, keepalive_timeout=self._keep_alive),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy of the environment would be a host that the config does not name
                trace_configs=[watch],
            )
        return self._session


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    """From here on bytes may leave. Called with TLS agreed, before the request is written."""
    context.trace_request_ctx.connected = True


async def _written(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    if context.trace_request_ctx.written is not None:
        context.trace_request_ctx.written()


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; the form with a date is left to the table's own waits."""
    with contextlib.suppress(ValueError):
        seconds = float(header or "")
        return seconds if 0 <= seconds < 1e6 else None
    return None
