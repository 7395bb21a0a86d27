"""The appointment or the messages? Asked for CANCELAR and its like, and for a stop button that wants to be sure.

| state | reply | effects |
|---|---|---|
| any | an unclear word, a stop button with `confirm: true` | Ask which |
| asked, however long ago | cancel_appointment, one upcoming visit | Close, Ask cancel |
| asked, however long ago | cancel_appointment, none or several | Close, a person |
| asked, however long ago | stop_messages | `stopping.stop` |

An old answer is honoured here: it asks once more or stops messages, it changes no appointment by itself.
"""

from __future__ import annotations

from bridge.inbound.effects import Ask, Close, Effect
from bridge.inbound.flows import cancelling
from bridge.inbound.intents.wishes import ChooseVisit
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation
from bridge.inbound.standing import link_for, moment, to_a_person, visit_refusal

BUTTONS = (("cancel_appointment", "cancel_appointment"), ("stop_messages", "stop_messages"))


def ask(situation: Situation) -> tuple[Effect, ...]:
    return (*cancelling.replaced(situation), Ask("which", "ask_which", {}, BUTTONS, None, None))


def choose_visit(situation: Situation, reply: Reply, wish: ChooseVisit) -> tuple[Effect, ...]:
    question, when = wish.question, moment(situation, reply)
    close: tuple[Effect, ...] = () if question.answered else (Close(question.id, "cancel_appointment"),)
    upcoming = [visit for visit in situation.visits if visit_refusal(visit, None, when) is None]
    if len(upcoming) != 1:
        return (*close, *to_a_person(situation, f"wants to cancel an appointment; {len(upcoming)} could be meant"))
    if "appointment.cancel" not in situation.available:
        return (*close, *to_a_person(situation, "wants to cancel an appointment, which is not available here"))
    link = link_for(situation, upcoming[0], None)
    if link is None:
        return (*close, *to_a_person(situation, "wants to cancel an appointment; on whose behalf is not clear"))
    asked = cancelling.ask(situation, upcoming[0], question.message_id, link)
    return (*close, *(effect for effect in asked if not isinstance(effect, Close)))
