"""The engine's Unix socket: verbs that change something speak to the running engine through it. One JSON line in, one out.

Mode 0600 in the data folder: who may write there may do what the engine may.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from bridge import errors
from bridge.engine.operations import OPERATIONS
from bridge.engine.site import Site
from bridge.errors import BridgeError, NotThisProcess

log = logging.getLogger(__name__)


class Control:
    """Answers requests one at a time."""

    def __init__(self, site: Site, path: Path, further: Mapping[str, Callable[..., Any]] | None = None) -> None:
        """`further`: operations that only this running engine has."""
        self._site = site
        self._further = further or {}
        self._path = path
        self._server: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            server.bind(str(self._path))
        finally:
            os.umask(old)
        server.listen(16)
        self._server = server
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while self._server is not None:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with peer, peer.makefile("rwb") as stream:
                peer.settimeout(30)
                try:
                    asked = json.loads(stream.readline(1_000_000))
                    answer: dict[str, Any] = {"ok": True, "result": self._do(asked)}
                except BridgeError as error:
                    answer = {"ok": False, "kind": type(error).__name__, "error": str(error)}
                except (OSError, ValueError, KeyError, TypeError) as error:
                    answer = {"ok": False, "error": f"not understood: {type(error).__name__}"}
                except Exception:
                    log.exception("a control request failed")
                    answer = {"ok": False, "error": "failed: see the engine's log"}
                try:
                    stream.write(json.dumps(answer).encode() + b"\n")
                    stream.flush()
                except OSError:
                    continue

    def _do(self, asked: Mapping[str, Any]) -> Any:
        verb, arguments = str(asked["verb"]), dict(asked.get("arguments", {}))
        if verb == "clock.push":
            return self._push(float(arguments["seconds"]))
        if verb in self._further:
            return self._further[verb](**arguments)
        if verb not in OPERATIONS:
            raise NotThisProcess("this process has not the role for it")
        return OPERATIONS[verb](self._site, **arguments)

    def _push(self, seconds: float) -> str:
        if not self._site.settings.clock.adjustable:
            raise ValueError("clock.adjustable is not set")
        now = self._site.clock.push(timedelta(seconds=seconds))
        self._site.wake_pump.set()
        return now.isoformat()


def ask_any(data_dir: Path, verb: str, **arguments: Any) -> Any:
    """Ask the running engine of a data folder; where its roles are spread over processes, the first that can.

    Raises: BridgeError with its answer, NotThisProcess; FileNotFoundError: none runs.
    """
    beside: NotThisProcess | None = None
    for path in sorted(data_dir.glob("engine*.sock"), key=lambda each: (len(each.name), each.name)):
        try:
            return ask(path, verb, **arguments)
        except (FileNotFoundError, ConnectionRefusedError):
            continue  # it died, or just stopped
        except NotThisProcess as error:
            beside = error
    raise beside or FileNotFoundError(str(data_dir))


def ask(path: Path, verb: str, **arguments: Any) -> Any:
    """Ask a running engine. Raises: BridgeError with its answer; FileNotFoundError or ConnectionRefusedError: none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(60)
        client.connect(str(path))
        with client.makefile("rwb") as stream:
            stream.write(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
    if not answer["ok"]:
        kind = getattr(errors, answer.get("kind", ""), BridgeError)
        raise (kind if kind is not errors.Refused else BridgeError)(answer["error"])
    return answer["result"]
