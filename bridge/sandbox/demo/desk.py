"""What a hand on the demo's page can do: book, move, cancel, tap, write, push the clock, break something."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import requests

from bridge.sandbox import people
from bridge.sandbox.demo.stage import MADRID, PHONES, SAO_PAULO, Stage
from bridge.sandbox.world import post

SPEAKS = {"es": "Español", "en": "English", "pt": "Português"}
HOPS = 8  # due times that one push stops at
STORMS = 2  # sends that WhatsApp refuses with 429


@dataclass(frozen=True, slots=True)
class Somebody:
    """One of the patients on the page."""

    key: str  # "ana": Patient/ana
    name: str
    phone: str  # key of PHONES
    label: str  # of the phone
    place: str
    guardian: str | None = None  # RelatedPerson's id: their language counts


CAST = {
    one.key: one
    for one in (
        Somebody("ana", "Ana", "ana", "Ana's phone", "Location/consultas"),
        Somebody("beatriz", "Beatriz", "beatriz", "Beatriz's phone", "Location/paulista"),
        Somebody("lucia", "Lucía", "lucia", "Lucía's phone", "Location/consultas"),
        Somebody("mateo", "Mateo, 9", "father", "Mateo's father's phone", "Location/consultas", "mateo-father"),
    )
}


@dataclass(frozen=True, slots=True)
class Replay:
    """A webhook that was delivered a second time."""

    at: float
    what: str
    status: int


@dataclass(slots=True)
class Desk:
    """One desk, one hand at a time: `lock` is held by whoever acts or looks."""

    stage: Stage
    lock: threading.Lock = field(default_factory=threading.Lock)
    replays: list[Replay] = field(default_factory=list)
    pushes: list[tuple[float, float]] = field(default_factory=list)  # (machine time, seconds ahead from then on)
    down: bool = False
    booked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pushes.append((0.0, self.stage.world.pushed))

    # --- a clerk in the EHR ----------------------------------------------------------------------------------------

    def book(self, who: str) -> None:
        """A visit in about a week: 15:30 in Madrid, 11:30 in São Paulo."""
        somebody = CAST[who]
        zone, hour = (SAO_PAULO, 11) if somebody.place.endswith("paulista") else (MADRID, 15)
        number = self.booked[who] = self.booked.get(who, 0) + 1
        day = self.stage.now().astimezone(zone) + timedelta(days=6 + number)
        start = day.replace(hour=hour, minute=30, second=0, microsecond=0)
        self.stage.book(f"{who}-{number}", who, start.astimezone(MADRID), place=somebody.place)

    def move(self, who: str) -> None:
        """Two days later, at ten."""
        visit = self.newest(who)
        if visit is None:
            return
        moved = (datetime.fromisoformat(visit["start"]).astimezone(MADRID) + timedelta(days=2)).replace(
            hour=10, minute=0
        )
        self.stage.world.ehr.patch(
            f"resources/Appointment/{visit['id']}",
            [
                {"op": "replace", "path": "/start", "value": moved.isoformat()},
                {"op": "replace", "path": "/end", "value": (moved + timedelta(minutes=30)).isoformat()},
            ],
        )

    def cancel(self, who: str) -> None:
        visit = self.newest(who)
        if visit is not None:
            operation = {"op": "replace", "path": "/status", "value": "cancelled"}
            self.stage.world.ehr.patch(f"resources/Appointment/{visit['id']}", [operation])

    def consent(self, who: str, *, permit: bool) -> None:
        """The patient signs at the front desk."""
        now = self.stage.now().replace(microsecond=0)
        self.stage.world.save(people.consent(f"{who}-desk", f"Patient/{who}", now, permit=permit))

    def speak(self, who: str, lang: str) -> None:
        """The EHR learns another preferred language."""
        somebody = CAST[who]
        speaks = [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": lang}]}, "preferred": True}]
        if lang not in SPEAKS:
            return
        references = [f"Patient/{who}"] + ([f"RelatedPerson/{somebody.guardian}"] if somebody.guardian else [])
        for reference in references:
            self.stage.world.save(self.stage.world.held(reference) | {"communication": speaks})

    def language(self, who: str) -> str:
        """What whoever is written to prefers, as the EHR holds it: es, en or pt."""
        somebody = CAST[who]
        reference = f"RelatedPerson/{somebody.guardian}" if somebody.guardian else f"Patient/{who}"
        spoken = self.stage.world.held(reference)["communication"][0]["language"]["coding"][0]["code"]
        return str(spoken)[:2]

    def visits(self, who: str) -> list[dict[str, Any]]:
        """Everything booked for this patient, newest first."""
        mine = [
            a for a in self.stage.held("Appointment") if a["participant"][0]["actor"]["reference"] == f"Patient/{who}"
        ]
        return sorted(mine, key=lambda a: int(a["id"].rpartition("-")[2]), reverse=True)

    def newest(self, who: str) -> dict[str, Any] | None:
        return next((a for a in self.visits(who) if a["status"] == "booked"), None)

    # --- a patient on the phone ------------------------------------------------------------------------------------

    def say(self, who: str, text: str) -> None:
        if text.strip():
            self.stage.say(CAST[who].phone, text.strip()[:1000])

    def tap(self, who: str, wamid: str, index: int) -> None:
        self.stage.tap(CAST[who].phone, {"wamid": wamid}, index)

    # --- time ------------------------------------------------------------------------------------------------------

    def push(self, by: timedelta) -> None:
        """Time passes: what falls due on the way leaves at its time, not too late at the end."""
        target = self.stage.now() + by
        for _ in range(HOPS):
            due = self.next_due()
            if due is None or due >= target:
                break
            self._push(max(due - self.stage.now(), timedelta(0)) + timedelta(seconds=1))
            self.stage.until(partial(self._gone, due), 2)
        self._push(target - self.stage.now())

    def _push(self, by: timedelta) -> None:
        self.stage.world.push_clock(max(0.0, by.total_seconds()))
        self.pushes.append((time.time(), self.stage.world.pushed))

    def next_due(self, who: str | None = None) -> datetime | None:
        """When the next message that waits for its time will leave (to this patient), as the engine's API says."""
        about = {"about": ",".join(f"Appointment/{a['id']}" for a in self.visits(who))} if who is not None else {}
        due = self.api("clock", **about).get("next_due")
        return datetime.fromisoformat(due) if due else None

    def _gone(self, due: datetime) -> bool:
        return self.next_due() != due

    def push_to_due(self, who: str) -> None:
        due = self.next_due(who)
        if due is not None:
            self.push(due - self.stage.now() + timedelta(seconds=1))

    def push_to_night(self) -> None:
        """Ten in the evening in Madrid: quiet hours."""
        local = self.stage.now().astimezone(MADRID)
        night = local.replace(hour=22, minute=0, second=0, microsecond=0)
        self.push((night if night > local else night + timedelta(days=1)) - local)

    def business(self, machine: float) -> datetime:
        """What the pushed clock showed at a machine time."""
        pushed = 0.0
        for at, seconds in self.pushes:
            if at <= machine:
                pushed = seconds
        return datetime.fromtimestamp(machine + pushed, MADRID)

    # --- faults ----------------------------------------------------------------------------------------------------

    def duplicate(self, who: str) -> bool:
        """The last webhook with something this patient said comes a second time; False if there is none."""
        said = [b for b in self.stage.world.bubbles(PHONES[CAST[who].phone]) if b["from"] == "patient"]
        if not said:
            return False
        try:
            url, body, headers = self.stage.webhook(said[-1]["wamid"])
        except LookupError:  # said a moment ago, and not on its way yet
            return False
        self.replays.append(Replay(time.time(), said[-1]["body"], post(url, body, headers).status_code))
        return True

    def set_down(self, *, down: bool) -> None:
        self.stage.world.ehr.post("faults", down="refused" if down else "")
        self.down = down

    def storm(self) -> None:
        self.stage.world.whatsapp.post("faults", what="storm", times=STORMS)

    def storms(self) -> int:
        """Sends that will still be refused."""
        return sum(rule["times"] for rule in self.stage.world.whatsapp.get("faults") if rule["what"] == "storm")

    # --- the engine, asked over its console as any page would ------------------------------------------------------

    def api(self, path: str, **query: str | int) -> dict[str, Any]:
        answer = requests.get(f"{self.stage.world.console}/api/v1/{path}", params=query, timeout=5)
        found: dict[str, Any] = answer.json()
        return found

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.stage.world.console}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False
