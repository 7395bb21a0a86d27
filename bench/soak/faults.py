"""What may go wrong during a soak: a name, and what is done. Each ends by putting right what it broke."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import stores
from bridge.sandbox.world import World

OUTAGE = 60.0  # seconds that a neighbour is away or slow
GONE = 3.0  # seconds that PostgreSQL is away between its crash and its start


@dataclass(slots=True)
class Faults:
    """`kill` and `term` come from the run, which keeps the books of a death; the others are done here."""

    world: World
    kind: str  # of the store
    rng: random.Random
    enough: threading.Event
    kill: Callable[[], None]
    term: Callable[[], None]
    outage: float = OUTAGE

    def named(self) -> dict[str, Callable[[], None]]:
        """Everything that may be drawn, by name."""
        found: dict[str, Callable[[], None]] = {
            "engine killed (SIGKILL)": self.kill,
            "engine killed again (SIGKILL)": self.kill,
            "engine restarted (SIGTERM)": self.term,
            "EHR refuses connections": lambda: self._ehr(down="refused"),
            "EHR resets connections": lambda: self._ehr(down="close"),
            "EHR answers 503": lambda: self._ehr(down="503"),
            "EHR answers a gateway's page": lambda: self._ehr(down="html"),
            "EHR slow (2 s)": lambda: self._ehr(slow=2.0),
            "EHR loses answers of writes": lambda: self._ehr(drop_answer=20),
            "WhatsApp refuses connections": self._whatsapp_down,
            "WhatsApp slow (3 s)": lambda: self._whatsapp(what="delay", seconds=3.0, times=-1, probability=0.8),
            "WhatsApp 429 storm": lambda: self._whatsapp(what="storm", times=-1),
            "WhatsApp answers 500": lambda: self._whatsapp(what="html500", times=-1, probability=0.7),
            "WhatsApp loses answers": lambda: self._whatsapp(what="drop_answer", times=200, probability=0.1),
        }
        if self.kind == "postgresql":
            found |= {
                "PostgreSQL crashes (immediate), is back after 3 s": self._postgres_crash,
                "PostgreSQL ends every connection, five times": self._postgres_cut,
            }
        return found

    def bag(self) -> list[str]:
        """All names in an order drawn by the seed; when it is empty, it is drawn again."""
        names = list(self.named())
        self.rng.shuffle(names)
        return names

    def _ehr(self, **values: object) -> None:
        self.world.ehr.post("faults", dict(values))
        try:
            self.enough.wait(self.outage)
        finally:
            self.world.ehr.post("faults", {"down": "", "slow": 0.0, "drop_answer": 0})

    def _whatsapp(self, **rule: object) -> None:
        self.world.whatsapp.post("faults", [rule])
        try:
            self.enough.wait(self.outage)
        finally:
            self.world.whatsapp.delete("faults")

    def _whatsapp_down(self) -> None:
        self.world.whatsapp.post("down", down=True)
        try:
            self.enough.wait(self.outage)
        finally:
            self.world.whatsapp.post("down", down=False)

    def _postgres_crash(self) -> None:
        stores.crash(GONE)

    def _postgres_cut(self) -> None:
        for _ in range(5):
            stores.cut(self.world.store)
            time.sleep(self.rng.uniform(1.0, 4.0))
