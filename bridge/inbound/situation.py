"""What holds when a reply is answered, loaded by the conversation under its lane's lock. Values only.

`now`, `Question.asked_at`, `Question.until` and `Reply.at` are read on one clock, business time, or the ten minutes
for a typed answer mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bridge.inbound.words import Words

Role = Literal["self", "guardian"]


@dataclass(frozen=True, slots=True)
class Action:
    """What a button of a mapping does."""

    do: str  # "appointment.confirm", from the mapping language's closed list
    confirm: bool  # ask once more before doing it
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Check:
    """Where somebody stands who wants to see a document, and how the answer they have just typed fares."""

    verify: str  # of the mapping's gate: "birth-date", "birth-date+id-last4", "none"
    attempts: int  # wrong answers that lock it
    wrong: int  # of this person in this conversation, since the last right one and as far back as a lock lasts
    unclear: int  # answers that were no date since the button was tapped
    locked: bool
    passed: bool  # shown at most 15 minutes ago
    provable: bool  # the EHR holds what is asked for
    attaches: bool  # the mapping names a document
    same_identity: bool = True  # the question was asked of the identity that answers
    said: Literal["right", "wrong", "unclear"] | None = None  # None: no try at all


@dataclass(frozen=True, slots=True)
class Visit:
    """An Appointment as our store holds it now, with the words for it."""

    ehr: str
    reference: str  # "Appointment/a1"
    status: str  # as in the EHR: "booked"
    start: datetime
    day: str  # "miércoles, 25 de noviembre de 2026", in the conversation's language and the appointment's zone
    time: str  # "15:30"
    patient: str  # "Patient/ana"
    revision: int  # ours, the current one


@dataclass(frozen=True, slots=True)
class Bubble:
    """The message whose button was tapped."""

    message_id: int
    revision: int
    same_identity: bool  # the tap came from the identity that the message went to
    action: Action | None  # None: the message has no such button
    visit: Visit | None  # as it is now, not as it was; None: not about an appointment, or one we no longer hold
    person_id: int  # the person addressed
    role: Role
    consent: tuple[str, ...] = ()  # purposes that its button gives or refuses
    patient_id: int | None = None  # whom it is about


@dataclass(frozen=True, slots=True)
class Question:
    """A question of ours: the one a tap answered, else the newest open one of this conversation."""

    id: int
    kind: Literal["cancel", "which", "verify"]
    visit: Visit | None  # as it is now
    message_id: int | None  # the message whose button led to it
    asked_at: datetime
    until: datetime
    last_said: bool  # nothing of ours came after it
    answered: bool
    revision: int | None  # of the visit when we asked
    choice: str | None = None  # what it was closed with
    person_id: int | None = None  # whose wish it is about, as `Ask` said
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Linked:
    """A person linked to the identity that writes."""

    person_id: int
    reference: str  # "Patient/ana", "RelatedPerson/luis"
    ehr: str
    role: Role
    patient: str  # "Patient/mateo": whom it is about


@dataclass(frozen=True, slots=True)
class Situation:
    now: datetime
    language: str  # of the conversation: "es"
    languages: tuple[str, ...]  # of the site, first is the default
    words: Words
    linked: tuple[Linked, ...]
    blocked: bool  # this identity wrote STOP and has not lifted it
    bubble: Bubble | None  # of a tap
    question: Question | None
    visits: tuple[Visit, ...]  # upcoming promised visits of the linked persons
    owner: Literal["bot", "person"]
    waiting_for_staff: bool  # a turn is open for a person already
    available: frozenset[str]  # actions that work at this site: {"appointment.confirm"}
    emergency: str  # "112"
    check: Check | None = None  # of the document that is asked for
    free_text: Literal["always", "unrecognised", "never"] = (
        "unrecognised"  # of the mapping that spoke last: who reads words
    )
