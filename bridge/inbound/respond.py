"""One reply in what holds → what is to happen. Recognise the wish, then let its conversation decide. Pure.

Never silence: every reply gets an answer, a turn for a person, or is ignored with a reason.
"""

from __future__ import annotations

from typing import assert_never

from bridge.inbound.effects import Effect, ForPerson, Say
from bridge.inbound.flows import cancelling, confirming, consenting, handing_over, stopping, verifying, which
from bridge.inbound.intents import recognise
from bridge.inbound.intents.wishes import (
    AnswerCancel,
    CancelAppointment,
    ChooseVisit,
    ConfirmAppointment,
    DecideConsent,
    Notice,
    ProveIdentity,
    SayWhich,
    SendUnreadable,
    ShowResults,
    StartMessages,
    StopMessages,
    TalkToPerson,
    TapElsewhere,
    Wish,
)
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation

_SETTLED = (StopMessages, StartMessages, ProveIdentity)  # of these nobody reads more out of the words


def respond(situation: Situation, reply: Reply) -> tuple[Effect, ...]:
    """What a reply causes, in the order in which it is to be applied; never empty."""
    wish = recognise(situation, reply)
    effects = _granted(situation, reply, wish)
    if situation.free_text != "always" or reply.kind != "text" or isinstance(wish, _SETTLED):
        return effects
    if any(isinstance(effect, ForPerson) for effect in effects):
        return effects
    return (*effects, ForPerson("wrote, and every text is a person's to read after that message"))


def _granted(situation: Situation, reply: Reply, wish: Wish) -> tuple[Effect, ...]:
    match wish:
        case StopMessages():
            return stopping.stop(situation, wish)
        case StartMessages():
            return stopping.start(situation)
        case TapElsewhere():
            return (Say("not_yours"),)
        case AnswerCancel():
            return cancelling.answer(situation, reply, wish)
        case ChooseVisit():
            return which.choose_visit(situation, reply, wish)
        case ConfirmAppointment():
            return confirming.confirm(situation, reply, wish)
        case CancelAppointment():
            return cancelling.cancel(situation, reply, wish)
        case ShowResults():
            return verifying.show(situation, reply, wish)
        case ProveIdentity():
            return verifying.prove(situation, wish)
        case DecideConsent():
            return consenting.decide(situation, reply, wish)
        case SayWhich():
            return which.ask(situation)
        case TalkToPerson():
            return handing_over.talk(situation, wish)
        case SendUnreadable():
            return handing_over.unreadable(situation, wish)
        case Notice():
            return handing_over.notice(wish)
        case _:
            assert_never(wish)
