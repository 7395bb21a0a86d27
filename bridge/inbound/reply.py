"""What a patient did, whichever provider carried it: one value per inbound message, tokens already verified.

A tap and an answer carry *verified* tokens only: of a button in one of our templates, of a button under a question
we asked. A button whose token does not verify arrives as kind "tap" with `tap` None, and its title as `text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal[
    "text",
    "tap",  # a button: of a template, or one we cannot vouch for
    "answer",  # a button under a question of ours
    "media",  # image, video, document: `text` is the caption
    "voice",
    "sticker",
    "reaction",  # `text` is the emoji, empty when it was taken back
    "location",
    "contacts",
    "system",  # WhatsApp itself speaks: a changed number or identity
    "unsupported",
    "other",
]


@dataclass(frozen=True, slots=True)
class Tap:
    """The verified token of a button in one of our templates."""

    message_id: int
    revision: int  # of the resource when the message was rendered
    button: str  # "confirm", as the mapping names it


@dataclass(frozen=True, slots=True)
class Answer:
    """The verified token of a button under a question of ours."""

    question_id: int
    choice: str  # "cancel_yes"


@dataclass(frozen=True, slots=True)
class Reply:
    """One inbound message. `at` is WhatsApp's timestamp (whole seconds) on the clock of `Situation.now`."""

    wamid: str
    kind: Kind
    text: str | None
    tap: Tap | None
    answer: Answer | None
    at: datetime
    context_message: int | None  # our message it quotes or answers, found by wamid
