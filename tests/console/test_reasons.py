"""Every reason in the code has a sentence that says what happened and what to do."""

from __future__ import annotations

import pytest

from bridge.console import reasons
from bridge.console.reasons import FATES, STATES, WAITING, WRITES, sentence, told
from bridge.errors import UnreadableResource
from bridge.ledger import states
from bridge.mappers.events import appointment, diagnosticreport
from bridge.mappers.person import Person
from bridge.outbound.reactions import BY_CODE, BY_HTTP, Reaction
from tests.console.reasons_in_code import sentences

CODE = sentences()
HOLE = "patient/x 7"


def filled(text: str) -> str:
    """The sentence as it is stored, its holes filled."""
    whose = ["the patient"] if text.startswith(("{} ", "{}'s")) else []
    return text.format(*whose, *[HOLE] * 4)


def test_the_collector_sees_the_code() -> None:
    assert len(CODE) > 120
    for known in (
        "nothing a patient would notice", "no mapping for {}", "the patient stopped messages on this phone", "newer news",
        "the visit is {}", "heartbeat", "template {}", "its mapping is no longer there, or is paused", "{} by a person",
        "the brake is on: a person releases or cancels it", "the EHR could not be read to confirm this reminder",
        "no value for {}: {}", "{} has died", "pair rate", "this engine died while it was sending it", "foreign number",
    ):  # fmt: skip
        assert known in CODE, known


@pytest.mark.parametrize("text", sorted(CODE))
def test_every_reason_of_the_code_has_a_sentence(text: str) -> None:
    if text.replace("{}", "").strip(" :;()") in {"", "tried  times"}:
        reason = (
            "bad payload; tried 3 times"
            if "tried" in text
            else "minor without a guardian we may write to (RelatedPerson/a: is a minor too)"
        )
    else:
        reason = filled(text)
    found = sentence(reason)
    assert found is not None, f"{text!r} ({CODE[text]}) is not in bridge/console/reasons.py"
    assert_sentences(found.happened, found.todo)


@pytest.mark.parametrize(
    "reaction", {r.reason: r for r in (*BY_CODE.values(), *BY_HTTP.values())}.values(), ids=lambda r: r.reason
)
def test_every_refusal_of_whatsapp_has_a_sentence(reaction: Reaction) -> None:
    reason = reaction.reason
    found = sentence(reason)
    assert found is not None
    assert_sentences(found.happened, found.todo)
    again = sentence(f"{reason}; tried 4 times")
    assert again is not None
    assert "4 times" in again.happened


def assert_sentences(happened: str, todo: str) -> None:
    for text in (happened, todo):
        assert text[0].isupper() or text[0] in "`“" or text.startswith("bridge")
        assert text.endswith(".")
        assert "{" not in text
        assert "  " not in text
    assert len(todo) >= len("Nothing to do.")
    assert "error" not in happened.lower() or todo != reasons.NOTHING


@pytest.mark.parametrize(
    ("kind", "every", "table"),
    [
        ("event", states.EVENT_FATES, FATES),
        ("message", tuple(states.MESSAGE), STATES),
        ("write", tuple(states.WRITE), WRITES),
    ],
)
def test_every_fate_and_state_speaks_for_itself(
    kind: str, every: tuple[str, ...], table: dict[str, tuple[str, str]]
) -> None:
    assert set(table) == set(every)
    for state in every:
        (bare,) = told(kind, state, None)
        assert_sentences(bare.happened, bare.todo)
        (quoted,) = told(kind, state, "the moon was full")
        assert "“the moon was full”" in quoted.happened
        assert quoted.known is False
        assert_sentences(quoted.happened, quoted.todo)


def test_what_went_wrong_is_never_left_without_something_to_do() -> None:
    for kind, state in (("event", "failed"), ("event", "unusable"), ("message", "failed"), ("message", "doubt"),
                        ("message", "held"), ("write", "refused"), ("write", "held")):  # fmt: skip
        for reason in (None, "unheard of"):
            assert all(not each.todo.startswith("Nothing") for each in told(kind, state, reason))
    for text in CODE:
        if "failed" in text or "could not" in text or "cannot" in text:
            found = sentence(filled(text))
            assert found is not None
            assert found.todo != reasons.NOTHING, text


def test_what_waits_says_so() -> None:
    assert told("event", None, None)[0].happened == WAITING[0]
    (one,) = told("event", None, "the EHR cannot be read: Appointment: timeout")
    assert "tried again" in one.todo


def test_several_reasons_of_one_event_are_several_sentences() -> None:
    found = told("event", "suppressed", "appointment is in the past; no phone number that WhatsApp could reach")
    assert [each.known for each in found] == [False, True]
    assert "“appointment is in the past”" in found[0].happened
    (one,) = told("event", "suppressed", "an author's words; with a semicolon in them")
    assert "“an author's words; with a semicolon in them”" in one.happened


def test_holes_are_filled() -> None:
    found = sentence("no value for place: several values where one is wanted")
    assert found is not None
    assert found.happened == "The message needs place, and the record gives none: several values where one is wanted."
    found = sentence("the patient's record was replaced by Patient/b2")
    assert found is not None
    assert "merged into Patient/b2" in found.happened


def test_unreadable_records_have_a_sentence() -> None:
    for module, raw in (
        (appointment, {"resourceType": "Appointment", "id": "a1"}),
        (diagnosticreport, {"resourceType": "X"}),
    ):
        with pytest.raises(UnreadableResource) as caught:
            module.project(raw, "R4")
        assert sentence(str(caught.value)) is not None, str(caught.value)


def test_the_catalogue_holds_nothing_that_the_code_no_longer_says() -> None:
    made = [filled(text) for text in CODE] + [r.reason for r in (*BY_CODE.values(), *BY_HTTP.values())]
    made += [
        "not an Appointment with an id: nothing can be tracked", "not a Consent with an id", "Appointment/a: without status",
        "neither a Patient nor a RelatedPerson with an id", "Appointment/a: its start is no instant with an offset",
        "Appointment/a: booked without start", "resent by a person", "closed by a person", "ACCOUNT_VIOLATION", "status",
        "reminder 3d: covered by the booking message", "sent",
        "reminder 3d: quiet hours last until less than 1 h before the visit",
        "minor without a guardian we may write to (RelatedPerson/a: is a minor too)",
        "patient without a guardian we may write to (RelatedPerson/a: is a minor too)",
    ]  # fmt: skip
    unused = [
        pattern.pattern for pattern, *_ in reasons._compiled() if not any(pattern.fullmatch(reason) for reason in made)
    ]
    assert unused == []


def test_persons_say_why_nobody_may_write_to_them() -> None:
    assert Person.__dataclass_fields__["deceased"]
    for who in ("patient", "related person"):
        for reason in (f"the {who} has died", f"the {who}'s record is not active", f"the {who} is an animal"):
            assert sentence(reason) is not None
