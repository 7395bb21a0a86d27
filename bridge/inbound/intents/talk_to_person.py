"""What only a person can answer: free words, pictures and places, and every button without an action of ours."""

from __future__ import annotations

from bridge.inbound.intents.wishes import TalkToPerson
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation

KINDS = {
    "media": "sent a picture, video or document",
    "location": "sent a place",
    "contacts": "sent a contact",
}


def recognise(situation: Situation, reply: Reply) -> TalkToPerson | None:
    if reply.kind in ("tap", "answer"):
        action = situation.bubble.action if reply.tap is not None and situation.bubble is not None else None
        return TalkToPerson(f"tapped {action.do}" if action else "tapped a button we cannot vouch for", tapped=True)
    if reply.kind == "text" and (reply.text or "").strip():
        return TalkToPerson("wrote in free words", words=True)
    return TalkToPerson(KINDS[reply.kind]) if reply.kind in KINDS else None
