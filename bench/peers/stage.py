"""A world with one peer between its pretend EHR and its pretend WhatsApp, and what may be asked of it from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import requests
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from bench import bodies, machine
from bench.peers import server
from bench.peers.peers import Peer
from bench.scenes import CONNECTIONS, SEED, Load
from bridge.sandbox import world as worlds
from bridge.sandbox.launch import SandboxFailed
from bridge.sandbox.world import World

START = 300.0  # seconds a peer may take to listen: a JVM needs ten of CPU, and a busy machine gives them slowly
GIVE_UP = 240.0  # seconds a scene may take to settle


class NotDone(RuntimeError):
    """Something that had to happen did not; the message says what, and of whom."""


class Stage:
    """Use as a context manager: the peer runs inside it."""

    def __init__(self, peer: Peer, folder: Path, people: int) -> None:
        self.peer, self.people = peer, people
        folder.mkdir(parents=True, exist_ok=True)
        calm = (datetime.now(UTC) + timedelta(hours=12)).strftime("%H")  # bridge's quiet hours, far away
        self.world = World(
            folder, store=peer.store(folder), rate=1000, writeback=False, seed=False,
            site={"quiet_hours": {"from": f"{calm}:00", "to": f"{calm}:01"}},
            whatsapp_arguments=("--throughput", "0", "--pair-seconds", "0"),
        )  # fmt: skip
        self.start_of_visits = (datetime.now(UTC) + timedelta(hours=20)).replace(microsecond=0)
        self.port = 0
        self._runs = 0

    def __enter__(self) -> Self:
        self.world.__enter__()
        try:
            seeds = bodies.people_and_places(0, self.people, consents=False)
            for first in range(0, len(seeds), SEED):
                self.world.ehr.post("seed", resources=seeds[first : first + SEED])
            self.world.whatsapp.post("settings", batch=1, duplicate=0, reorder=0, concurrency=16, retry_base=0.5)
            self.port = int(self.world.doors.rpartition(":")[2])
            self._engine = create_engine(self.world.store)
            self.start()
        except BaseException:
            self.world.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *problem: object) -> None:
        self._engine.dispose()
        self.world.__exit__(*problem)

    # --- the peer's process ----------------------------------------------------------------------------------------

    def start(self) -> float:
        """Start it and wait until its door answers; returns seconds."""
        begun = time.monotonic()
        worlds.READY = START  # the same patience for all: bridge's start is waited for elsewhere
        try:
            self.peer.start(self.world)
        except SandboxFailed as problem:
            raise NotDone(f"{self.peer.name}: {problem}") from problem
        while True:
            if self.world.engine is None or self.world.engine.poll() is not None:
                raise NotDone(f"{self.peer.name} ended at its start: {self.world.log_tail()}")
            try:
                if self.push("nobody", b"{}", secret="wrong") in {401, 403}:
                    return time.monotonic() - begun
            except requests.RequestException:
                pass
            if time.monotonic() - begun > START:
                raise NotDone(f"{self.peer.name} does not listen after {START:g} s: {self.world.log_tail()}")
            time.sleep(0.05)

    def used(self) -> machine.Used:
        assert self.world.engine is not None
        return machine.used(self.world.engine.pid)

    def cpu(self) -> float:
        """Seconds of the peer and of its database."""
        return self.used().cpu + self.store_cpu()

    def store_cpu(self) -> float:
        return server.cpu() if self.world.store.startswith("postgresql") else 0.0

    def store_memory(self) -> float:
        return server.memory() if self.world.store.startswith("postgresql") else 0.0

    # --- asking ----------------------------------------------------------------------------------------------------

    def push(self, name: str, body: bytes, *, secret: str = "") -> int:
        """One notification; returns the HTTP status."""
        url = f"{self.world.doors}/ehr/main/appointments/Appointment/{name}"
        secret = secret or self.world.environment["EHR_DOOR_SECRET"]
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/fhir+json"}
        return requests.put(url, data=body, headers=headers, timeout=10).status_code

    def accepted(self) -> int:
        return int(self.world.whatsapp.get("state")["accepted"])

    def recorded(self) -> int:
        """Messages whose `read` is recorded."""
        try:
            with self._engine.connect() as connection:
                return int(connection.execute(text(self.peer.recorded)).scalar_one())
        except DatabaseError:  # its tables come to be at its start
            return 0

    def idle(self) -> bool:
        return bool(self.world.whatsapp.idle(timeout=0.2))

    def until(self, holds: Callable[[], bool], what: str, give_up: float = GIVE_UP, every: float = 0.05) -> float:
        """Monotonic time at which it held.

        Raises:
            NotDone: it did not in `give_up` seconds.
        """
        deadline = time.monotonic() + give_up
        while not holds():
            if self.world.engine is None or self.world.engine.poll() is not None:
                raise NotDone(f"{self.peer.name} ended by itself: {self.world.log_tail()}")
            if time.monotonic() > deadline:
                raise NotDone(f"{self.peer.name}: not within {give_up:g} s: {what}; {self.world.log_tail()}")
            time.sleep(every)
        return time.monotonic()

    def appointments(self, first: int, count: int) -> Load:
        """The load process with `count` notifications, ready to go."""
        self._runs += 1
        job: dict[str, Any] = {
            "kind": "appointments", "run": f"r{self._runs}", "first": first, "count": count, "port": self.port,
            "start": self.start_of_visits.isoformat(), "rate": 0, "connections": CONNECTIONS,
            "secret": self.world.environment["EHR_DOOR_SECRET"],
        }  # fmt: skip
        return Load(job)
