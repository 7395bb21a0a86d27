"""A birth date, typed while the question for it is open. Words that are no try at all mean what they always mean."""

from __future__ import annotations

from bridge.inbound.intents.wishes import ProveIdentity
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import listening


def recognise(situation: Situation, reply: Reply) -> ProveIdentity | None:
    question = listening(situation, reply)
    if reply.kind != "text" or question is None or question.kind != "verify":
        return None
    return ProveIdentity(question) if situation.check is not None and situation.check.said is not None else None
