"""`python -m bench.soak`: hours of load and faults, unattended; exits 4 when a row of the table does not hold.

SIGINT or SIGTERM ends the load and reports on what was until then; a second one does not wait until it is quiet.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

from bench import stores
from bench.soak import judge, report
from bench.soak.faults import OUTAGE
from bench.soak.run import Plan, Soak
from bench.soak.watch import sizes


def plan(arguments: list[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=50.0, help="acts a second")
    parser.add_argument("--fault-every", type=float, default=300.0, help="seconds")
    parser.add_argument("--store", choices=stores.KINDS, default="postgresql")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patients", type=int, default=6000)
    parser.add_argument("--outage", type=float, default=OUTAGE, help="seconds that a neighbour is away")
    parser.add_argument("--out", type=Path, help="folder for journals, samples and the report")
    given = parser.parse_args(arguments)
    folder = given.out or Path(tempfile.mkdtemp(prefix="bridge-soak-"))
    return Plan(
        3600 * given.hours, given.rate, given.fault_every, given.store, given.seed, given.patients, folder.resolve(),
        given.outage,
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    asked = plan(arguments)
    hurry = threading.Event()
    try:
        with Soak(asked, lambda line: print(line, flush=True)) as soak:

            def end(number: int, frame: FrameType | None) -> None:
                if soak.enough.is_set():
                    hurry.set()
                soak.enough.set()

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            soak.work()
            soak.settle(hurry)
            waiting, balance = soak.busy(), soak.balance()
            if (code := soak.world.stop_engine()) != 0:
                soak.books.problems.append(f"SIGTERM ended the engine with {code}")
            soak.tell("judging")
            begun = time.monotonic()
            verdict, stops = judge.judge(asked.folder)
            soak.tell(f"judged in {time.monotonic() - begun:.0f} s: {verdict}")
            found = report.rows(
                asked, soak.books, soak.watch.samples, balance, waiting, verdict, stops, sizes(soak.world.store)
            )
    finally:
        stores.stop()
    print(report.write(asked, soak.books, found, verdict, shlex.join(["python", "-m", "bench.soak", *arguments])))
    print(f"journals, samples and report: {asked.folder}", flush=True)
    return 0 if all(row.holds for row in found) else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
