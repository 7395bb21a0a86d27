"""From a JSON case to a Situation and a Reply, and from effects to what a case can say of them. Invented people only."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.inbound.effects import (
    Ask,
    Close,
    Command,
    Effect,
    EndGuardianLink,
    ForPerson,
    Ignore,
    RecordDecision,
    Say,
)
from bridge.inbound.replies import Replies, load_replies
from bridge.inbound.reply import Answer, Reply, Tap
from bridge.inbound.situation import Action, Bubble, Linked, Question, Situation, Visit
from bridge.inbound.words import Words, load_words
from bridge.mappers.document import load_document

ROOT = Path(__file__).parents[2]
NOW = datetime.fromisoformat("2026-11-22T10:00:00+00:00")
LANGUAGES = ("es", "en", "pt")
ALL = frozenset({"appointment.confirm", "appointment.cancel", "handoff.nurse", "consent.revoke"})

LINKS = {
    "ana": Linked(1, "Patient/ana", "main", "self", "Patient/ana"),
    "beatriz": Linked(2, "Patient/beatriz", "main", "self", "Patient/beatriz"),
    "mateo's father": Linked(3, "RelatedPerson/luis", "main", "guardian", "Patient/mateo"),
    "mateo's father again": Linked(5, "RelatedPerson/luis3", "main", "guardian", "Patient/mateo"),
    "lucia's father": Linked(4, "RelatedPerson/luis2", "main", "guardian", "Patient/lucia"),
}


def words() -> Words:
    path = ROOT / "config/words.yaml"
    return load_words(load_document(path.read_text("utf-8"), str(path)))


def replies() -> Replies:
    docs = [
        load_document(path.read_text("utf-8"), str(path)) for path in sorted((ROOT / "config/replies").glob("*.yaml"))
    ]
    return load_replies(docs, LANGUAGES)


WORDS = words()


def visit(case: dict[str, Any] | None) -> Visit | None:
    """Ana's visit on 25 November, 15:30, revision 1, but for what the case changes."""
    if case is None:
        return None
    usual = {"ehr": "main", "reference": "Appointment/a1", "status": "booked", "patient": "Patient/ana", "revision": 1}
    usual |= {"start": "2026-11-25T14:30:00+00:00", "day": "miércoles, 25 de noviembre de 2026", "time": "15:30"}
    held = usual | case
    return Visit(**(held | {"start": datetime.fromisoformat(held["start"])}))


def bubble(case: dict[str, Any] | None) -> Bubble | None:
    """The booking message that went to Ana; `do`, `confirm`, `expires` describe its button."""
    if case is None:
        return None
    do = case.get("do", "appointment.confirm")
    expires = case.get("expires")
    action = (
        Action(do, case.get("confirm", False), datetime.fromisoformat(expires) if expires else None) if do else None
    )
    return Bubble(
        message_id=case.get("message_id", 7),
        revision=case.get("revision", 1),
        same_identity=case.get("same_identity", True),
        action=action,
        visit=visit(case.get("visit", {})),
        person_id=case.get("person_id", 1),
        role=case.get("role", "self"),
    )


def question(case: dict[str, Any] | None) -> Question | None:
    """Asked a minute ago unless `minutes` says otherwise, about Ana's visit when it is about cancelling."""
    if case is None:
        return None
    asked = NOW - timedelta(minutes=case.get("minutes", 1))
    kind = case.get("kind", "cancel")
    return Question(
        id=case.get("id", 50),
        kind=kind,
        visit=visit(case.get("visit", {} if kind == "cancel" else None)),
        message_id=case.get("message_id", 7 if kind == "cancel" else None),
        asked_at=asked,
        until=asked + timedelta(minutes=case.get("until_minutes", 24 * 60)),
        last_said=case.get("last_said", True),
        answered=case.get("answered", False),
        revision=case.get("revision", 1 if kind == "cancel" else None),
        choice=case.get("choice"),
        person_id=case.get("person_id", 1 if kind == "cancel" else None),
        role=case.get("role", "self" if kind == "cancel" else None),
    )


def situation(case: dict[str, Any]) -> Situation:
    return Situation(
        now=NOW,
        language=case.get("language", "es"),
        languages=LANGUAGES,
        words=WORDS,
        linked=tuple(LINKS[name] for name in case.get("linked", ["ana"])),
        blocked=case.get("blocked", False),
        bubble=bubble(case.get("bubble")),
        question=question(case.get("question")),
        visits=tuple(held for held in map(visit, case.get("visits", [])) if held is not None),
        owner=case.get("owner", "bot"),
        waiting_for_staff=case.get("waiting_for_staff", False),
        available=frozenset(case["available"]) if "available" in case else ALL,
        emergency="112",
    )


def reply(case: dict[str, Any]) -> Reply:
    """`text`, or `tap: revision`, or `answer: choice`; `kind` where it is none of these; `seconds` after now."""
    tap = Tap(7, case["tap"], case.get("button", "confirm")) if "tap" in case else None
    answer = Answer(case.get("question_id", 50), case["answer"]) if "answer" in case else None
    kind = case.get("kind") or ("tap" if tap else "answer" if answer else "text")
    at = NOW + timedelta(seconds=case.get("seconds", 0))
    return Reply("wamid.1", kind, case.get("text"), tap, answer, at, case.get("context_message"))


def told(effect: Effect) -> str:
    """One line of a case's `expect`."""
    match effect:
        case Say(reply_id, fields):
            return " ".join(["say", reply_id, *(f"{name}={value}" for name, value in sorted(fields.items()))])
        case Ask(kind, reply_id, _, buttons, about, _, person_id, _):
            what = "" if about is None else f" about {about.reference} for {person_id}"
            return f"ask {kind} {reply_id} [{', '.join(choice for _, choice in buttons)}]{what}"
        case Close(question_id, choice):
            return f"close {question_id} {choice}"
        case Command(verb, about, message_id, person_id, role):
            return f"command {verb} {about.reference} r{about.revision} from {message_id} for {person_id} as {role}"
        case RecordDecision(person_id, decision):
            return f"decision {person_id} {decision}"
        case EndGuardianLink(person_id):
            return f"end link {person_id}"
        case ForPerson():
            return "for a person"
        case Ignore():
            return "ignore"
        case _:
            return type(effect).__name__.lower()
