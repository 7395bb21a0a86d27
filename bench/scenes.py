"""What is measured: one world (pretend EHR, pretend WhatsApp, real engine, load; a process each) carried through its scenes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import create_engine, text

from bench import bodies, machine, stores
from bridge.sandbox.world import World

CONNECTIONS = 64
ROOT = Path(__file__).parent.parent
GIVE_UP = 180.0  # seconds a scene may take to settle
SEED = 1000  # resources of one seeding request


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of the engine is at work. Encryption of bodies and contents cannot be switched off, so it is in both."""

    name: str
    what: str
    consents: bool
    writeback: bool
    ahead: timedelta  # of the visit: a visit in 20 h arms no reminder, one in 9 days arms two


PROFILES = {
    "core": Profile("core", "no consent rules, no write-back, no reminders; encryption on", False, False, timedelta(hours=20)),
    "complete": Profile(
        "complete", "consent required and read from the EHR, policy, two reminders armed, Communication written back", True,
        True, timedelta(days=9),
    ),
}  # fmt: skip


@dataclass(slots=True)
class Figures:
    """One round's figures by name."""

    store: str
    profile: str
    values: dict[str, float] = field(default_factory=dict)
    load_average: float = 0.0


class Load:
    """The load process with one job, ready to go."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._write(json.dumps(job))
        self._read()

    def go(self) -> None:
        self._write("go")

    def result(self) -> dict[str, Any]:
        result = self._read()
        self._process.communicate()
        wrong = {status: count for status, count in result["answers"].items() if status != "200"}
        if wrong:
            raise RuntimeError(f"the door did not answer 200 to everything: {wrong}")
        return result

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load process ended early; see its stderr")
        found: dict[str, Any] = json.loads(line)
        return found


class Stage:
    """A world that is up, and what is asked of it. Looks into the engine's store only to count what is still waiting."""

    def __init__(self, folder: Path, store: str, profile: Profile, people: int) -> None:
        self.store, self.profile = store, profile
        purposes = {
            "appointments": {"without_decision": "block"}
            if profile.consents
            else {"without_decision": "send", "basis": "care"},
            "results": {"without_decision": "block"},
        }
        recognise = [{"category": "http://loinc.org|89057-4", "purposes": ["appointments", "results"]}]
        calm = (datetime.now(UTC) + timedelta(hours=12)).strftime(
            "%H"
        )  # quiet hours are asked at each fence, and far away
        self.world = World(
            folder, store=stores.url(store, folder), rate=1000, writeback=profile.writeback, seed=False,
            site={"quiet_hours": {"from": f"{calm}:00", "to": f"{calm}:01"}},
            extra={"consent": {"purposes": purposes, "recognise": recognise if profile.consents else []}},
            whatsapp_arguments=("--throughput", "0", "--pair-seconds", "0"),
        )  # fmt: skip
        self.world.__enter__()
        seeds = bodies.people_and_places(0, people, consents=profile.consents)
        for first in range(0, len(seeds), SEED):
            self.world.ehr.post("seed", resources=seeds[first : first + SEED])
        self.manners(batch=1, duplicate=0, reorder=0, concurrency=16, paused=True)
        self.port = int(self.world.doors.rpartition(":")[2])
        self._engine = create_engine(self.world.store)
        self._names = 0

    def close(self) -> None:
        self._engine.dispose()
        self.world.__exit__(None, None, None)

    def manners(self, **values: Any) -> None:
        self.world.whatsapp.post("settings", **values)

    # --- looking ---------------------------------------------------------------------------------------------------

    def accepted(self) -> int:
        return int(self.world.whatsapp.get("state")["accepted"])

    def count(self, sql: str) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(sql)).scalar_one())

    def waiting(self, kind: str) -> int:
        return self.count(f"SELECT count(*) FROM inbox WHERE fate IS NULL AND kind = '{kind}'")

    def used(self) -> machine.Used:
        assert self.world.engine is not None
        return machine.used(self.world.engine.pid)

    def store_cpu(self) -> float:
        pid = stores.server_pid(self.store)
        return machine.cpu_of_children(pid) if pid is not None else 0.0

    def sandbox_cpu(self) -> float:
        """Of the pretend EHR and WhatsApp: they share the cores with the engine."""
        return sum(machine.used(one.process.pid).cpu for one in (self.world.ehr, self.world.whatsapp))

    @staticmethod
    def until(holds: Callable[[], bool], what: str, every: float = 0.05) -> float:
        """Monotonic time at which it held."""
        deadline = time.monotonic() + GIVE_UP
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {GIVE_UP:g} s: {what}")
            time.sleep(every)
        return time.monotonic()

    # --- doing -----------------------------------------------------------------------------------------------------

    def appointments(self, first: int, count: int, rate: float = 0) -> Load:
        self._names += 1
        return Load({
            "kind": "appointments", "run": f"r{self._names}", "first": first, "count": count, "port": self.port,
            "start": (datetime.now(UTC) + self.profile.ahead).isoformat(timespec="seconds"), "rate": rate,
            "secret": self.world.environment["EHR_DOOR_SECRET"], "connections": CONNECTIONS,
        })  # fmt: skip

    def statuses(self, sent: Sequence[Sequence[str]], names: Sequence[str], size: int) -> Load:
        return Load({
            "kind": "statuses", "sent": sent, "names": names, "size": size, "port": self.port,
            "secret": self.world.environment["META_APP_SECRET"], "connections": CONNECTIONS if size == 1 else 8,
        })  # fmt: skip

    def sent(self) -> list[tuple[str, str, str]]:
        """(wamid, callback, wa_id) of what WhatsApp accepted."""
        return [(line["ids"]["wamid"], line["ids"]["callback"], line["ids"]["to"]) for line in self.world.accepted()]


def start(stage: Stage) -> dict[str, float]:
    """From the process's start to the first acknowledged notification."""
    begun = time.monotonic()
    stage.world.start_engine()
    name, body = bodies.appointments("first", 0, 1, datetime.now(UTC) + stage.profile.ahead)[0]
    url = f"{stage.world.doors}/ehr/main/appointments/Appointment/{name}"
    header = {"Authorization": f"Bearer {stage.world.environment['EHR_DOOR_SECRET']}"}
    answer = requests.put(url, data=body, headers=header, timeout=10)
    answer.raise_for_status()
    seconds = time.monotonic() - begun
    stage.until(lambda: stage.accepted() == 1, "the first message")
    message = time.monotonic() - begun
    stage.world.stop_engine()
    begun = time.monotonic()
    stage.world.start_engine()
    requests.put(url, data=body, headers=header, timeout=10).raise_for_status()
    again = time.monotonic() - begun
    return {"start_s": seconds, "restart_s": again, "first_message_s": message, "rss_start_mb": stage.used().rss}


def burst(stage: Stage, first: int, count: int) -> dict[str, float]:
    """`count` notifications as fast as the door takes them, the engine working behind it; then until all are sent.

    Statuses are held back, so what is measured is the way out alone.
    """
    load = stage.appointments(first, count)
    before, cpu, store = stage.accepted(), stage.used().cpu, stage.store_cpu()
    begun = time.monotonic()
    load.go()
    door = load.result()
    ended = stage.until(lambda: stage.accepted() >= before + count, "every message accepted")
    after = stage.used()
    return {
        "ehr_door_acks_s": door["rate"], "ehr_door_p50_ms": door["p50_ms"], "ehr_door_p99_ms": door["p99_ms"],
        "load_cpu_us": door["cpu_us"], "sends_s": count / (ended - begun), "send_cpu_ms": (after.cpu - cpu) / count * 1000,
        "send_store_cpu_ms": (stage.store_cpu() - store) / count * 1000,
    }  # fmt: skip


def steady(stage: Stage, first: int, count: int, rate: float) -> dict[str, float]:
    """The EHR's door at a fixed rate well under its limit: the latency that a site would see."""
    load = stage.appointments(first, count, rate)
    before = stage.accepted()
    load.go()
    door = load.result()
    stage.until(lambda: stage.accepted() >= before + count, "every message accepted")
    return {"steady_p50_ms": door["p50_ms"], "steady_p99_ms": door["p99_ms"]}


def statuses(stage: Stage) -> dict[str, float]:
    """Statuses of what was sent so far: `sent` one per request, `delivered` and `read` a hundred per request."""
    sent = stage.sent()
    figures: dict[str, float] = {}
    for label, names, size in (("single", ["sent"], 1), ("batched", ["delivered", "read"], 100)):
        load = stage.statuses(sent, names, size)
        cpu = stage.used().cpu
        begun = time.monotonic()
        load.go()
        door = load.result()
        ended = stage.until(lambda: stage.waiting("status") == 0, "every status applied")
        count = len(sent) * len(names)
        figures |= {
            f"{label}_acks_s": count / door["seconds"], f"{label}_p50_ms": door["p50_ms"], f"{label}_p99_ms": door["p99_ms"],
            f"{label}_applied_s": count / (ended - begun), f"{label}_cpu_us": (stage.used().cpu - cpu) / count * 1e6,
        }  # fmt: skip
    return figures


def whole(stage: Stage, first: int, count: int, size: int) -> dict[str, float]:
    """End to end with three statuses a message, `size` of them at most in one webhook, until nothing is left to do."""
    stage.manners(batch=size, paused=False)
    stage.until(lambda: bool(stage.world.whatsapp.idle(timeout=1)), "held-back statuses delivered")
    stage.until(lambda: stage.waiting("status") == 0 and not _writes(stage), "quiet before the run")
    load = stage.appointments(first, count)
    before, cpu, store, beside = stage.accepted(), stage.used().cpu, stage.store_cpu(), stage.sandbox_cpu()
    begun = time.monotonic()
    load.go()
    load.result()
    sent = stage.until(lambda: stage.accepted() >= before + count, "every message accepted")
    stage.until(lambda: bool(stage.world.whatsapp.idle(timeout=1)), "every status delivered")
    ended = stage.until(lambda: stage.waiting("status") == 0 and not _writes(stage), "statuses applied, EHR written")
    used = stage.used()
    return {
        "whole_s": count / (ended - begun), "whole_sends_s": count / (sent - begun),
        "whole_cpu_ms": (used.cpu - cpu) / count * 1000, "whole_store_cpu_ms": (stage.store_cpu() - store) / count * 1000,
        "whole_sandbox_cpu_ms": (stage.sandbox_cpu() - beside) / count * 1000, "rss_mb": used.rss, "peak_mb": used.peak,
    }  # fmt: skip


def _writes(stage: Stage) -> int:
    return stage.count("SELECT count(*) FROM write WHERE state IN ('asked','sending')")


def measure(folder: Path, store: str, profile: Profile, count: int, *, size: int, rate: float) -> Figures:
    """One round on a fresh store."""
    figures = Figures(store, profile.name)
    stage = Stage(folder, store, profile, 3 * count + 1)
    try:
        figures.values |= start(stage)
        figures.values |= burst(stage, 1, count)
        figures.values |= steady(stage, count + 1, count // 2, rate)
        figures.values |= statuses(stage)
        figures.values |= whole(stage, 2 * count, count, size)
        figures.load_average = machine.load()
    finally:
        stage.close()
    return figures
