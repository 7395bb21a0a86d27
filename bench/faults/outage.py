"""TI10: the store cannot commit for a while, under load. The doors answer 503 and never 200 meanwhile, and all catches up.

    python -m bench.faults.outage --store postgresql --seed 3

A prober pushes ten times a second and notes each answer; the hostile load of `load.py` runs beside it. At the end all
must become quiet, the judge finds nothing lost, doubled, late or out of order, and the ledger balances. The store's open
transaction of ten minutes is shortened to one. Clocks and the nights they are changed in are tested by pytest.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import requests
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from bench import stores
from bench.faults import checker, outages
from bench.faults.outages import Outage
from bench.faults.pushes import Push
from bench.faults.run import Figures, Kills

CATCH_UP = 30.0  # seconds
PROBES = 10.0  # a second
RATE = 10.0  # acts of the load a second
WARM = 6.0  # seconds of load before, and after


@dataclass(slots=True)
class Prober:
    """The same push ten times a second; each answer with when it came."""

    push: Push
    answers: list[tuple[float, int]] = field(default_factory=list)  # when it was answered; 0 for a broken connection
    _enough: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, workers: int = 4) -> None:
        for _ in range(workers):
            thread = threading.Thread(target=self._run, args=(workers,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, workers: int) -> None:
        with requests.Session() as session:
            while not self._enough.wait(workers / PROBES):
                status = self.push.send(session)
                self.answers.append((time.time(), status))


@dataclass(frozen=True, slots=True)
class Came:
    """What one outage came to."""

    name: str
    said: str
    problems: tuple[str, ...]


def one(kind: str, folder: Path, outage: Outage, seed: int) -> Came:
    """A world of its own for one outage."""
    with ExitStack() as stack:
        if outage.small_disk:
            stack.enter_context(outages.small_disk(folder / "data"))
        kills = Kills(kind, folder, seed=seed, rate=RATE)
        if outage.small_disk and kind == "postgresql":
            kills.world.store = stores.url_on(folder / "data")
        stack.enter_context(kills)
        figures = Figures(f"{kind} {outage.name}")
        kills.mischief()
        prober, enough = Prober(Push(kills.world)), threading.Event()
        kills.world.start_engine()
        load = threading.Thread(target=kills.load.work, args=(600.0, enough))
        load.start()
        prober.start()
        try:
            time.sleep(WARM)
            with outage.away(kills.world):
                away = time.time()
                time.sleep(outage.seconds)
                back = time.time()
            ready = time.time()
            caught, waits = _caught_up(kills, ready)
            time.sleep(WARM)
        finally:
            enough.set()
            load.join(60)
            prober.stop()
        kills._quiet(figures)
        if (code := kills.world.stop_engine()) != 0:
            figures.problems.append(f"SIGTERM ended the engine with {code}")
        kills.settle(figures)
        judged = figures.verdict
    return _came(outage, prober.answers, (away, back, ready), caught, figures, judged, waits)


def _caught_up(kills: Kills, back: float) -> tuple[float, str]:
    """Seconds until the doors take what comes and nothing that was acknowledged before waits any more; what still waits."""
    engine = create_engine(kills.world.store, pool_pre_ping=True)
    mine = {"back": int(back * 1_000_000)}
    waiting = text("SELECT count(*) FROM inbox WHERE fate IS NULL AND received_at < :back")
    reasons = text(
        "SELECT kind, reason, max(tries), count(*) FROM inbox WHERE fate IS NULL AND received_at < :back GROUP BY kind, reason"
    )
    since = text("SELECT count(*) FROM inbox WHERE received_at > :back")
    try:
        while time.time() - back < 4 * CATCH_UP:
            try:
                with engine.connect() as connection:
                    behind = connection.execute(waiting, mine).scalar_one()
                    fresh = connection.execute(since, mine).scalar_one()
                if fresh and not behind:
                    return time.time() - back, ""
            except DBAPIError:
                pass  # not back for us either
            time.sleep(0.25)
        with engine.connect() as connection:
            left = connection.execute(reasons, mine).all()
            return float("inf"), ", ".join(
                f"{count} x {kind} ({reason}, {tries} tries)" for kind, reason, tries, count in left
            )
    finally:
        engine.dispose()


def _came(
    outage: Outage, answers: list[tuple[float, int]], when: tuple[float, float, float], caught: float, figures: Figures,
    verdict: checker.Verdict, waits: str,
) -> Came:  # fmt: skip
    away, back, ready = when
    meanwhile = Counter(status for at, status in answers if away < at <= back)
    strange = Counter(status for _, status in answers) - Counter({200: 10**9, 503: 10**9})
    problems = list(figures.problems) + verdict.findings
    if not outage.commits and meanwhile[200]:
        problems.append(f"{meanwhile[200]} answered 200 while nothing could be committed")
    if strange:
        problems.append(f"answers other than 200 and 503: {dict(strange)}")
    if caught > CATCH_UP:
        problems.append(f"caught up after {caught:.0f} s" + (f"; still waiting: {waits}" if waits else ""))
    if not any(at > ready and status == 200 for at, status in answers):
        problems.append("no 200 after it was back")
    shown = " ".join(f"{count}x{status}" for status, count in sorted(meanwhile.items())) or "no answer"
    said = f"{outage.name} {back - away:.0f} s: {shown}, caught up in {caught:.1f} s, {verdict.effects} effects"
    return Came(outage.name, said, tuple(problems))


def play(kind: str, folder: Path, seed: int, *, short: bool, only: str = "") -> list[Came]:
    """All of a store's outages, a world each; folders of good ones are removed."""
    rng = random.Random(seed)
    found = []
    for number, outage in enumerate(outages.of(kind, short=short)):
        mine = rng.randrange(10**6)
        if only and only not in outage.name:
            continue
        where = folder / f"{kind}-{number}"
        came = one(kind, where, outage, mine)
        print(f"  {kind}: {came.said}" + "".join(f"\n    {problem}" for problem in came.problems), flush=True)
        if not came.problems:
            shutil.rmtree(where, ignore_errors=True)
        found.append(came)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="", help="a part of an outage's name")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bridge-outage-"))
    try:
        found = play(given.store, folder, given.seed, short=given.short, only=given.only)
    finally:
        stores.stop()
    good = not any(came.problems for came in found)
    if good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"journals and acknowledgements: {folder}")
    return 0 if good else 4


if __name__ == "__main__":
    sys.exit(main())
