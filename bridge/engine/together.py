"""How many reads of one EHR may go in one request: as many as it answers quickly, one by one where it takes no batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

MOST = 50  # reads of one request
FEWEST = 4  # fewer are as quick one by one, side by side
SLOW = 2.0  # seconds for one request: half as many next time, so that none comes near the client's time-out
QUICK = 0.5
STRIKES = 2  # requests in a row that came to nothing where a single read did: one may have met a connection just closed
OFF = 600.0  # seconds until an EHR that takes no batch is asked for one again: it may have learned to

T = TypeVar("T")


class Together:
    """What one EHR has shown so far. Not for several threads: `Reader` holds its lock."""

    def __init__(self) -> None:
        self._most = MOST
        self._off_until = 0.0
        self._strikes = 0

    def parts(self, whats: Sequence[T]) -> list[Sequence[T]]:
        """Cut what is wanted into requests; parts of one are asked alone."""
        if len(whats) < FEWEST or time.monotonic() < self._off_until:
            return [whats[at : at + 1] for at in range(len(whats))]
        return [whats[at : at + self._most] for at in range(0, len(whats), self._most)]

    def took(self, seconds: float) -> None:
        """How long a request of many took."""
        if seconds > SLOW:
            self._most = max(FEWEST, self._most // 2)
        elif seconds < QUICK:
            self._most = min(MOST, self._most * 2)

    def worked(self) -> None:
        self._strikes = 0

    def failed(self, *, refused: bool) -> bool:
        """It reads singly, and not together: `refused` for good, or so it seems. Returns whether that is now believed."""
        self._strikes += STRIKES if refused else 1
        if self._strikes < STRIKES:
            return False
        self._most, self._strikes = MOST, 0
        self._off_until = time.monotonic() + OFF
        return True
