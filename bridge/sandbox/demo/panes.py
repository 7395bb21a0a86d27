"""What the three columns show: values for templates, made of the journals, the control APIs and the engine's own API."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge.sandbox.demo.desk import CAST, Desk
from bridge.sandbox.demo.stage import MADRID, PHONES, SAO_PAULO

EVENTS = 14  # of the trace
VISITS = 3
SAID = {
    "message": "a patient wrote",
    "text": "a patient wrote",
    "tap": "a patient tapped a button",
    "answer": "a patient answered our question",
}
LONG_ID = re.compile(r"\b(msg_|evt_|turn_|write_)\d+(\d{4})\b")
NOISE = {"says what we hold already", "our own write"}  # events that only echo what bridge itself wrote


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a resource's JSON; `fresh` when the version before had another."""

    text: str
    fresh: bool


def clock(desk: Desk, who: str) -> dict[str, Any]:
    now, due = desk.stage.now(), desk.next_due(who)
    return {
        "madrid": f"{now.astimezone(MADRID):%a %d %b %Y, %H:%M}",
        "sao_paulo": f"{now.astimezone(SAO_PAULO):%H:%M}",
        "due": f"{due.astimezone(MADRID):%a %d %b, %H:%M}" if due else None,
        "ready": desk.ready(),
        "down": desk.down,
        "storms": desk.storms(),
    }


def ehr(desk: Desk, who: str) -> dict[str, Any]:
    visits = desk.visits(who)
    shown = [_visit(one) for one in visits[:VISITS]]
    lines, version, by = _json(desk, visits[0]["id"]) if visits else ([], "", "")
    communications = [c for c in desk.stage.held("Communication") if c["subject"]["reference"] == f"Patient/{who}"]
    consents = [c for c in desk.stage.held("Consent") if c["patient"]["reference"] == f"Patient/{who}"]
    return {
        "visits": shown,
        "more": max(0, len(visits) - VISITS),
        "reference": f"Appointment/{visits[0]['id']}" if visits else None,
        "lines": lines,
        "version": version,
        "by": by,
        "communications": [_communication(c) for c in reversed(communications)],
        "consents": [(c["id"], c.get("provision", {}).get("type", "?"), c.get("dateTime", "")[:10]) for c in consents],
    }


def _visit(one: dict[str, Any]) -> dict[str, str]:
    return {
        "id": one["id"],
        "start": f"{datetime.fromisoformat(one['start']).astimezone(MADRID):%a %d %b, %H:%M}",
        "status": one["status"],
        "answer": one["participant"][0]["status"],
    }


def _json(desk: Desk, name: str) -> tuple[list[Line], str, str]:
    """The newest version, its number, and who wrote it; lines that the version before did not have are fresh."""
    history = desk.stage.world.ehr.get(f"resources/Appointment/{name}")["history"]
    now = _pretty(history[-1]["raw"])
    before = _pretty(history[-2]["raw"]) if len(history) > 1 else now
    fresh = {
        index
        for tag, _, _, begin, end in difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes()
        if tag in {"insert", "replace"}
        for index in range(begin, end)
    }
    written = {w for line in desk.stage.writes(f"Appointment/{name}") for w in line["ids"]["written"]}
    version = str(history[-1]["version"])
    by = "bridge" if f"Appointment/{name}/_history/{version}" in written else "a clerk"
    return [Line(text, at in fresh) for at, text in enumerate(now)], version, by


def _pretty(raw: str) -> list[str]:
    resource = json.loads(raw)
    resource.pop("identifier", None)  # of no interest here, and the column is narrow
    resource.get("meta", {}).pop("lastUpdated", None)
    return json.dumps(resource, ensure_ascii=False, indent=1).splitlines()


def _communication(one: dict[str, Any]) -> dict[str, Any]:
    out = "reference" not in one.get("sender", {})
    return {"out": out, "id": one["id"], "text": one["payload"][0]["contentString"].splitlines()[0]}


def trace(desk: Desk) -> dict[str, Any]:
    events = desk.api("events", limit=EVENTS, expand="trace")["events"]
    cards = [_card(desk, one) for one in events]
    cards += [
        {
            "at": replay.at,
            "when": f"{desk.business(replay.at):%a %d %b, %H:%M:%S}",
            "title": f"the webhook “{replay.what[:24]}” came again",
            "quiet": True,
            "mood": "quiet",
            "steps": [
                {"what": "received", "mood": "quiet", "due": None,
                 "text": f"answered {replay.status}: already handled, nothing follows"}
            ],
        }
        for replay in desk.replays
    ]  # fmt: skip
    cards.sort(key=lambda card: card["at"], reverse=True)
    return {"cards": cards[:EVENTS]}


def _card(desk: Desk, one: dict[str, Any]) -> dict[str, Any]:
    event = one["event"]
    machine = datetime.fromisoformat(event["received_at"].replace("Z", "+00:00")).timestamp()
    about = event["about"] or SAID.get(one["turns"][0]["kind"] if one["turns"] else event["kind"], event["kind"])
    names = [
        m["event"] for m in one["messages"] if m["event"] and not m["offset"] and not m["event"].startswith("answer")
    ]
    quiet = event["reason"] in NOISE or event["fate"] in {"merged", "ignored"}
    moods = {
        step["mood"] for step in one["steps"] if step["what"] != "waits"
    }  # a reminder's time is nothing to wait for
    return {
        "at": machine,
        "when": f"{desk.business(machine):%a %d %b, %H:%M:%S}",
        "id": event["id"],
        "title": f"{about} · {', '.join(dict.fromkeys(names))}" if names else about,
        "quiet": quiet,
        "mood": "quiet" if quiet else next((m for m in ("bad", "wait", "good") if m in moods), "quiet"),
        "steps": [_step(step) for step in one["steps"]],
    }


def _step(step: dict[str, Any]) -> dict[str, Any]:
    due = None
    if step["what"] == "waits" and step["at"]:
        due = f"{datetime.fromisoformat(step['at'].replace('Z', '+00:00')).astimezone(MADRID):%a %d %b, %H:%M}"
    return {"what": step["what"], "mood": step["mood"], "due": due, "text": LONG_ID.sub(r"\1…\2", step["text"])}


def phone(desk: Desk, who: str) -> dict[str, Any]:
    somebody = CAST[who]
    zone = SAO_PAULO if somebody.place.endswith("paulista") else MADRID
    shown = desk.stage.world.whatsapp.get(f"phone/{PHONES[somebody.phone]}")
    bubbles = [
        {
            "mine": bubble["from"] == "patient",
            "body": bubble["body"],
            "buttons": bubble["buttons"],
            "wamid": bubble["wamid"],
            "time": f"{datetime.fromtimestamp(bubble['at'], zone):%a %H:%M}",
        }
        for bubble in shown["bubbles"]
    ]
    return {"bubbles": bubbles}
