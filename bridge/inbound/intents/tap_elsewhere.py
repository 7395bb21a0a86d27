"""A button that was tapped on another phone than its message went to: a forwarded bubble changes nothing."""

from __future__ import annotations

from bridge.inbound.intents.wishes import TapElsewhere
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(situation: Situation, reply: Reply) -> TapElsewhere | None:
    bubble = situation.bubble
    return TapElsewhere() if reply.tap is not None and bubble is not None and not bubble.same_identity else None
