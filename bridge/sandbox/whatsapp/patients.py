"""What people do with their phones: write, tap, send a voice note, react, block. Each is a webhook and a bubble.

Anything a person writes opens the customer service window.
"""

from __future__ import annotations

import base64
import time
from typing import Any

from bridge.sandbox.server import ControlError
from bridge.sandbox.whatsapp import webhooks
from bridge.sandbox.whatsapp.checks import Button
from bridge.sandbox.whatsapp.phones import Bubble, Person, issue_user_id
from bridge.sandbox.whatsapp.server import WhatsApp

FILES: dict[str, tuple[str, bytes]] = {  # what a kind of media holds when the action brings no bytes of its own
    "image": ("image/jpeg", b"\xff\xd8\xff\xe0 pretend jpeg"),
    "video": ("video/mp4", b"\x00\x00\x00\x18ftypmp42 pretend mp4"),
    "audio": ("audio/mpeg", b"ID3 pretend mp3"),
    "voice": ("audio/ogg; codecs=opus", b"OggS pretend voice note"),
    "document": ("application/pdf", b"%PDF-1.4 pretend pdf"),
    "sticker": ("image/webp", b"RIFF\x00\x00\x00\x00WEBP pretend"),
}


class Patients:
    def __init__(self, whatsapp: WhatsApp) -> None:
        self.whatsapp = whatsapp

    def say(self, who: str, text: str, *, context: str | None = None, number: str = "", at: float | None = None) -> str:
        """Type a text; `at` sets its timestamp (seconds), to write two within one. Returns the wamid."""
        return self._write(self._person(who), "text", {"body": text}, text, context=context, number=number, at=at)

    def tap(
        self, who: str, *, wamid: str = "", choice: dict[str, Any], number: str = "", with_context: bool = True
    ) -> str:
        """Tap a button of a bubble (by default the last one with buttons), named by index, payload, id or title.

        A template's button comes back as `button`, an interactive one as `interactive`: WhatsApp never mixes them.
        """
        person = self._person(who)
        bubble = self._bubble(person, wamid)
        button = _choose(bubble, choice)
        number = number or bubble.phone_number_id
        if bubble.kind == "template":
            node: dict[str, Any] = {"payload": button.payload, "text": button.title}
            return self._write(
                person, "button", node, button.title, context=bubble.wamid if with_context else None, number=number
            )
        kind = "list_reply" if bubble.kind == "interactive.list" else "button_reply"
        node = {"type": kind, kind: {"id": button.id, "title": button.title}}
        return self._write(
            person, "interactive", node, button.title, context=bubble.wamid if with_context else None, number=number
        )

    def send(self, who: str, kind: str, values: dict[str, Any]) -> str:
        """Send what is no text: media, a voice note, a location, contacts, a reaction, or something unsupported."""
        person, number = self._person(who), str(values.get("phone_number_id", ""))
        context = values.get("context")
        if kind in FILES:
            mime_type, content = FILES[kind]
            if "base64" in values:
                content = base64.b64decode(values["base64"])
            mime_type = str(values.get("mime_type", mime_type))
            media_id = self.whatsapp.media.add(mime_type, content)
            node: dict[str, Any] = {"mime_type": mime_type, "sha256": self.whatsapp.media.known[media_id].sha256, "id": media_id,
                                    "url": f"{self.whatsapp.base}/_media/{media_id}"}  # fmt: skip
            node |= {key: values[key] for key in ("caption", "filename") if key in values}
            if kind in {"audio", "voice"}:
                node["voice"] = kind == "voice"
            if kind == "sticker":
                node["animated"] = False
            shown = str(values.get("caption", f"[{kind}]"))
            return self._write(
                person, "audio" if kind == "voice" else kind, node, shown, context=context, number=number
            )
        if kind == "location":
            node = {"latitude": values.get("latitude", 40.4168), "longitude": values.get("longitude", -3.7038)}
            return self._write(person, kind, node, "[location]", context=context, number=number)
        if kind == "contacts":
            contacts = values.get("contacts") or [
                {"name": {"formatted_name": "Pretend Contact"}, "phones": [{"phone": "+34 600 000 000"}]}
            ]
            return self._write(person, kind, contacts, "[contact]", context=context, number=number)
        if kind == "reaction":
            node = {"message_id": values.get("wamid") or self._bubble(person, "", any_kind=True).wamid}
            if emoji := values.get("emoji", "👍"):  # taken back: Meta leaves it out
                node["emoji"] = emoji
            return self._write(person, kind, node, "[reaction]", number=number)
        if kind == "unsupported":
            return self._write(
                person, kind, {"type": str(values.get("unsupported_type", "edit"))}, "[unsupported]", number=number
            )
        raise ControlError(f"people cannot send {kind!r}")

    def change_number(self, who: str, new_number: str) -> str:
        """A person moves to another number: a system message from the old one, and a new business-scoped id."""
        person = self._person(who)
        new_id = issue_user_id(new_number)
        moved = Person(new_number, new_id, person.name, person.shows_number)
        self.whatsapp.phones.add(moved)
        node = {"body": f"User {person.name} changed from {person.wa_id} to {new_number}", "type": "user_changed_number",
                "wa_id": new_number, "user_id": new_id, "customer": person.wa_id}  # fmt: skip
        wamid = self.whatsapp.phones.wamid()
        item = webhooks.message(person, wamid, self.whatsapp.now(), "system", node)
        update = self.whatsapp.update("messages", wamid, item, None)
        self.whatsapp.courier.schedule(update)
        return wamid

    def read_all(self, who: str) -> int:
        """Open the chat: everything delivered becomes read."""
        bubbles = [
            bubble
            for bubble in self._person(who).bubbles
            if not bubble.mine and bubble.shown and bubble.status in {"sent", "delivered"}
        ]
        for bubble in bubbles:
            self.whatsapp.status(bubble, "read", 0.0)
        return len(bubbles)

    def _write(
        self,
        person: Person,
        kind: str,
        node: Any,
        body: str,
        *,
        context: str | None = None,
        number: str = "",
        at: float | None = None,
    ) -> str:
        whatsapp = self.whatsapp
        number = number or whatsapp.options.phone_number_ids[0]
        wamid, now = whatsapp.phones.wamid(), whatsapp.now() if at is None else at
        person.wrote_at = whatsapp.now()
        whatsapp.phones.count_inbound(number, time.monotonic())
        bubble = Bubble(wamid, person, True, now, kind, body, number, context=context, status="sent")
        person.bubbles.append(bubble)
        whatsapp.phones.bubbles[wamid] = bubble
        quoted = {"from": whatsapp.options.display, "id": context} if context else None
        item = webhooks.message(person, wamid, now, kind, node, quoted)
        whatsapp.courier.schedule(whatsapp.update("messages", wamid, item, person, number))
        return wamid

    def _person(self, who: str) -> Person:
        return self.whatsapp.phones.find(who)

    def _bubble(self, person: Person, wamid: str, *, any_kind: bool = False) -> Bubble:
        """A bubble by id (also one another person got: a forwarded or forged tap), else the newest one that fits."""
        if wamid:
            return self.whatsapp.phones.bubbles[wamid]
        for bubble in reversed(person.bubbles):
            if not bubble.mine and bubble.shown and (any_kind or bubble.buttons):
                return bubble
        raise ControlError("no bubble with buttons on this phone")


def _choose(bubble: Bubble, choice: dict[str, Any]) -> Button:
    if "index" in choice:
        return bubble.buttons[int(choice["index"])]
    for button in bubble.buttons:
        if all(getattr(button, name) == value for name, value in choice.items()):
            return button
    raise ControlError(f"this bubble has no such button; it has {[button.title for button in bubble.buttons]}")
