"""Confirm: one tap, one command. "Confirmed" is said by whoever brings the EHR's 2xx, not here."""

from __future__ import annotations

from bridge.inbound.effects import Command, Effect
from bridge.inbound.intents.wishes import ConfirmAppointment
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import link_for, moment, to_a_person, visit_refusal


def confirm(situation: Situation, reply: Reply, wish: ConfirmAppointment) -> tuple[Effect, ...]:
    bubble, when = wish.bubble, moment(situation, reply)
    if bubble.visit is not None and link_for(situation, bubble.visit, bubble.person_id) is None:
        return to_a_person(situation, "tapped appointment.confirm, but is no longer linked to that person")
    refusal = visit_refusal(bubble.visit, reply.tap.revision if reply.tap else bubble.revision, when)
    if refusal is not None:
        return (refusal,)
    assert bubble.visit is not None and bubble.action is not None
    if "appointment.confirm" not in situation.available:
        return to_a_person(situation, "tapped appointment.confirm, which is not available here")
    if bubble.action.expires_at is not None and bubble.action.expires_at <= when:
        return to_a_person(situation, "tapped appointment.confirm after that button had expired")
    return (Command("confirm", bubble.visit, bubble.message_id, bubble.person_id, bubble.role),)
