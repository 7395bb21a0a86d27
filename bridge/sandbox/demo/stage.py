"""The stage of the demo: a world, its clock, and what can be seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from bridge.sandbox import people
from bridge.sandbox.people import ANA_PHONE, BEATRIZ_PHONE, FATHER_PHONE, LUCIA_PHONE, UNASKED_PHONE, Resource
from bridge.sandbox.world import World

MADRID = ZoneInfo("Europe/Madrid")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
OPENING = 14  # o'clock in Madrid: the day has begun in São Paulo too, so nobody's quiet hours hold anything back
AHEAD = 5  # days at least before the visit: the reminder three days before is still to come
DOCTOR, PLACE, PLACE_SP = "Dra. Ruiz Salvat", "Consultas externas, planta 2", "Clínica Paulista, sala 4"
PHONES = {
    "ana": ANA_PHONE,
    "lucia": LUCIA_PHONE,
    "beatriz": BEATRIZ_PHONE,
    "irene": UNASKED_PHONE,
    "father": FATHER_PHONE,  # Mateo's, who is nine
}


@dataclass(frozen=True, slots=True)
class Check:
    """One ✓ or ✗."""

    claim: str
    expected: Any
    seen: Any

    @property
    def holds(self) -> bool:
        return bool(self.expected == self.seen)


@dataclass(slots=True)
class Stage:
    """What the steps share. `broken` is the number of a step whose first expectation is altered: its ✓ must fail."""

    world: World
    lang: str = "es"
    broken: int | None = None
    step: int = 0
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = 0.0  # seconds until the engine answered
    visit: datetime = field(default_factory=lambda: datetime.now(UTC))  # Ana's: a Wednesday, 15:30 in Madrid

    # --- time ------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Business time."""
        return datetime.now(UTC) + timedelta(seconds=self.world.pushed)

    def push_to(self, moment: datetime) -> None:
        """Business time goes ahead to `moment`, never back."""
        seconds = (moment - self.now()).total_seconds()
        if seconds > 0:
            self.world.push_clock(seconds)

    def open(self) -> None:
        """Start the engine, and begin at two in the afternoon."""
        self.started = self.world.start_engine()
        local = self.now().astimezone(MADRID)
        opening = local.replace(hour=OPENING, minute=0, second=0, microsecond=0)
        self.push_to(opening if local <= opening else opening + timedelta(days=1))
        day = (self.now().astimezone(MADRID) + timedelta(days=AHEAD)).replace(hour=15, minute=30)
        day += timedelta(days=(2 - day.weekday()) % 7)
        self.visit = day.replace(second=0, microsecond=0)

    # --- what happens ----------------------------------------------------------------------------------------------

    def book(self, name: str, who: str, start: datetime, *, place: str = "Location/consultas") -> None:
        """A clerk books a visit in the EHR."""
        self.world.save(people.appointment(name, start, patient=f"Patient/{who}", place=place))

    def say(self, who: str, text: str) -> str:
        return str(self.world.whatsapp.post("say", who=PHONES[who], text=text)["wamid"])

    def tap(self, who: str, bubble: dict[str, Any], index: int) -> str:
        return str(self.world.whatsapp.post("tap", who=PHONES[who], wamid=bubble["wamid"], index=index)["wamid"])

    # --- what is seen ----------------------------------------------------------------------------------------------

    def bubbles(self, who: str, *, words: str = "") -> list[dict[str, Any]]:
        """What the hospital wrote to this phone; `words` keeps those of one text."""
        shown = [b for b in self.world.bubbles(PHONES[who]) if b["from"] == "business"]
        return [b for b in shown if not words or b["body"] == words]

    def await_bubble(self, who: str, number: int, timeout: float = 20) -> dict[str, Any]:
        """The bubble of that number (1 = the first), or an empty one when it does not come."""
        self.until(lambda: len(self.bubbles(who)) >= number, timeout)
        shown = self.bubbles(who)
        return shown[number - 1] if len(shown) >= number else {"body": "", "buttons": [], "wamid": "", "at": 0.0}

    def posted(self, who: str) -> list[dict[str, Any]]:
        """Journal of the pretend WhatsApp: messages to this person that it put on their way."""
        return [line for line in self.world.accepted() if line["ids"]["to"].lstrip("+") == PHONES[who]]

    def writes(self, reference: str) -> list[dict[str, Any]]:
        """Journal of the pretend EHR: changes of this resource (or type) that came from outside and held."""
        lines = self.world.ehr.lines(dir="in", effect="write")
        return [line for line in lines if any(w.startswith(f"{reference}/") for w in line["ids"]["written"])]

    def held(self, kind: str) -> list[Resource]:
        """Everything of a type that the EHR holds."""
        found: list[Resource] = self.world.ehr.get(f"resources/{kind}")
        return found

    def version(self, reference: str) -> str:
        return str(self.world.ehr.get(f"resources/{reference}")["version"])

    def webhook(self, wamid: str) -> tuple[str, bytes, dict[str, str]]:
        """A webhook as it left, byte for byte: URL, body, headers with its signature."""

        class Line(msgspec.Struct):
            dir: str
            path: str = ""
            headers: dict[str, str] = {}
            body: msgspec.Raw = msgspec.Raw(b"")
            ids: dict[str, Any] = {}

        with self.world.whatsapp.journal.open("rb") as lines:
            for raw in lines:
                line = msgspec.json.decode(raw, type=Line)
                if line.dir == "out" and wamid in line.ids.get("updates", ()):
                    return line.path, bytes(line.body), line.headers | {"Content-Type": "application/json"}
        raise LookupError("no webhook carried it")

    def until(self, holds: Callable[[], Any], timeout: float = 20) -> Any:
        """Wait until `holds()` is true; returns what it said last. A ✓ that then fails shows what was seen instead."""
        deadline = time.monotonic() + timeout
        while not (found := holds()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def quiet(self, seconds: float) -> None:
        """Give what should not happen the time to happen."""
        time.sleep(seconds)
        self.world.whatsapp.idle()
        self.world.ehr.idle()

    # --- what is claimed -------------------------------------------------------------------------------------------

    def see(self, claim: str, expected: Any, seen: Any) -> None:
        """A ✓ when both are equal."""
        if self.broken == self.step and not self.checks:
            expected = f"{expected} (altered on purpose)"
        self.checks.append(Check(claim, expected, seen))

    def tell(self, note: str) -> None:
        """A line for the reader."""
        self.notes.append(note)


def cast(lang: str) -> list[Resource]:
    """The people of the demo; those of Madrid speak `lang`."""
    speaks = [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": lang}]}, "preferred": True}]
    madrid = {"ana", "lucia", "irene", "mateo", "mateo-father"}
    return [one | {"communication": speaks} if one["id"] in madrid else one for one in people.everybody()]


@contextmanager
def stage(folder: Path, *, lang: str = "es", polite: bool = False, broken: int | None = None) -> Iterator[Stage]:
    """A world in `folder`, its engine not started yet; every process ends with the block."""
    with World(folder, polite=polite, seed=False) as world:
        world.ehr.post("seed", resources=[*cast(lang), *world.standing_orders()])
        for name, wa_id in (("Ana", ANA_PHONE), ("Lucía", LUCIA_PHONE), ("Beatriz", BEATRIZ_PHONE)):
            world.whatsapp.post("people", wa_id=wa_id, name=name)
        yield Stage(world, lang, broken)
