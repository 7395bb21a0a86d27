"""Two versions of a DiagnosticReport -> what happened. Only that it is ready or was amended, never what it says.

Source: https://hl7.org/fhir/R4/diagnosticreport.html, https://hl7.org/fhir/R5/diagnosticreport.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.errors import UnreadableResource
from bridge.mappers.tolerant import code, codings, own_reference, reference, shown, texts

EVENTS = ("diagnosticreport.final", "diagnosticreport.amended")
AMENDED = {"amended", "corrected", "appended"}
FINAL = {"final"} | AMENDED  # amended before anyone was told is simply ready; R5's `modified` comes before final


@dataclass(frozen=True, slots=True)
class DiagnosticReport:
    """What decides whether a patient hears of a report."""

    reference: str  # "DiagnosticReport/r1"
    status: str  # lower case
    subject: str | None  # "Patient/x"; other subjects and logical references are None
    code: tuple[
        str, ...
    ]  # "http://loinc.org|58410-2", sorted; without codings the words. Decides holds, is never shown


def project(
    resource: Mapping[str, Any],
    fhir_version: str,  # the three elements are the same in every version
    *,
    zone: str | None = None,
    recognise: Sequence[Any] = (),
    now: datetime | None = None,
) -> DiagnosticReport:
    """Read the elements we use.

    Raises:
        UnreadableResource: not a DiagnosticReport, no id, or no status.
    """
    own = own_reference(resource, "DiagnosticReport")
    if own is None:
        raise UnreadableResource("not a DiagnosticReport with an id: nothing can be tracked")
    status = code(resource.get("status"))
    if not status:
        raise UnreadableResource(f"{shown(own)}: without status")
    subject = reference(resource.get("subject"))
    coded = {f"{system}|{value}" for system, value in codings(resource.get("code"))}
    return DiagnosticReport(
        reference=own,
        status=status,
        subject=subject if subject and subject.startswith("Patient/") else None,
        code=tuple(sorted(coded or set(texts(resource.get("code"))))),
    )


def events(before: DiagnosticReport | None, now: DiagnosticReport) -> tuple[str, ...]:
    """Name what changed since the patient's last news of this report.

    Returns:
        `final` when it first reaches final (or any status after it); `amended` when the patient was told and it is now
        amended, corrected or appended. Nothing for a report taken back: there is no kind way to say that in a chat.
    """
    if now.status not in FINAL:
        return ()
    told = before is not None and before.status in FINAL and before.subject == now.subject
    if not told:
        return ("diagnosticreport.final",)
    return ("diagnosticreport.amended",) if now.status in AMENDED and before != now else ()


def patients(report: DiagnosticReport) -> tuple[str, ...]:
    """Whom it is about."""
    return (report.subject,) if report.subject else ()


def gone(report: DiagnosticReport) -> DiagnosticReport:
    """Deleted in the EHR."""
    return replace(report, status="entered-in-error")


def seen_by(report: DiagnosticReport | None, patient: str) -> DiagnosticReport | None:
    """None for a patient it is not about."""
    return report if report is not None and report.subject == patient else None


def to_json(report: DiagnosticReport) -> dict[str, Any]:
    """For the ledger; `from_json` gives back an equal one."""
    return {
        "reference": report.reference,
        "status": report.status,
        "subject": report.subject,
        "code": list(report.code),
    }


def from_json(stored: Mapping[str, Any]) -> DiagnosticReport:
    """As `to_json` wrote it."""
    return DiagnosticReport(stored["reference"], stored["status"], stored["subject"], tuple(stored["code"]))
