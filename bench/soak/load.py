"""A hospital of a fixed size for hours: the hostile load of `bench/faults/load.py`, in shifts, with STOP.

Each shift is a thread with its own patients, connections and chance. The rate is an open loop: an act that comes late does
not put off the next. Every patient has the minutes of a working day in an order of his own and never gets one twice, so a
text still says by itself which revision of which visit it speaks of. Who has said STOP is left alone from then on.
"""

from __future__ import annotations

import copy
import queue
import random
import threading
import time
from dataclasses import dataclass, field, replace

import requests

from bench.faults.load import Load, Notes
from bridge.sandbox import people
from bridge.sandbox.launch import SandboxFailed
from bridge.sandbox.world import World

RECENT = 600  # visits of a shift that may still change: about two minutes of bookings
DAY = range(7 * 60, 21 * 60)  # minutes of the day that visits begin at, UTC
FIRST_PHONE = 34622000000
SEED = 500  # patients in one seeding request


@dataclass(slots=True)
class Shift(Load):
    """`run` until `enough` is set. Of 100 acts 86 are a clerk's (90 versions of visits), 14 a patient's."""

    number: int = 0
    patients: int = 2000
    acts: int = 0
    behind: float = 0.0  # seconds that the last act came after its time
    stopped: set[str] = field(default_factory=set)
    refused: int = 0  # acts that the pretend servers refused
    _left: dict[int, list[int]] = field(default_factory=dict)

    def seed(self) -> None:
        """Put this shift's patients into the EHR, before anybody is notified of anything."""
        everybody = []
        for index in range(self.patients):
            name, phone = self._who(index)
            everybody.append(people.patient(name, "Prueba", f"Número {name}", phone, zone="Europe/Madrid"))
        for first in range(0, len(everybody), SEED):
            self.world.ehr.post("seed", resources=everybody[first : first + SEED])

    def run(self, enough: threading.Event) -> None:
        due = time.monotonic()
        while not enough.is_set():
            ahead = due - time.monotonic()
            self.behind = max(0.0, -ahead)
            if ahead > 0:
                enough.wait(ahead)
            try:
                self.act()
            except (SandboxFailed, requests.RequestException):
                self.refused += 1  # shown in the report; the next act comes at its time
            self.acts += 1
            due += 1 / self.rate

    def act(self) -> None:
        chance, now = self.rng.random(), time.monotonic()
        idle = [
            visit
            for visit in self._visits[-RECENT:]
            if not visit.cancelled and now - visit.changed > 1.0 and visit.phone not in self.stopped
        ]
        if chance < 0.42 or len(idle) < 5:
            self._book()
            return
        visit = self.rng.choice(idle)
        if chance < 0.46:
            self._again(visit)
        elif chance < 0.72 and visit.hours:
            self._move(visit)
        elif chance < 0.86:
            self._cancel(visit)
        elif chance < 0.95:
            self._tap(visit)
        elif chance < 0.999:
            self._say(visit)
        else:
            self._stop_messages(visit)

    def _who(self, index: int) -> tuple[str, str]:
        whole = self.number * self.patients + index + 1
        return f"s{whole:06}", str(FIRST_PHONE + whole)

    def _book(self) -> None:
        index = self.rng.randrange(self.patients)
        name, phone = self._who(index)
        if phone in self.stopped:
            return
        self._visit(index, name, phone)

    def _again(self, visit: object) -> None:
        """A second and a third visit for somebody who has just got one: their news wait in one lane."""
        index = int(getattr(visit, "phone")) - FIRST_PHONE - 1 - self.number * self.patients  # noqa: B009
        name, phone = self._who(index)
        for _ in range(2):
            self._visit(index, name, phone)

    def _visit(self, index: int, name: str, phone: str) -> None:
        if index not in self._left:
            self._left[index] = self.rng.sample(DAY, len(DAY))
        hours = self._left[index]
        if not hours:
            return
        self._count += 1
        self._save_new(f"{name}v{self._count}", f"Patient/{name}", phone, hours)
        if len(self._visits) > 4 * RECENT:
            del self._visits[: 2 * RECENT]

    def _stop_messages(self, visit: object) -> None:
        phone = str(getattr(visit, "phone"))  # noqa: B009
        self.stopped.add(phone)
        at = time.time()
        made = self.world.whatsapp.post("say", who=phone, text="BAJA")
        self.notes.write("say", who=phone, stop=True, wamid=made["wamid"], at=at)


def shifts(world: World, notes: Notes, *, seed: int, rate: float, patients: int, count: int = 3) -> list[Shift]:
    """So many shifts that share the rate and the patients; each with connections of its own."""
    made = []
    for number in range(count):
        view = copy.copy(world)
        view.ehr = replace(world.ehr, session=requests.Session())
        view.whatsapp = replace(world.whatsapp, session=requests.Session())
        made.append(
            Shift(
                view, notes, random.Random(seed * 1000 + number), rate / count,
                number=number, patients=patients // count, _pushes=queue.PriorityQueue(),
            )
        )  # fmt: skip
    return made
