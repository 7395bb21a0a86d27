"""What nobody waits for an answer to: a reaction, and WhatsApp's own notes about a number."""

from __future__ import annotations

from bridge.inbound.intents.wishes import Notice
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import listening


def recognise(situation: Situation, reply: Reply) -> Notice | None:
    if reply.kind == "reaction":
        if reply.text and listening(situation, reply) is not None:
            return Notice("reacted to a question instead of answering it", for_person=True)
        return Notice("a reaction; a thumbs-up confirms nothing")
    if reply.kind == "system":
        # the phone may be somebody else's by now: whoever is linked to it has to be looked at by a person
        return Notice("WhatsApp says that the number or the identity behind it has changed", for_person=True)
    return None
