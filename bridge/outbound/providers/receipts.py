"""What an answer to a POST means, whichever provider gave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.outbound.reactions import Reaction


@dataclass(frozen=True, slots=True)
class Accepted:
    """Taken over by the provider; accepted is not delivered."""

    wamid: str
    wa_id: str | None = field(repr=False)  # as WhatsApp knows the number; Brazil's and Mexico's may differ from ours
    user_id: str | None = field(repr=False)
    message_status: str | None  # accepted, held_for_quality_assessment, paused


@dataclass(frozen=True, slots=True)
class Refused:
    """Not taken, with what to do about it. A reaction of kind "unsure" means that it may have been sent all the same."""

    code: int | None
    http: int
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An answer that says neither yes nor no: the outcome is unknown."""

    reason: str


Receipt: TypeAlias = Accepted | Refused | Unreadable
