"""What a Consent says about messages: permit, deny, or nothing at all.

Source: https://hl7.org/fhir/R4/consent.html, https://hl7.org/fhir/R5/consent.html; reference/fhir.md §8 (reading traps).
Which of several Consents counts is not decided here: the ledger takes the newest decision time per person and purpose,
and of one Consent only what was read last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from bridge.errors import UnreadableResource
from bridge.mappers.tolerant import (
    Period,
    Span,
    code,
    codings,
    mapping,
    objects,
    own_reference,
    period,
    reference,
    span,
)

Says = Literal["permit", "deny", "silent", "over"]  # over: it said something, and its period is past; counts as silent

OPT_OUT = {"OPTOUT", "OPTOUTE"}  # v3-ActCode; …E = opt-out with exceptions
OPT_IN = {"OPTIN", "OPTINR"}  # …R = opt-in with restrictions
ACT_CODE = {
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://hl7.org/fhir/v3/ActCode",
    "urn:oid:2.16.840.1.113883.5.4",
    "",
}
NO = {"rejected", "inactive"}  # the Rwanda guide withdraws by `inactive`
UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # a permit without a date yields to every other decision
SKEW = timedelta(minutes=5)  # clocks of EHR and bridge


class Recognise(Protocol):
    """A row of the site's `consent.recognise`."""

    @property
    def category(self) -> str:
        """`system|code`, or a bare code for a coding of any system."""

    @property
    def purposes(self) -> Sequence[str]:
        """Purposes of which a Consent of that category speaks."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What one Consent says, whatever the hour."""

    reference: str  # "Consent/c1"
    status: str
    patient: str | None  # "Patient/p1"; None for a logical reference
    purposes: tuple[str, ...]  # that the site recognises in its categories, sorted
    says: Says  # never `over` here
    reason: str
    decided: Span | None  # dateTime / date as written; never meta.lastUpdated
    period: Period


@dataclass(frozen=True, slots=True)
class Decision:
    """What one Consent says of one purpose at the moment of reading."""

    purpose: str
    decision: Says
    decided_at: datetime
    reason: str
    patient: str | None
    consent_ref: str
    valid_from: datetime | None  # outside of these two it says nothing: to be asked again at the fence
    valid_until: datetime | None


def purposes(consent: Mapping[str, Any], recognise: Sequence[Recognise]) -> tuple[str, ...]:
    """Purposes of the site of which this Consent's categories (or provision codes) speak; empty = not about messages."""
    written = set(codings(consent.get("category")))
    for provision in objects(consent.get("provision")):
        written.update(codings(provision.get("code")))
    found: set[str] = set()
    for row in recognise:
        system, bar, wanted = row.category.rpartition("|")
        if any(value == wanted and (not bar or where == system) for where, value in written):
            found.update(row.purposes)
    return tuple(sorted(found))


def read_statement(
    consent: Mapping[str, Any], recognise: Sequence[Recognise], *, fhir_version: str, zone: str | None = None
) -> Statement:
    """Read what it says without asking the time.

    Args:
        consent: raw JSON, R4 or R5 element names.
        recognise: the site's categories.
        fhir_version: of the EHR; settles which form leads when a Consent carries both.
        zone: in which a decision's bare date begins and ends; UTC without one.

    Raises:
        UnreadableResource: not a Consent, or one without id.
    """
    own = own_reference(consent, "Consent")
    if own is None:
        raise UnreadableResource("not a Consent with an id")
    about = purposes(consent, recognise)
    status = code(consent.get("status"))
    says, reason = _says(consent, status, fhir_version) if about else ("silent", "not coded for messages at this site")
    who = reference(consent.get("patient")) or reference(consent.get("subject"))
    return Statement(
        reference=own,
        status=status,
        patient=who if who and who.startswith("Patient/") else None,
        purposes=about,
        says=says,
        reason=reason,
        decided=span(consent.get("dateTime"), zone or "UTC") or span(consent.get("date"), zone or "UTC"),
        period=_period(consent, zone),
    )


def read_decisions(
    consent: Mapping[str, Any],
    recognise: Sequence[Recognise],
    *,
    fhir_version: str,
    now: datetime,
    zone: str | None = None,
) -> tuple[Decision, ...]:
    """What a Consent says now, one row per purpose; none when it is not about messages.

    Raises:
        UnreadableResource: not a Consent, or one without id.
    """
    statement = read_statement(consent, recognise, fhir_version=fhir_version, zone=zone)
    says, reason = in_force(statement, now)
    at = _decided_at(statement.decided, says, now)
    if says == "permit" and at > now + SKEW:
        says, reason = "silent", "its decision time is in the future"
    return tuple(
        Decision(
            purpose,
            says,
            at,
            reason,
            statement.patient,
            statement.reference,
            statement.period.start,
            statement.period.end,
        )
        for purpose in statement.purposes
    )


def in_force(statement: Statement, now: datetime) -> tuple[Says, str]:
    """Apply the period. One that contradicts itself (start after end is seen) ends a permit and leaves a refusal standing."""
    if statement.says == "silent":
        return "silent", statement.reason
    if statement.period.broken:
        if statement.says == "permit":
            return "silent", "its period cannot be read or ends before it starts"
        return statement.says, statement.reason
    if statement.period.over(now):
        return "over", "its period is past"
    if statement.period.begins_after(now):
        return "silent", "its period has not begun"
    return statement.says, statement.reason


def _says(consent: Mapping[str, Any], status: str, fhir_version: str) -> tuple[Says, str]:
    """The order of fhir.md §8: status, then what is said outright (deny wins), then the rule it is an exception to."""
    if status in NO:
        return "deny", f"its status is {status}"
    if status != "active":  # draft, proposed, entered-in-error, not-done, unknown: nothing was decided
        return "silent", f"its status is {status}" if status else "it has no status"
    root, nested = _provision_types(consent)
    decision = code(consent.get("decision"))
    if fhir_version == "R5" and decision in {"permit", "deny"}:
        # HL7's own "Out" example says permit: the word is believed, the title is not
        return ("deny", "decision is deny") if decision == "deny" else ("permit", "decision is permit")
    if "deny" in root | nested or decision == "deny":
        return "deny", "provision.type is deny" if "deny" in root else "a provision or the decision denies"
    if "permit" in root or decision == "permit":
        return "permit", "provision.type is permit" if "permit" in root else "decision is permit"
    rules = {value for system, value in codings(consent.get("policyRule")) if system in ACT_CODE}
    if rules & OPT_OUT:  # the provision only lists exceptions to it
        return "deny", "policyRule is OPTOUT"
    if rules & OPT_IN:
        return "permit", "policyRule is OPTIN"
    return "silent", "neither provision.type, decision nor policyRule says yes or no"


def _provision_types(consent: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Types at the root and below it. A nested permit is an exception to something else; a nested deny we cannot rule out."""
    top = objects(consent.get("provision"))
    nested: set[str] = set()
    waiting = [child for provision in top for child in objects(provision.get("provision"))]
    while waiting:  # a loop: nesting as deep as a sender likes must not exhaust the stack
        provision = waiting.pop()
        nested.add(code(provision.get("type")))
        waiting += objects(provision.get("provision"))
    return {code(provision.get("type")) for provision in top}, nested


def _period(consent: Mapping[str, Any], zone: str | None) -> Period:
    """R5 has it at the root; in R4 it is the (single) provision's. R5's provisions are exceptions with periods of their own."""
    if isinstance(consent.get("provision"), Mapping):
        return period(mapping(consent.get("provision")).get("period") or consent.get("period"), zone)
    return period(consent.get("period"), zone)


def _decided_at(decided: Span | None, says: Says, now: datetime) -> datetime:
    """When it was decided, read with care: a bare date is the whole day, so a permit counts from its first moment and a
    refusal to its last, and a refusal of unknown or future time counts from now."""
    if says != "deny":
        return decided.first if decided else UNKNOWN_TIME
    return min(decided.last, now) if decided else now
