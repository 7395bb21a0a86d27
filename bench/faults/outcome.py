"""What a row of the table came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reached` is shown beside the figure demanded; `command` repeats it."""

    reached: str
    holds: bool
    seed: str
    command: str
