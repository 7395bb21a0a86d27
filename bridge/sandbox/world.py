"""A whole small world: pretend EHR, pretend WhatsApp, and the real engine between them, each a process of its own.

The engine is started as anybody starts it: `python -m bridge serve --config FILE`, with a written config, real secrets,
real signatures, over loopback. Used by `bridge demo`, by tests and by `bench/`; nothing here reads the engine's tables.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from bridge.sandbox import people
from bridge.sandbox.launch import Running, SandboxFailed, start_ehr, start_whatsapp

READY = 30.0  # seconds
WABA, PNID = "102290129340398", "106540352242922"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class World:
    """Start with `with World(folder) as world:`; `kill` and `start_engine` may be called in between, as often as wanted."""

    folder: Path
    store: str = ""  # URL; empty: SQLite in the folder
    polite: bool = False
    site: Mapping[str, Any] = field(default_factory=dict)  # merged over `site`
    extra: Mapping[str, Any] = field(default_factory=dict)  # merged over the top level
    ehr_extra: Mapping[str, Any] = field(default_factory=dict)  # merged over `ehrs.main`
    rate: float = 70
    ehr_options: Mapping[str, Any] = field(default_factory=dict)
    whatsapp_arguments: tuple[str, ...] = ()
    writeback: bool = True
    seed: bool = True
    subscriptions: Mapping[str, str] = field(
        default_factory=lambda: {
            "appointments": "Appointment",
            "consents": "Consent",
            "patients": "Patient",
            "results": "DiagnosticReport",
        }
    )
    environment: dict[str, str] = field(default_factory=dict)
    ehr: Running = field(init=False)
    whatsapp: Running = field(init=False)
    engine: subprocess.Popen[str] | None = field(init=False, default=None)
    doors: str = field(init=False, default="")
    console: str = field(init=False, default="")
    pushed: float = field(init=False, default=0.0)  # seconds of business time ahead of the machine's
    _ports: tuple[int, int] = field(init=False, default=(0, 0))

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ports = (free_port(), free_port())
        self.doors, self.console = (f"http://127.0.0.1:{port}" for port in self._ports)
        self.environment = {
            "BRIDGE_DATA_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "BRIDGE_INDEX_KEY": secrets.token_urlsafe(32),
            "BRIDGE_SESSION_KEY": secrets.token_urlsafe(32),
            "EHR_TOKEN": secrets.token_urlsafe(16),
            "EHR_DOOR_SECRET": secrets.token_urlsafe(16),
            "META_APP_SECRET": secrets.token_urlsafe(16),
            "META_VERIFY_TOKEN": secrets.token_urlsafe(16),
            "META_TOKEN": secrets.token_urlsafe(16),
        } | self.environment
        env = self.environment
        self.ehr = start_ehr(
            self.folder / "ehr.jsonl", token=env["EHR_TOKEN"], polite=self.polite, **dict(self.ehr_options)
        )
        self.whatsapp = start_whatsapp(
            self.folder / "whatsapp.jsonl",
            webhook_url=f"{self.doors}/whatsapp/hospital/webhook",
            app_secret=env["META_APP_SECRET"],
            token=env["META_TOKEN"],
            verify_token=env["META_VERIFY_TOKEN"],
            phone_number_ids=[PNID],
            waba_id=WABA,
            templates=self.templates(),
            polite=self.polite,
            arguments=self.whatsapp_arguments,
        )
        self.write_config()
        if self.seed:
            self.ehr.post("seed", resources=[*people.everybody(), *self.standing_orders()])
        return self

    def templates(self) -> Path:
        from bridge.settings import shipped_config

        own = self.folder / "config" / "templates"
        return own if own.is_dir() else shipped_config() / "templates"

    def standing_orders(self) -> list[dict[str, Any]]:
        """One R4 rest-hook Subscription for each of `subscriptions`."""
        header = f"Authorization: Bearer {self.environment['EHR_DOOR_SECRET']}"
        return [
            people.subscription(key, f"{kind}?", f"{self.doors}/ehr/main/{key}", header=header)
            for key, kind in self.subscriptions.items()
        ]

    # --- configuration ---------------------------------------------------------------------------------------------

    @property
    def config(self) -> Path:
        return self.folder / "config" / "bridge.yaml"

    def write_config(self) -> None:
        """JSON is YAML: the engine reads it like any other config."""
        site = {
            "name": "Hospital Demo", "zone": "Europe/Madrid", "region": "ES", "languages": ["es", "en", "pt"],
            "quiet_hours": {"from": "21:00", "to": "08:00"}, "emergency_number": "112", "minor_under": 18,
            "own_voice_from": 16,
        } | dict(self.site)  # fmt: skip
        writeback = {"appointment": "put", "communication": "create", "consent": "create"}
        ehr = {
            "base_url": self.ehr.url, "fhir_version": "R4", "dialect": "generic",
            "auth": {"kind": "bearer", "token": "${env:EHR_TOKEN}"},
            "door": {"kind": "bearer", "secrets": ["${env:EHR_DOOR_SECRET}"]},
            "prime": "none",
            "subscriptions": {key: {"resource": kind} for key, kind in self.subscriptions.items()},
        } | ({"writeback": writeback} if self.writeback else {}) | dict(self.ehr_extra)  # fmt: skip
        config: dict[str, Any] = {
            "version": 1,
            "site": site,
            "store": {"url": self.store or f"sqlite:///{self.folder / 'data' / 'bridge.db'}"},
            "listen": {"doors": f"127.0.0.1:{self._ports[0]}", "console": f"127.0.0.1:{self._ports[1]}"},
            "security": {
                "data_keys": {"k1": "${env:BRIDGE_DATA_KEY}"},
                "index_key": "${env:BRIDGE_INDEX_KEY}",
                "session_key": "${env:BRIDGE_SESSION_KEY}",
            },
            "ehrs": {"main": ehr},
            "apps": {
                "hospital": {"app_secrets": ["${env:META_APP_SECRET}"], "verify_token": "${env:META_VERIFY_TOKEN}"}
            },
            "numbers": {
                "front_desk": {
                    "provider": "cloud_api", "app": "hospital", "base_url": self.whatsapp.url, "api_version": "v23.0",
                    "waba_id": WABA, "portfolio": "hospital", "phone_number_id": PNID,
                    "access_token": "${env:META_TOKEN}", "rate": self.rate,
                }
            },
            "consent": {
                "purposes": {
                    "appointments": {"without_decision": "send", "basis": "care contract"},
                    "results": {"without_decision": "block"},
                },
                "recognise": [{"category": "http://loinc.org|89057-4", "purposes": ["appointments", "results"]}],
            },
            "delivery": {"brake": 100000, "doubt_wait": "30m"},
            "clock": {"adjustable": True},
        } | dict(self.extra)  # fmt: skip
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")

    # --- the engine ------------------------------------------------------------------------------------------------

    def start_engine(self, *, fault: str = "", arguments: tuple[str, ...] = ()) -> float:
        """Start `bridge serve` and wait until its doors answer; returns seconds from start to the first answer."""
        env = os.environ | self.environment
        env.pop("BRIDGE_FAULT", None)
        if fault:
            env["BRIDGE_FAULT"] = fault
        begun = time.monotonic()
        log = (self.folder / "engine.log").open("a", encoding="utf-8")
        self.engine = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bridge", "serve", "--config", str(self.config), *arguments],
            env=env, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder,
        )  # fmt: skip
        log.close()
        assert self.engine.stdout is not None
        timer = threading.Timer(READY, self.engine.kill)
        timer.start()
        line = self.engine.stdout.readline()
        timer.cancel()
        if not line.startswith('{"ready"'):
            raise SandboxFailed(f"the engine did not start; see {self.folder / 'engine.log'}: {self.log_tail()}")
        return time.monotonic() - begun

    def log_tail(self) -> str:
        path = self.folder / "engine.log"
        return path.read_text(encoding="utf-8")[-2000:] if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL: nothing is said goodbye to."""
        if self.engine is not None:
            self.engine.send_signal(signal.SIGKILL)
            self.engine.wait()
            self._close()

    def stop_engine(self, timeout: float = 30) -> int | None:
        """SIGTERM, and wait."""
        if self.engine is None:
            return None
        if self.engine.poll() is None:
            self.engine.terminate()
            try:
                self.engine.wait(timeout)
            except subprocess.TimeoutExpired:
                self.engine.kill()
                self.engine.wait()
        code = self.engine.returncode
        self._close()
        return code

    def _close(self) -> None:
        if self.engine is not None and self.engine.stdout is not None:
            self.engine.stdout.close()
        self.engine = None

    def push_clock(self, seconds: float) -> str:
        """Business time of engine and sandboxes goes ahead; machine time does not."""
        from bridge.control import ask

        now = str(ask(self.config_data() / "engine.sock", "clock.push", seconds=seconds))
        self.pushed += seconds
        for pretend in (self.whatsapp, self.ehr):
            pretend.post("clock", offset_seconds=self.pushed)
        return now

    def config_data(self) -> Path:
        """The engine's data folder: where its SQLite file is, or `data` beside its config's working folder."""
        return self.folder / "data"

    def cli(self, *arguments: str, expect: int | None = 0) -> str:
        """Run `bridge …` beside the engine; returns what it printed."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "bridge", *arguments, "--config", str(self.config)],
            env=os.environ | self.environment, capture_output=True, text=True, cwd=self.folder, timeout=120, check=False,
        )  # fmt: skip
        if expect is not None and done.returncode != expect:
            raise SandboxFailed(f"bridge {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    # --- what the outside does and sees ----------------------------------------------------------------------------

    def save(self, resource: Mapping[str, Any]) -> None:
        """A clerk saves a resource in the EHR."""
        self.ehr.put(f"resources/{resource['resourceType']}/{resource['id']}", dict(resource))

    def held(self, reference: str) -> dict[str, Any]:
        """The resource as the EHR holds it now."""
        found: dict[str, Any] = self.ehr.get(f"resources/{reference}")["resource"]
        return found

    def bubbles(self, who: str) -> list[dict[str, Any]]:
        """What this phone shows."""
        shown: list[dict[str, Any]] = self.whatsapp.get(f"phone/{who}")["bubbles"]
        return shown

    def accepted(self) -> list[dict[str, Any]]:
        """Journal lines of messages that WhatsApp put on their way."""
        return self.whatsapp.lines(dir="in", effect="message")

    def __exit__(self, *_: object) -> None:
        self.stop_engine()
        for running in (self.ehr, self.whatsapp):
            running.stop()


def post(url: str, body: bytes, headers: Mapping[str, str]) -> requests.Response:
    """One request of an outsider."""
    return requests.post(url, data=body, headers=dict(headers), timeout=10)
