"""A push that changes nothing: one visit that promises nobody anything, as the pretend EHR holds it, again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import requests

from bridge.sandbox import people
from bridge.sandbox.world import World

NAME = "probe"


@dataclass(slots=True)
class Push:
    """Make it before the engine starts; `send` may be called from any thread with a session of its own."""

    world: World
    _body: bytes = field(init=False)

    def __post_init__(self) -> None:
        start = datetime.now(UTC) + timedelta(days=9)
        self.world.save(people.appointment(NAME, start, patient="Patient/ana") | {"status": "proposed"})
        self._body = json.dumps(self.world.held(f"Appointment/{NAME}")).encode()

    def send(self, session: requests.Session) -> int:
        """The status of the answer, 0 for a connection that broke."""
        try:
            return session.put(
                f"{self.world.doors}/ehr/main/appointments/Appointment/{NAME}", data=self._body, timeout=30,
                headers={"Authorization": f"Bearer {self.world.environment['EHR_DOOR_SECRET']}",
                         "Content-Type": "application/fhir+json"},
            ).status_code  # fmt: skip
        except requests.RequestException:
            return 0
