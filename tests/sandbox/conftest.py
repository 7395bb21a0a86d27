"""A receiver in place of the engine, and both pretend servers as the real processes they are."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bridge.sandbox.launch import Running, start_ehr, start_whatsapp

APP_SECRET = "app-secret-of-nobody"
TEMPLATES = Path(__file__).parents[2] / "config/templates"


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Takes whatever comes; `status` is what it answers, `close`/`open` shut its port and open it again."""

    port: int = 0
    status: int = 200
    answer: bytes = b'{"resourceType":"Bundle","type":"transaction-response"}'
    got: list[Received] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None
    kept: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/door"

    def open(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet: no 40 ms of delayed acknowledgement

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.got.append(Received(self.command, self.path, headers, body))
                self.send_response(receiver.status)
                self.send_header("Content-Type", "application/fhir+json")
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            do_GET = do_POST = do_PUT = do_DELETE = _take

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def process_request(self, request, client_address) -> None:
                receiver.kept.append(request)
                super().process_request(request, client_address)

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            for connection in self.kept:  # a dead engine keeps no connection alive
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.kept.clear()

    def items(self, kind: str) -> list[dict]:
        """Every item of `value.<kind>` in the order received."""
        changes = [change for got in self.got for entry in got.json["entry"] for change in entry["changes"]]
        return [item for change in changes for item in change["value"].get(kind, ())]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.open()
    yield made
    made.close()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[Running]:
    with start_ehr(tmp_path / "ehr.jsonl", arguments=["--retry-base", "0.1"]) as running:
        yield running


@pytest.fixture
def polite(tmp_path: Path, receiver: Receiver) -> Iterator[Running]:
    """A WhatsApp that behaves: one update a POST, in order, once."""
    with start_whatsapp(
        tmp_path / "wa.jsonl",
        webhook_url=receiver.url,
        app_secret=APP_SECRET,
        token="t0ken",
        verify_token="v",
        templates=TEMPLATES,
        polite=True,
    ) as running:
        yield running
