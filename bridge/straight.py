"""The two routes that carry nearly all traffic, with no framework between listener and handler: Flask takes a third of the
CPU of an acknowledgement. What is not plainly one of them goes on to Flask, whose views call the same handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Request, Response

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


Push = Callable[[Asked, str, str, str], Said]  # EHR, subscription, what follows in the path
Webhook = Callable[[Asked, str], Said]  # app


class Straight:
    """A WSGI application before another one."""

    def __init__(self, application: Any, push: Push, webhook: Webhook) -> None:
        self._application, self._push, self._webhook = application, push, webhook

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        said = self._said(environ)
        if said is None:
            return self._application(environ, start_response)
        headers = [("Content-Type", said.content_type), ("Content-Length", str(len(said.body))), *said.headers]
        start_response(f"{said.status} {HTTPStatus(said.status).phrase}", headers)
        return [said.body]

    def _said(self, environ: dict[str, Any]) -> Said | None:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        length = environ.get("CONTENT_LENGTH") or ""
        if method not in ("PUT", "POST") or "//" in path or not path.isascii() or not length.isdecimal():
            return None
        match path.split("/", 4):
            case ["", "ehr", ehr, subscription, *tail] if ehr and subscription:
                return self._push(_asked(environ, method, int(length)), ehr, subscription, tail[0] if tail else "")
            case ["", "whatsapp", app, "webhook"] if app and method == "POST":
                return self._webhook(_asked(environ, method, int(length)), app)
        return None


def _asked(environ: Mapping[str, Any], method: str, length: int) -> Asked:
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"}
    content_type = environ.get("CONTENT_TYPE") or ""
    if content_type:
        headers["content-type"] = content_type

    def body(limit: int) -> bytes | None:
        return None if length > limit else bytes(environ["wsgi.input"].read(length)) if length else b""

    return Asked(method, headers, content_type, body)


def asked_of(request: Request, read_body: Callable[[Request, int], bytes | None]) -> Asked:
    """The same of a request that came through Flask."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Asked(request.method, headers, request.content_type or "", lambda limit: read_body(request, limit))


def response(said: Said) -> Response:
    return Response(said.body, status=said.status, content_type=said.content_type, headers=list(said.headers))
