"""Between the engine and HAPI: passes everything on, and lets a test act right before the first write arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

import requests

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "te", "upgrade"}


class Proxy:
    """`with Proxy(hapi.base, before_write) as proxy: proxy.base`; `before_write(method, path)` once, for the first PUT
    or PATCH of an Appointment. `writes` keeps (method, path, If-Match, status) of each."""

    def __init__(self, target: str, before_write: Callable[[str, str], None]) -> None:
        parts = urlsplit(target)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self.writes: list[tuple[str, str, str | None, int]] = []
        once = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                write = self.command in {"PUT", "PATCH"} and "/Appointment/" in self.path
                if write and once.acquire(blocking=False):
                    before_write(self.command, self.path)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                answer = requests.request(
                    self.command, proxy._origin + self.path, data=body or None, headers=headers, timeout=30
                )
                if write:
                    proxy.writes.append((self.command, self.path, self.headers.get("If-Match"), answer.status_code))
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.base = f"http://127.0.0.1:{self._server.server_port}{parts.path}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
