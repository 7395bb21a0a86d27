"""Yes or no to messages about something: a decision like any other, the newest counts.

| who | reply | effects |
|---|---|---|
| linked to the person addressed | yes, no | the decision, its answer |
| not any more, or a button without a purpose | yes, no | a person |

A no is of what was asked and of nothing else: whoever wants no messages at all writes STOP.
"""

from __future__ import annotations

from bridge.inbound.effects import Effect, RecordDecision, Say
from bridge.inbound.intents.wishes import DecideConsent
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import moment, to_a_person


def decide(situation: Situation, reply: Reply, wish: DecideConsent) -> tuple[Effect, ...]:
    bubble = wish.bubble
    assert bubble.action is not None
    link = next((link for link in situation.linked if link.person_id == bubble.person_id), None)
    if link is None:
        return to_a_person(situation, f"tapped {bubble.action.do}, but is no longer linked to that person")
    if bubble.action.expires_at is not None and bubble.action.expires_at <= moment(situation, reply):
        return to_a_person(situation, f"tapped {bubble.action.do} after that button had expired")
    if not bubble.consent or bubble.patient_id is None:
        return to_a_person(situation, f"tapped {bubble.action.do}; what it is about is not clear")
    if situation.blocked and wish.permit:
        return to_a_person(situation, "gave a consent and has stopped all messages before: one of both is meant")
    guardian = link.reference if link.role == "guardian" else None
    decision = RecordDecision(bubble.patient_id, "permit" if wish.permit else "deny", bubble.consent, guardian)
    return (decision, Say("agreed" if wish.permit else "refused"))
