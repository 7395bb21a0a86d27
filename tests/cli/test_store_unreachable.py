"""A database that does not answer is said in words, without its address and without a traceback."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli import FAILED

CONFIG = Path(__file__).parents[2] / "config"
SECRETS = ("BRIDGE_INDEX_KEY", "BRIDGE_SESSION_KEY", "EHR_TOKEN", "EHR_DOOR_SECRET", "META_APP_SECRET",
           "META_VERIFY_TOKEN", "META_TOKEN")  # fmt: skip


@pytest.mark.parametrize("verb", ["serve", "ledger"])
def test_postgresql_is_down(verb: str, tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    path = tmp_path / "config" / "bridge.yaml"
    url = f"postgresql+psycopg://clerk@/ledger?host={tmp_path}"
    path.write_text(path.read_text(encoding="utf-8").replace("sqlite:///data/bridge.db", url), encoding="utf-8")
    environ = os.environ | {name: f"a secret that is long enough {name}" for name in SECRETS}
    environ["BRIDGE_DATA_KEY"] = base64.b64encode(b"k" * 32).decode()
    ended = subprocess.run(
        [sys.executable, "-m", "bridge", verb, "--config", str(path)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == FAILED
    assert ended.stderr.startswith("StoreUnreachable: OperationalError\n")
    assert str(tmp_path) not in ended.stderr
    assert "Traceback" not in ended.stderr
