"""Which of this process's loops live. A loop that ended, or has not come round for long, is named in `/readyz`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

PATIENCE = 30.0  # seconds without a round: a round is bounded, and the database's own time-outs end before


@dataclass(slots=True)
class _Part:
    """One loop."""

    role: str
    thread: threading.Thread | None  # None: it had ended before it could be looked at
    rounds: bool  # whether it says each round; one that waits for work for hours does not
    at: float = field(default_factory=time.monotonic)

    @property
    def lives(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    @property
    def still(self) -> float:
        """Seconds without a round."""
        return time.monotonic() - self.at if self.rounds else 0.0


class Vitals:
    """Loops are registered when they start and say each round; asked by health pages and by the node's own beat."""

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    def watch(self, name: str, role: str, *, rounds: bool = True) -> None:
        """The thread of this name, started a moment ago."""
        thread = [each for each in threading.enumerate() if each.name == name][-1:]
        self._parts[name] = _Part(role, thread[0] if thread else None, rounds)

    def beat(self, name: str) -> None:
        """One round began."""
        part = self._parts.get(name)
        if part is not None:
            part.at = time.monotonic()

    def ended(self) -> list[str]:
        """Loops whose thread is no more: only a restart brings them back."""
        return [name for name, part in self._parts.items() if not part.lives]

    def problems(self) -> list[str]:
        """A sentence for each loop that does not do its work."""
        return [f"the {name} loop has ended: restart this process" for name in self.ended()] + [
            f"the {name} loop has not come round for {part.still:.0f} s"
            for name, part in self._parts.items()
            if part.lives and part.still > PATIENCE
        ]

    def sick(self) -> set[str]:
        """Roles that this process does not fill though it should: another node takes their share."""
        return {part.role for part in self._parts.values() if not part.lives or part.still > PATIENCE}
