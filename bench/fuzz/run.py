"""Fuzz: mutated notifications and webhooks at the running doors of a real engine, and what came of every one of them.

    python -m bench.fuzz --count 1000000 --seed 1 --store sqlite --out DIR

The engine is `bridge serve` between a pretend EHR and a pretend WhatsApp, as processes of their own. Prints goal and reached;
exits 4 when a row fails. SIGTERM ends the load early: what was sent is judged all the same. What failed lies in DIR with
the seed: requests with an answer that was not expected, bodies of events that the engine could not do, mutants that broke
a reader (made smaller).
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import requests

from bench import bodies, machine, stores
from bench.fuzz import readers, seeds, watch
from bench.fuzz.doors import Throw, Thrown, latencies
from bench.fuzz.inputs import GOOD_FIRST, WHOLE, Asked, Maker, broken_values
from bridge.sandbox.world import World

CONNECTIONS = 24
SETTLE = 600.0  # seconds that everything acknowledged may take to have a fate
GOOD_WAIT = 300.0  # seconds after that for what the good ones must show
SEEDED = 500  # resources of one seeding request
PROBES = 60  # unusable bodies that are timed
SLOW = 100.0  # ms: TI7
GROWTH, GROWTH_MB = 0.10, 20.0  # memory: either is allowed


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `reached` None: a figure without a goal."""

    what: str
    goal: str
    value: str
    reached: bool | None = None


@dataclass(slots=True)
class Outcome:
    """A run's table and what a person needs to see its failures again."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return all(row.reached is not False for row in self.rows)

    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.reached is False]

    def table(self) -> str:
        cells = [("fuzz", "goal", "measured", "reached")]
        cells += [
            (r.what, r.goal, r.value, "" if r.reached is None else "yes" if r.reached else "NO") for r in self.rows
        ]
        widths = [max(len(row[at]) for row in cells) for at in range(4)]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)


class Fuzz:
    """One world and one run."""

    def __init__(
        self, folder: Path, store: str, seed: int, *, count: int, direct: int, good_every: int, corpus: tuple[list[str], list[str]],
        say: Callable[[str], None], hurried: bool = False,
    ) -> None:  # fmt: skip
        """`hurried`: do not wait the minute that a status of no message of ours is given."""
        self.hurried = hurried
        self.folder, self.store, self.seed, self.count, self.direct = folder, store, seed, count, direct
        self.good_every, self.corpus, self.say = good_every, corpus, say
        self.out = folder / "failures"
        self.outcome = Outcome()

    def run(self) -> Outcome:
        if self.direct:
            self._readers()
        calm = (datetime.now(UTC) + timedelta(hours=12)).strftime("%H")  # quiet hours are far away
        world = World(
            self.folder / "world", store=stores.url(self.store, self.folder / "world"), rate=1000, seed=False, polite=True,
            site={"quiet_hours": {"from": f"{calm}:00", "to": f"{calm}:01"}},
            extra={"delivery": {"brake": 10_000_000, "doubt_wait": "30m"}},
            whatsapp_arguments=("--throughput", "0", "--pair-seconds", "0", "--read-after", "-1"),
        )  # fmt: skip
        with world:
            self._seed(world)
            world.whatsapp.post(
                "settings", window=False
            )  # it has not seen what the mutants wrote: answers may go all the same
            world.start_engine()
            self._doors(world)
        return self.outcome

    # --- the readers alone -------------------------------------------------------------------------------------------

    def _readers(self) -> None:
        failed, times = readers.many(self.direct, self.seed, self.corpus)
        times.sort()
        for at, (body, why) in enumerate(failed[:40]):
            self._keep(f"reader-{at}", body, {"why": why})
        p99 = times[int(len(times) * 0.99)]
        self._row("mutants read without doors", "", f"{len(times):,}")
        self._row("  that broke a reader", "0", f"{len(failed)}", not failed)
        self._row("  CPU of one, p99", f"< {SLOW:g} ms", f"{p99:.1f} ms (slowest {times[-1]:.0f})", p99 < SLOW)

    # --- the running doors -------------------------------------------------------------------------------------------

    def _seed(self, world: World) -> None:
        goods = self.count // self.good_every + 2
        held = bodies.people_and_places(0, seeds.POOL, consents=False)
        held += bodies.people_and_places(GOOD_FIRST - 60, goods + 60, consents=False)
        for first in range(0, len(held), SEEDED):
            world.ehr.post("seed", resources=held[first : first + SEEDED])

    def _doors(self, world: World) -> None:
        port = int(world.doors.rpartition(":")[2])
        maker = Maker(self.seed, port, world.environment, self.good_every, self.corpus)
        looking = watch.Watch(world, maker.sent)
        looking.start()
        quiet = self._timed(maker, port)
        begun = time.monotonic()
        throw = Throw(maker, port, self.count, CONNECTIONS, looking.holding)
        if (
            threading.current_thread() is threading.main_thread()
        ):  # kill -TERM: no more inputs, and the table of what was
            signal.signal(signal.SIGTERM, throw.stop)
        self.say(f"{self.count:,} inputs, {CONNECTIONS} connections")
        thrown = throw.run()
        ended = time.monotonic()
        settled = self._settled(world, looking)
        shown = self._phones(world, thrown)
        after = self._timed(maker, port)
        looking.stop()
        self._table(world, looking, thrown, shown, settled, (quiet, after), (begun, ended))

    def _timed(self, maker: Maker, port: int) -> list[float]:
        """What an unusable body takes at a door that has nothing else to do: each of TI7's, and broken ones."""
        random = Random(self.seed)
        asked: list[Asked] = []
        for at in range(PROBES):
            body = WHOLE[at % len(WHOLE)] if at % 2 else b'{"resourceType":"Appointment","id":"t' + b"," * (at + 1)
            asked.append(
                maker._hook(body, 0, "probe", random)
                if at % 4 == 1
                else maker._push("POST", "appointments", "", body, 0, "probe", random)
            )
        return sorted(latencies(port, asked, 0.01))

    def _settled(self, world: World, looking: watch.Watch) -> float:
        """Seconds until nothing waits; as long as was given when something still does."""
        begun = time.monotonic()
        while time.monotonic() - begun < SETTLE and looking.alive():
            waiting = watch.count_waiting(world, but_strangers=self.hurried)
            if not waiting:
                break
            self.say(f"  {waiting:,} events wait for their fate")
            time.sleep(min(5.0, 0.5 + waiting / 2000))
        return time.monotonic() - begun

    def _phones(self, world: World, thrown: Thrown) -> dict[str, list[str]]:
        """Wait for what the good ones must show."""
        begun = time.monotonic()
        while True:
            shown = watch.shown(world)
            missing = [who for who, what in thrown.good if not _told(what, shown.get(who, []))]
            if not missing or time.monotonic() - begun > GOOD_WAIT:
                return shown
            self.say(f"  {len(missing):,} of {len(thrown.good):,} good ones not on their phones yet")
            time.sleep(3)

    def _table(
        self, world: World, looking: watch.Watch, thrown: Thrown, shown: dict[str, list[str]], settled: float,
        probes: tuple[list[float], list[float]], when: tuple[float, float],
    ) -> None:  # fmt: skip
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in thrown.by_kind.most_common())
        self._row("inputs (mutated items)", f">= {self.count:,}", f"{thrown.inputs:,}", thrown.inputs >= self.count)
        self._row("  of them at the EHR's door", "", f"{thrown.pushed:,}")
        self._row("requests", "", f"{thrown.requests:,} in {thrown.seconds:,.0f} s")
        five = sum(count for status, count in thrown.answers.items() if status.startswith("5"))
        self._row("answers 5xx", "0", f"{five}", not five)
        self._row("answers that were not expected", "0", f"{thrown.unexpected_count}", not thrown.unexpected_count)
        self.outcome.notes += [f"inputs: {kinds}", f"answers: {dict(thrown.answers.most_common())}"]
        for at, (asked, status) in enumerate(thrown.unexpected):
            self._keep(f"answer-{at}", asked.wire, broken_values(asked) | {"got": status})
        log = watch.log_lines(world.folder)
        self._row("exceptions and errors in the engine's log", "0", f"{sum(log.values())}", not log)
        self.outcome.notes += [f"log: {count} x {line}" for line, count in log.most_common(12)]
        self._row(
            "engine: the same process, and it answers", "yes", "yes" if looking.alive() else "no", looking.alive()
        )
        self._proofs(world, thrown, shown)
        self._fates(world, looking, settled)
        absent = [who for who, what in thrown.good if not _told(what, shown.get(who, []))]
        twice = [who for who, what in thrown.good if len(shown.get(who, [])) > 1]
        self._row("good ones among them, on their phones", "all", f"{len(thrown.good) - len(absent):,} of {len(thrown.good):,}",
                  not absent and bool(thrown.good))  # fmt: skip
        self._row("  told twice", "0", f"{len(twice)}", not twice)
        first, last, peak = looking.memory(*when)
        flat = last - first < max(GROWTH * first, GROWTH_MB)
        self._row(
            "memory: settled, last",
            f"+ < {GROWTH:.0%} or {GROWTH_MB:g} MB",
            f"{first:.0f}, {last:.0f} MB (peak {peak:.0f})",
            flat,
        )
        for label, found in zip(("before", "after"), probes, strict=True):
            p99 = found[int(len(found) * 0.99)]
            self._row(
                f"unusable body alone, {label}: p99",
                f"<= {SLOW:g} ms",
                f"{p99:.0f} ms (p50 {found[len(found) // 2]:.1f})",
                p99 <= SLOW,
            )
        self._row("slowest answer under the load", "", f"{thrown.slowest_ms:.0f} ms")

    def _proofs(self, world: World, thrown: Thrown, shown: dict[str, list[str]]) -> None:
        wrong = thrown.by_kind["wrong proof"]
        text = requests.get(f"{world.console}/metrics", timeout=30).text
        counted = sum(
            int(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("bridge_unauthenticated_total")
        )
        self._row("wrong proofs: 401 or 403", "all", f"{thrown.refused:,} of {wrong:,}", thrown.refused == wrong)
        denied = (
            thrown.answers["401"] + thrown.answers["403"]
        )  # those, and signed bodies that came without their chunks
        self._row("  counted in /metrics", f"{denied:,}", f"{counted:,}", counted == denied)
        forged = [bodies.phone(GOOD_FIRST - 1 - n) for n in range(50)]
        told = sum(len(shown.get(who, [])) for who in forged)
        self._row("  messages that came of them", "0", f"{told}", not told)

    def _fates(self, world: World, looking: watch.Watch, settled: float) -> None:
        found = watch.fates(world)
        waiting = watch.count_waiting(world, but_strangers=self.hurried)
        self._row(
            "events with a fate",
            "all",
            f"{sum(found.values()) - waiting:,} of {sum(found.values()):,}",
            not waiting,
        )
        self._row("  failed", "0", f"{found['failed']}", not found["failed"])
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "ledger", "--config", str(world.config)], env=self._environment(world),
            capture_output=True, text=True, cwd=world.folder, timeout=300, check=False,
        )  # fmt: skip
        self._row("bridge ledger balances", "yes", "yes" if done.returncode == 0 else "no", done.returncode == 0)
        self._row("most events waiting, quiet after", "", f"{looking.most_waiting:,}, {settled:.0f} s")
        self.outcome.notes.append(f"fates: {dict(found.most_common())}")
        self.outcome.notes += [f"  {count:,} x {reason}" for reason, count in watch.why(world, 20).most_common()]
        for failure in watch.failures(world):
            self._keep(
                f"event-{failure.event}",
                failure.body,
                {"source": failure.source, "kind": failure.kind, "reason": failure.reason},
            )

    @staticmethod
    def _environment(world: World) -> dict[str, str]:
        import os

        return dict(os.environ) | world.environment

    def _row(self, what: str, goal: str, value: str, reached: bool | None = None) -> None:
        self.outcome.rows.append(Row(what, goal, value, reached))

    def _keep(self, name: str, body: bytes, about: dict[str, object]) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{name}.bin").write_bytes(body)
        (self.out / f"{name}.json").write_text(json.dumps(about | {"seed": self.seed}, indent=1), encoding="utf-8")


def _told(what: str, got: Sequence[str]) -> bool:
    """Whether a phone shows what its good one must lead to."""
    if what == "booked":
        return "appointment_booked" in got
    return any("ALTA" in text or "START" in text for text in got)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs at the doors")
    parser.add_argument("--direct", type=int, help="inputs at the readers alone; as many as --count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    parser.add_argument("--good-every", type=int, default=1_000, help="inputs between two good ones")
    parser.add_argument(
        "--corpus", type=Path, default=Path("../shared/corpus"), help="recorded samples, where there are any"
    )
    parser.add_argument("--out", type=Path, help="kept; default: a folder that goes when all is well")
    given = parser.parse_args(arguments)
    folder = given.out or Path(tempfile.mkdtemp(prefix="bridge-fuzz-"))
    direct = given.count if given.direct is None else given.direct
    begun = time.monotonic()
    try:
        outcome = Fuzz(
            folder, given.store, given.seed, count=given.count, direct=direct, good_every=given.good_every,
            corpus=seeds.corpus(given.corpus), say=lambda line: print(line, flush=True),
        ).run()  # fmt: skip
    finally:
        stores.stop()
    print("\n".join(outcome.notes))
    print(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine.name()}, load {machine.load():.1f}, {given.store}, seed {given.seed}, "
          f"{time.monotonic() - begun:,.0f} s")  # fmt: skip
    print(outcome.table())
    if outcome.good and given.out is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"journals, log and failures: {folder}")
    return 0 if outcome.good else 4
