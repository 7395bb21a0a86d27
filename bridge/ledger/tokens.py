"""Button payloads: opaque, signed, at most 128 bytes, and never a FHIR id.

`b1.<message>.<revision>.<button>.<mac>` for a template's button, `q1.<question>.<choice>.<mac>` for a question's.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from bridge.ledger.crypto import Crypto


@dataclass(frozen=True, slots=True)
class ButtonToken:
    message: int
    revision: int
    button: str  # the button's id in the template: "confirm"


@dataclass(frozen=True, slots=True)
class QuestionToken:
    question: int
    choice: str


def button(crypto: Crypto, message: int, revision: int, name: str) -> str:
    head = f"b1.{message}.{revision}.{name}"
    return f"{head}.{crypto.mac8(head)}"


def choice(crypto: Crypto, question: int, name: str) -> str:
    head = f"q1.{question}.{name}"
    return f"{head}.{crypto.mac8(head)}"


def read(crypto: Crypto, payload: str) -> ButtonToken | QuestionToken | None:
    """The token inside a payload, or None for anything we did not sign."""
    head, _, mac = payload.rpartition(".")
    if not head or not hmac.compare_digest(crypto.mac8(head).encode(), mac.encode("utf-8", "replace")):
        return None
    parts = head.split(".")
    if parts[0] == "b1" and len(parts) == 4:
        message, revision = _whole(parts[1]), _whole(parts[2])
        return ButtonToken(message, revision, parts[3]) if message is not None and revision is not None else None
    if parts[0] == "q1" and len(parts) == 3:
        question = _whole(parts[1])
        return QuestionToken(question, parts[2]) if question is not None else None
    return None


def _whole(digits: str) -> int | None:
    """A number that fits a column, else None."""
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 19:
        return None
    value = int(digits)
    return value if value < 2**63 else None


def callback(message: int, attempt: int) -> str:
    """`biz_opaque_callback_data`: comes back on every status of this attempt."""
    return f"b1.{message}.{attempt}"


def read_callback(value: str | None) -> tuple[int, int] | None:
    """(message, attempt) of a callback of ours, else None."""
    parts = (value or "").split(".")
    if len(parts) != 3 or parts[0] != "b1":
        return None
    message, attempt = _whole(parts[1]), _whole(parts[2])
    return (message, attempt) if message is not None and attempt is not None and attempt < 2**31 else None
