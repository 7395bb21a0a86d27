"""What is to happen because of a reply, as values: the conversation applies them in one transaction, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bridge.inbound.situation import Role, Visit

Buttons = tuple[tuple[str, str], ...]  # (button id for its title, choice its token carries)


@dataclass(frozen=True, slots=True)
class Say:
    """Answer in the conversation's language, inside the window that the reply opened."""

    reply_id: str  # of config/replies: "stopped"
    fields: Mapping[str, str] = field(default_factory=dict)
    buttons: Buttons = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Say it with buttons that carry a new question's id; who and what it is about comes back in `Question`.

    It takes the place of every question still open in this conversation: two could be answered against each other.
    """

    kind: Literal["cancel", "which", "verify"]
    reply_id: str
    fields: Mapping[str, str]
    buttons: Buttons
    visit: Visit | None
    message_id: int | None
    person_id: int | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """The question is answered with `choice`, or "replaced" by a newer one."""

    question_id: int
    choice: str


@dataclass(frozen=True, slots=True)
class Command:
    """A write to the EHR. Its outcome is told by whoever carries it out, never before the EHR's 2xx."""

    verb: Literal["confirm", "cancel"]
    visit: Visit
    message_id: int | None
    person_id: int
    role: Role


@dataclass(frozen=True, slots=True)
class Block:
    """Nothing leaves to this identity any more but answers to what it writes."""


@dataclass(frozen=True, slots=True)
class Unblock:
    """Lift the block of this identity; no effect where there is none."""


@dataclass(frozen=True, slots=True)
class RecordDecision:
    """A Consent for the EHR, decided when the reply was written.

    Without `purposes` it is of everything (STOP), or of what a STOP took (START).
    """

    person_id: int  # whose consent it is
    decision: Literal["deny", "permit"]
    purposes: tuple[str, ...] = ()
    decided_by: str | None = None  # "RelatedPerson/luis": a guardian for them; None: themselves


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody has tried to show who they are. What they wrote is kept nowhere, how it went is in the audit."""

    message_id: int | None
    outcome: Literal["right", "wrong", "unclear", "void"]


@dataclass(frozen=True, slots=True)
class ShowDocument:
    """The document of that message, fetched now and sent inside the window."""

    message_id: int
    person_id: int


@dataclass(frozen=True, slots=True)
class EndGuardianLink:
    """This identity no longer speaks for that dependant."""

    person_id: int


@dataclass(frozen=True, slots=True)
class ForPerson:
    """The turn stays open until somebody of the staff has dealt with it."""

    reason: str  # ours, never the patient's words


@dataclass(frozen=True, slots=True)
class Ignore:
    """Nothing to do; the reason is shown in the trace."""

    reason: str


Effect = (
    Say
    | Ask
    | Close
    | Command
    | Block
    | Unblock
    | RecordDecision
    | Attempt
    | ShowDocument
    | EndGuardianLink
    | ForPerson
    | Ignore
)
