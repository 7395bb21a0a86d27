"""A message as its row keeps it, and as a provider's file wants it. The row holds no token: those are signed when it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bridge.ledger import tokens
from bridge.ledger.crypto import Crypto
from bridge.outbound.message import Address, File, Header, Interactive, Outgoing, QuickReply, Template, Text


@dataclass(frozen=True, slots=True)
class Button:
    """A button and what it does here: `do` of a mapping, or the choice of a question."""

    index: int
    id: str
    title: str
    do: str = ""
    confirm: bool = False
    expires: float | None = None  # seconds after the message was accepted; None: as long as the visit is ahead
    question: int | None = None  # the question it answers, with `id` as the choice


@dataclass(frozen=True, slots=True)
class Gate:
    """What must be shown before the document of a message is: kept with the message, as the EHR held it when it was made."""

    verify: str
    attempts: int
    lock_for: float  # seconds
    salt: str
    birth: str | None  # blind index of the birth date; None: the EHR holds none that is whole
    ids: tuple[str, ...] = ()  # blind indexes of the last four characters of identity documents
    released: tuple[str, ...] = ()  # `hold` sentences that did not pass then: a person let the message go all the same


@dataclass(frozen=True, slots=True)
class Content:
    """What was rendered: the words, the address, the buttons."""

    wa_id: str | None
    user_id: str | None
    kind: str  # template, text, interactive, document
    body: str  # as the phone shows it
    template: str | None = None
    language: str | None = None  # WhatsApp's code
    params: tuple[tuple[str, str], ...] = ()
    named: bool = True
    buttons: tuple[Button, ...] = ()
    gate: Gate | None = None
    asks: tuple[str, ...] = ()  # purposes that its consent buttons speak of
    media: str | None = None  # of a document: WhatsApp's id of what was uploaded
    filename: str | None = None
    header: Header | None = None  # of a template, where each message brings its own
    above: str = ""  # the template's header as the phone shows it

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, value: bytes) -> Content:
        return msgspec.json.decode(value, type=cls)


def outgoing(content: Content, crypto: Crypto, message: int, revision: int | None, attempt: int) -> Outgoing:
    """The message with its signed buttons and the callback that names this attempt."""
    to = Address(content.wa_id, content.user_id)
    callback = tokens.callback(message, attempt)
    if content.kind == "template":
        buttons = tuple(
            QuickReply(b.index, tokens.button(crypto, message, revision or 0, b.id)) for b in content.buttons
        )
        template = Template(
            content.template or "", content.language or "", content.params, content.named, buttons, content.header
        )
        return Outgoing(to, template, callback)
    if content.kind == "interactive":
        choices = tuple(
            (tokens.choice(crypto, b.question, b.id) if b.question is not None else b.id, b.title)
            for b in content.buttons
        )
        return Outgoing(to, Interactive(content.body, choices), callback)
    if content.kind == "document":
        return Outgoing(to, File(content.media or "", content.filename or "", content.body), callback)
    return Outgoing(to, Text(content.body), callback)


def button_of(buttons: Sequence[Button], name: str) -> Button | None:
    return next((button for button in buttons if button.id == name), None)


def text_of(params: Mapping[str, str], body: str) -> str:
    """The body with its named blanks filled."""
    for name, value in params.items():
        body = body.replace("{{" + name + "}}", value)
    return body
