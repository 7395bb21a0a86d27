"""An answer to a question of ours: a tap on that very question, or the exact words while it waits for them."""

from __future__ import annotations

from bridge.inbound.intents.wishes import AnswerCancel, ChooseVisit, TalkToPerson
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Question, Situation
from bridge.inbound.standing import listening
from bridge.inbound.words import CHOICES


def recognise(situation: Situation, reply: Reply) -> AnswerCancel | ChooseVisit | TalkToPerson | None:
    if reply.answer is not None:
        question = situation.question
        if question is None or question.id != reply.answer.question_id:
            return TalkToPerson("answer to a question we no longer hold", tapped=True)
        if reply.answer.choice not in CHOICES.get(question.kind, ()):
            return TalkToPerson("answer that this question does not have", tapped=True)
        return _chosen(question, reply.answer.choice, typed=False)
    question = listening(situation, reply)
    if question is None or question.kind == "verify":  # that one is `prove_identity`'s
        return None
    choice = situation.words.choice(reply.text, situation.language, question.kind)
    return None if choice is None else _chosen(question, choice, typed=True)


def _chosen(question: Question, choice: str, *, typed: bool) -> AnswerCancel | ChooseVisit:
    return ChooseVisit(question) if question.kind == "which" else AnswerCancel(question, choice, typed)
