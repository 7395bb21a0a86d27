"""A patient's decision and the Appointment as the EHR holds it -> what to write, or why not. Pure.

Raw JSON in, raw JSON out: what is not the decision stays as the EHR wrote it.

Source: https://hl7.org/fhir/R4/appointment.html (participant.status, cancelationReason, app-4),
https://terminology.hl7.org/CodeSystem-appointment-cancellation-reason.html, RFC 6902 (JSON Patch).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

Verb = Literal["confirm", "cancel"]
Local = Callable[[str], "str | None"]
JsonPatch = tuple[dict[str, Any], ...]

OPEN: Final = frozenset({"proposed", "pending", "booked", "waitlist"})  # a visit that can still be answered
CANCELLED_BY_PATIENT: Final = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason",
            "code": "pat",
            "display": "Patient",
        }
    ]
}


@dataclass(frozen=True, slots=True)
class Change:
    """What to write: the whole resource for a PUT, and the same as JSON Patch whose `test` ops name what we relied on."""

    resource: dict[str, Any]
    ops: JsonPatch


@dataclass(frozen=True, slots=True)
class AlreadySo:
    """The EHR holds it already: our own lost write, or somebody at the desk was faster."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why this decision must not be written: a fixed phrase for the trace."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The visit as the patient saw it when deciding. None = not known, not compared."""

    start: str | None = None  # instant, "2026-12-01T09:30:00+01:00"
    status: str | None = None


def confirm(
    appointment: Mapping[str, Any], patient: str, actor: str, *, local: Local | None = None
) -> Change | AlreadySo | Refusal:
    """Set `accepted` on the participant of the patient, and of the guardian who answers when they are one too.

    Appointment.status stays: confirmed is neither arrived nor ours to promise.

    Args:
        appointment: raw JSON as the EHR holds it.
        patient: "Patient/x", whose visit it is.
        actor: who answered: the same, or "RelatedPerson/y" of that patient.
        local: reference as written -> "Type/id", None for another server's (`EhrClient.local`).
    """
    mine, _ = _participants(appointment, patient, actor, local or _relative)
    status = appointment.get("status")
    if status not in OPEN:
        return Refusal(f"the visit is {_code(status)}")
    if not mine:
        return Refusal("the patient is not a participant of this visit")
    return _change(appointment, mine, "accepted", cancelled=False)


def cancel(
    appointment: Mapping[str, Any],
    patient: str,
    actor: str,
    *,
    local: Local | None = None,
    fhir_version: str = "R4",
) -> Change | AlreadySo | Refusal:
    """Cancel the visit for the patient: status, reason `pat`, own participant `declined`.

    In a group visit only the own participant declines: one member never cancels the others' visit.
    """
    mine, others = _participants(appointment, patient, actor, local or _relative)
    status = appointment.get("status")
    if not mine:
        return Refusal("the patient is not a participant of this visit")
    if status == "cancelled":
        return AlreadySo()
    if status not in OPEN:
        return Refusal(f"the visit is {_code(status)}")
    return _change(appointment, mine, "declined", cancelled=not others, fhir_version=fhir_version)


def _participants(appointment: Mapping[str, Any], patient: str, actor: str, local: Local) -> tuple[list[int], bool]:
    """Indexes of the participants this person answers for, and whether other patients take part.

    A patient known only by identifier or display counts as another: who they are is not ours to guess.
    """
    mine: list[int] = []
    others = False
    participants = appointment.get("participant")
    for index, participant in enumerate(participants if isinstance(participants, list) else []):
        who = participant.get("actor") if isinstance(participant, dict) else None
        if not isinstance(who, dict):
            continue
        written = who.get("reference")
        reference = local(written) if isinstance(written, str) else None
        if reference in {patient, actor}:
            mine.append(index)
        elif _kind(written, who.get("type")) in {"Patient", "Group"}:
            others = True
    return mine, others


def _kind(reference: object, declared: object) -> str:
    """Resource type of an actor: from its reference (relative, absolute, versioned), else as declared."""
    if isinstance(reference, str):
        for part in reference.split("/"):
            if part in {"Patient", "Group"}:
                return part
    return declared if isinstance(declared, str) else ""


def _relative(reference: str) -> str | None:
    """`Type/id` of a relative reference; an absolute one may be anybody's."""
    parts = reference.split("/")
    versioned = 4
    if len(parts) == versioned and parts[2] == "_history":
        parts = parts[:2]
    return "/".join(parts) if len(parts) == 2 and all(parts) else None


def _code(status: object) -> str:
    return status if isinstance(status, str) and status.isascii() and len(status) <= 20 else "in an unknown state"


def _change(
    before: Mapping[str, Any], mine: list[int], answer: str, *, cancelled: bool, fhir_version: str = "R4"
) -> Change | AlreadySo:
    now = copy.deepcopy(dict(before))
    ops: list[dict[str, Any]] = []
    for name in ("start", "status"):  # what the patient decided about
        if name in before:
            ops.append({"op": "test", "path": f"/{name}", "value": before[name]})
    touched = False
    for index in mine:
        participant = now["participant"][index]
        if participant.get("status") == answer:
            continue
        path = f"/participant/{index}"
        ops.append({"op": "test", "path": f"{path}/actor/reference", "value": participant["actor"]["reference"]})
        if "status" in participant:
            ops.append({"op": "test", "path": f"{path}/status", "value": participant["status"]})
        ops.append({"op": "replace" if "status" in participant else "add", "path": f"{path}/status", "value": answer})
        participant["status"] = answer
        touched = True
    if cancelled:
        reason = "cancellationReason" if fhir_version == "R5" else "cancelationReason"
        ops.append({"op": "replace", "path": "/status", "value": "cancelled"})
        ops.append({"op": "add", "path": f"/{reason}", "value": copy.deepcopy(CANCELLED_BY_PATIENT)})
        now["status"] = "cancelled"
        now[reason] = copy.deepcopy(CANCELLED_BY_PATIENT)
        touched = True
    return Change(now, tuple(ops)) if touched else AlreadySo()


def moved(appointment: Mapping[str, Any], expected: Expected) -> bool:
    """Is it no longer the visit the patient decided about? Instants are compared, not their spelling."""
    if expected.start is not None and not _same_instant(expected.start, appointment.get("start")):
        return True
    status = appointment.get("status")
    # pending -> booked is the EHR completing the booking; only leaving the open states changes the question
    return expected.status is not None and status != expected.status and status not in OPEN


def _same_instant(one: str, other: object) -> bool:
    if one == other:
        return True
    if not isinstance(other, str):
        return False
    try:  # with and without zone are never equal
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except ValueError:
        return False


def decide_on(
    held: Mapping[str, Any],
    verb: Verb,
    patient: str,
    actor: str,
    expected: Expected | None,
    *,
    local: Local,
    fhir_version: str,
) -> Change | AlreadySo | Refusal:
    """The verb's decision, unless the visit is no longer the one it was meant for.

    Cancelled already is what a cancelling patient wants, whoever did it. Accepted already is not enough: an EHR may
    keep `accepted` when it moves a visit, and then the patient has agreed to another time.
    """
    if verb == "cancel":
        decision = cancel(held, patient, actor, local=local, fhir_version=fhir_version)
        if isinstance(decision, AlreadySo):
            return decision
    else:
        decision = confirm(held, patient, actor, local=local)
    return Refusal("changed since") if expected is not None and moved(held, expected) else decision
