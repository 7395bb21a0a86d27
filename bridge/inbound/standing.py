"""What still stands: whether a question waits for typed words, a visit for a tap, a link for a person. Pure helpers."""

from __future__ import annotations

from datetime import datetime, timedelta

from bridge.inbound.effects import Effect, ForPerson, Say
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Linked, Question, Situation, Visit

TYPED_WITHIN = timedelta(minutes=10)  # later, "sí" may answer something else the patient has on their mind
WHOLE_SECOND = timedelta(seconds=1)  # WhatsApp's timestamps are cut to seconds, our own are not
PROMISED = {"booked", "pending"}


def moment(situation: Situation, reply: Reply) -> datetime:
    """The later of when it was written and when we read it: what is over by either is over."""
    return max(situation.now, reply.at)


def listening(situation: Situation, reply: Reply) -> Question | None:
    """The open question that words typed now would answer, if there is one."""
    question = situation.question
    if question is None or question.answered or not question.last_said or situation.owner == "person":
        return None
    if reply.kind not in ("text", "reaction") or reply.at + WHOLE_SECOND < question.asked_at:
        return None  # written before we asked, however late it arrived
    if moment(situation, reply) > min(question.until, question.asked_at + TYPED_WITHIN):
        return None
    return question


def visit_refusal(visit: Visit | None, revision: int | None, when: datetime) -> Say | None:
    """Why a button of this revision no longer counts, as the patient reads it; None while it counts."""
    if visit is None or visit.status not in PROMISED or visit.start <= when:
        return Say("no_longer")
    if revision is not None and revision != visit.revision:
        return Say("changed_since", {"day": visit.day, "time": visit.time})
    return None


def to_a_person(situation: Situation, reason: str) -> tuple[Effect, ...]:
    """The fixed sentence and a turn for a person."""
    return (Say("to_a_person", {"emergency": situation.emergency}), ForPerson(reason))


def link_for(situation: Situation, visit: Visit, person_id: int | None) -> Linked | None:
    """The link by which this identity may speak about the visit's patient, None when there is none (any more).

    Args:
        person_id: the person addressed, where a message or a question names one; else the only one who fits, themselves
            before a guardian.
    """
    fits = [link for link in situation.linked if link.ehr == visit.ehr and link.patient == visit.patient]
    if person_id is not None:
        return next((link for link in fits if link.person_id == person_id), None)
    themselves = [link for link in fits if link.role == "self"]
    return (themselves or fits)[0] if len(themselves or fits) == 1 else None
