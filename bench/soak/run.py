"""One soak: the world, the shifts, a fault every few minutes, a person who looks after doubts, and quiet at the end."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from bench import stores
from bench.faults.load import Notes
from bench.soak.faults import OUTAGE, Faults
from bench.soak.load import Shift, shifts
from bench.soak.watch import Store, Watch
from bridge.cli.doubts import listed
from bridge.ledger.store import Store as Ledger
from bridge.sandbox import people
from bridge.sandbox.launch import SandboxFailed
from bridge.sandbox.world import World

SAMPLE = 30.0  # seconds between two looks
PERSON = 120.0  # seconds between two looks of the person at the doubts
OLD = 90.0  # seconds a doubt must be old before the person decides: its status may still be on its way
QUIET = 1200.0  # seconds until nothing may move at the end
STARTS = 4  # attempts at a start; on a busy machine one may take longer than its 30 s

# Stands beside what the pretend WhatsApp allows (throughput 200): a site with 50 events a second has been lifted from 80.
RATE, THROUGHPUT = 150, 200


@dataclass(slots=True)
class Plan:
    """What was asked for."""

    seconds: float
    rate: float
    fault_every: float
    kind: str
    seed: int
    patients: int
    folder: Path
    outage: float = OUTAGE


@dataclass(slots=True)
class Books:
    """What happened, for the report."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sending: int = 0  # at the kills, together
    unknown: int = 0  # listed after them, together
    resent: int = 0
    worked: float = 0.0  # seconds of load
    quiet_after: float = -1.0


class Soak:
    """`work`, then `settle`; both end early when `enough` is set."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan, self.books, self.enough = plan, Books(), threading.Event()
        plan.folder.mkdir(parents=True, exist_ok=True)
        self._progress = (plan.folder / "progress.log").open("a", encoding="utf-8", buffering=1)
        self._say = say
        self.world = World(
            plan.folder,
            store=stores.url(plan.kind, plan.folder),
            rate=RATE,
            site={"quiet_hours": {"from": "03:00", "to": "03:01"}},
            extra={"delivery": {"brake": 10_000_000, "doubt_wait": "30m"}},
            ehr_options={"arguments": ("--seed", str(plan.seed), "--workers", "4")},
            whatsapp_arguments=("--seed", str(plan.seed), "--throughput", str(THROUGHPUT)),
            seed=False,  # the patients come first, and the Subscriptions after them: nobody is told of 6,000 patients
        )
        self.shifts: list[Shift] = []
        self.fault = ""
        self._shown: set[int] = set()
        self._read = 0
        self._told = (0.0, 0, 0)

    # --- life ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Soak:
        self.world.__enter__()
        self.store = Store(self.world.store)
        self.watch = Watch(self.world, self.store, self.plan.folder)
        self.notes = Notes(self.plan.folder)
        self.world.ehr.post("faults", duplicate=0.1, reorder=0.3)
        self.world.whatsapp.post("settings", duplicate=0.3, reorder=0.2, late=2.0)
        self.shifts = shifts(
            self.world, self.notes, seed=self.plan.seed, rate=self.plan.rate, patients=self.plan.patients
        )
        return self

    def __exit__(self, *problem: object) -> None:
        for shift in self.shifts:
            shift.stop()
        self.notes.close()
        self.store.close()
        self.world.__exit__(*problem)
        self._progress.close()

    def tell(self, line: str) -> None:
        """One line for whoever watches, and for the file."""
        stamped = f"{datetime.now().astimezone():%H:%M:%S} {line}"
        self._progress.write(stamped + "\n")
        self._say(stamped)

    # --- the hours -------------------------------------------------------------------------------------------------

    def work(self) -> None:
        for shift in self.shifts:
            shift.seed()
        self.world.ehr.post("seed", resources=[*people.everybody(), *self.world.standing_orders()])
        self._start()
        faults = Faults(
            self.world, self.plan.kind, random.Random(self.plan.seed), self.enough, self._kill, self._term,
            self.plan.outage,
        )  # fmt: skip
        threads = [
            threading.Thread(target=shift.run, args=(self.enough,), name=f"shift-{shift.number}")
            for shift in self.shifts
        ]
        threads += [threading.Thread(target=self._look_on), threading.Thread(target=self._person)]
        begun = time.monotonic()
        self.watch.begun = time.time()
        for shift in self.shifts:
            shift.start()
        for thread in threads:
            thread.start()
        ender = threading.Timer(self.plan.seconds, self.enough.set)
        ender.start()
        try:
            self._break_things(faults, begun)
        finally:
            self.enough.set()
            ender.cancel()
            for thread in threads:
                thread.join(60)
            self.books.worked = time.monotonic() - begun

    def _break_things(self, faults: Faults, begun: float) -> None:
        bag: list[str] = []
        count = 0
        while True:
            count += 1
            self.enough.wait(max(0.0, begun + count * self.plan.fault_every - time.monotonic()))
            if self.enough.is_set():
                return
            bag = bag or faults.bag()
            self.fault = bag.pop()
            at = time.time()
            self.tell(f"fault: {self.fault}")
            try:
                faults.named()[self.fault]()
            except Exception as error:
                self.books.problems.append(f"{self.fault}: {type(error).__name__}: {error}")
                self.tell(f"PROBLEM {self.books.problems[-1]}")
            self.books.faults.append({"at": at - self.watch.begun, "name": self.fault, "seconds": time.time() - at})
            self.fault = ""

    # --- deaths ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for number in range(STARTS):
            try:
                took = self.world.start_engine()
            except SandboxFailed as error:
                self.tell(f"start {number + 1} failed: {str(error)[:300]}")
                self.world.kill()
                continue
            self.tell(f"engine up after {took:.1f} s")
            return
        raise SandboxFailed(f"the engine did not start in {STARTS} attempts")

    def _kill(self) -> None:
        before = self._listed()
        at = time.time()
        self.world.kill()
        died = time.time()
        sending = len(self.store.ids("SELECT id FROM outbox WHERE state = 'sending'"))
        before |= self._listed()
        self._start()
        fresh = self._listed(fenced_before=died) - before
        self.notes.write("kill", at=at, how="soak", sending=sending)
        self.books.sending += sending
        self.books.unknown += len(fresh)
        if len(fresh) > sending:
            self.books.problems.append(f"{len(fresh)} are listed as unknown, {sending} were being sent")
        self.tell(f"sending at the kill {sending}, listed as unknown {len(fresh)}")

    def _term(self) -> None:
        code = self.world.stop_engine()
        if code != 0:
            self.books.problems.append(f"SIGTERM ended the engine with {code}")
        self._start()

    def _listed(self, fenced_before: float | None = None) -> set[str]:
        ledger = Ledger(self.world.store, readonly=True)
        try:
            return {
                row["id"]
                for row in listed(ledger)
                if fenced_before is None
                or row["fenced_at"] is None
                or datetime.fromisoformat(row["fenced_at"]).timestamp() <= fenced_before
            }
        finally:
            ledger.close()

    # --- the person who looks after doubts -------------------------------------------------------------------------

    def _person(self) -> None:
        while not self.enough.wait(PERSON):
            try:
                self._look_after_doubts(OLD)
            except (SandboxFailed, DBAPIError, OSError, ValueError) as error:
                self.tell(f"the person could not look: {type(error).__name__}")

    def _look_after_doubts(self, old: float) -> int:
        """Send again what no phone shows; what one shows is settled by its status, sooner or later."""
        rows = json.loads(self.world.cli("doubts", "--json"))
        limit = time.time() - old
        mature = {
            int(row["id"].removeprefix("msg_"))
            for row in rows
            if row["fenced_at"] is None or datetime.fromisoformat(row["fenced_at"]).timestamp() < limit
        }
        lost = sorted(mature - self._on_phones()) if mature else []
        if lost:
            names = [f"msg_{message}" for message in lost]
            self.notes.write("resent", messages=names, at=time.time())
            for first in range(0, len(names), 200):
                self.world.cli("doubts", "resend", *names[first : first + 200])
            self.books.resent += len(lost)
        return len(rows)

    def _on_phones(self) -> set[int]:
        """Ids of messages that the pretend WhatsApp accepted; its journal is read on from where we were."""
        with self.world.whatsapp.journal.open("rb") as file:
            file.seek(self._read)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                self._read += len(raw)
                if b'"effect":"message"' in raw and (at := raw.find(b'"callback":"b1.')) > 0:
                    self._shown.add(int(raw[at + 15 : raw.index(b".", at + 15)]))
        return self._shown

    # --- looking on ------------------------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        return {
            "acts": sum(shift.acts for shift in self.shifts),
            "refused": sum(shift.refused for shift in self.shifts),
            "behind": round(max(shift.behind for shift in self.shifts), 2),
            "pushes": sum(shift.pending for shift in self.shifts),
            "fault": self.fault,
        }

    def _look_on(self) -> None:
        count = 0
        while not self.enough.wait(SAMPLE):
            count += 1
            try:
                self._other_rate()
                found = self.watch.look(self.figures)
                if count % 2 == 0:
                    accepted = int(self.world.whatsapp.get("state")["accepted"])
                    self.tell(self._line(found, accepted))
            except (SandboxFailed, OSError, RuntimeError) as error:
                self.tell(f"could not look: {type(error).__name__}")

    def _other_rate(self) -> None:
        """`FOLDER/rate`, when there is one, holds the acts a second from now on: for a machine that others need meanwhile."""
        path = self.plan.folder / "rate"
        if not path.exists():
            return
        wanted = float(path.read_text("utf-8")) / len(self.shifts)
        if wanted > 0 and wanted != self.shifts[0].rate:
            self.tell(f"from now on {wanted * len(self.shifts):g} acts a second")
            for shift in self.shifts:
                shift.rate = wanted

    def _line(self, found: dict[str, Any], accepted: int) -> str:
        at, acts, before = self._told
        passed = max(1.0, found["at"] - at)
        said = (
            f"{found['at'] / 60:5.1f} min  {found['acts']} acts ({(found['acts'] - acts) / passed:.1f}/s, "
            f"{found['behind']:.1f} s behind)  accepted {accepted} ({(accepted - before) / passed:.1f}/s)  waiting: "
            + " ".join(
                f"{name} {found.get(name, '?')}" for name in ("events", "messages", "writes", "doubts", "pushes")
            )
            + f"  rss {found.get('rss', 0):.0f} MB, files {found.get('files', 0)}, connections {found.get('connections', 0)}"
            f"  load {found['load']}" + (f"  [{found['fault']}]" if found["fault"] else "")
        )
        self._told = (found["at"], found["acts"], accepted)
        return said

    # --- the end ---------------------------------------------------------------------------------------------------

    def settle(self, hurry: threading.Event) -> None:
        """All faults off, the engine up, and wait until nothing moves; the person looks after what is in doubt."""
        self.world.whatsapp.post("down", down=False)
        self.world.whatsapp.delete("faults")
        self.world.ehr.delete("faults")
        if self.world.engine is None or self.world.engine.poll() is not None:
            self._start()
        begun = time.monotonic()
        calm, told = 0, 0.0
        while calm < 3 and not hurry.is_set():
            busy = self.busy()
            calm = 0 if busy else calm + 1
            waited = time.monotonic() - begun
            if waited - told > 60:
                told = waited
                self.tell(f"settling {waited:.0f} s: {busy}")
            if waited > QUIET:
                self.books.problems.append(f"not quiet after {QUIET:.0f} s: {busy}")
                break
            if set(busy) == {"webhooks"}:
                self.world.whatsapp.post("retry-now")
            if "doubts" in busy and set(busy) <= {"doubts", "webhooks"}:
                self._look_after_doubts(0.0)
            hurry.wait(1.0)
        self.books.quiet_after = time.monotonic() - begun
        self.watch.look(self.figures)

    def busy(self) -> dict[str, int]:
        found = self.store.waiting()
        found["pushes"] = sum(shift.pending for shift in self.shifts)
        found["notifications"] = int(self.world.ehr.get("idle", timeout=0.01)["pending"])
        webhooks = self.world.whatsapp.get("idle", timeout=0.01)
        found["webhooks"] = 0 if webhooks["idle"] else webhooks["fresh"] + webhooks["waiting"] + webhooks["flying"]
        return {name: count for name, count in found.items() if count}

    def balance(self) -> dict[str, Any]:
        """What `bridge ledger --json` says."""
        said: dict[str, Any] = json.loads(self.world.cli("ledger", "--json", expect=None))
        return said
