"""A trace in plain words: one sentence a hop, in the order in which things happened. Ids, times and reasons only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridge.console.trace import Event, Message, Trace, Turn, Write

Mood = Literal["good", "wait", "bad", "quiet"]

FATES = {
    "planned": "understood: {planned} to send",
    "applied": "applied",
    "merged": "merged with earlier news",
    "suppressed": "nobody is told",
    "ignored": "ignored",
    "unusable": "cannot be used",
    "failed": "failed",
}
MOODS: dict[str, Mood] = {
    "planned": "good",
    "applied": "good",
    "merged": "quiet",
    "suppressed": "quiet",
    "ignored": "quiet",
}
KINDS = {
    "notification": "the EHR pushed",
    "hint": "the EHR hinted at",
    "message": "the patient wrote",
    "status": "WhatsApp told how a message fares",
    "account": "WhatsApp told about the account",
}
STATES: dict[str, tuple[str, Mood]] = {
    "planned": ("not yet", "wait"),
    "ready": ("about to leave", "wait"),
    "sending": ("leaving", "wait"),
    "accepted": ("accepted by WhatsApp", "good"),
    "sent": ("sent ✓", "good"),
    "delivered": ("delivered ✓✓", "good"),
    "read": ("read ✓✓", "good"),
    "played": ("played ✓✓", "good"),
    "failed": ("failed", "bad"),
    "superseded": ("replaced by newer news", "quiet"),
    "cancelled": ("taken back", "quiet"),
    "suppressed": ("not sent", "quiet"),
    "expired": ("too late, not sent", "quiet"),
    "doubt": ("unknown whether it arrived", "bad"),
    "held": ("held for a person", "bad"),
    "closed": ("closed by a person", "quiet"),
}
SAYS_NOTHING = {"waits for its time"}  # beside the time itself
VERBS = {
    "confirm": "confirm the visit in the EHR",
    "cancel": "cancel the visit in the EHR",
    "stop": "write the refusal (Consent) to the EHR",
    "start": "write the permission (Consent) to the EHR",
    "communication": "write a Communication of what was sent to the EHR",
    "communication-in": "write a Communication of what was said to the EHR",
}
WRITES: dict[str, Mood] = {
    "asked": "wait",
    "sending": "wait",
    "done": "good",
    "merged": "quiet",
    "refused": "bad",
    "held": "bad",
}
SAID = {
    "tap": "tapped a button",
    "answer": "answered our question",
    "text": "wrote a text",
    "voice": "sent a voice message",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One hop in plain words; `mood` is how a page colours it."""

    what: str  # received, decided, said, message, sent, state or waits, written
    id: str
    at: str | None
    text: str
    mood: Mood


def steps(trace: Trace) -> tuple[Step, ...]:
    """The hops of one trace."""
    found: list[Step] = []
    if trace.event is not None:
        found += _event(trace.event)
    found += [_turn(one) for one in trace.turns]
    commands = [one for one in trace.writes if one.kind == "command"]
    found += [_write(one) for one in commands]
    for message in trace.messages:
        found += _message(message)
    return (*found, *(_write(one) for one in trace.writes if one.kind != "command"))


def _event(event: Event) -> list[Step]:
    who = f"{KINDS.get(event.kind, event.kind)} {event.about or ''}".strip()
    came = Step("received", event.id, event.received_at, f"{who} · {event.source} · {event.door}", "good")
    if event.fate is None:
        wait = f"waits: {event.reason}" if event.reason else "waits to be applied"
        tried = f" (tried {event.tries}×)" if event.tries else ""
        return [came, Step("decided", event.id, event.next_try, wait + tried, "wait")]
    said = FATES[event.fate].format(planned=event.planned)
    text = f"{said}: {event.reason}" if event.reason else said
    return [came, Step("decided", event.id, event.settled_at, text, MOODS.get(event.fate, "bad"))]


def _turn(turn: Turn) -> Step:
    text = SAID.get(turn.kind, f"sent: {turn.kind}")
    if turn.tapped is not None:
        text += f" of {turn.tapped}"
    if turn.waits_for_person:
        return Step("said", turn.id, turn.at, f"{text} · for a person: {turn.reason}", "wait")
    return Step("said", turn.id, turn.at, text, "good")


def _message(message: Message) -> list[Step]:
    what = message.event or message.kind
    if message.offset is not None:
        what += f" {message.offset} before"
    if message.mapping is not None:
        how = f"mapping {message.mapping}"
        if message.template is not None:
            how += f" · template {message.template}"
        how += f" · in {message.language}, times of {message.zone}"
    else:
        how = f"in {message.language}"
    found = [Step("message", message.id, message.planned_at, f"{what} · {how}", "good")]
    mood: Mood
    for post in message.posts:
        if post.outcome is None:
            text, mood = f"POST {post.n} is on its way", "wait"
        else:
            code = f" · code {post.code}" if post.code else ""
            http = f" · HTTP {post.http}" if post.http else ""
            text = f"POST {post.n}: {post.outcome.replace('_', ' ')}{http}{code} · {post.milliseconds} ms"
            mood = "good" if post.outcome == "accepted" else "bad"
        found.append(Step("sent", message.id, post.fenced_at, text, mood))
    text, mood = STATES[message.state]
    if message.reason and message.reason not in text and message.reason not in SAYS_NOTHING:
        text += f": {message.reason}"
    due = message.not_before if message.state == "planned" else None
    at = due or message.read_at or message.delivered_at or message.sent_at or message.changed_at
    found.append(Step("waits" if due else "state", message.id, at, text, mood))
    return found


def _write(write: Write) -> Step:
    text = VERBS.get(write.verb, write.verb)
    tried = f" · tried {write.attempts}×" if write.attempts > 1 else ""
    reason = f": {write.reason}" if write.reason else ""
    mood = WRITES.get(write.state, "bad")
    at = write.settled_at or write.next_at or write.asked_at
    return Step("written", write.id, at, f"{text}{tried} · {write.state}{reason}", mood)
