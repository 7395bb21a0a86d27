"""Starting both pretend servers as processes of their own, and speaking to their control APIs (demo, tests, bench).

`with start_whatsapp(...) as whatsapp: whatsapp.post("say", who="34612000101", text="BAJA")`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from bridge.sandbox.journal import read_journal

READY_SECONDS = 15.0  # a start takes about 0.4 s; both cores may be busy
STOP_SECONDS = 5.0


class SandboxFailed(RuntimeError):
    """A pretend server did not start, or its control API said no; the message has what it said."""


@dataclass(slots=True)
class Running:
    """A pretend server that runs. `url` is where the engine goes; `control` answers also while `url` refuses connections."""

    name: str
    url: str  # EHR: the FHIR base; WhatsApp: the Graph host
    control: str
    journal: Path
    process: subprocess.Popen[str]
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **query: Any) -> Any:
        """GET /_sandbox/<path>"""
        return self._call("GET", path, params=query)

    def post(self, path: str, whole: Any = None, /, **values: Any) -> Any:
        """POST /_sandbox/<path> with a JSON value, or with the keyword arguments as its members."""
        return self._call("POST", path, json=values if whole is None else whole)

    def put(self, path: str, value: Any) -> Any:
        return self._call("PUT", path, json=value)

    def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Any:
        return self._call("PATCH", path, json=list(operations))

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """The journal's lines, oldest first; keyword arguments must be equal members: `lines(dir="in", effect="message")`."""
        return [
            line for line in read_journal(self.journal) if all(line.get(key) == value for key, value in wanted.items())
        ]

    def idle(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is left to deliver; False if that took longer."""
        return bool(self.get("idle", timeout=timeout)["idle"])

    def wait_for(self, holds: Callable[[Running], Any], timeout: float = 10.0, every: float = 0.05) -> Any:
        """Ask again until `holds(self)` is true, and return it.

        Raises:
            SandboxFailed: it never was, in `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            if found := holds(self):
                return found
            if time.monotonic() > deadline:
                raise SandboxFailed(f"{self.name}: still not so after {timeout} s")
            time.sleep(every)

    def stop(self) -> None:
        """End this server's process; its journal stays."""
        self.session.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdout, self.process.stdin):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _call(self, method: str, path: str, **more: Any) -> Any:
        response = self.session.request(method, f"{self.control}/_sandbox/{path}", timeout=60, **more)
        if response.status_code != 200:
            raise SandboxFailed(f"{self.name}: {method} {path}: {response.status_code} {response.text}")
        return response.json()


def start_ehr(
    journal: Path,
    *,
    port: int = 0,
    dialect: str = "generic",
    fhir_version: str = "R4",
    token: str = "",
    polite: bool = False,
    arguments: Sequence[str] = (),
) -> Running:
    """Start a pretend EHR; `arguments` are further options of `python -m bridge.sandbox.ehr`."""
    options = ["--port", str(port), "--journal", str(journal), "--dialect", dialect, "--fhir-version", fhir_version]
    environment = {}
    if token:
        options += ["--token-env", "SANDBOX_EHR_TOKEN"]
        environment["SANDBOX_EHR_TOKEN"] = token
    if polite:
        options.append("--polite")
    return _start("bridge.sandbox.ehr", [*options, *arguments], environment, journal)


def start_whatsapp(
    journal: Path,
    *,
    webhook_url: str,
    app_secret: str,
    token: str = "",
    verify_token: str = "",
    port: int = 0,
    phone_number_ids: Sequence[str] = (),
    waba_id: str = "",
    templates: Path | None = None,
    polite: bool = False,
    arguments: Sequence[str] = (),
) -> Running:
    """Start a pretend WhatsApp; `arguments` are further options of `python -m bridge.sandbox.whatsapp`."""
    options = [
        "--port",
        str(port),
        "--journal",
        str(journal),
        "--webhook-url",
        webhook_url,
        "--app-secret-env",
        "SANDBOX_APP_SECRET",
    ]
    environment = {"SANDBOX_APP_SECRET": app_secret}
    for name, value in (("TOKEN", token), ("VERIFY_TOKEN", verify_token)):
        if value:
            options += [f"--{name.lower().replace('_', '-')}-env", f"SANDBOX_{name}"]
            environment[f"SANDBOX_{name}"] = value
    for number in phone_number_ids:
        options += ["--phone-number-id", number]
    if waba_id:
        options += ["--waba-id", waba_id]
    if templates is not None:
        options += ["--templates", str(templates)]
    if polite:
        options.append("--polite")
    return _start("bridge.sandbox.whatsapp", [*options, *arguments], environment, journal)


def _start(module: str, options: list[str], environment: dict[str, str], journal: Path) -> Running:
    process = subprocess.Popen(  # noqa: S603 - our own module, our own interpreter
        [sys.executable, "-m", module, "--follow-stdin", *options],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
        start_new_session=True,  # Ctrl-C, or a kill of the engine's group, is not meant for it
    )
    line = _first_line(process)
    try:
        ready = json.loads(line)
    except ValueError as error:
        process.kill()
        process.wait()
        raise SandboxFailed(f"{module} did not start; see its stderr") from error
    return Running(module.rsplit(".", 1)[-1], ready["base"], ready["control"], journal, process)


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    timer = threading.Timer(READY_SECONDS, process.kill)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()
