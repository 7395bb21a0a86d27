"""Verbs on a workbench's store: `bridge …` in this process, against the bench's pretend EHR."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.cli import main
from tests.engine.harness import ENVIRON, Bench


class Verbs:
    """`verbs("why", "Patient/ana")` -> exit code and what was printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
        self._capsys = capsys
        for name, value in ENVIRON.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("BRIDGE_CONFIG", str(bench.settings.config_dir / "bridge.yaml"))
        monkeypatch.chdir(bench.settings.config_dir)  # beside PostgreSQL the data folder is ./data
        bench.settings.data_dir.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr("bridge.fhir.client.EhrClient", lambda ehr: bench.ehr)
        monkeypatch.setattr("bridge.app.EhrClient", lambda ehr: bench.ehr)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        self._capsys.readouterr()
        code: Any = 0
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        shown = self._capsys.readouterr()
        return int(code or 0), shown.out + shown.err

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, out = self(*arguments, "--json")
        return code, json.loads(out)
