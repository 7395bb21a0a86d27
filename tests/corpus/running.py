"""An engine for one corpus file: a fresh store, its doors on real sockets, and what its rows say afterwards.

The engine is made by the factory of `bridge serve` from a written config. Everything is on: doors, group commit, apply
loop, sender; it has no EHR to read from, and a closed port stands where WhatsApp would be, so that nothing leaves.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import http.client
import json
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from bridge.app import Engine
from bridge.ledger.tables import inbox
from bridge.sandbox.world import free_port
from bridge.settings import load_settings

EHR_SECRET, APP_SECRET = "door-secret-of-the-test-ehr", "app-secret-of-the-test-app"
SETTLE = 20.0  # seconds that the apply loop may take to say what it does with a row


@dataclass(frozen=True)
class Stored:
    """One row of `inbox`, its body decrypted."""

    source: str
    door: str
    kind: str
    fate: str | None
    reason: str | None
    body: bytes


@dataclass(frozen=True)
class Doors:
    """What stands between a test and the engine: only sockets in, only rows out."""

    port: int
    console: int
    engine: Engine

    def send(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", *, port: int = 0
    ) -> tuple[int, dict[str, str], bytes]:
        """One request exactly as given (a name may occur twice); status, headers with lower-case names, body."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def push(
        self,
        method: str,
        tail: str = "",
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        door: str = "main",
    ) -> tuple[int, dict[str, str], bytes]:
        """As an EHR that knows the secret of its door."""
        own = (("Authorization", f"Bearer {EHR_SECRET}"), *headers)
        return self.send(method, f"/ehr/{door}/appointments{'/' + tail if tail else ''}", own, body)

    def webhook(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """As Meta, signed."""
        headers = (("Content-Type", "application/json"), ("X-Hub-Signature-256", signature(body)))
        return self.send("POST", "/whatsapp/hospital/webhook", headers, body)

    def connect(self) -> socket.socket:
        """A bare connection to the doors, for what no client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def metrics(self) -> str:
        return self.send("GET", "/metrics", port=self.console)[2].decode()

    def rows(self) -> list[Stored]:
        """Everything that was acknowledged, in the order it was stored."""
        site = self.engine.site
        with site.store.read() as connection:
            found: Any = connection.execute(select(inbox).order_by(inbox.c.id)).all()
        return [
            Stored(
                row.source, row.door, row.kind, row.fate, row.reason,
                site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id),
            )
            for row in found
        ]  # fmt: skip

    def settled(self, since: int = 0) -> list[Stored]:
        """The same without the first ones, once every row has its fate or waits with a reason."""
        until = time.monotonic() + SETTLE
        while True:
            rows = self.rows()[since:]
            if all(row.fate or row.reason for row in rows) or time.monotonic() > until:
                return rows
            time.sleep(0.02)


def signature(body: bytes, secret: str = APP_SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def config(
    folder: Path, numbers: Sequence[tuple[str, str]], ehrs: Mapping[str, Mapping[str, Any]], store: str = ""
) -> dict[str, Any]:
    """A bridge.yaml for these numbers (phone_number_id, waba_id) and EHRs (what differs from a bearer door)."""
    ehr = {
        "fhir_version": "R4", "dialect": "generic", "auth": {"kind": "none"}, "prime": "none",
        "door": {"kind": "bearer", "secrets": ["${env:EHR}"]},
        "subscriptions": {"appointments": {"resource": "Appointment"}},
    }  # fmt: skip
    number = {
        "provider": "cloud_api", "app": "hospital", "base_url": "http://127.0.0.1:9", "api_version": "v23.0",
        "portfolio": "hospital", "access_token": "${env:META}", "rate": 70,
    }  # fmt: skip
    return {
        "version": 1,
        "site": {
            "name": "Hospital Demo", "zone": "Europe/Madrid", "region": "ES", "languages": ["es", "en", "pt"],
            "emergency_number": "112", "minor_under": 18, "own_voice_from": 16,
        },
        "store": {"url": store or f"sqlite:///{folder / 'data' / 'bridge.db'}"},
        "listen": {"doors": f"127.0.0.1:{free_port()}", "console": f"127.0.0.1:{free_port()}"},
        "security": {"data_keys": {"k1": "${env:DATA}"}, "index_key": "${env:KEY}", "session_key": "${env:KEY}"},
        "ehrs": {key: ehr | dict(own) for key, own in (ehrs or {"main": {}}).items()},
        "apps": {"hospital": {"app_secrets": ["${env:APP}"], "verify_token": "${env:META}"}},
        "numbers": {
            f"n{place}": number | {"phone_number_id": phone, "waba_id": account}
            for place, (phone, account) in enumerate(numbers)
        },
        "consent": {"purposes": {"appointments": {"without_decision": "block"}}, "recognise": []},
        "delivery": {"brake": 1000},
    }  # fmt: skip


@contextmanager
def running(
    numbers: Sequence[tuple[str, str]] = (("106540352242922", "102290129340398"),),
    *,
    ehrs: Mapping[str, Mapping[str, Any]] | None = None,
    store: str = "",
    extra_env: Mapping[str, str] | None = None,
) -> Iterator[Doors]:
    """A running engine with an empty store."""
    with tempfile.TemporaryDirectory(prefix="corpus", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        path = folder / "config" / "bridge.yaml"
        path.parent.mkdir()
        path.write_text(json.dumps(config(folder, numbers, ehrs or {}, store)), encoding="utf-8")
        environ = {
            "DATA": base64.b64encode(secrets.token_bytes(32)).decode(),
            "KEY": secrets.token_urlsafe(32),
            "EHR": EHR_SECRET,
            "APP": APP_SECRET,
            "META": "token-of-the-test",
        }
        settings = load_settings(path, environ | dict(extra_env or {}))
        engine = Engine(settings)
        engine.start()
        try:
            yield Doors(settings.listen.doors.port, settings.listen.console.port, engine)
        finally:
            engine.stop()
            del engine
            gc.collect()  # a whole engine: not to be paid for by a test that measures
