"""What a patient may want, as values. Recognising a wish says nothing about whether it may be granted: flows do."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.inbound.situation import Bubble, Question


@dataclass(frozen=True, slots=True)
class StopMessages:
    """No more messages to this phone."""

    question: Question | None = None  # which of our questions said so


@dataclass(frozen=True, slots=True)
class StartMessages:
    """Messages again."""


@dataclass(frozen=True, slots=True)
class TapElsewhere:
    """A button of a message that went to somebody else."""


@dataclass(frozen=True, slots=True)
class AnswerCancel:
    """An answer to "shall we cancel it?"."""

    question: Question
    choice: str  # cancel_yes | cancel_no
    typed: bool


@dataclass(frozen=True, slots=True)
class ChooseVisit:
    """The appointment was meant, not the messages."""

    question: Question


@dataclass(frozen=True, slots=True)
class ConfirmAppointment:
    bubble: Bubble


@dataclass(frozen=True, slots=True)
class CancelAppointment:
    bubble: Bubble


@dataclass(frozen=True, slots=True)
class ShowResults:
    bubble: Bubble


@dataclass(frozen=True, slots=True)
class ProveIdentity:
    """An answer to "who are you?"."""

    question: Question


@dataclass(frozen=True, slots=True)
class DecideConsent:
    """Yes or no to messages about something."""

    bubble: Bubble
    permit: bool


@dataclass(frozen=True, slots=True)
class SayWhich:
    """It could mean the appointment or the messages."""


@dataclass(frozen=True, slots=True)
class TalkToPerson:
    """Something that only a person can answer."""

    reason: str
    tapped: bool = False  # a tap is answered each time, words once per open question to staff
    words: bool = False  # free words, which a mapping may leave unread


@dataclass(frozen=True, slots=True)
class SendUnreadable:
    """Something we cannot read; a person can."""

    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Nothing the patient waits for an answer to."""

    reason: str
    for_person: bool = False


Wish = (
    StopMessages
    | StartMessages
    | TapElsewhere
    | AnswerCancel
    | ChooseVisit
    | ConfirmAppointment
    | CancelAppointment
    | ShowResults
    | ProveIdentity
    | DecideConsent
    | SayWhich
    | TalkToPerson
    | SendUnreadable
    | Notice
)
