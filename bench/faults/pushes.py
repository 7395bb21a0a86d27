"""A push that changes nothing: one patient to whom nobody writes, as the pretend EHR holds her, again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import requests

from bridge.sandbox.world import World

WHO = "Patient/irene"


@dataclass(slots=True)
class Push:
    """`send` may be called from any thread with a session of its own."""

    world: World
    _body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._body = json.dumps(self.world.held(WHO)).encode()

    def send(self, session: requests.Session) -> int:
        """The status of the answer, 0 for a connection that broke."""
        try:
            return session.put(
                f"{self.world.doors}/ehr/main/patients/{WHO}", data=self._body, timeout=30,
                headers={"Authorization": f"Bearer {self.world.environment['EHR_DOOR_SECRET']}",
                         "Content-Type": "application/fhir+json"},
            ).status_code  # fmt: skip
        except requests.RequestException:
            return 0
