"""One file per wish: `recognise(situation, reply)` says whether this reply expresses it. Pure.

`INTENTS` is spelt out and its order is precedence: the first that recognises decides. Opting out comes first.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.inbound.intents import (
    answer_question,
    cancel_appointment,
    confirm_appointment,
    decide_consent,
    notice,
    prove_identity,
    say_which,
    send_unreadable,
    show_results,
    start_messages,
    stop_messages,
    talk_to_person,
    tap_elsewhere,
)
from bridge.inbound.intents.wishes import SendUnreadable, Wish
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation

Recogniser = Callable[[Situation, Reply], Wish | None]

INTENTS: tuple[Recogniser, ...] = (
    stop_messages.recognise,
    start_messages.recognise,
    tap_elsewhere.recognise,  # before every button that does something
    prove_identity.recognise,
    answer_question.recognise,  # before `say_which`: "no" answers an open question and is unclear without one
    confirm_appointment.recognise,
    cancel_appointment.recognise,
    show_results.recognise,
    decide_consent.recognise,
    say_which.recognise,
    talk_to_person.recognise,
    send_unreadable.recognise,
    notice.recognise,
)


def recognise(situation: Situation, reply: Reply) -> Wish:
    """The wish this reply expresses; what no intent knows is a person's to read."""
    found = (intent(situation, reply) for intent in INTENTS)
    return next((wish for wish in found if wish is not None), SendUnreadable("sent something of an unknown kind"))
