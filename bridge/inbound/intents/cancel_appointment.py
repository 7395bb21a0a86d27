"""The Cancel button of an appointment. The word goes to `say_which`: it may mean the messages."""

from __future__ import annotations

from bridge.inbound.intents.wishes import CancelAppointment
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(situation: Situation, reply: Reply) -> CancelAppointment | None:
    bubble = situation.bubble
    if reply.tap is None or bubble is None or bubble.action is None or bubble.action.do != "appointment.cancel":
        return None
    return CancelAppointment(bubble)
