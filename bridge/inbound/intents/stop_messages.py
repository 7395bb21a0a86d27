"""Opting out: the words, our own button for it, or the answer to "the appointment or the messages?".

It is asked first and beats whatever else the message could mean. The title of a button we cannot vouch for counts like
typed words; the title of one of our own does not, its token says what it does. A caption does not count: beside a
picture it is not the whole message, and in Spain a photographed "baja" is a sick note.
"""

from __future__ import annotations

from bridge.inbound.intents.wishes import StopMessages
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import listening


def recognise(situation: Situation, reply: Reply) -> StopMessages | None:
    if reply.answer is not None:
        asked = situation.question if situation.question and situation.question.id == reply.answer.question_id else None
        # however old the question: its button says what is wanted, and a stop needs nothing else
        return StopMessages(asked) if reply.answer.choice == "stop_messages" else None
    bubble = situation.bubble
    if reply.tap is not None and bubble is not None:
        action = bubble.action
        at_once = action is not None and action.do == "consent.revoke" and not action.confirm
        return StopMessages() if at_once and bubble.same_identity else None
    if reply.kind not in ("text", "tap", "answer"):
        return None
    if situation.words.stops(reply.text, situation.language):
        return StopMessages()
    question = listening(situation, reply)
    if question is None or question.kind != "which":
        return None
    typed = situation.words.choice(reply.text, situation.language, "which")
    return StopMessages(question) if typed == "stop_messages" else None
