"""A hospital whose reminders are all due at one moment: filled by `bridge prime`, its clock pushed to just before.

Nothing is loaded past the engine: the pretend EHR holds the visits, `prime` reads them and arms a reminder each, as on the
day a site goes live. Only for several numbers is a part of them moved to another number in the store, while the engine is
down: the EHR's news leave by the site's first number, and the others would have answers alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import create_engine, text

from bench import bodies, machine, stores
from bench.burst import judge
from bridge.control import ask
from bridge.sandbox import people
from bridge.sandbox.journal import read_journal
from bridge.sandbox.world import PNID, WABA, World

ZONE = ZoneInfo("Europe/Madrid")
LEAD = 12.0  # seconds from the pushed clock to nine
SEEDED = 500
TWO_VISITS = 50  # every so many-th patient has two at the same hour: their pair gap is looked at
ASKER = 900_000  # number of the first person who writes to us
PRIMED_AFTER = 3600.0  # seconds that priming may take
WORDS = "¿A qué hora abren?"  # free text: an answer of ours, no command


@dataclass(slots=True)
class Morning:
    """One world. `numbers`: our numbers by config key, and the rate of each; the first is the site's own."""

    folder: Path
    store: str
    count: int
    numbers: Mapping[str, float]
    say: Callable[[str], None]
    seed: int = 1
    world: World = field(init=False)
    due: datetime = field(init=False)
    wanted: dict[str, int] = field(init=False, default_factory=dict)  # wa_id -> visits
    asked: dict[str, float] = field(init=False, default_factory=dict)  # who wrote to us -> when

    def __enter__(self) -> Morning:
        world = self.world = World(
            self.folder, store=stores.url(self.store, self.folder), seed=False, ehr_extra={"prime": "required"},
            extra={"consent": {"purposes": {
                "appointments": {"without_decision": "send", "basis": "care"}, "results": {"without_decision": "block"},
            }, "recognise": []}, "delivery": {"brake": 10_000_000, "doubt_wait": "30m"}},
            whatsapp_arguments=("--throughput", "0", *(part for pnid in self.pnids.values() for part in ("--phone-number-id", pnid))),
        )  # fmt: skip
        world.__enter__()
        own = {
            "provider": "cloud_api", "app": "hospital", "base_url": world.whatsapp.url, "api_version": "v23.0", "waba_id": WABA,
            "portfolio": "hospital", "access_token": "${env:META_TOKEN}",
        }  # fmt: skip
        world.extra = dict(world.extra) | {
            "numbers": {
                key: own | {"phone_number_id": self.pnids[key], "rate": rate} for key, rate in self.numbers.items()
            }
        }
        world.write_config()
        world.whatsapp.post("settings", duplicate=0, reorder=0, batch=50)
        return self

    def __exit__(self, *problem: object) -> None:
        self.world.__exit__(*problem)

    @property
    def pnids(self) -> dict[str, str]:
        """Config key -> phone_number_id."""
        return {key: str(int(PNID) + at) for at, key in enumerate(self.numbers)}

    # --- before nine -----------------------------------------------------------------------------------------------

    def fill(self) -> float:
        """Visits in the EHR, primed, reminders armed; seconds it took."""
        begun = time.monotonic()
        tomorrow = datetime.now(ZONE).date() + timedelta(days=1)
        self.due = datetime(tomorrow.year, tomorrow.month, tomorrow.day, 9, 0, tzinfo=ZONE)
        start = self.due.astimezone(UTC) + timedelta(hours=24)
        patients = self.count - self.count // (TWO_VISITS + 1)
        held = bodies.people_and_places(0, patients, consents=False)
        for n in range(self.count):
            who = n if n < patients else (n - patients) * TWO_VISITS % patients
            self.wanted[bodies.phone(who)] = self.wanted.get(bodies.phone(who), 0) + 1
            place = f"Location/room{who % bodies.PLACES}"
            visit = people.appointment(f"m{n}", start, patient=f"Patient/p{who}", place=place)
            visit["participant"][1]["actor"]["reference"] = f"Practitioner/doc{who % bodies.DOCTORS}"
            held.append(visit)
        for first in range(0, len(held), SEEDED):
            self.world.ehr.post("seed", resources=held[first : first + SEEDED])
        self.world.start_engine()
        status = self._control("prime.start", ehr="main")
        while status["state"] == "running":
            if time.monotonic() - begun > PRIMED_AFTER:
                raise RuntimeError(f"priming takes too long: {status}")
            time.sleep(1)
            status = self._control("prime.status", ehr="main")
        if status["state"] != "done" or status["counts"]["reminders"] != self.count:
            raise RuntimeError(f"priming did not arm every reminder: {status}")
        return time.monotonic() - begun

    def share(self) -> None:
        """Give each number its part of what is planned, as much as its rate is of all, mixed as they come in real life; a
        person's messages stay with one number."""
        self.world.stop_engine()
        engine = create_engine(self.world.store)
        with engine.begin() as connection:
            rows = connection.execute(text("SELECT id, lane_id FROM outbox WHERE state = 'planned'")).all()
            lanes = sorted({row.lane_id for row in rows})
            rng = random.Random(self.seed)
            number = {lane: rng.choices(list(self.numbers), list(self.numbers.values()))[0] for lane in lanes}
            for statement, ids in (
                ("UPDATE outbox SET number = :n WHERE id = :i", [(number[row.lane_id], row.id) for row in rows]),
                ("UPDATE lane SET number = :n WHERE id = :i", [(number[lane], lane) for lane in lanes]),
            ):
                connection.execute(text(statement), [{"n": key, "i": one} for key, one in ids])
        engine.dispose()
        self.world.start_engine()

    def almost_nine(self) -> float:
        """Push the clock to a few seconds before it; returns the machine's time at nine."""
        self.world.push_clock((self.due - datetime.now(UTC)).total_seconds() - LEAD)
        return self.due.timestamp() - self.world.pushed

    # --- from nine on ----------------------------------------------------------------------------------------------

    def cpu(self) -> float:
        """Seconds of CPU of the engine so far."""
        assert self.world.engine is not None
        return machine.used(self.world.engine.pid).cpu

    def accepted(self) -> int:
        return int(self.world.whatsapp.get("state")["accepted"])

    def watch(self, until: Callable[[], bool], longest: float, *, asking: Sequence[float] = ()) -> None:
        """Wait; meanwhile people write at these machine times.

        Raises:
            RuntimeError: it did not become so in `longest` seconds, or the engine died.
        """
        deadline, waiting = time.time() + longest, sorted(asking)
        while not until():
            now = time.time()
            if now > deadline:
                raise RuntimeError(
                    f"not done in {longest:g} s: {self.accepted():,} of {self.count:,} accepted; see {self.folder}"
                )
            if self.world.engine is None or self.world.engine.poll() is not None:
                raise RuntimeError(f"the engine died: {self.world.log_tail()}")
            while waiting and waiting[0] <= now:
                waiting.pop(0)
                self.ask()
            time.sleep(min(0.5, max(0.0, waiting[0] - now)) if waiting else 0.5)

    def ask(self) -> None:
        """Somebody writes to us."""
        who = bodies.phone(ASKER + len(self.asked))
        self.asked[who] = time.time()
        self.world.whatsapp.post("say", who=who, text=WORDS)

    def moments(self, first: float, last: float, many: int) -> list[float]:
        """Random machine times."""
        rng = random.Random(self.seed)
        return sorted(rng.uniform(first, last) for _ in range(many))

    def posts(self, key: str | None = None) -> list[judge.Post]:
        """What WhatsApp's journal holds, of one of our numbers."""
        found = judge.posts(read_journal(self.world.whatsapp.journal))
        return [post for post in found if key is None or post.number == self.pnids[key]]

    def states(self) -> dict[str, int]:
        """Messages by state: to see that none failed."""
        engine = create_engine(self.world.store)
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT state, count(*) FROM outbox GROUP BY state")).all()
        engine.dispose()
        return {str(row[0]): int(row[1]) for row in rows}

    def _control(self, verb: str, **arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.world.config_data() / "engine.sock", verb, **arguments)
        return found
