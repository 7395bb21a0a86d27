"""What we author is valid R4, finds itself again, and says nothing that its arguments did not."""

from datetime import UTC, datetime, timedelta, timezone
from time import perf_counter

import pytest
from fhir.resources.R4B.appointmentresponse import AppointmentResponse
from fhir.resources.R4B.communication import Communication
from fhir.resources.R4B.consent import Consent
from fhir.resources.R4B.subscription import Subscription

from bridge.fhir import build
from bridge.ledger import states

AT = datetime(2026, 12, 1, 8, 30, 5, tzinfo=UTC)


def out(**changes):
    return build.communication_out(
        **{
            "message": "msg_1",
            "state": "delivered",
            "patient": "Patient/p1",
            "recipient": "RelatedPerson/r1",
            "about": ["Appointment/a1"],
            "text": "Hola, Ana",
            "wamid": "wamid.A",
            "sent": AT,
            "received": AT + timedelta(seconds=2),
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("accepted", "preparation"),
        ("sent", "in-progress"),
        ("delivered", "completed"),
        ("read", "completed"),
        ("failed", "not-done"),
        ("cancelled", "stopped"),
        ("doubt", "unknown"),
    ],
)
def test_a_message_state_as_communication_status(state, status):
    built = out(state=state)
    assert built["status"] == status
    Communication.model_validate(built)


def test_every_state_of_the_ledger_has_a_status():
    assert states.MESSAGE.keys() <= build.STATUS.keys()


def test_an_outbound_communication_names_cause_medium_and_our_id_first():
    built = out()
    assert built["identifier"][0] == {"system": "urn:bridge:message", "value": "msg_1"}
    assert built["about"] == [{"reference": "Appointment/a1"}]
    assert built["medium"][0]["coding"][0]["code"] == "APPWRIT"
    assert built["medium"][0]["text"] == "WhatsApp"
    assert built["recipient"] == [{"reference": "RelatedPerson/r1"}]
    assert (built["sent"], built["received"]) == ("2026-12-01T08:30:05+00:00", "2026-12-01T08:30:07+00:00")
    assert built["payload"] == [{"contentString": "Hola, Ana"}]


def test_a_reason_stands_only_beside_not_done():
    assert (
        out(state="failed", reason="invalid-phone-number")["statusReason"]["coding"][0]["code"]
        == "invalid-phone-number"
    )
    assert "statusReason" not in out(state="delivered", reason="system-error")


@pytest.mark.parametrize("text", [None, "", "  "])
def test_a_purged_text_leaves_no_empty_payload(text):
    assert "payload" not in out(text=text)


@pytest.mark.parametrize(
    "changes",
    [
        {"patient": "Patient/../x"},
        {"recipient": "https://evil.example/Patient/1"},
        {"about": ["Appointment/a b"]},
        {"sent": datetime(2026, 12, 1)},  # noqa: DTZ001 -- the case
        {"message": " "},
        {"state": "teleported"},
        {"state": "failed", "reason": "because"},
    ],
    ids=str,
)
def test_bad_arguments_are_refused_also_for_a_known_shape(changes):
    out()
    with pytest.raises(ValueError):
        out(**changes)


def test_a_shape_that_is_not_fhir_is_refused():
    with pytest.raises(ValueError):
        build._checked({"resourceType": "Communication", "status": "completed", "wamid": "x"})
    with pytest.raises(ValueError):  # and is not remembered as good
        build._checked({"resourceType": "Communication", "status": "completed", "wamid": "x"})


def test_an_inbound_communication():
    built = build.communication_in(
        turn="turn_1",
        patient="Patient/p1",
        sender="Patient/p1",
        about=["Appointment/a1"],
        received=AT.astimezone(timezone(timedelta(hours=1))),
        text="Confirmar",
        wamid="wamid.B",
        in_response_to="Communication/c1",
        recipient="Hospital Demo",
    )
    Communication.model_validate(built)
    assert built["identifier"][0] == {"system": "urn:bridge:turn", "value": "turn_1"}
    assert built["received"] == "2026-12-01T09:30:05+01:00"
    assert built["inResponseTo"] == [{"reference": "Communication/c1"}]
    assert built["status"] == "completed"


@pytest.mark.parametrize(("decision", "rule"), [("deny", "OPTOUT"), ("permit", "OPTIN")])
def test_a_consent_is_an_active_decision(decision, rule):
    built = build.consent(
        decision_id="dec_1", patient="Patient/p1", performer="Patient/p1", decision=decision, decided_at=AT
    )
    Consent.model_validate(built)
    assert built["status"] == "active"
    assert built["provision"]["type"] == decision
    assert built["policyRule"]["coding"][0]["code"] == rule
    assert built["category"][0]["coding"][0] == {"system": "http://loinc.org", "code": "89057-4"}
    assert built["dateTime"] == "2026-12-01T08:30:05+00:00"


def test_an_appointment_response_proposes_both_times_or_none():
    arguments = {"response_id": "r1", "appointment": "Appointment/a1", "actor": "Patient/p1", "answer": "tentative"}
    built = build.appointment_response(**arguments, start=AT, end=AT + timedelta(minutes=20), comment="mañana")
    AppointmentResponse.model_validate(built)
    assert built["participantStatus"] == "tentative"
    with pytest.raises(ValueError, match="start and end"):
        build.appointment_response(**arguments, start=AT)


def test_a_subscription_is_requested_with_payload_and_header():
    built = build.subscription(
        criteria="Appointment?",
        endpoint="https://bridge.example/ehr/main/appointments",
        reason="WhatsApp messages",
        headers=[("Authorization", "Bearer s")],
        deletes=True,
    )
    Subscription.model_validate(built)
    assert built["status"] == "requested"
    assert built["channel"]["header"] == ["Authorization: Bearer s"]
    assert built["channel"]["payload"] == "application/fhir+json"


def test_a_known_shape_costs_well_under_a_millisecond():
    out()
    best = min(_timed() for _ in range(5))
    assert best < 1e-3


def _timed():
    start = perf_counter()
    out(message="msg_2")
    return perf_counter() - start
