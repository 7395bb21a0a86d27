"""A hospital at work and its patients, outside the engine: saves, pushes, taps, texts; again until acknowledged.

The pretend EHR notifies by itself, doubled and out of order; beside it the load pushes half of the versions to the door
once more, as a second integration engine would. Patients act through the pretend WhatsApp, whose webhooks do the same.
Every acknowledgement is a line in `acks.jsonl`. No patient has an hour twice, whatever is moved: so a text says by itself
which revision of which visit it is about. Some patients have several visits, whose news queue in one conversation.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from bench.faults.history import ACKS
from bridge.sandbox import people
from bridge.sandbox.launch import SandboxFailed
from bridge.sandbox.world import World

PUSHERS = 4
AGAIN = 0.25  # seconds before the second attempt; doubles up to 2 s
GIVE_UP = 90.0  # seconds
FIRST_PHONE = 34622000000


class Notes:
    """Appends JSON lines; safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / ACKS).open("a", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()

    def write(self, what: str, **values: Any) -> None:
        with self._lock:
            self._file.write(json.dumps({"what": what} | values) + "\n")

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True)
class _Visit:
    reference: str
    phone: str
    hours: list[int]  # minutes of the day that this patient's visits have not had yet; shared by them
    start: datetime
    cancelled: bool = False
    changed: float = 0.0
    tapped: bool = False
    more: bool = False  # this patient has all the visits he gets


@dataclass(slots=True)
class Load:
    """`work` acts for a while; `pending` counts pushes that nobody has acknowledged yet."""

    world: World
    notes: Notes
    rng: random.Random
    rate: float = 15.0  # acts a second
    _visits: list[_Visit] = field(default_factory=list)
    _pushes: queue.PriorityQueue[tuple[float, int, dict[str, Any]]] = field(default_factory=queue.PriorityQueue)
    _count: int = 0
    _flying: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: bool = True
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(PUSHERS):
            thread = threading.Thread(target=self._push, name=f"push-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._open = False
        for thread in self._threads:
            thread.join(15)

    @property
    def pending(self) -> int:
        with self._lock:
            return self._flying

    def work(self, seconds: float, until: threading.Event | None = None) -> int:
        """Act at the rate for that long, or until somebody says it is enough; returns how many acts."""
        done, begun = 0, time.monotonic()
        while time.monotonic() - begun < seconds and not (until is not None and until.is_set()):
            self.act()
            done += 1
            ahead = begun + done / self.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        return done

    # --- acts ------------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """One thing that somebody does."""
        chance = self.rng.random()
        now = time.monotonic()
        idle = [v for v in self._visits[-150:] if not v.cancelled and now - v.changed > 1.0]
        if chance < 0.35 or len(idle) < 5:
            self._book()
            return
        if chance < 0.45:
            self._book_more()
            return
        visit = self.rng.choice(idle)
        if chance < 0.60 and len(visit.hours) > 1:
            self._move(visit)
        elif chance < 0.68:
            self._cancel(visit)
        elif chance < 0.88:
            self._tap(visit)
        else:
            self._say(visit)

    def _book(self) -> None:
        self._count += 1
        name, phone = f"k{self._count:05}", str(FIRST_PHONE + self._count)
        person = people.patient(name, "Prueba", f"Número {self._count}", phone, zone="Europe/Madrid")
        self.world.ehr.post("seed", resources=[person])
        hours = self.rng.sample(range(8 * 60, 20 * 60), 12)
        self._save_new(name, f"Patient/{name}", phone, hours)

    def _book_more(self) -> None:
        """Further visits of somebody who has one, within a moment: their news wait in one lane for the recipient's rate."""
        first = self.rng.choice(self._visits[-40:])
        if first.more or len(first.hours) < 6:
            return
        first.more = True
        patient = first.reference.removeprefix("Appointment/")
        for more in "bc":
            self._save_new(f"{patient}{more}", f"Patient/{patient}", first.phone, first.hours)
            self._visits[-1].more = True

    def _save_new(self, name: str, patient: str, phone: str, hours: list[int]) -> None:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        start = today + timedelta(days=9 + self._count % 5, minutes=hours.pop())
        visit = _Visit(f"Appointment/{name}", phone, hours, start)
        self.world.save(people.appointment(name, start, patient=patient))
        self._visits.append(visit)
        self._changed(visit)

    def _move(self, visit: _Visit) -> None:
        visit.start = visit.start.replace(hour=0, minute=0) + timedelta(minutes=visit.hours.pop())
        self._patch(visit, start=visit.start.isoformat(), end=(visit.start + timedelta(minutes=30)).isoformat())

    def _cancel(self, visit: _Visit) -> None:
        visit.cancelled = True
        self._patch(visit, status="cancelled")

    def _patch(self, visit: _Visit, **values: str) -> None:
        """A clerk changes some elements; what a patient has accepted stays."""
        changes = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in values.items()]
        self.world.ehr.patch(f"resources/{visit.reference}", changes)
        self._changed(visit)

    def _changed(self, visit: _Visit) -> None:
        visit.changed = time.monotonic()
        if self.rng.random() < 0.5:
            return
        held = self.world.held(visit.reference)
        for _ in range(2 if self.rng.random() < 0.2 else 1):
            with self._lock:
                self._flying += 1
            self._pushes.put((time.monotonic() + self.rng.uniform(0, 0.5), id(held), held))

    def _tap(self, visit: _Visit) -> None:
        with_buttons = [b for b in self.world.bubbles(visit.phone) if b["from"] == "business" and b["buttons"]]
        if not with_buttons or visit.tapped:
            self._say(visit)
            return
        visit.tapped = True
        at = time.time()
        try:
            made = self.world.whatsapp.post("tap", who=visit.phone, wamid=with_buttons[-1]["wamid"], index=0)
        except SandboxFailed:
            return
        self.notes.write("tap", who=visit.phone, about=visit.reference, wamid=made["wamid"], at=at)

    def _say(self, visit: _Visit) -> None:
        at = time.time()
        made = self.world.whatsapp.post("say", who=visit.phone, text="¿Tengo que ir en ayunas?")
        self.notes.write("say", who=visit.phone, about=visit.reference, wamid=made["wamid"], at=at)

    # --- pushing ---------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        with requests.Session() as session:
            while self._open:
                try:
                    due, _, resource = self._pushes.get(timeout=0.2)
                except queue.Empty:
                    continue
                time.sleep(max(0.0, min(due - time.monotonic(), 1.0)))
                self._deliver(session, resource)
                with self._lock:
                    self._flying -= 1

    def _deliver(self, session: requests.Session, resource: dict[str, Any]) -> None:
        reference, version = f"Appointment/{resource['id']}", resource["meta"]["versionId"]
        headers = {
            "Authorization": f"Bearer {self.world.environment['EHR_DOOR_SECRET']}",
            "Content-Type": "application/fhir+json",
        }
        begun, wait, tries = time.time(), AGAIN, 0
        while self._open and time.time() - begun < GIVE_UP:
            tries += 1
            try:
                answer = session.put(
                    f"{self.world.doors}/ehr/main/appointments/{reference}",
                    data=json.dumps(resource).encode(), headers=headers, timeout=10,
                )  # fmt: skip
                if answer.ok:
                    self.notes.write(
                        "push", reference=reference, version=version, begun=begun, acked=time.time(), tries=tries
                    )
                    return
            except requests.RequestException:
                pass
            time.sleep(wait)
            wait = min(wait * 2, 2.0)
        self.notes.write("push", reference=reference, version=version, begun=begun, acked=None, tries=tries)
