"""Cancel: a tap, the question "shall we?", its answer.

| state | reply | effects |
|---|---|---|
| no question | Cancel tapped, `confirm: true` | Ask cancel |
| no question | Cancel tapped, `confirm: false` | Command cancel |
| asked | yes | Close, Command cancel |
| asked | no | Close, kept |
| asked, and the visit has changed or is over since | yes, no | Close, changed_since or no_longer |
| asked, time is over | yes | Ask again: an old bubble never acts by itself |
| asked, replaced by a newer question | yes, no | Ask again: the newer one may have been answered meanwhile |
| answered | the same button again | Ignore |
| answered no | yes | Ask again |
| answered yes | no | a person: the command is on its way |
"""

from __future__ import annotations

from bridge.inbound.effects import Ask, Close, Command, Effect, Ignore, Say
from bridge.inbound.intents.wishes import AnswerCancel, CancelAppointment
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Linked, Situation, Visit
from bridge.inbound.standing import link_for, moment, to_a_person, visit_refusal

BUTTONS = (("cancel_yes", "cancel_yes"), ("cancel_no", "cancel_no"))


def cancel(situation: Situation, reply: Reply, wish: CancelAppointment) -> tuple[Effect, ...]:
    bubble, when = wish.bubble, moment(situation, reply)
    link = link_for(situation, bubble.visit, bubble.person_id) if bubble.visit is not None else None
    if (
        bubble.visit is not None and link is None
    ):  # before anything is told of the visit: it may be a stranger's phone now
        return to_a_person(situation, "tapped appointment.cancel, but is no longer linked to that person")
    refusal = visit_refusal(bubble.visit, reply.tap.revision if reply.tap else bubble.revision, when)
    if refusal is not None:
        return (refusal,)
    assert bubble.visit is not None and bubble.action is not None and link is not None
    if "appointment.cancel" not in situation.available:
        return to_a_person(situation, "tapped appointment.cancel, which is not available here")
    if bubble.action.expires_at is not None and bubble.action.expires_at <= when:
        return to_a_person(situation, "tapped appointment.cancel after that button had expired")
    if bubble.action.confirm:
        return ask(situation, bubble.visit, bubble.message_id, link)
    return (Command("cancel", bubble.visit, bubble.message_id, bubble.person_id, bubble.role),)


def answer(situation: Situation, reply: Reply, wish: AnswerCancel) -> tuple[Effect, ...]:
    question, when = wish.question, moment(situation, reply)
    if question.answered and question.choice == wish.choice:
        return (Ignore("tapped the same answer again"),)
    close: tuple[Effect, ...] = () if question.answered else (Close(question.id, wish.choice),)
    link = link_for(situation, question.visit, question.person_id) if question.visit is not None else None
    if question.visit is not None and link is None:
        return (*close, *to_a_person(situation, "answered about cancelling, but is no longer linked to that person"))
    refusal = visit_refusal(question.visit, question.revision, when)
    if refusal is not None:
        return (*close, refusal)
    assert question.visit is not None and link is not None
    if question.answered and question.choice in (None, "cancel_yes"):
        return to_a_person(situation, "answered a question about cancelling once more, and differently")
    if not question.answered and wish.choice == "cancel_no":
        return (*close, Say("kept", {"day": question.visit.day, "time": question.visit.time}))
    if "appointment.cancel" not in situation.available:
        return (*close, *to_a_person(situation, "answered about cancelling, which is not available here"))
    if question.answered or question.until < when:
        return ask(situation, question.visit, question.message_id, link)
    return (*close, Command("cancel", question.visit, question.message_id, link.person_id, link.role))


def ask(situation: Situation, visit: Visit, message_id: int | None, link: Linked) -> tuple[Effect, ...]:
    """Ask, and take back what we asked before: two open questions could be answered against each other."""
    fields = {"day": visit.day, "time": visit.time}
    asked = Ask("cancel", "ask_cancel", fields, BUTTONS, visit, message_id, link.person_id, link.role)
    return (*replaced(situation), asked)


def replaced(situation: Situation) -> tuple[Effect, ...]:
    """Close the question that a new one takes the place of."""
    question = situation.question
    return () if question is None or question.answered else (Close(question.id, "replaced"),)
