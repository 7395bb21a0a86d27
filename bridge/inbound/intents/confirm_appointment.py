"""The Confirm button. There is no word for it: "sí" without a question of ours may mean anything."""

from __future__ import annotations

from bridge.inbound.intents.wishes import ConfirmAppointment
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(situation: Situation, reply: Reply) -> ConfirmAppointment | None:
    bubble = situation.bubble
    if reply.tap is None or bubble is None or bubble.action is None or bubble.action.do != "appointment.confirm":
        return None
    return ConfirmAppointment(bubble)
