"""TI2: one event delivered 19 times at once, and once more after eight days: twenty 2xx, one message.

python -m bench.faults.twice --store postgresql
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import requests

from bench import stores
from bench.faults.outcome import Outcome
from bridge.sandbox import people
from bridge.sandbox.world import World

COPIES = 19
DAYS = 8
AHEAD = 20  # days until the visit: no reminder of its own falls due on the way


def play(kind: str, folder: Path) -> Outcome:
    """The pretend EHR keeps silent; the copies come from outside."""
    hours = (datetime.now(UTC) + timedelta(hours=12)).strftime("%H")
    site = {"quiet_hours": {"from": f"{hours}:00", "to": f"{hours}:01"}}
    answers: Counter[int] = Counter()
    with World(folder, store=stores.url(kind, folder), site=site, polite=True) as world:
        world.ehr.post("faults", drop=1.0)
        world.start_engine()
        start = datetime.now(UTC).replace(hour=10, minute=30, second=0, microsecond=0) + timedelta(days=AHEAD)
        world.save(people.appointment("twice", start, patient="Patient/ana"))
        body = json.dumps(world.held("Appointment/twice")).encode()
        gate = threading.Barrier(COPIES)

        def deliver(together: bool) -> int:
            if together:
                gate.wait()
            return requests.put(
                f"{world.doors}/ehr/main/appointments/Appointment/twice", data=body, timeout=20,
                headers={"Authorization": f"Bearer {world.environment['EHR_DOOR_SECRET']}",
                         "Content-Type": "application/fhir+json"},
            ).status_code  # fmt: skip

        with ThreadPoolExecutor(COPIES) as senders:
            answers.update(senders.map(deliver, [True] * COPIES))
        _quiet(world)
        world.push_clock(DAYS * 86_400)
        answers[deliver(False)] += 1
        _quiet(world)
        effects = len(world.accepted())
    holds = effects == 1 and answers == {200: COPIES + 1}
    said = ", ".join(f"{count} x {status}" for status, count in answers.items())
    return Outcome(f"{effects} effect; {said}", holds, "none drawn", f"python -m bench.faults.twice --store {kind}")


def _quiet(world: World) -> None:
    """Nobody has been told anything new for three seconds."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < 3:
        now = len(world.accepted())
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bridge-twice-"))
    try:
        outcome = play(given.store, folder)
    finally:
        stores.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(outcome.reached)
    return 0 if outcome.holds else 4


if __name__ == "__main__":
    sys.exit(main())
