"""What an EHR family does differently when it notifies; everything else is read the same way for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Counter = Literal["cumulative", "per-bundle", "volatile", "none"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One EHR family. Counters find gaps and are never an identity; an event id is one only where it is guaranteed."""

    name: str
    counter: Counter = "cumulative"  # volatile: a lower number means a restart, not a gap
    guarantees_event_id: bool = False  # notificationEvent.id may go into `seen` as a key
    interaction_header: str | None = None  # lower case; its value "delete" marks a delete whose body says nothing
    deleted_header: str | None = None  # lower case; names what was deleted, "Appointment/a1"

    def marks_delete(self, headers: Mapping[str, str]) -> bool:
        """Does the request itself, beside its body, say that the resource is gone?"""
        if self.interaction_header is None:
            return False
        return headers.get(self.interaction_header, "").strip().lower() == "delete"

    def deleted_reference(self, headers: Mapping[str, str]) -> str | None:
        return headers.get(self.deleted_header) if self.deleted_header else None

    def lost(self, last: int | None, number: int, events: int) -> int:
        """How many events are missing between the last number seen and this notification; 0 when nobody can know."""
        if self.counter in {"per-bundle", "none"} or last is None:
            return 0
        return max(0, number - events - last)  # lower or equal: repeated, reordered or restarted
