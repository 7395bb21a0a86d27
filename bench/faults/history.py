"""What the outside witnessed of one run: the pretend EHR's journal, the pretend WhatsApp's, and the notes of the load.

Nothing here comes from the engine. Times are wall-clock seconds of one machine.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from bridge.sandbox.journal import read_journal

ZONE = ZoneInfo("Europe/Madrid")  # of the pretend hospital: what its texts' hours are told in
ACKS = "acks.jsonl"
CANCELLED = "cancelled"
_CALLBACK = re.compile(r"b1\.(\d+)\.(\d+)")
_PARTS = re.compile(r"(\d{1,2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an Appointment as the EHR held it."""

    number: int
    at: float
    telling: str  # what a patient would have to read: "10:30", "cancelled 10:30", "" for what nobody is told
    accepted: bool  # the patient's participant
    by_engine: bool


@dataclass(frozen=True, slots=True)
class Post:
    """A message that WhatsApp put on its way."""

    at: float
    seq: int
    to: str  # digits
    message: str  # id inside the callback: one message of the engine
    attempt: int
    template: str  # "" for free text
    telling: str  # of an appointment's news, else ""
    text: str
    wamid: str
    answered: bool  # False: its answer never left, or could not be read
    slow: bool  # its answer left up to half a second later


@dataclass(slots=True)
class History:
    """One run."""

    versions: dict[str, list[Version]] = field(default_factory=lambda: defaultdict(list))  # Appointment/x -> in order
    patient_of: dict[str, str] = field(default_factory=dict)  # Appointment/x -> Patient/y
    phone_of: dict[str, str] = field(default_factory=dict)  # Patient/y -> digits
    posts: list[Post] = field(default_factory=list)
    told_acked: dict[tuple[str, int], float] = field(default_factory=dict)  # (Appointment/x, version) -> first 2xx
    webhooks_acked: dict[str, float] = field(default_factory=dict)  # wamid | "wamid|status" -> first 200
    communications: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # identifier -> creates
    wrote: list[dict[str, Any]] = field(default_factory=list)  # taps and texts: {"who", "wamid", "what", "at"}
    kills: list[dict[str, Any]] = field(default_factory=list)
    resent: set[str] = field(default_factory=set)  # messages a person sent again

    @property
    def acknowledged(self) -> int:
        return len(self.told_acked) + len(self.webhooks_acked)


def read(folder: Path) -> History:
    """The history of a run's folder."""
    notes = [json.loads(line) for line in (folder / ACKS).read_text("utf-8").splitlines() if line.strip()]
    return build(read_journal(folder / "ehr.jsonl"), read_journal(folder / "whatsapp.jsonl"), notes)


def build(
    ehr: Iterable[Mapping[str, Any]], whatsapp: Iterable[Mapping[str, Any]], notes: Iterable[Mapping[str, Any]]
) -> History:
    history = History()
    _ehr(history, ehr)
    _whatsapp(history, whatsapp)
    _notes(history, notes)
    return history


def _ehr(history: History, lines: Iterable[Mapping[str, Any]]) -> None:
    sent: dict[int, tuple[str, int]] = {}
    for line in lines:
        ids = line.get("ids") or {}
        if line["dir"] == "out" and str(ids.get("focus", "")).startswith("Appointment/"):
            sent[line["seq"]] = (ids["focus"], int(ids["version"]))
        elif line["dir"] == "answer" and line.get("delivered") and line.get("of") in sent:
            history.told_acked.setdefault(sent[line["of"]], line["at"])
        for written in ids.get("written", ()) if line["dir"] in ("in", "note") else ():
            reference, _, number = written.partition("/_history/")
            resource = _held(line, reference)
            if resource is None:
                continue
            if reference.startswith("Appointment/"):
                _version(history, reference, int(number), line, resource)
            elif reference.startswith("Patient/"):
                phones = [t["value"] for t in resource.get("telecom", ()) if t.get("system") == "phone"]
                if phones:
                    history.phone_of[reference] = digits(phones[0])
            elif reference.startswith("Communication/") and number == "1":
                for identifier in resource.get("identifier", ()):
                    history.communications[str(identifier.get("value"))].append(line["at"])


def _held(line: Mapping[str, Any], reference: str) -> Mapping[str, Any] | None:
    """The resource as it stood after this line, alone or in a batch of several."""
    for name in ("answer", "body"):
        value = line.get(name)
        if not isinstance(value, dict):
            continue
        if value.get("resourceType") == "Bundle":
            for entry in value.get("entry", ()):
                resource = entry.get("resource") or {}
                if f"{resource.get('resourceType')}/{resource.get('id')}" == reference:
                    return dict(resource)
        elif value.get("resourceType") not in (None, "OperationOutcome"):
            return value
    return None


def _version(history: History, reference: str, number: int, line: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    accepted = False
    for participant in held.get("participant", ()):
        actor = str((participant.get("actor") or {}).get("reference", ""))
        if actor.startswith("Patient/"):
            history.patient_of[reference] = actor
            accepted = participant.get("status") == "accepted"
    hour = datetime.fromisoformat(held["start"]).astimezone(ZONE)
    telling = f"{hour.hour}:{hour.minute:02}"
    if held.get("status") == CANCELLED:
        telling = f"{CANCELLED} {telling}"
    version = Version(number, line["at"], telling, accepted, line["dir"] == "in")
    if all(known.number != number for known in history.versions[reference]):
        history.versions[reference].append(version)
        history.versions[reference].sort(key=lambda each: each.number)


def _whatsapp(history: History, lines: Iterable[Mapping[str, Any]]) -> None:
    sent: dict[int, list[str]] = {}
    for line in lines:
        if line["dir"] == "out":
            sent[line["seq"]] = list((line.get("ids") or {}).get("updates", ()))
        elif line["dir"] == "answer" and line.get("delivered"):
            for key in sent.get(line["of"], ()):
                history.webhooks_acked.setdefault(key, line["at"])
        elif line["dir"] == "in" and line.get("effect") == "message":
            history.posts.append(_post(line))


def _post(line: Mapping[str, Any]) -> Post:
    body, ids = line["body"], line["ids"]
    found = _CALLBACK.fullmatch(str(ids.get("callback") or ""))
    template = (body.get("template") or {}).get("name", "")
    telling = text = ""
    if template:
        parameters = [
            parameter
            for component in body["template"].get("components", ())
            if component.get("type") == "body"
            for parameter in component.get("parameters", ())
        ]
        text = " | ".join(str(parameter.get("text")) for parameter in parameters)
        hours = [str(p.get("text")) for p in parameters if p.get("parameter_name") == "time"]
        if hours and template.startswith(("appointment_", "caregiver_")) and not template.endswith("_reminder"):
            match = _PARTS.search(hours[0])
            telling = f"{int(match.group(1))}:{match.group(2)}" if match else hours[0]
            if template.endswith("_cancelled"):
                telling = f"{CANCELLED} {telling}"
    else:
        kind = body.get("type")
        text = json.dumps(body.get(kind), ensure_ascii=False, sort_keys=True)
    return Post(
        at=line["at"],
        seq=line["seq"],
        to=digits(str(ids.get("to"))),
        message=found.group(1) if found else "",
        attempt=int(found.group(2)) if found else 0,
        template=template,
        telling=telling,
        text=text,
        wamid=str(ids.get("wamid")),
        answered=line.get("status") == 200 and line.get("fault") in (None, "delay"),
        slow=line.get("fault") == "delay",
    )


def _notes(history: History, notes: Iterable[Mapping[str, Any]]) -> None:
    for note in notes:
        match note["what"]:
            case "push" if note.get("acked") is not None:
                key = (note["reference"], int(note["version"]))
                history.told_acked[key] = min(note["acked"], history.told_acked.get(key, note["acked"]))
            case "tap" | "say":
                history.wrote.append(dict(note))
            case "kill":
                history.kills.append(dict(note))
            case "resent":
                history.resent.update(str(message).removeprefix("msg_") for message in note["messages"])


def digits(number: str) -> str:
    return re.sub(r"\D", "", number)
