"""Kill runs: the real engine between pretend servers that survive it, under load, SIGKILL at named points and at random.

    python -m bench.faults.run --store sqlite --points all --random 50 --seed 7 --retry-base 30

After every few kills the engine is started again and left alone until all is quiet, a person looks after the doubts (the
harness: it sends again what no phone shows, as `bridge doubts` offers), and `checker.py` judges. Exits 4 when a run is
not good, when a named point was never reached, when the ledger does not balance, or when more outcomes are unknown than
messages were being sent at the kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, or_, select

from bench import stores
from bench.faults import checker, history
from bench.faults.load import Load, Notes
from bridge.cli.doubts import listed
from bridge.ledger.clock import SECOND
from bridge.ledger.faults import POINTS
from bridge.ledger.store import Store
from bridge.ledger.tables import inbox, outbox, write
from bridge.sandbox.launch import SandboxFailed
from bridge.sandbox.world import World, free_port

REACH = 60.0  # seconds of load in which a named point must have been met: some take 25 where others use the cores too
QUIET = 120.0  # seconds until all must be quiet, and ten times the first redelivery's wait: it doubles
PAIR_RATE = {"what": "error", "code": 131056, "probability": 0.05}  # refused for this recipient: waits, then the pump
OFTEN = {  # how many passings a named point may let go by before it strikes; the others 1 to 12
    "door_before_commit": 60, "door_in_commit": 40, "after_commit_before_answer": 60, "pump_before_commit": 2,
    "write_after_claim": 25, "write_after_call_before_record": 25, "status_before_commit": 20, "status_after_commit": 20,
    "reply_before_commit": 6, "reply_after_commit": 6,
}  # fmt: skip
NO_ANSWER = {"what": "drop_answer", "probability": 0.02}  # accepted, and the answer is lost: a doubt without a kill
SLOW = {
    "what": "delay",
    "probability": 0.4,
    "seconds": 0.5,
    "times": -1,
}  # accepted, answered later: in flight at kills


@dataclass(slots=True)
class Figures:
    """What one batch of kills came to."""

    name: str
    kills: int = 0
    sending: int = 0  # messages in `sending` when the engine died, over all kills
    unknown: int = 0  # new ones that `bridge doubts` listed right after the restarts
    settle: float = 0.0  # seconds until quiet
    verdict: checker.Verdict = field(default_factory=checker.Verdict)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.problems

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.kills} kills, {self.verdict}; sending at the kills {self.sending}, "
            f"listed as unknown {self.unknown}, quiet after {self.settle:.0f} s" + ("" if self.good else "  NOT GOOD")
        )


class Kills:
    """One store, one world, any number of kills. Use as a context manager."""

    def __init__(
        self, kind: str, folder: Path, *, seed: int, retry_base: float = 1.0, rate: float = 15.0, soon: bool = False
    ) -> None:
        self.kind, self.folder, self.seed = kind, folder, seed
        self.rng = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)
        self.world = World(
            folder,
            store=stores.url(kind, folder),
            site={"quiet_hours": {"from": "03:00", "to": "03:01"}},
            ehr_options={"arguments": ("--seed", str(seed))},
            whatsapp_arguments=("--seed", str(seed), "--retry-base", str(retry_base)),
        )
        self._rate = rate
        self.soon = soon  # the person does not wait for what a doubt holds back: quicker, and kinder to the engine
        self._before: set[str] = set()  # listed as unknown before the last kill
        self._sending: int | None = None  # messages that were being sent at it; None: it has been accounted for
        self._died = float("inf")  # when
        self._patience = QUIET + 10 * retry_base

    def __enter__(self) -> Kills:
        self.world.__enter__()
        self.world.ehr.post("faults", duplicate=0.1, reorder=0.3)
        self.world.whatsapp.post("settings", duplicate=0.15, reorder=0.2)
        self.notes = Notes(self.folder)
        self.load = Load(self.world, self.notes, random.Random(self.seed + 1), self._rate)
        self.load.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.load.stop()
        self.notes.close()
        self.world.__exit__(*problem)

    # --- kills -----------------------------------------------------------------------------------------------------

    def at_point(self, name: str, nth: int, figures: Figures) -> None:
        """Start with the fault set, load until it strikes."""
        self.mischief()
        try:
            self._start(figures, fault=f"{name}:{nth}")
        except SandboxFailed:
            if self.world.engine is None or self.world.engine.wait(5) != -9:
                raise
            self._account(figures)
            self._killed(figures, name)  # what waited for it was enough: it struck before the engine could say ready
            return
        dead = threading.Event()
        engine = self.world.engine
        assert engine is not None
        threading.Thread(target=lambda: (engine.wait(), dead.set()), daemon=True).start()
        self.load.work(REACH, dead)
        if not dead.is_set():
            figures.problems.append(f"{name}:{nth} was not reached in {REACH:g} s")
            self.world.stop_engine()
            return
        if engine.returncode != -9:
            figures.problems.append(f"{name}:{nth}: the engine ended with {engine.returncode}")
        self._killed(figures, name)

    def at_random(self, figures: Figures) -> None:
        """Load, and no warning."""
        self.mischief()
        self._start(figures)
        self.load.work(self.rng.uniform(0.3, 4.0))
        self._killed(figures, "random")

    def for_good(self, figures: Figures) -> None:
        """Two nodes share the work (PostgreSQL); one dies and never comes back, a new one gets its address. What the dead
        one held is taken over when its leases have run out."""
        self.mischief()
        self.world.start_engine()
        with self._second_node():
            self.load.work(6.0)
            at = time.time()
            self.world.kill()
            sending = self._count(outbox.c.id, outbox.c.state == "sending")
            self.notes.write("kill", at=at, how="for good", sending=sending)
            figures.kills += 1
            figures.sending += sending
            (self.folder / "data" / "node").unlink()
            self.world.start_engine()
            self.load.work(4.0)
            self._quiet(figures)
        self.world.stop_engine()

    def cut(self, figures: Figures, times: int) -> None:
        """The database lives, and every connection to it is cut, again and again, under load: nobody dies."""
        self.mischief()
        self._start(figures)
        for _ in range(times):
            self.load.work(self.rng.uniform(0.5, 2.0))
            stores.cut(self.world.store)
        self.load.work(2.0)
        self._quiet(figures)
        if self.world.stop_engine() != 0:
            figures.problems.append("SIGTERM did not end the engine with 0")

    @contextmanager
    def _second_node(self) -> Iterator[None]:
        """The same config on ports of its own, with a data folder, and so a name, of its own."""
        folder = self.folder / "second"
        (folder / "config").mkdir(parents=True, exist_ok=True)
        config = json.loads(self.world.config.read_text("utf-8"))
        config["listen"] = {"doors": f"127.0.0.1:{free_port()}", "console": f"127.0.0.1:{free_port()}"}
        path = folder / "config" / "bridge.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        with (folder / "engine.log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--config", str(path)],
                env=os.environ | self.world.environment, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
            )  # fmt: skip
        assert process.stdout is not None
        try:
            if not process.stdout.readline().startswith('{"ready"'):
                raise SandboxFailed(f"the second node did not start; see {folder / 'engine.log'}")
            yield
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()

    def mischief(self) -> None:
        """A few sends are refused for now, a few answers are lost, one write's answer too."""
        self.world.whatsapp.delete("faults")
        self.world.whatsapp.post("faults", [PAIR_RATE | {"times": 3}, NO_ANSWER | {"times": 1}, SLOW])
        self.world.ehr.post("faults", drop_answer=1 if self.rng.random() < 0.3 else 0)

    def _killed(self, figures: Figures, how: str) -> None:
        at = time.time()
        self.world.kill()
        stores.wait_for_the_dead(self.world.store)
        sending = self._count(outbox.c.id, outbox.c.state == "sending")
        self._before = self._listed()
        self._died = time.time()
        figures.kills += 1
        figures.sending += sending
        self._sending = sending
        self.notes.write("kill", at=at, how=how, sending=sending)

    def _start(self, figures: Figures, *, fault: str = "") -> None:
        self.world.start_engine(fault=fault)
        self._account(figures)

    def _account(self, figures: Figures) -> None:
        """No more may be unknown after a kill than was being sent at it. What was not killed has nothing to account for: where
        a point was not reached, a life in between has doubts of its own, of answers that our mischief lost."""
        if self._sending is None:
            return
        fresh = self._listed(fenced_before=self._died) - self._before
        if len(fresh) > self._sending:
            figures.problems.append(f"{len(fresh)} are listed as unknown, {self._sending} were being sent")
        figures.unknown += len(fresh)
        self._before, self._sending = set(), None  # only what follows a kill is held against it

    # --- quiet -----------------------------------------------------------------------------------------------------

    def settle(self, figures: Figures) -> None:
        """Start, wait until nothing moves, be the person who looks after doubts, judge."""
        begun = time.monotonic()
        self.world.whatsapp.delete("faults")
        self._start(figures)
        self._quiet(figures, of=("pushes", "notifications", "events", "webhooks") if self.soon else ())
        shown = {post.message for post in history.read(self.folder).posts}
        open_ends = {row["id"].removeprefix("msg_") for row in json.loads(self.world.cli("doubts", "--json"))}
        for message in sorted(open_ends & shown):
            figures.problems.append(f"msg_{message} is on the phone and still in doubt")
        if lost := sorted(open_ends - shown):
            self.notes.write("resent", messages=[f"msg_{message}" for message in lost], at=time.time())
            self.world.cli("doubts", "resend", *(f"msg_{message}" for message in lost))
        if lost or self.soon:
            self._quiet(figures)
        figures.settle = time.monotonic() - begun
        figures.verdict = checker.judge(history.read(self.folder))
        self.ledger(figures)
        if self.world.stop_engine() != 0:
            figures.problems.append("SIGTERM did not end the engine with 0")

    def _quiet(self, figures: Figures, of: Sequence[str] = ()) -> None:
        """Wait until nothing moves, or none of these."""
        deadline = time.monotonic() + self._patience
        calm = 0
        while calm < 3:
            busy = {name: count for name, count in self._busy().items() if not of or name in of}
            calm = 0 if busy else calm + 1
            if time.monotonic() > deadline:
                figures.problems.append(f"not quiet after {self._patience:g} s: {busy}")
                return
            time.sleep(0.4)

    def _busy(self) -> dict[str, int]:
        """What still moves. Asked to know when to judge; the judge does not see it."""
        soon = int((time.time() + 120) * SECOND)
        due = and_(outbox.c.state == "planned", or_(outbox.c.not_before.is_(None), outbox.c.not_before < soon))
        found = {
            "pushes": self.load.pending,
            "notifications": self.world.ehr.get("idle", timeout=0.01)["pending"],
            "events": self._count(inbox.c.id, inbox.c.fate.is_(None)),
            "messages": self._count(outbox.c.id, or_(outbox.c.state.in_(("ready", "sending")), due)),
            "writes": self._count(write.c.id, write.c.state.in_(("asked", "sending")), write.c.next_at < soon),
        }
        webhooks = self.world.whatsapp.get("idle", timeout=0.01)
        found["webhooks"] = 0 if webhooks["idle"] else webhooks["fresh"] + webhooks["waiting"] + webhooks["flying"]
        return {name: count for name, count in found.items() if count}

    def _count(self, column: Any, *where: Any) -> int:
        store = Store(self.world.store, readonly=True)
        try:
            with store.read() as connection:
                return int(connection.execute(select(func.count(column)).where(*where)).scalar_one())
        finally:
            store.close()

    # --- what the engine says of itself ----------------------------------------------------------------------------

    def _listed(self, fenced_before: float | None = None) -> set[str]:
        """Ids that `bridge doubts` lists: what the command prints, without a process of its own each time.

        `fenced_before`: leave out what the next life sent itself; the answer of one of those may be lost by our own mischief.
        """
        store = Store(self.world.store, readonly=True)
        try:
            return {
                row["id"]
                for row in listed(store)
                if fenced_before is None
                or row["fenced_at"] is None
                or datetime.fromisoformat(row["fenced_at"]).timestamp() <= fenced_before
            }
        finally:
            store.close()

    def ledger(self, figures: Figures) -> None:
        said = json.loads(self.world.cli("ledger", "--json", expect=None))
        for line in said["lines"]:
            if not line["holds"]:
                figures.problems.append(f"the ledger does not balance: {line}")


def play(
    kind: str, folder: Path, *, seed: int, points: Sequence[str], random_kills: int, per_settle: int, retry_base: float,
    rate: float = 15.0, soon: bool = False, say: Callable[[str], None] = print,
) -> list[Figures]:  # fmt: skip
    """Named points, then random kills, judged every `per_settle` kills; each judgement is on everything so far.

    `soon`: a named point strikes at one of its first passings, and the person looks after doubts early: quicker.
    """
    results: list[Figures] = []
    with Kills(kind, folder, seed=seed, retry_base=retry_base, rate=rate, soon=soon) as kills:
        todo = [(name, kills.rng.randint(1, min(OFTEN.get(name, 12), 4 if soon else 60))) for name in points]
        todo += [("", 0)] * random_kills
        for start in range(0, len(todo), per_settle):
            part = todo[start : start + per_settle]
            names = ", ".join(f"{name}:{nth}" for name, nth in part if name)
            figures = Figures(f"{kind} seed {seed} {names or f'{len(part)} at random'}")
            for name, nth in part:
                if name:
                    kills.at_point(name, nth, figures)
                else:
                    kills.at_random(figures)
            kills.settle(figures)
            results.append(figures)
            say(str(figures))
            for each in (*figures.problems, *figures.verdict.findings):
                say(f"  {each}")
    return results


def two_nodes(folder: Path, *, seed: int, retry_base: float = 1.0, say: Callable[[str], None] = print) -> Figures:
    """A node of two dies for good."""
    with Kills("postgresql", folder, seed=seed, retry_base=retry_base) as kills:
        figures = Figures(f"postgresql seed {seed} one of two nodes dies for good")
        kills.for_good(figures)
        kills.settle(figures)
    say(str(figures))
    for each in (*figures.problems, *figures.verdict.findings):
        say(f"  {each}")
    return figures


def cut_connections(folder: Path, *, seed: int, times: int = 12, say: Callable[[str], None] = print) -> Figures:
    """PostgreSQL drops every connection, `times` times."""
    with Kills("postgresql", folder, seed=seed) as kills:
        figures = Figures(f"postgresql seed {seed} connections cut {times} times")
        kills.cut(figures, times)
        kills.settle(figures)
    say(str(figures))
    for each in (*figures.problems, *figures.verdict.findings):
        say(f"  {each}")
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    parser.add_argument("--points", default="all", help="all, none, or names with commas")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--retry-base", type=float, default=30.0, help="seconds before the first redelivery; doubles")
    parser.add_argument("--per-settle", type=int, default=6, help="kills before all must become quiet and is judged")
    parser.add_argument("--rate", type=float, default=15.0, help="acts of the load a second")
    parser.add_argument(
        "--two-nodes", action="store_true", help="PostgreSQL: one of two nodes dies for good, nothing else"
    )
    parser.add_argument(
        "--cut", type=int, default=0, help="PostgreSQL: cut its connections so many times, nothing else"
    )
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    points = {"all": POINTS, "none": ()}.get(given.points, tuple(given.points.split(",")))
    folder = given.folder or Path(tempfile.mkdtemp(prefix="bridge-faults-"))
    try:
        if given.two_nodes:
            found = [two_nodes(folder, seed=given.seed, retry_base=given.retry_base)]
        elif given.cut:
            found = [cut_connections(folder, seed=given.seed, times=given.cut)]
        else:
            found = play(
                given.store, folder, seed=given.seed, points=points, random_kills=given.random,
                per_settle=given.per_settle, retry_base=given.retry_base, rate=given.rate,
                say=lambda line: print(line, flush=True),
            )  # fmt: skip
    finally:
        stores.stop()
    good = all(figures.good for figures in found)
    if good and given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"journals and acknowledgements: {folder}")
    return 0 if good else 4


if __name__ == "__main__":
    sys.exit(main())
