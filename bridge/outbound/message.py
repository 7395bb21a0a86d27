"""What leaves for a patient, in WhatsApp's terms and no provider's: adapters turn it into bytes.

Limits: whatsapp.md §3.1, the stricter of two sources where Meta contradicts itself. A provider would refuse what breaks
them, after the fence; `check` says so before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAX_TEXT = 4096  # characters of a free text
MAX_BODY = 1024  # of a template after filling, and of an interactive body
MAX_HEADER = 60  # of a text above the body, after filling
MAX_LINK = 2000  # characters of a medium's public address
MAX_NAME = 512  # template name
MAX_PAYLOAD = 128  # bytes of a quick reply's payload; older Meta pages say 128, newer ones 256
MAX_BUTTONS = 10  # of a template
MAX_REPLIES = 3  # of an interactive message
MAX_REPLY_ID = 256
MAX_TITLE = 20
MAX_CALLBACK = 512
MAX_MEDIA = 64  # characters of a media id; Meta's are digits
MAX_FILENAME = 240
MAX_USER_ID = 256  # at most 135 seen; never refused for its form

_WA_ID = re.compile(r"[1-9][0-9]{6,14}\Z")  # E.164 without its "+"
_TEMPLATE = re.compile(r"[a-z0-9_]+\Z")
_LANGUAGE = re.compile(r"[a-z]{2,3}(_[A-Z]{2,3})?\Z")  # en, pt_BR, fil
MEDIA = ("image", "video", "document")
_PLACE = re.compile(r"-?[0-9]{1,2}(\.[0-9]+)?,-?[0-9]{1,3}(\.[0-9]+)?\Z")
_UNFIT = re.compile(r"[\n\r\t]| {5}")  # in a template's parameter: 132018


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Whom it goes to: a phone identity where we have one, else a business-scoped user id."""

    wa_id: str | None  # digits only, country code first, no "+"
    user_id: str | None = None  # "US.13491208655302741918"


@dataclass(frozen=True, slots=True, repr=False)
class QuickReply:
    """A button of an approved template: its title is the template's, the payload ours."""

    index: int  # 0 to 9, its place among the template's buttons
    payload: str


@dataclass(frozen=True, slots=True, repr=False)
class Header:
    """What fills an approved template's header. One that is the same in every message has none."""

    kind: str  # text, image, video, document, location
    value: str  # the words for its blank; of media an https address or WhatsApp's id; of a place "40.4,-3.7"
    name: str = ""  # of a text the blank's name; of a document its file name; of a place its name
    address: str = ""  # of a place; shown only beside its name


@dataclass(frozen=True, slots=True, repr=False)
class Template:
    """An approved template with its blanks filled. `params` in the template's order; their names count only if `named`."""

    name: str
    language: str  # WhatsApp code: "en", "pt_BR"
    params: tuple[tuple[str, str], ...] = ()
    named: bool = True
    buttons: tuple[QuickReply, ...] = ()
    header: Header | None = None
    body: str | None = (
        None  # the filled text as the phone shows it, where known: its length is limited, it is never sent
    )


@dataclass(frozen=True, slots=True, repr=False)
class Text:
    """Free text; needs an open customer service window."""

    body: str


@dataclass(frozen=True, slots=True, repr=False)
class Interactive:
    """Free text with reply buttons; needs an open customer service window."""

    body: str
    buttons: tuple[tuple[str, str], ...]  # (id, title)


@dataclass(frozen=True, slots=True, repr=False)
class File:
    """A document uploaded before; needs an open customer service window."""

    media: str  # WhatsApp's id of it
    filename: str
    caption: str


Content: TypeAlias = Template | Text | Interactive | File


@dataclass(frozen=True, slots=True, repr=False)
class Outgoing:
    """One message to one person. `callback` (b1.<message>.<n>) comes back with each status: never anything about a patient."""

    to: Address
    content: Content
    callback: str


def check(outgoing: Outgoing) -> list[str]:
    """What a provider would refuse, in words without the patient's data; empty when it may leave."""
    content = outgoing.content
    if isinstance(content, Template):
        inner = _template(content)
    elif isinstance(content, Interactive):
        inner = _interactive(content)
    elif isinstance(content, File):
        inner = _file(content)
    else:
        inner = _text("text", content.body, MAX_TEXT)
    return [*_address(outgoing.to), *inner, *_text("callback", outgoing.callback, MAX_CALLBACK)]


def length(text: str) -> int:
    """Characters as a phone counts them (UTF-16 units): an emoji is two, the stricter of the two ways to count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _text(what: str, text: str, most: int) -> Iterator[str]:
    if not text.strip():
        yield f"{what} is empty"
    if length(text) > most:
        yield f"{what} has {length(text)} characters, at most {most} are allowed"
    if "\0" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        yield f"{what} holds a character that cannot be sent (NUL or half of a surrogate pair)"


def _address(to: Address) -> Iterator[str]:
    if to.wa_id is None and to.user_id is None:
        yield "address has neither a wa_id nor a user_id"
    if to.wa_id is not None and not _WA_ID.match(to.wa_id):
        yield "wa_id is not 7 to 15 digits with the country code first"
    if to.user_id is not None:
        yield from _text("user_id", to.user_id, MAX_USER_ID)


def _template(template: Template) -> Iterator[str]:
    if not _TEMPLATE.match(template.name) or len(template.name) > MAX_NAME:
        yield f"template name is not 1 to {MAX_NAME} of a-z, 0-9 and _"
    if not _LANGUAGE.match(template.language):
        yield "template language is not a WhatsApp code such as en or pt_BR"
    for place, (name, text) in enumerate(template.params, start=1):
        yield from _text(f"parameter {place}", text, MAX_BODY)
        if _UNFIT.search(text):
            yield f"parameter {place} holds a line break, a tab or more than four spaces in a row"
        if template.named and not _TEMPLATE.match(name):
            yield f"parameter {place} has a name that is not of a-z, 0-9 and _"
    if template.named:
        yield from _once("parameter name", [name for name, _ in template.params])
    if template.header is not None:
        yield from _header(template.header, named=template.named)
    if template.body is not None:
        yield from _text("filled template", template.body, MAX_BODY)
    for button in template.buttons:
        if not 0 <= button.index < MAX_BUTTONS:
            yield f"button index {button.index} is not 0 to {MAX_BUTTONS - 1}"
        if not 0 < len(button.payload.encode("utf-8", "surrogatepass")) <= MAX_PAYLOAD:
            yield f"payload of button {button.index} is not 1 to {MAX_PAYLOAD} bytes"
        yield from _text(f"payload of button {button.index}", button.payload, MAX_PAYLOAD)
    yield from _once("button index", [str(button.index) for button in template.buttons])


def _header(header: Header, *, named: bool) -> Iterator[str]:
    if header.kind == "text":
        yield from _text("header", header.value, MAX_HEADER)
        if _UNFIT.search(header.value):
            yield "the header holds a line break, a tab or more than four spaces in a row"
        if named and not _TEMPLATE.match(header.name):
            yield "the header's blank has a name that is not of a-z, 0-9 and _"
    elif header.kind in MEDIA:
        link = header.value.startswith("https://")
        yield from _text("header's medium", header.value, MAX_LINK if link else MAX_MEDIA)
        if not link and not header.value.isalnum():
            yield "the header's medium is neither an https address nor an id"
        if header.name:
            yield from _text("header's file name", header.name, MAX_FILENAME)
    elif header.kind == "location":
        if not _PLACE.match(header.value):
            yield "the header's place is not a latitude and a longitude"
    else:
        yield "the header is of a kind that templates do not have"


def _file(file: File) -> Iterator[str]:
    yield from _text("media id", file.media, MAX_MEDIA)
    yield from _text("caption", file.caption, MAX_BODY)
    yield from _text("filename", file.filename, MAX_FILENAME)


def _interactive(interactive: Interactive) -> Iterator[str]:
    yield from _text("interactive body", interactive.body, MAX_BODY)
    if not 1 <= len(interactive.buttons) <= MAX_REPLIES:
        yield f"{len(interactive.buttons)} reply buttons, 1 to {MAX_REPLIES} are allowed"
    for place, (identifier, title) in enumerate(interactive.buttons, start=1):
        yield from _text(f"id of button {place}", identifier, MAX_REPLY_ID)
        yield from _text(f"title of button {place}", title, MAX_TITLE)
    yield from _once("button id", [identifier for identifier, _ in interactive.buttons])
    yield from _once("button title", [title for _, title in interactive.buttons])


def _once(what: str, values: Sequence[str]) -> Iterator[str]:
    if len(set(values)) != len(values):
        yield f"a {what} stands twice"
