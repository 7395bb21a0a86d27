"""What is broken at the pretend EHR right now; set through the control API, all of it off at the start."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

DOWN = {"", "refused", "close", "503", "html"}


@dataclass(slots=True)
class Conflict:
    """The next `times` writes to `reference` ("" = any) are refused with `status`, whatever their If-Match says."""

    status: int = 409
    times: int = 1
    reference: str = ""


@dataclass(slots=True)
class Faults:
    down: str = ""  # "refused" (no listener) | "close" (reset) | "503" | "html" (a gateway's 502 page) | "" (up)
    slow: float = 0.0  # seconds before every answer
    drop_answer: int = 0  # the next n writes are committed, then the connection is cut without an answer
    notify_first: bool = False  # subscribers hear of a client's write before that client is answered
    drop: float = 0.0  # share of notifications never sent
    duplicate: float = 0.0  # share sent twice
    reorder: float = 0.0  # share held back by up to 1 s
    delay: float = 0.0  # seconds added to every notification
    conflict: Conflict = field(default_factory=lambda: Conflict(times=0))

    def update(self, values: dict[str, Any]) -> None:
        """Set the named faults, leave the others.

        Raises:
            ValueError: a name that is no fault, or an unknown way of being down.
        """
        names = {item.name for item in fields(self)}
        if unknown := values.keys() - names:
            raise ValueError(f"no such fault: {sorted(unknown)}; there are {sorted(names)}")
        if values.get("down", "") not in DOWN:
            raise ValueError(f"down is one of {sorted(DOWN)}")
        for name, value in values.items():
            setattr(self, name, Conflict(**value) if name == "conflict" else value)

    def conflict_for(self, reference: str) -> int:
        """The status a write to `reference` must be refused with now, 0 for none; counts it."""
        if self.conflict.times and self.conflict.reference in {"", reference}:
            self.conflict.times -= 1
            return self.conflict.status
        return 0
