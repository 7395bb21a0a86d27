"""The steps of the demo, one function each; numbers as in the tour of the first run. Every `see` is a ✓."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bridge.sandbox.demo import expected
from bridge.sandbox.demo.stage import DOCTOR, MADRID, PHONES, PLACE, PLACE_SP, SAO_PAULO, Stage
from bridge.sandbox.world import post

WARM = 5.0  # seconds from start to the first answer, on a machine with nothing else to do
STOP = {"es": "BAJA", "en": "STOP", "pt": "SAIR"}
CANCEL = {"es": "CANCELAR", "en": "CANCEL", "pt": "CANCELAR"}
CONFIRM = 0  # the first button of a booking and of a reminder


@dataclass(frozen=True, slots=True)
class Step:
    """`needs`: steps without which this one has nothing to act on."""

    number: int
    title: str
    needs: tuple[int, ...]
    play: Callable[[Stage], None]


def start(stage: Stage) -> None:
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    limit = WARM * max(1.0, busy)
    stage.tell(f"the engine answered after {stage.started:.1f} s")
    stage.see(f"it starts in under {limit:.0f} s", True, stage.started < limit)
    verified = stage.world.whatsapp.get("verify")
    stage.see("WhatsApp's handshake with the webhook is answered", True, verified["verified"])
    subscriptions = stage.world.ehr.get("state")["subscriptions"]
    stage.see("the EHR's Subscriptions are active", {"active"}, {each["status"] for each in subscriptions.values()})


def book(stage: Stage) -> None:
    stage.book("a1", "ana", stage.visit)
    bubble = stage.await_bubble("ana", 1)
    _show(stage, bubble)
    stage.see("the bubble says what the EHR holds, in the mapping's words", _booked(stage, stage.visit), bubble["body"])
    stage.see(
        "three buttons", expected.titles("appointment_booked", stage.lang), [b["title"] for b in bubble["buttons"]]
    )
    stage.see("one message was posted", 1, len(stage.posted("ana")))


def confirm(stage: Stage) -> None:
    bubble = stage.await_bubble("ana", 1)
    version, before = stage.version("Appointment/a1"), stage.world.held("Appointment/a1")
    stage.tap("ana", bubble, CONFIRM)
    stage.until(lambda: _patient(stage, "a1") == "accepted")
    stage.see("the EHR's participant.status", "accepted", _patient(stage, "a1"))
    said = _reply(stage, "confirmed", stage.visit)
    stage.until(lambda: stage.bubbles("ana", words=said))
    stage.until(lambda: len(_communications(stage, "ana")) >= 2)
    stage.quiet(0.5)
    writes = stage.writes("Appointment/a1")
    stage.see("it was written once", 1, len(writes))
    stage.see("with If-Match on the version that was read", f'W/"{version}"', _first(writes).get("if-match"))
    stage.see(
        "and nothing else of it changed", _without_status(before), _without_status(stage.world.held("Appointment/a1"))
    )
    answers = [line for line in stage.posted("ana") if _text(line) == said]
    stage.see("the patient reads that it is confirmed, once", 1, len(answers))
    if writes and answers:
        stage.see("and only after the EHR had said so", True, answers[0]["at"] > writes[0]["at"])
    sender = [("sender" in c and "reference" in c["sender"]) for c in _communications(stage, "ana")]
    stage.see("the EHR holds one Communication out and one in", [False, True], sorted(sender))
    _show(stage, {"body": said, "buttons": []})


def duplicate(stage: Stage) -> None:
    wamid = next(b["wamid"] for b in stage.world.bubbles(PHONES["ana"]) if b["from"] == "patient")
    url, body, headers = stage.webhook(wamid)
    before = (len(stage.posted("ana")), len(stage.writes("Appointment/a1")), len(_communications(stage, "ana")))
    answered = post(url, body, headers).status_code
    stage.see("the same webhook again is answered", 200, answered)
    stage.quiet(2.5)  # longer than a tap settles
    after = (len(stage.posted("ana")), len(stage.writes("Appointment/a1")), len(_communications(stage, "ana")))
    stage.see("and causes nothing: messages, writes, Communications", before, after)


def reminders(stage: Stage) -> None:
    told = len(stage.bubbles("ana"))
    for before, number in ((timedelta(days=3), 1), (timedelta(days=1), 2)):
        due = (stage.visit.replace(tzinfo=None) - before).replace(tzinfo=MADRID)  # the same time on the clinic's wall
        stage.push_to(due - timedelta(minutes=10))
        stage.quiet(0.7)
        stage.see(f"ten minutes before reminder {number}: nothing yet", told + number - 1, len(stage.bubbles("ana")))
        stage.push_to(due)
        bubble = stage.await_bubble("ana", told + number)
        at = datetime.fromtimestamp(bubble["at"], MADRID)
        _show(stage, bubble, at=at)
        stage.see(
            f"reminder {number} comes at that time in Madrid", True, timedelta(0) <= at - due < timedelta(minutes=2)
        )
        stage.see(f"reminder {number} says when, where and what to bring", _reminded(stage, at), bubble["body"])


def move(stage: Stage) -> None:
    told = len(stage.bubbles("ana"))
    moved = (stage.visit + timedelta(days=2)).replace(hour=10, minute=0)
    stage.world.ehr.patch(
        "resources/Appointment/a1",
        [
            {"op": "replace", "path": "/start", "value": moved.isoformat()},
            {"op": "replace", "path": "/end", "value": (moved + timedelta(minutes=30)).isoformat()},
        ],
    )
    bubble = stage.await_bubble("ana", told + 1)
    _show(stage, bubble)
    stage.see(
        "the bubble names the old day and the new one",
        expected.body(
            "appointment_rescheduled", stage.lang, patient_name="Ana", place=PLACE,
            old_day=expected.short_day(stage.visit, stage.lang), **_when(stage, moved),
        ),
        bubble["body"],
    )  # fmt: skip
    stage.quiet(0.5)
    stage.see("one message for one move", told + 1, len(stage.bubbles("ana")))


def beatriz(stage: Stage) -> None:
    told = len(stage.bubbles("beatriz"))
    day = stage.now().astimezone(SAO_PAULO) + timedelta(days=8)
    visit = day.replace(hour=11, minute=30, second=0, microsecond=0)
    stage.book("b1", "beatriz", visit.astimezone(MADRID), place="Location/paulista")
    bubble = stage.await_bubble("beatriz", told + 1)
    _show(stage, bubble)
    stage.tell(f"the EHR wrote {visit.astimezone(MADRID):%H:%M} with Madrid's offset")
    said = expected.body(
        "appointment_booked", "pt", patient_name="Beatriz", doctor=DOCTOR, place=PLACE_SP,
        day=expected.day(visit, "pt"), time="11:30",
    )  # fmt: skip
    stage.see("in Portuguese, at 11:30 on the wall in São Paulo", said, bubble["body"])
    stage.see("WhatsApp was asked for the template in", "pt_BR", bubble.get("language"))


def stop(stage: Stage) -> None:
    stage.say("ana", STOP[stage.lang])
    said = expected.reply("stopped", stage.lang)
    stage.until(lambda: stage.bubbles("ana", words=said))
    stage.until(lambda: _decisions(stage, "ana"))
    stage.see("one confirmation", 1, len(stage.bubbles("ana", words=said)))
    stage.see("a Consent in the EHR says no", ["deny"], _decisions(stage, "ana"))
    _show(stage, {"body": said, "buttons": []})
    told, visit = len(stage.posted("ana")), stage.visit + timedelta(days=9)
    stage.book("a2", "ana", visit)
    stage.book("l1", "lucia", visit)  # booked after hers: when this one is told, hers had its turn
    stage.until(lambda: stage.bubbles("lucia"))
    stage.quiet(1.0)
    stage.see("Lucía, booked after her, is told", 1, len(stage.bubbles("lucia")))
    stage.see("Ana is not, and never hears from us again", told, len(stage.posted("ana")))


def cancel_word(stage: Stage) -> None:
    if not stage.bubbles("lucia"):
        stage.book("l1", "lucia", stage.visit + timedelta(days=9))
        stage.await_bubble("lucia", 1)
    told = len(stage.bubbles("lucia"))
    stage.say("lucia", CANCEL[stage.lang])
    bubble = stage.await_bubble("lucia", told + 1)
    _show(stage, bubble)
    stage.see("it is asked which is meant", expected.reply("ask_which", stage.lang), bubble["body"])
    names = [expected.reply_title(name, stage.lang) for name in ("cancel_appointment", "stop_messages")]
    stage.see("with two buttons", names, [b["title"] for b in bubble["buttons"]])
    stage.see("nothing is stopped and nothing cancelled", ([], set()), (_decisions(stage, "lucia"), _cancelled(stage)))


def ehr_down(stage: Stage) -> None:
    told = len(stage.bubbles("irene"))
    visit = stage.visit + timedelta(days=12)
    stage.book("i1", "irene", visit)
    bubble = stage.await_bubble("irene", told + 1)
    asked, confirmed = expected.reply("requested", stage.lang), _reply(stage, "confirmed", visit)
    stage.world.ehr.post("faults", down="refused")
    try:
        stage.tap("irene", bubble, CONFIRM)
        stage.book("m1", "mateo", visit)  # never met before: neither he nor his father can be read now
        stage.until(lambda: stage.bubbles("irene", words=asked))
        stage.see("down: the patient reads that it is on its way", 1, len(stage.bubbles("irene", words=asked)))
        stage.see(
            "not that it is confirmed, for it is not", ("needs-action", 0),
            (_patient(stage, "i1"), len(stage.bubbles("irene", words=confirmed))),
        )  # fmt: skip
        stage.see("who cannot be read is not written to", 0, len(stage.bubbles("father")))
    finally:
        stage.world.ehr.post("faults", down="")
    stage.until(lambda: stage.bubbles("irene", words=confirmed), 60)
    stage.until(lambda: stage.bubbles("father"), 60)
    stage.quiet(0.5)
    stage.see(
        "up: the EHR holds the answer, written once", ("accepted", 1),
        (_patient(stage, "i1"), len(stage.writes("Appointment/i1"))),
    )  # fmt: skip
    stage.see("and the patient reads the outcome, once", 1, len(stage.bubbles("irene", words=confirmed)))
    child = expected.body(
        "caregiver_booked",
        stage.lang,
        caregiver_name="Julián",
        patient_name="Mateo",
        place=PLACE,
        **_when(stage, visit),
    )
    stage.see("what was booked meanwhile is told too", [child], [b["body"] for b in stage.bubbles("father")])
    for line in (asked, confirmed):
        _show(stage, {"body": line, "buttons": []})


STEPS = (
    Step(0, "Start", (), start),
    Step(1, "Book: Ana, with Dra. Ruiz, on a Wednesday at 15:30", (0,), book),
    Step(2, "Ana taps Confirm", (1,), confirm),
    Step(3, "WhatsApp delivers that tap a second time", (2,), duplicate),
    Step(4, "The clock goes on to both reminders", (1,), reminders),
    Step(6, "The hospital moves the visit to Friday at 10:00", (1,), move),
    Step(7, "Book: Beatriz, who reads Portuguese, in São Paulo", (0,), beatriz),
    Step(12, "Ana writes STOP, and is booked again", (1,), stop),
    Step(13, "Lucía writes CANCEL", (0,), cancel_word),
    Step(14, "The EHR goes down while Irene confirms, and comes back", (0,), ehr_down),
)


# --- sentences that are expected, and small looks at what is held ------------------------------------------------------


def _when(stage: Stage, at: datetime) -> dict[str, str]:
    return {"day": expected.day(at, stage.lang), "time": expected.time(at, stage.lang)}


def _booked(stage: Stage, at: datetime) -> str:
    values = {"patient_name": "Ana", "doctor": DOCTOR, "place": PLACE} | _when(stage, at)
    return expected.body("appointment_booked", stage.lang, **values)


def _reminded(stage: Stage, at: datetime) -> str:
    values = {"patient_name": "Ana", "place": PLACE, "bring": expected.BRING[stage.lang]} | _when(stage, stage.visit)
    when = expected.away(stage.visit.date(), at.date(), stage.lang)
    return expected.body("appointment_reminder", stage.lang, when=when, **values)


def _reply(stage: Stage, name: str, at: datetime) -> str:
    return expected.reply(name, stage.lang, **_when(stage, at))


def _patient(stage: Stage, name: str) -> str:
    return str(stage.world.held(f"Appointment/{name}")["participant"][0]["status"])


def _without_status(resource: dict[str, Any]) -> dict[str, Any]:
    others = [
        {k: v for k, v in one.items() if k != "status" or not at_patient} for one, at_patient in _participants(resource)
    ]
    return {k: v for k, v in resource.items() if k != "meta"} | {"participant": others}


def _participants(resource: dict[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    return [(one, one["actor"]["reference"].startswith("Patient/")) for one in resource["participant"]]


def _communications(stage: Stage, who: str) -> list[dict[str, Any]]:
    return [c for c in stage.held("Communication") if c["subject"]["reference"] == f"Patient/{who}"]


def _decisions(stage: Stage, who: str) -> list[str]:
    mine = [c for c in stage.held("Consent") if c["patient"]["reference"] == f"Patient/{who}"]
    return [c.get("provision", {}).get("type", "none") for c in mine]


def _cancelled(stage: Stage) -> set[str]:
    return {a["id"] for a in stage.held("Appointment") if a["status"] == "cancelled"}


def _first(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return dict(lines[0]["headers"]) if lines else {}


def _text(line: dict[str, Any]) -> str:
    return str(line["body"].get("text", {}).get("body", ""))


def _show(stage: Stage, bubble: dict[str, Any], at: datetime | None = None) -> None:
    if at is not None:
        stage.tell(f"{at:%A %d %B, %H:%M} in Madrid")
    for line in bubble["body"].splitlines():
        stage.tell(f"│ {line}")
    if bubble["buttons"]:
        stage.tell("│ " + "  ".join(f"[{button['title']}]" for button in bubble["buttons"]))
