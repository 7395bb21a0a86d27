"""TI8: good traffic beside idle, slow, half-closed, pipelined and badly chunked connections: p99 at most twice its own.

    python -m bench.faults.sockets --store sqlite

Good traffic is 40 pushes a second over four connections, at an open loop. Every misbehaviour is measured between two
stretches without any, and held against the median of all those stretches' p99.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import requests

from bench import stores
from bench.faults.misbehave import KINDS
from bench.faults.outcome import Outcome
from bench.faults.pushes import Push
from bridge.sandbox.world import World

RATE, CONNECTIONS = 40.0, 4
WORST = 2.0
ROOT = Path(__file__).parents[2]


def p99(found: list[float]) -> float:
    return sorted(found)[max(0, math.ceil(0.99 * len(found)) - 1)]


class Good:
    """The same push again and again; what is not answered 200 is counted."""

    def __init__(self, push: Push) -> None:
        self._push = push
        self.wrong = 0

    def measure(self, seconds: float) -> list[float]:
        """Seconds that each took, from when it was due."""
        took: list[float] = []

        def work(number: int) -> None:
            due = time.monotonic() + number / RATE
            end = time.monotonic() + seconds
            with requests.Session() as session:
                while due < end:
                    time.sleep(max(0.0, due - time.monotonic()))
                    self.wrong += self._push.send(session) != 200
                    took.append(time.monotonic() - due)
                    due += CONNECTIONS / RATE

        threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return took


def play(kind: str, folder: Path, seconds: float = 15.0) -> Outcome:
    calm: list[float] = []  # the p99 of each stretch
    rough: dict[str, list[float]] = {}
    with World(folder, store=stores.url(kind, folder), polite=True) as world:
        good = Good(Push(world))
        world.start_engine()
        port = world.doors.rpartition(":")[2]
        good.measure(3)
        for name in KINDS:
            calm.append(p99(good.measure(seconds / 2)))
            with subprocess.Popen(
                [sys.executable, "-m", "bench.faults.misbehave", name, port],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            ) as bad:  # fmt: skip
                assert bad.stdin is not None and bad.stdout is not None
                bad.stdout.readline()
                rough[name] = good.measure(seconds)
                early = bad.poll()
                bad.stdin.close()
                bad.terminate()
            if early is not None:
                return Outcome(f"{name}: the misbehaving program ended by itself", False, "none", "")
            calm.append(p99(good.measure(seconds / 2)))
        wrong = good.wrong
    base = median(calm)
    worst = max(p99(found) for found in rough.values())
    said = ", ".join(f"{name} {1000 * p99(found):.0f}" for name, found in rough.items())
    return Outcome(
        f"p99 {1000 * base:.0f} ms without; {said}: {worst / base:.1f}x at worst; {wrong} not answered 200",
        worst <= WORST * base and not wrong, "none drawn", f"python -m bench.faults.sockets --store {kind}",
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each misbehaviour")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bridge-sockets-"))
    try:
        outcome = play(given.store, folder, given.seconds)
    finally:
        stores.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(outcome.reached)
    return 0 if outcome.holds else 4


if __name__ == "__main__":
    sys.exit(main())
