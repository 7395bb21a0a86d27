"""Two versions of a Consent -> granted or revoked, for the purposes that the site recognises in it.

What it says is read by `bridge.mappers.consent`; source: reference/fhir.md §8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bridge.errors import UnreadableResource
from bridge.mappers.consent import Recognise, in_force, read_statement
from bridge.mappers.tolerant import Period, Span, own_reference, shown

EVENTS = ("consent.granted", "consent.revoked")


@dataclass(frozen=True, slots=True)
class Consent:
    """What decides whether this Consent lets a message leave."""

    reference: str  # "Consent/c1"
    status: str  # lower case
    subject: str | None  # "Patient/x"
    decision: str  # permit | deny | silent | over
    purposes: tuple[str, ...]  # of the site, sorted; empty = not about messages
    decided: str | None  # UTC instant, or a date as precise as it was written: "2026-11", "2026-11-24"
    valid_from: str | None  # the period belongs to the decision: one shortened to yesterday is a revocation in effect
    valid_until: str | None


def project(
    resource: Mapping[str, Any],
    fhir_version: str,
    *,
    zone: str | None = None,
    recognise: Sequence[Recognise] = (),
    now: datetime | None = None,
) -> Consent:
    """Read the elements we use.

    Args:
        resource: raw JSON, R4 or R5 names.
        fhir_version: of the EHR.
        zone: in which bare dates begin and end.
        recognise: the site's `consent.recognise`.
        now: business time, so that a permit that is already over grants nothing; without it the period is not asked.

    Raises:
        UnreadableResource: not a Consent, no id, or no status.
    """
    own = own_reference(resource, "Consent")
    if own is None:
        raise UnreadableResource("not a Consent with an id: nothing can be tracked")
    statement = read_statement(resource, recognise, fhir_version=fhir_version, zone=zone)
    if not statement.status:
        raise UnreadableResource(f"{shown(own)}: without status")
    return Consent(
        reference=own,
        status=statement.status,
        subject=statement.patient,
        decision=in_force(statement, now)[0] if now else statement.says,
        purposes=statement.purposes,
        decided=_written(statement.decided),
        **_ends(statement.period),
    )


def events(before: Consent | None, now: Consent) -> tuple[str, ...]:
    """Name what changed, purpose by purpose.

    Returns:
        `granted` when a purpose is permitted that was not; `revoked` when one is refused that was not, also by a Consent
        seen for the first time: many EHRs record a refusal as a new one. Silence and a period's end are nobody's words.
    """
    held = before if before is not None and before.subject == now.subject else None
    if now.decision not in {"permit", "deny"}:
        return ()
    already = set(held.purposes) if held and held.decision == now.decision else set()
    if set(now.purposes) <= already:
        return ()
    return ("consent.granted",) if now.decision == "permit" else ("consent.revoked",)


def patients(consent: Consent) -> tuple[str, ...]:
    """Whose consent it is."""
    return (consent.subject,) if consent.subject else ()


def gone(consent: Consent) -> Consent:
    """Deleted in the EHR: it says nothing any more."""
    return replace(consent, status="entered-in-error", decision="silent")


def seen_by(consent: Consent | None, patient: str) -> Consent | None:
    """None for a patient it is not about."""
    return consent if consent is not None and consent.subject == patient else None


def to_json(consent: Consent) -> dict[str, Any]:
    """For the ledger; `from_json` gives back an equal one."""
    return {
        "reference": consent.reference,
        "status": consent.status,
        "subject": consent.subject,
        "decision": consent.decision,
        "purposes": list(consent.purposes),
        "decided": consent.decided,
        "valid_from": consent.valid_from,
        "valid_until": consent.valid_until,
    }


def from_json(stored: Mapping[str, Any]) -> Consent:
    """As `to_json` wrote it."""
    return Consent(**{**stored, "purposes": tuple(stored["purposes"])})


def _written(decided: Span | None) -> str | None:
    """Instants in UTC, so that another offset is not another decision; dates as precise as they were."""
    if decided is None:
        return None
    if decided.precision == "instant":
        return decided.first.astimezone(UTC).isoformat()
    return decided.first.date().isoformat()[: {"year": 4, "month": 7, "day": 10}[decided.precision]]


def _ends(period: Period) -> dict[str, str | None]:
    return {
        "valid_from": period.start.astimezone(UTC).isoformat() if period.start else None,
        "valid_until": period.end.astimezone(UTC).isoformat() if period.end else None,
    }
