"""Rounds over stores and profiles, interleaved so that a busy moment of the machine falls on all of them."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, report, scenes, stores
from bench.scenes import Figures


def run(
    kinds: Sequence[str], profiles: Sequence[str], *, count: int, rounds: int, size: int, rate: float, as_json: bool,
    out: Path | None = None,
) -> None:  # fmt: skip
    """Measure and print."""
    found: list[Figures] = []
    folder = Path(tempfile.mkdtemp(prefix="bridge-bench-"))
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        for turn in range(rounds):
            for kind in kinds:
                for name in profiles:
                    at = folder / f"{turn}-{kind}-{name}"
                    one = scenes.measure(at, kind, scenes.PROFILES[name], count, size=size, rate=rate)
                    found.append(one)
                    short = ", ".join(
                        f"{key} {report.number(one.values[key])}" for key in ("ehr_door_acks_s", "sends_s", "whole_s")
                    )
                    print(
                        f"round {turn + 1}/{rounds} {kind} {name}: {short} (load average {one.load_average:.1f})",
                        file=sys.stderr,
                    )
                    shutil.rmtree(at, ignore_errors=True)
    finally:
        stores.stop()
        shutil.rmtree(folder, ignore_errors=True)
    about = {
        "at": begun,
        "machine": machine.name(),
        "count": count,
        "repeats": rounds,
        "statuses_per_webhook": size,
        "steady_rate": rate,
    }
    if out is not None:
        out.write_text(json.dumps(report.as_json(found, about), indent=1), encoding="utf-8")
    if as_json:
        print(json.dumps(report.as_json(found, about), indent=1))
        return
    averages = sorted(one.load_average for one in found)
    print(f"{begun}  {machine.name()}")
    print(f"{count} notifications a scene, median of {rounds} rounds, load average {averages[0]:.1f} to {averages[-1]:.1f}; "
          f"load, pretend EHR and pretend WhatsApp run on the same cores")  # fmt: skip
    for name in profiles:
        print(f"{name}: {scenes.PROFILES[name].what}")
    medians = report.medians(found)
    print()
    print(report.table(medians))
    print()
    for line in report.ratios(medians):
        print(line)
