"""The button that shows a document. There is no word for it: what could be meant by one is too many things."""

from __future__ import annotations

from bridge.inbound.intents.wishes import ShowResults
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(situation: Situation, reply: Reply) -> ShowResults | None:
    bubble = situation.bubble
    if reply.tap is None or bubble is None or bubble.action is None or bubble.action.do != "results.show":
        return None
    return ShowResults(bubble)
