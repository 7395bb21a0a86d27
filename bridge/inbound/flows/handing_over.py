"""To a person: what only a person can answer or read. Never silence, and never the same sentence after every bubble."""

from __future__ import annotations

from bridge.inbound.effects import Effect, ForPerson, Ignore, Say
from bridge.inbound.intents.wishes import Notice, SendUnreadable, TalkToPerson
from bridge.inbound.situation import Situation
from bridge.inbound.standing import to_a_person


def talk(situation: Situation, wish: TalkToPerson) -> tuple[Effect, ...]:
    """Words are answered once per open question to staff, and not at all while a person holds the conversation."""
    if wish.tapped:
        return to_a_person(situation, wish.reason)
    if situation.owner == "person" or situation.waiting_for_staff:
        return (ForPerson(wish.reason),)
    if situation.free_text == "never" and wish.words:
        return (Say("not_read", {"emergency": situation.emergency}),)
    return to_a_person(situation, wish.reason)


def unreadable(situation: Situation, wish: SendUnreadable) -> tuple[Effect, ...]:
    """Said each time: that we could not read it is news even while somebody is waited for."""
    if situation.owner == "person":
        return (ForPerson(wish.reason),)
    return (Say("unreadable", {"emergency": situation.emergency}), ForPerson(wish.reason))


def notice(wish: Notice) -> tuple[Effect, ...]:
    return (ForPerson(wish.reason),) if wish.for_person else (Ignore(wish.reason),)
