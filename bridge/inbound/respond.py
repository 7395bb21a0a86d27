"""One reply in what holds → what is to happen. Recognise the wish, then let its conversation decide. Pure.

Never silence: every reply gets an answer, a turn for a person, or is ignored with a reason.
"""

from __future__ import annotations

from typing import assert_never

from bridge.inbound.effects import Effect, Say
from bridge.inbound.flows import cancelling, confirming, handing_over, stopping, which
from bridge.inbound.intents import recognise
from bridge.inbound.intents.wishes import (
    AnswerCancel,
    CancelAppointment,
    ChooseVisit,
    ConfirmAppointment,
    Notice,
    SayWhich,
    SendUnreadable,
    StartMessages,
    StopMessages,
    TalkToPerson,
    TapElsewhere,
)
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def respond(situation: Situation, reply: Reply) -> tuple[Effect, ...]:
    """What a reply causes, in the order in which it is to be applied; never empty."""
    wish = recognise(situation, reply)
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
