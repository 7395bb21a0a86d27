"""The resources we author for the EHR, as JSON: Communication, Consent, AppointmentResponse, Subscription. Pure.

Ids, times and texts arrive as arguments. Each carries an identifier of ours, so that a create whose answer was lost can
be found before it is tried again. A shape (which elements, which codes) is validated by the `fhir.resources` R4B models
the first time it is built; R4 and R4B are identical for all four.

Source: https://hl7.org/fhir/R4/communication.html, …/consent.html, …/appointmentresponse.html, …/subscription.html,
reference/fhir.md §1, §8 and §9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Literal

MESSAGE: Final = "urn:bridge:message"  # identifier systems: our message …
WAMID: Final = "urn:bridge:wamid"  # … WhatsApp's name for it …
TURN: Final = "urn:bridge:turn"  # … what a patient said …
CONSENT: Final = "urn:bridge:consent"  # … and decided
RESPONSE: Final = "urn:bridge:response"

LOINC_TEXT_MESSAGES: Final = ("http://loinc.org", "89057-4")  # "Permission to receive text messages"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"
_REFERENCE = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}")

# message state -> Communication.status. FHIR knows neither sent, delivered nor read: read is `completed` like delivered
STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "planned": "preparation",
        "ready": "preparation",
        "sending": "preparation",
        "accepted": "preparation",
        "sent": "in-progress",
        "delivered": "completed",
        "read": "completed",
        "played": "completed",
        "failed": "not-done",
        "suppressed": "not-done",
        "expired": "not-done",
        "superseded": "stopped",
        "cancelled": "stopped",
        "doubt": "unknown",
        "held": "unknown",
        "closed": "unknown",
    }
)
NOT_DONE: Final = frozenset(  # of communication-not-done-reason, what a phone can be the reason for
    {"invalid-phone-number", "recipient-unavailable", "patient-objection", "system-error", "unknown"}
)


def communication_out(
    *,
    message: str,
    state: str,
    patient: str,
    recipient: str,
    about: Sequence[str],
    text: str | None = None,
    wamid: str | None = None,
    sent: datetime | None = None,
    received: datetime | None = None,
    category: Literal["reminder", "notification", "alert", "instruction"] = "notification",
    reason: str | None = None,
    sender: str | None = None,
    medium: Literal["APPWRIT", "WRITTEN"] = "APPWRIT",
) -> dict[str, Any]:
    """A message of ours to a patient.

    Args:
        message: our id, "msg_…"; the identifier.
        state: of the ledger, see `STATUS`.
        patient: "Patient/x", whom it is about.
        recipient: "Patient/x" or "RelatedPerson/y", whom it went to.
        about: what caused it, "Appointment/a1".
        text: as the phone showed it; None once purged.
        wamid: WhatsApp's id.
        sent: WhatsApp's time of `sent`.
        received: WhatsApp's time of `delivered`. The time of `read` has no element.
        category: of communication-category.
        reason: why it failed, of communication-not-done-reason; kept only when it did.
        sender: name of the site, as display.
        medium: WRITTEN for servers whose v3-ParticipationMode is older than APPWRIT.

    Raises:
        ValueError: a state, reference or reason that is none.
    """
    status = STATUS.get(state)
    if status is None:
        raise ValueError("not a state of a message")
    built = _communication(
        [(MESSAGE, message), *([(WAMID, wamid)] if wamid else [])],
        status,
        patient,
        about,
        text,
        category=category,
        medium=medium,
    )
    if status == "not-done" and reason:
        built["statusReason"] = _concept(f"{_TERMINOLOGY}/communication-not-done-reason", _not_done(reason))
    built["recipient"] = [_to(recipient)]
    if sender:
        built["sender"] = {"display": sender}
    if sent:
        built["sent"] = _time(sent)
    if received:
        built["received"] = _time(received)
    return _checked(built)


def communication_in(
    *,
    turn: str,
    patient: str,
    sender: str,
    about: Sequence[str],
    received: datetime,
    text: str | None = None,
    wamid: str | None = None,
    in_response_to: str | None = None,
    recipient: str | None = None,
    medium: Literal["APPWRIT", "WRITTEN"] = "APPWRIT",
) -> dict[str, Any]:
    """What a patient wrote or tapped.

    Args:
        turn: our id of what was said; the identifier.
        patient: "Patient/x", whom it is about.
        sender: "Patient/x" or "RelatedPerson/y", who wrote.
        about: "Appointment/a1".
        received: WhatsApp's timestamp of the message.
        text: the words, or the title of the button.
        wamid: WhatsApp's id.
        in_response_to: "Communication/c1", of the message answered, where its id is known.
        recipient: name of the site, as display.
        medium: as in `communication_out`.
    """
    identifiers = [(TURN, turn), *([(WAMID, wamid)] if wamid else [])]
    built = _communication(identifiers, "completed", patient, about, text, category="notification", medium=medium)
    built["sender"] = _to(sender)
    built["received"] = _time(received)
    if recipient:
        built["recipient"] = [{"display": recipient}]
    if in_response_to:
        built["inResponseTo"] = [_to(in_response_to)]
    return _checked(built)


def consent(
    *,
    decision_id: str,
    patient: str,
    performer: str,
    decision: Literal["permit", "deny"],
    decided_at: datetime,
    category: tuple[str, str] = LOINC_TEXT_MESSAGES,
    source: str | None = None,
) -> dict[str, Any]:
    """STOP or START, as a Consent of its own: an *active* refusal, never an inactive permission.

    Args:
        decision_id: our id; the identifier.
        patient: "Patient/x".
        performer: who decided: the same, or a RelatedPerson.
        decision: deny for STOP.
        decided_at: when they wrote it; the newest `dateTime` of a category wins.
        category: (system, code) that this site recognises, so that it reads its own decision back.
        source: "Communication/c1" that holds the words.
    """
    permits = decision == "permit"
    built: dict[str, Any] = {
        "resourceType": "Consent",
        "identifier": [_identifier(CONSENT, decision_id)],
        "status": "active",
        "scope": _concept(f"{_TERMINOLOGY}/consentscope", "patient-privacy"),
        "category": [_concept(*category)],
        "patient": _to(patient),
        "dateTime": _time(decided_at),
        "performer": [_to(performer)],
        "policyRule": _concept(f"{_TERMINOLOGY}/v3-ActCode", "OPTIN" if permits else "OPTOUT"),
        "provision": {"type": decision},
    }
    if source:
        built["sourceReference"] = _to(source)
    return _checked(built)


def appointment_response(
    *,
    response_id: str,
    appointment: str,
    actor: str,
    answer: Literal["accepted", "declined", "tentative"],
    comment: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> dict[str, Any]:
    """A reply to the organiser, who then updates the Appointment; `start` and `end` together propose another time."""
    if (start is None) != (end is None):
        raise ValueError("a proposal needs start and end")
    built: dict[str, Any] = {
        "resourceType": "AppointmentResponse",
        "identifier": [_identifier(RESPONSE, response_id)],
        "appointment": _to(appointment),
    }
    if start and end:
        built |= {"start": _time(start), "end": _time(end)}
    built |= {"actor": _to(actor), "participantStatus": answer}
    if _said(comment):
        built["comment"] = comment
    return _checked(built)


def subscription(
    *,
    criteria: str,
    endpoint: str,
    reason: str,
    headers: Sequence[tuple[str, str]] = (),
    payload: bool = True,
    deletes: bool = False,
) -> dict[str, Any]:
    """An R4 rest-hook Subscription, `requested`: only the server makes it active.

    Args:
        criteria: "Appointment?": without a status, or a cancellation would never be told.
        endpoint: our door of this subscription; nothing else in the request names it.
        reason: why, for the EHR's administrator.
        headers: sent along with every notification.
        payload: send the resource, else nothing names it.
        deletes: ask HAPI and Smile CDR to tell deletions too.
    """
    channel: dict[str, Any] = {"type": "rest-hook", "endpoint": endpoint}
    if payload:
        channel["payload"] = "application/fhir+json"
    if headers:
        channel["header"] = [f"{name}: {value}" for name, value in headers]
    if deletes:
        channel["extension"] = [
            {
                "url": "http://hapifhir.io/fhir/StructureDefinition/subscription-send-delete-messages",
                "valueBoolean": True,
            }
        ]
    return _checked(
        {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": reason,
            "criteria": criteria,
            "channel": channel,
        }
    )


# --- parts ---------------------------------------------------------------------------------------------------------


def _communication(
    identifiers: Sequence[tuple[str, str]],
    status: str,
    patient: str,
    about: Sequence[str],
    text: str | None,
    *,
    category: str,
    medium: str,
) -> dict[str, Any]:
    built: dict[str, Any] = {
        "resourceType": "Communication",
        "identifier": [_identifier(*identifier) for identifier in identifiers],
        "status": status,
        "category": [_concept(f"{_TERMINOLOGY}/communication-category", category)],
        "medium": [{**_concept(f"{_TERMINOLOGY}/v3-ParticipationMode", medium), "text": "WhatsApp"}],
        "subject": _to(patient),
    }
    if about:
        built["about"] = [_to(cause) for cause in about]
    if _said(text):
        built["payload"] = [{"contentString": text}]
    return built


def _identifier(system: str, value: str) -> dict[str, str]:
    if not value.strip():
        raise ValueError("an identifier without value finds nothing again")
    return {"system": system, "value": value}


def _to(reference: str) -> dict[str, str]:
    if not _REFERENCE.fullmatch(reference):
        raise ValueError("not a Type/id")
    return {"reference": reference}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _time(at: datetime) -> str:
    """With its offset: a dateTime with a time needs one."""
    if at.tzinfo is None:
        raise ValueError("a time without zone")
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds")


def _said(text: str | None) -> bool:
    """FHIR strings are never empty."""
    return bool(text and text.strip())


def _not_done(reason: str) -> str:
    if reason not in NOT_DONE:
        raise ValueError("not a communication-not-done-reason")
    return reason


# --- checking ------------------------------------------------------------------------------------------------------

_CODES: Final = frozenset({"resourceType", "status", "code", "system", "type", "participantStatus", "url"})
_known: set[object] = set()  # shapes that a model has accepted; a few dozen, as every code in them is one of ours


def _checked(resource: dict[str, Any]) -> dict[str, Any]:
    """Validate a shape the first time; what varies after that (ids, times, texts) is checked where it is put in.

    Validating costs 0.3 ms and a shape 0.01 ms; a site writes one Communication per message.
    """
    shape = _shape(resource, "")
    if shape not in _known:
        name = resource["resourceType"]
        getattr(import_module(f"fhir.resources.R4B.{name.lower()}"), name).model_validate(resource)
        if len(_known) < 1000:
            _known.add(shape)
    return resource


def _shape(value: Any, key: str) -> object:
    if isinstance(value, dict):
        return tuple((name, _shape(inner, name)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(_shape(inner, key) for inner in value)
    return value if key in _CODES else type(value)
