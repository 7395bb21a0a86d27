"""CANCELAR and its like, and a stop button that asks once more: the appointment or the messages?"""

from __future__ import annotations

from bridge.inbound.intents.wishes import SayWhich, TalkToPerson
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import listening


def recognise(situation: Situation, reply: Reply) -> SayWhich | TalkToPerson | None:
    bubble = situation.bubble
    if reply.tap is not None and bubble is not None and bubble.action is not None:
        return SayWhich() if bubble.action.do == "consent.revoke" else None
    if reply.kind != "text" or not situation.words.unclear(reply.text, situation.language):
        return None
    if situation.owner == "person":
        return TalkToPerson("a word that could mean the appointment or the messages")
    question = listening(situation, reply)
    if question is not None and question.kind == "which":
        return TalkToPerson("we asked which was meant and could not read the answer")  # a second time, a person asks
    return SayWhich()
