"""Yes or no under a message that asks for a consent. A bare "sí" counts nowhere: it may answer something else."""

from __future__ import annotations

from bridge.inbound.intents.wishes import DecideConsent
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation

GRANT, REFUSE = "consent.grant", "consent.refuse"


def recognise(situation: Situation, reply: Reply) -> DecideConsent | None:
    bubble = situation.bubble
    if reply.tap is None or bubble is None or bubble.action is None or bubble.action.do not in (GRANT, REFUSE):
        return None
    return DecideConsent(bubble, bubble.action.do == GRANT)
