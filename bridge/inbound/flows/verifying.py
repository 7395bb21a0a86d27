"""See the document: who are you? Asked, answered, locked, and then the document.

| state | reply | effects |
|---|---|---|
| any | the button tapped after it expired, or by somebody no longer linked | a person |
| locked | the button | locked, a person |
| nothing to verify, or shown less than 15 min ago | the button | the document |
| nothing in the EHR to check against | the button | a person |
| else | the button | Ask |
| asked | right | Close, the document |
| asked | wrong, tries are left | Close, Ask again: it never says which part was wrong |
| asked | wrong, the last try | Close, locked, a person |
| asked | no date that exists | Close, Ask again how to write it; the second time a person |
| asked of another identity | anything | a person |

Every try is a question of its own: how many were wrong is counted from their rows, whatever is tapped in between.
Source: reference/patients.md C.4
"""

from __future__ import annotations

from bridge.inbound.effects import Ask, Attempt, Close, Effect, ForPerson, Say, ShowDocument
from bridge.inbound.flows.cancelling import replaced
from bridge.inbound.intents.wishes import ProveIdentity, ShowResults
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Check, Linked, Situation
from bridge.inbound.standing import moment, to_a_person

MISUNDERSTOOD = 2  # then a person


def show(situation: Situation, reply: Reply, wish: ShowResults) -> tuple[Effect, ...]:
    bubble, check = wish.bubble, situation.check
    assert bubble.action is not None
    if "results.show" not in situation.available:
        return to_a_person(situation, "tapped results.show, which is not available here")
    if bubble.action.expires_at is not None and bubble.action.expires_at <= moment(situation, reply):
        return to_a_person(situation, "tapped results.show after that button had expired")
    link = _link(situation, bubble.person_id)
    if link is None:
        return to_a_person(situation, "tapped results.show, but is no longer linked to that person")
    if check is None or not check.attaches:
        return to_a_person(situation, "wants to see a document, and the mapping names none")
    if check.locked:
        return _locked(situation, check)
    if check.verify == "none" or check.passed:
        return (ShowDocument(bubble.message_id, link.person_id),)
    if not check.provable:
        return to_a_person(situation, "wants to see a document; the EHR holds nothing to check the identity against")
    return (*replaced(situation), _ask(bubble.message_id, link, _first(check, link)))


def prove(situation: Situation, wish: ProveIdentity) -> tuple[Effect, ...]:
    question, check = wish.question, situation.check
    link = _link(situation, question.person_id)
    if check is None or link is None or question.message_id is None or not check.same_identity:
        return (
            Close(question.id, "void"),
            Attempt(question.message_id, "void"),
            *to_a_person(situation, "answered a question about identity that was not theirs to answer"),
        )
    outcome = check.said or "unclear"
    tried = Attempt(question.message_id, outcome)
    if check.locked:
        return (Close(question.id, "void"), Attempt(question.message_id, "void"), *_locked(situation, check))
    if outcome == "right":
        return (Close(question.id, "right"), tried, ShowDocument(question.message_id, link.person_id))
    if outcome == "unclear":
        if check.unclear + 1 >= MISUNDERSTOOD:
            why = "could not write the date of birth in a way we can read"
            return (Close(question.id, "unclear"), tried, *to_a_person(situation, why))
        return (Close(question.id, "unclear"), tried, _ask(question.message_id, link, "gate_unclear"))
    if check.wrong + 1 >= check.attempts:
        return (Close(question.id, "locked"), tried, *_locked(situation, check, anew=True))
    return (Close(question.id, "wrong"), tried, _ask(question.message_id, link, "gate_again"))


def _link(situation: Situation, person_id: int | None) -> Linked | None:
    return next((link for link in situation.linked if link.person_id == person_id), None)


def _first(check: Check, link: Linked) -> str:
    if check.verify == "birth-date":
        return "gate_ask" if link.role == "self" else "gate_ask_guardian"
    return "gate_ask_id" if link.role == "self" else "gate_ask_guardian_id"


def _ask(message_id: int, link: Linked, reply_id: str) -> Ask:
    return Ask("verify", reply_id, {}, (), None, message_id, link.person_id, link.role)


def _locked(situation: Situation, check: Check, *, anew: bool = False) -> tuple[Effect, ...]:
    """Said each time; a person is told when it locks, and again only if nobody waits already."""
    said = Say("gate_locked", {"emergency": situation.emergency})
    if not anew and situation.waiting_for_staff:
        return (said,)
    return (said, ForPerson(f"could not show who they are: {check.attempts} wrong answers, the document stays closed"))
