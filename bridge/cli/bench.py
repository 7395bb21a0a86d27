"""`bridge bench`: measures the engine of this checkout. The programs that do it are in `bench/`, which no wheel carries."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import bridge
from bridge.cli import JsonOption

CHECKOUT = Path(bridge.__file__).parent.parent


def bench(
    store: Annotated[str, typer.Option(help="sqlite, postgresql, or both with a comma.")] = "sqlite,postgresql",
    profile: Annotated[str, typer.Option(help="core, complete, or both with a comma.")] = "core,complete",
    count: Annotated[int, typer.Option(min=100, help="Notifications of one scene.")] = 1500,
    rounds: Annotated[int, typer.Option(min=1, help="The median of so many is printed.")] = 3,
    batch: Annotated[int, typer.Option(min=1, help="Most statuses in one of the pretend WhatsApp's webhooks.")] = 100,
    rate: Annotated[float, typer.Option(min=1, help="Notifications a second of the steady scene.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here too.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure rate, latency, CPU and memory of the real engine between a pretend EHR and a pretend WhatsApp."""
    if not (CHECKOUT / "bench" / "run.py").is_file():
        print(
            "bridge bench needs a checkout: its programs are in bench/, beside bridge/, and not in the package.",
            file=sys.stderr,
        )
        raise typer.Exit(2)
    sys.path.insert(0, str(CHECKOUT))
    import_module("bench.run").run(
        store.split(","), profile.split(","), count=count, rounds=rounds, size=batch, rate=rate, as_json=json, out=out
    )
