"""What we cannot read: voice, stickers, empty texts and whatever WhatsApp marks as unsupported or adds one day."""

from __future__ import annotations

from bridge.inbound.intents.wishes import SendUnreadable
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(_: Situation, reply: Reply) -> SendUnreadable | None:
    if reply.kind in ("voice", "sticker", "unsupported", "other"):
        return SendUnreadable(f"sent something we cannot read ({reply.kind})")
    return SendUnreadable("sent an empty text") if reply.kind == "text" else None
