"""Stop and start. A stop blocks the identity that wrote it, at once, known to us or not, for every purpose.

| blocked before | linked | reply | effects |
|---|---|---|---|
| no | one person, as themselves | STOP | Block, deny, stopped |
| no | guardians only | STOP | Block, each guardian's link ends, stopped: the patient's consent is not theirs to take |
| no | nobody, several, a mixture | STOP | Block, the guardians' links end, stopped, a task for the front desk |
| yes | any | STOP | Block, stopped: what they wrote is answered |
| any | one person, as themselves | START | Unblock, permit, started |
| any | anybody else | START | Unblock, started, a task for the front desk |

Source: reference/patients.md C.3; design §5
"""

from __future__ import annotations

from bridge.inbound.effects import Block, Close, Effect, EndGuardianLink, ForPerson, RecordDecision, Say, Unblock
from bridge.inbound.intents.wishes import StopMessages
from bridge.inbound.situation import Linked, Situation


def stop(situation: Situation, wish: StopMessages) -> tuple[Effect, ...]:
    effects: list[Effect] = [Block()]
    if wish.question is not None and not wish.question.answered:
        effects.append(Close(wish.question.id, "stop_messages"))
    guardians = [link for link in situation.linked if link.role == "guardian"]
    effects += [EndGuardianLink(link.person_id) for link in guardians]
    if situation.blocked:
        return (*effects, Say("stopped"))  # decided already; a second Consent or task would say nothing new
    alone = only_self(situation)
    if alone is not None:
        effects.append(RecordDecision(alone.person_id, "deny"))
    effects.append(Say("stopped"))
    if alone is None and (not situation.linked or len(guardians) != len(situation.linked)):
        effects.append(ForPerson("stopped messages; no Consent written, as it is not clear whose it would be"))
    return tuple(effects)


def start(situation: Situation) -> tuple[Effect, ...]:
    alone = only_self(situation)
    if alone is None:
        # a guardian's link ended with the stop, and a decision of nobody in particular cannot be written
        return (Unblock(), Say("started"), ForPerson("wants messages again; whose consent it is has to be settled"))
    return (Unblock(), RecordDecision(alone.person_id, "permit"), Say("started"))


def only_self(situation: Situation) -> Linked | None:
    """The one person linked to this identity, if they are linked as themselves and nobody else is."""
    people = {(link.ehr, link.person_id): link for link in situation.linked}
    alone = next(iter(people.values())) if len(people) == 1 else None
    return alone if alone is not None and alone.role == "self" else None
