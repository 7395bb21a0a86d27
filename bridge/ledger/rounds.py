"""When the next round of a loop begins. A round costs its statements whether it carries one message or a hundred: the busier the
machine, the longer a round takes, the more comes together for the next one.
"""

from __future__ import annotations

import time

REST = 2.0  # times its own length that a loop rests after a round
LONGEST = (
    0.1  # seconds between the beginnings of two rounds, whatever they took: nobody waits longer than that for a bell
)


class Rounds:
    """Of one loop, on one thread."""

    def __init__(self, shortest: float) -> None:
        """`shortest`: seconds between the beginnings of two rounds that take no time."""
        self._shortest = shortest
        self._begun = self._ended = 0.0

    def begin(self) -> None:
        self._begun = time.monotonic()

    def end(self) -> None:
        self._ended = time.monotonic()

    def wait(self, *, full: bool = False) -> float:
        """Seconds until the next round may begin; `full`: the last one left work behind, so nothing is gained by waiting."""
        rest = 0.0 if full else REST * (self._ended - self._begun)
        due = max(self._begun + self._shortest, min(self._ended + rest, self._begun + LONGEST))
        return max(0.0, due - time.monotonic())
