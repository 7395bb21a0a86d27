"""How long an engineer waits: `bridge --help`, `bridge check` on 200 mappings, `bridge preview` of one file.

    python -m bench.cli [--rounds 5] [--json]

Each round starts a new process, as a person does; the median is printed beside its goal. The 200 mappings are the six we ship
again and again, each under a condition of its own with its examples and their fixtures. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import machine
from bridge.settings import shipped_config

MAPPINGS = 200


@dataclass(frozen=True, slots=True)
class Wait:
    """One command, and how long it may take."""

    name: str
    arguments: tuple[str, ...]
    most: float  # seconds


def waits(config: Path) -> tuple[Wait, ...]:
    """The three of them, on a configuration with many mappings."""
    fixture = config.parent / "mappings/fixtures/0/appointment-booked.bundle.json"
    return (
        Wait("bridge --help", ("--help",), 0.3),
        Wait(f"bridge check, {MAPPINGS} mappings", ("check", "--no-secrets", "--config", str(config)), 3.0),
        Wait(
            "bridge preview of one file", ("preview", "appointment-booked", str(fixture), "--config", str(config)), 1.5
        ),
    )


def many(folder: Path, count: int = MAPPINGS) -> Path:
    """A site with so many mappings, all of them good; its bridge.yaml."""
    config = folder / "config"
    shutil.copytree(shipped_config(), config)
    shipped = sorted((config / "mappings").glob("*.yaml"))
    texts = {source: source.read_text("utf-8") for source in shipped}
    for number in range(count):
        source = shipped[number % len(shipped)]
        name = source.stem if number < len(shipped) else f"{source.stem}-{number}"
        text = texts[source].replace(f"id: {source.stem}", f"id: {name}", 1)
        own = f"- {{path: \"id = 'c{number}'\", else: of another clinic}}"
        text = text.replace("when:", f"when:\n  {own}", 1)
        for fixture in (config / "mappings/fixtures").glob("*.bundle.json"):
            text = text.replace(f"fixtures/{fixture.name}", f"fixtures/{number}/{fixture.name}")
        for given in sorted({part.split("\n")[0] for part in text.split(f"fixtures/{number}/")[1:]}):
            bundle = json.loads((config / "mappings/fixtures" / given).read_text("utf-8"))
            bundle["entry"][0]["resource"]["id"] = f"c{number}"
            target = config / "mappings/fixtures" / str(number) / given
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(bundle), "utf-8")
        (config / "mappings" / f"{name}.yaml").write_text(text, "utf-8")
    return config / "bridge.yaml"


def once(wait: Wait) -> tuple[float, float]:
    """Seconds from the start of the process to its end, and of them those on a processor."""
    begun, used = time.monotonic(), _used()
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *wait.arguments], capture_output=True, text=True, env=os.environ, check=False
    )
    took = time.monotonic() - begun
    if done.returncode != 0:
        raise SystemExit(f"{wait.name}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took, _used() - used


def _used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(config: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Name of the wait -> its median, its median on a processor and its goal, in seconds. The rounds are interleaved."""
    all_of_them = waits(config)
    took: dict[str, list[tuple[float, float]]] = {each.name: [] for each in all_of_them}
    for _ in range(rounds):
        for each in all_of_them:
            took[each.name].append(once(each))
    return {
        each.name: (median(t for t, _ in took[each.name]), median(c for _, c in took[each.name]), each.most)
        for each in all_of_them
    }


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bridge-cli-") as folder:
        found = measure(many(Path(folder)), given.rounds)
    if given.json:
        print(json.dumps({"machine": machine.name(), "rounds": given.rounds,
                          "seconds": {name: {"median": took, "processor": spent, "most": most}
                                      for name, (took, spent, most) in found.items()}}))  # fmt: skip
    else:
        print(f"{machine.name()}, median of {given.rounds}, load average {os.getloadavg()[0]:.1f}")
        for name, (took, spent, most) in found.items():
            missed = "" if took < most else "   MISSED"
            print(
                f"{name:<32} {took * 1000:7.0f} ms ({spent * 1000:.0f} on a processor)   goal < {most * 1000:.0f} ms{missed}"
            )
    return 0 if all(took < most for took, _, most in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
