"""The two routes that carry nearly all traffic, with no framework between listener and handler and no thread that waits:
Flask takes a third of the CPU of an acknowledgement, waking threads another. What is not plainly one of them goes on to
Flask, whose views call the same handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flask import Request, Response

from bridge.errors import StoreBusy
from bridge.http import Exchange
from bridge.ledger.inbox import Entry, Inbox

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, its path taken apart already."""

    method: str
    headers: Mapping[str, str]  # names in lower case
    content_type: str
    body: Callable[[int], bytes | None]  # at most so many bytes; None: there are more


@dataclass(frozen=True, slots=True)
class Said:
    """Our answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows to be committed before `said` may be said; `busy` when they cannot be."""

    rows: Sequence[Entry]
    said: Said
    busy: Said


Push = Callable[[Asked, str, str, str], Said | Keep]  # EHR, subscription, what follows in the path
Webhook = Callable[[Asked, str], Said | Keep]  # app


class Straight:
    """What a listener asks before its application."""

    def __init__(self, inbox: Inbox, push: Push, webhook: Webhook) -> None:
        self._inbox, self._push, self._webhook = inbox, push, webhook

    def __call__(self, exchange: Exchange) -> bool:
        outcome = self._handled(exchange)
        if outcome is None:
            return False
        if isinstance(outcome, Said):
            _answer(exchange, outcome)
            return True
        said, busy = outcome.said, outcome.busy
        self._inbox.submit(outcome.rows, lambda error: _answer(exchange, said if error is None else busy))
        return True

    def _handled(self, exchange: Exchange) -> Said | Keep | None:
        method, path = exchange.method, exchange.path
        if method not in ("PUT", "POST") or "//" in path or not path.isascii():
            return None
        match path.split("/", 4):
            case ["", "ehr", ehr, subscription, *tail] if ehr and subscription:
                return self._push(_asked(exchange), ehr, subscription, tail[0] if tail else "")
            case ["", "whatsapp", app, "webhook"] if app and method == "POST":
                return self._webhook(_asked(exchange), app)
        return None


def _answer(exchange: Exchange, said: Said) -> None:
    headers = [("Content-Type", said.content_type), ("Content-Length", str(len(said.body))), *said.headers]
    exchange.answer(said.status, headers, said.body)


def _asked(exchange: Exchange) -> Asked:
    """Equal header names are joined; an underscore in a name is dropped, it could pass for another header."""
    headers: dict[str, str] = {}
    for name, value in exchange.headers.items():
        if "_" not in name:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body = exchange.body
    return Asked(
        exchange.method, headers, headers.get("content-type", ""), lambda limit: None if len(body) > limit else body
    )


def asked_of(request: Request, read_body: Callable[[Request, int], bytes | None]) -> Asked:
    """The same of a request that came through Flask."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Asked(request.method, headers, request.content_type or "", lambda limit: read_body(request, limit))


def response(inbox: Inbox, outcome: Said | Keep) -> Response:
    """The answer as Flask gives it; this thread waits for the commit."""
    if isinstance(outcome, Keep):
        try:
            inbox.append(outcome.rows)
            said = outcome.said
        except StoreBusy:
            said = outcome.busy
    else:
        said = outcome
    return Response(said.body, status=said.status, content_type=said.content_type, headers=list(said.headers))
