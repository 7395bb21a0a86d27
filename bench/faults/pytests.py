"""A row that tests hold: pytest in its long version, in a process of its own, and what it came to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from bench.faults.outcome import Outcome
from bench.faults.rows import STORE, Row

ROOT = Path(__file__).parents[2]
LONGEST = 3600.0  # seconds
_PASSED = re.compile(r"(\d+) passed")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_PRINTED = re.compile(r"^(?:sqlite|postgresql): (.+)$", re.MULTILINE)  # figures that a test prints begin with its store


def play(row: Row, kind: str, *, short: bool) -> Outcome:
    """Run the row's tests; `kind` picks those of one store where the row says so."""
    arguments = [kind if one == STORE else one for one in row.tests]
    environment = {name: value for name, value in os.environ.items() if name != "BRIDGE_FAULTS"}
    if not short:
        environment["BRIDGE_FAULTS"] = "long"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False,
    )  # fmt: skip
    passed = sum(int(count) for count in _PASSED.findall(done.stdout))
    failed = _FAILED.findall(done.stdout)
    printed = "; ".join(_PRINTED.findall(done.stdout))
    said = f"{passed} cases hold" if not failed else f"{passed} hold, {len(failed)} do not: {', '.join(failed[:3])}"
    prefix = "" if short else "BRIDGE_FAULTS=long "
    shown = " ".join(f"'{one}'" if " " in one else one for one in arguments)
    return Outcome(
        said + (f"; {printed[:160]}" if printed else ""), done.returncode == 0 and passed > 0, "in the tests",
        f"{prefix}pytest {shown}",
    )  # fmt: skip
