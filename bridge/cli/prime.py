"""`bridge prime EHR`: before an EHR's news is told, what it holds already is read, without a message."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, FAILED, ConfigOption, JsonOption
from bridge.cli.opening import running

LOOK = 0.5  # seconds


def prime(
    ehr: Annotated[str, typer.Argument(metavar="EHR", help="A key of `ehrs` in the config.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Read future appointments and consents of EHR as what is known already; arm reminders.

    Needs the running engine. Stopping this command stops nothing: the engine goes on, and asking again shows how far it is.
    """
    status: Mapping[str, Any] = running(config, "prime.start", ehr=ehr)
    shown = ""
    while status["state"] == "running":
        line = _line(status)
        if line != shown and not as_json:
            print(line, file=sys.stderr)
        shown = line
        time.sleep(LOOK)
        status = running(config, "prime.status", ehr=ehr)
    print(json.dumps(status, indent=1) if as_json else f"{status['state']}: {_line(status)}")
    raise typer.Exit(DONE if status["state"] == "done" else FAILED)


def _line(status: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in status["counts"].items() if count or word == "read")
    return f"{counts} ({status['reason']})" if status["reason"] else counts
