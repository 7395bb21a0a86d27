"""Engine processes beside a world's pretend servers: any roles, any number, each with a folder of its own where wanted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from bridge.sandbox.launch import SandboxFailed

READY = 60.0  # seconds


class Node:
    """One `bridge serve`. `start`, `kill` and `stop` as often as wanted.

    Args:
        folder: its working folder; its data (name, lock, socket) lie in `data/` beneath.
        config: a bridge.yaml.
        environment: its secrets, and nothing of ours but the path and the locale.
        arguments: `--roles …`.
        before: put before the command: `ip netns exec one`.
    """

    def __init__(
        self, folder: Path, config: Path, environment: Mapping[str, str], arguments: Sequence[str] = (),
        before: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.folder, self.config, self.environment = folder, config, environment
        self.arguments, self.before = tuple(arguments), tuple(before)
        self.process: subprocess.Popen[str] | None = None
        self.said: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> Node:
        """Returns when it says that it is ready."""
        kept = {
            k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "PYTHONPATH", "HOME", "TMPDIR", "BRIDGE_LOG")
        }
        with (self.folder / "engine.log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "bridge", "serve", "--config", str(self.config), *self.arguments],
                env=kept | dict(self.environment), stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder,
            )  # fmt: skip
        assert self.process.stdout is not None
        timer = threading.Timer(READY, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line.startswith('{"ready"'):
            raise SandboxFailed(f"{self.folder.name} did not start: {self.log()[-1500:]}")
        self.said = json.loads(line)
        return self

    def log(self) -> str:
        return (self.folder / "engine.log").read_text("utf-8")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self) -> Node:
        return self if self.process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def config_for(world_config: Path, folder: Path, **listen: str) -> Path:
    """The world's configuration with other addresses."""
    config = json.loads(world_config.read_text("utf-8"))
    config["listen"] |= listen
    path = folder / "config" / "bridge.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def asked(url: str) -> tuple[int, Any]:
    """What a health address answers."""
    answer = requests.get(url, timeout=10)
    return answer.status_code, answer.json()
