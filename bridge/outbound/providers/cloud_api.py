"""Meta's Cloud API: an outgoing message -> the bytes of a POST, and its answer -> a receipt. Pure; the carrier posts.

Source: whatsapp.md §3 and §9; https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from bridge.outbound.message import File, Header, Interactive, Outgoing, Template, Text
from bridge.outbound.providers.receipts import Accepted, Receipt, Refused, Unreadable
from bridge.outbound.reactions import react

__all__ = ["Accepted", "Receipt", "Refused", "Unreadable", "endpoint", "headers", "payload", "receipt"]

MAX_WAMID = 512  # characters; Meta's have at most 128


class Number(Protocol):
    """What of a configured number this adapter needs (settings.Number has it)."""

    @property
    def base_url(self) -> str: ...  # https://graph.facebook.com
    @property
    def api_version(self) -> str: ...  # v23.0
    @property
    def phone_number_id(self) -> str: ...
    @property
    def access_token(self) -> str: ...


def endpoint(number: Number) -> str:
    """Where messages of this number are posted to."""
    return f"{number.base_url.rstrip('/')}/{number.api_version}/{number.phone_number_id}/messages"


def headers(number: Number) -> dict[str, str]:
    """The request's headers; they hold the token, so they are never logged."""
    return {"Authorization": f"Bearer {number.access_token}", "Content-Type": "application/json"}


def payload(outgoing: Outgoing) -> bytes:
    """The body of the POST, for a message that `check` has nothing against."""
    content = outgoing.content
    to = outgoing.to
    frame: dict[str, Any] = {"messaging_product": "whatsapp", "recipient_type": "individual"}
    # With "+", or Meta puts the business number's own country code in front. If both were there, `to` would win.
    frame |= {"to": f"+{to.wa_id}"} if to.wa_id is not None else {"recipient": to.user_id}
    if isinstance(content, Template):
        frame |= {"type": "template", "template": _template(content)}
    elif isinstance(content, Text):
        frame |= {"type": "text", "text": {"body": content.body, "preview_url": False}}
    elif isinstance(content, File):
        document = {"id": content.media, "filename": content.filename, "caption": content.caption}
        frame |= {"type": "document", "document": document}
    else:
        frame |= {"type": "interactive", "interactive": _interactive(content)}
    return msgspec.json.encode(frame | {"biz_opaque_callback_data": outgoing.callback})


def _template(template: Template) -> dict[str, Any]:
    components: list[dict[str, Any]] = []
    if template.header is not None:
        components.append({"type": "header", "parameters": [_header(template.header, named=template.named)]})
    if template.params:
        named = [{"parameter_name": name} if template.named else {} for name, _ in template.params]
        texts = [{"type": "text", "text": text} for _, text in template.params]
        components.append(
            {"type": "body", "parameters": [text | name for text, name in zip(texts, named, strict=True)]}
        )
    for button in template.buttons:
        parameters = [{"type": "payload", "payload": button.payload}]
        # index is a string: some of Meta's own examples use a number, and its description refuses that
        components.append(
            {"type": "button", "sub_type": "quick_reply", "index": str(button.index), "parameters": parameters}
        )
    filled = {"components": components} if components else {}
    return {"name": template.name, "language": {"code": template.language}} | filled


def _header(header: Header, *, named: bool) -> dict[str, Any]:
    if header.kind == "text":
        return {"type": "text", "text": header.value} | ({"parameter_name": header.name} if named else {})
    if header.kind == "location":
        latitude, longitude = header.value.split(",")  # text here, though a location message wants numbers
        place = {"latitude": latitude, "longitude": longitude} | ({"name": header.name} if header.name else {})
        return {"type": "location", "location": place | ({"address": header.address} if header.address else {})}
    medium = {"link" if header.value.startswith("https://") else "id": header.value}
    return {"type": header.kind, header.kind: medium | ({"filename": header.name} if header.name else {})}


def _interactive(interactive: Interactive) -> dict[str, Any]:
    buttons = [
        {"type": "reply", "reply": {"id": identifier, "title": title}} for identifier, title in interactive.buttons
    ]
    return {"type": "button", "body": {"text": interactive.body}, "action": {"buttons": buttons}}


def receipt(status: int, body: bytes, retry_after: float | None = None) -> Receipt:
    """What an answer means. Any status and any bytes give a receipt; nothing of the body's words is kept.

    A 2xx without a readable wamid is `Unreadable`: it may have been sent, so the engine makes it a doubt.
    """
    answer = _object(body)
    if 200 <= status < 300:
        return _accepted(answer)
    if not 300 <= status < 600:
        return Unreadable(f"answer with HTTP status {status}")
    code = _code((answer or {}).get("error"))
    return Refused(code, status, react(code, status, retry_after=retry_after))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # HTML of a gateway, half a body, nothing at all
        return None
    return answer if isinstance(answer, dict) else None


def _accepted(answer: dict[str, Any] | None) -> Accepted | Unreadable:
    if answer is None:
        return Unreadable("2xx with a body that is not a JSON object")
    message = _first(answer.get("messages"))
    wamid = message.get("id")
    if not isinstance(wamid, str) or not 0 < len(wamid) <= MAX_WAMID or "\0" in wamid:
        return Unreadable("2xx without a message id")
    contact = _first(answer.get("contacts"))
    return Accepted(
        wamid, _word(contact.get("wa_id")), _word(contact.get("user_id")), _word(message.get("message_status"))
    )


def _first(items: Any) -> dict[str, Any]:
    found = items[0] if isinstance(items, list) and items else None
    return found if isinstance(found, dict) else {}


def _word(value: Any) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _code(error: Any) -> int | None:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        code = int(code)
    return code if type(code) is int else None
