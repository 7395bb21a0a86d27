"""Mappings as files: the starters load, and each mistake is found at its place."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.errors import Refused
from bridge.mappers.document import load_document
from bridge.mappers.examples import run_examples
from bridge.mappers.mapping import load_mappings
from bridge.mappers.templates import schema
from tests.mappers.starter import CONFIG, LANGUAGES, catalogue, documents, fixture, one, starters

TESTDATA = Path(__file__).parent / "testdata/mapping"
GOOD = (CONFIG / "mappings/appointment-booked.yaml").read_text("utf-8")

# the prototype's messages, mapping-language.md D.3, character for character
EIGHT = """
bad.yaml:3:8: error BR012 "appointment.boked" is not allowed here; did you mean "appointment.booked"?
     3 | event: appointment.boked
       |        ^
bad.yaml:4:1: error BR011 unknown key "wen" in (root); did you mean "when"?
bad.yaml:7:21: error BR015 "12 hours" has the wrong form; write it like 24h or 3d
bad.yaml:11:31: error BR012 "date.lng" is not allowed here; did you mean "date.long"?
bad.yaml:13:26: error BR020 FHIRPath syntax: unexpected 'participant' after a complete expression
    13 |     doctor: "Appointment participant"
       |                          ^
bad2.yaml:4:1: error BR014 "remind" only belongs to event appointment.reminder
bad2.yaml:8:20: error BR021 Appointment (FHIR R4) has no element "strt"; did you mean "start"?
bad2.yaml:10:39: error BR021 Reference (FHIR R4) has no element "displya"; did you mean "display"?
""".strip().splitlines()


def test_the_eight_messages() -> None:
    docs = [load_document((TESTDATA / name).read_text("utf-8"), name) for name in ("bad.yaml", "bad2.yaml")]
    with pytest.raises(Refused) as caught:
        load_mappings(docs, catalogue(), LANGUAGES)
    printed = str(caught.value).splitlines()
    heads = [line for line in printed if " error " in line]
    assert heads == [line for line in EIGHT if " error " in line]
    assert [line for line in printed if line in EIGHT] == EIGHT


def problems(text: str) -> list[tuple[str, int, int, str]]:
    with pytest.raises(Refused) as caught:
        one(text)
    return [(each.code, each.line, each.column, each.message) for each in caught.value.problems]


MISTAKES = [
    ("template: appointment_booked\n", "template: appointment_boked\n", "BR040", 'did you mean "appointment_booked"?'),
    ("    place:        {path", "    plaze:        {path", "BR041", 'has no {{plaze}}; did you mean "place"?'),
    ('    time:         {path: start, as: time.short}\n    doctor', "    doctor", "BR041", "also needs {{time}}"),
    ("{id: cancel,     do", "{id: cancelar,   do", "BR042", 'have no button "cancelar"; did you mean "cancel"?'),
    ("    - {id: cancel,     do: appointment.cancel, confirm: true}\n", "", "BR042", "what the button cancel"),
    ("{id: reschedule, do", "{id: confirm,    do", "BR042", "already above"),
    ("as: date.long}          #", "as: name.given}         #", "BR024", "name.given cannot put instant into words; use"),
    ("as: name.professional,", "as: date.long,", "BR024", "date.long cannot put HumanName into words; use name.given"),
    ("{path: start, as: time.short}", "{path: participant}", "BR024", "end the path in a single value"),
    ("\"status = 'booked'\",  ", "start,                ", "BR025", "a condition is true or false; this gives instant"),
    ("{path: \"%site\", max: 60, default", "{path: \"%cite\", max: 60, default", "BR022", 'did you mean "site"?'),
    ('site:   "%location.name"', 'site:   "%site_policy.plaze"', "BR022", '%site_policy has no "plaze"'),
    ("default: {es: paciente, en: patient, pt: paciente}", "default: {en: patient}", "BR045", "no text in es"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "code", "words"), MISTAKES, ids=[case[3][:30] for case in MISTAKES])
def test_mistakes(before: str, after: str, code: str, words: str) -> None:
    assert before in GOOD
    found = problems(GOOD.replace(before, after, 1))
    assert any(each[0] == code and words in each[3] for each in found), found


def test_a_guardian_needs_a_text() -> None:
    start, end = GOOD.index("  guardian:"), GOOD.index("  buttons:")
    text = GOOD[:start] + GOOD[end:]
    assert [each[0] for each in problems(text)] == ["BR043"]
    assert one(text.replace("guardian-if-minor}", "patient}")).mappings[0].recipient == "patient"


def test_everything_is_said_at_once() -> None:
    text = GOOD.replace("start > now()", "strt > now()").replace("appointment.confirm}", "appointment.confrm}")
    text = text.replace("expires: 12h", "expires: half a day").replace("purpose: appointments", "purpose: visits")
    assert [each[0] for each in problems(text)] == ["BR021", "BR012", "BR015", "BR012"]


def test_starters() -> None:
    """Six files, all of their languages, a hash of their text, nothing to warn of but R5's serviceType."""
    found = starters()
    assert [mapping.id for mapping in found.mappings] == [
        "appointment-booked",
        "appointment-cancelled",
        "appointment-reminder",
        "appointment-rescheduled",
        "consent-granted",
        "result-ready",
    ]
    assert [(warning.code, warning.message.partition(" (")[0]) for warning in found.warnings] == [
        ("BR021", "CodeableReference")
    ]
    booked = found.for_event("appointment.booked")[0]
    assert booked.version == hashlib.sha256(GOOD.encode()).hexdigest()[:12]
    assert booked.delivery.expires == timedelta(hours=12)
    assert booked.consent.purpose == "appointments"
    assert (booked.free_text, booked.attach, booked.no_reply) == ("unrecognised", None, None)
    reminder = found.get("appointment-reminder")
    assert reminder is not None and reminder.remind is not None
    assert reminder.remind.before == ("3d", "24h")
    result = found.get("result-ready")
    assert result is not None and result.gate is not None
    assert result.gate.hold[0].sentence == "labelled restricted"
    assert result.send.buttons[0].expires == timedelta(days=7)


def test_no_starter_expression_needs_the_library() -> None:
    """A render is on the way of every message: all of it runs as closures."""
    for mapping in starters().mappings:
        paths = [path for _, path in mapping.let] + [condition.path for condition in mapping.when]
        for variant in filter(None, (mapping.send.patient, mapping.send.guardian)):
            paths += [param.path for param in variant.params if param.path is not None]
        assert not [path.text for path in paths if path.expression("R4").by_library]


def test_examples_of_the_starters() -> None:
    assert [str(problem) for problem in run_examples(starters(), fixture)] == []


def test_every_starter_has_examples_and_every_fixture_is_used() -> None:
    given = {
        example["given"] for mapping in starters().mappings for example in mapping.document.data.get("examples", ())
    }
    assert all(mapping.document.data.get("examples") for mapping in starters().mappings)
    used = given | {"fixtures/appointment-confirmed.bundle.json"}  # test_render's
    assert {f"fixtures/{path.name}" for path in (CONFIG / "mappings/fixtures").glob("*.json")} == used


def test_an_example_that_does_not_hold() -> None:
    text = GOOD.replace("doctor: Dra. Ruiz}", "doctor: Dr. Ruiz}").replace(
        "else: appointment is not booked}", "else: no}"
    )
    text = text.replace("expect_skip: appointment is not booked", "expect_skip: something else")
    found = [(each.code, each.message) for each in run_examples(one(text), fixture)]
    assert ("BR047", 'doctor is "Dra. Ruiz", expected "Dr. Ruiz"') in found
    assert ("BR047", 'expected "something else", but: no') in found


def test_an_example_without_its_fixture() -> None:
    text = GOOD.replace("fixtures/appointment-cancelled", "fixtures/none")
    found = run_examples(one(text), fixture)
    assert [(each.code, each.message) for each in found] == [
        ("BR047", "there is no fixture fixtures/none.bundle.json beside the mapping")
    ]


def together(first: str, second: str) -> list[str]:
    docs = [load_document(first, "one.yaml"), load_document(second, "two.yaml")]
    return [warning.message for warning in load_mappings(docs, catalogue(), LANGUAGES).warnings]


def test_two_mappings_of_one_event() -> None:
    other = GOOD.replace("id: appointment-booked", "id: other")
    assert together(GOOD, other) == [
        "appointment-booked answers appointment.booked too: a patient may get both messages"
    ]
    assert together(GOOD, other.replace("event: ", "enabled: false\nevent: ")) == []
    assert together(GOOD, other.replace("status = 'booked'", "status = 'pending'")) == []
    assert together(GOOD, other.replace("status = 'booked'", "status != 'booked'")) == []
    assert together(GOOD, other.replace("start > now()", "(start > now()).not()")) == []
    assert len(together(GOOD, other.replace("status = 'booked'", "comment = 'x'"))) == 1


def test_an_id_twice() -> None:
    docs = [load_document(GOOD, "one.yaml"), load_document(GOOD, "two.yaml")]
    with pytest.raises(Refused) as caught:
        load_mappings(docs, catalogue(), LANGUAGES)
    assert [(each.file, each.code) for each in caught.value.problems] == [("two.yaml", "BR046")]


def test_paused_mappings_are_kept_and_not_run() -> None:
    found = one(GOOD.replace("\nevent:", "\nenabled: false\nevent:"))
    assert found.get("appointment-booked") is not None
    assert found.for_event("appointment.booked") == ()


def test_a_language_that_no_template_speaks() -> None:
    with pytest.raises(Refused) as caught:
        load_mappings([load_document(GOOD, "m.yaml")], catalogue(), ["fr"])
    assert {each.code for each in caught.value.problems} == {"BR045"}


def test_editors_get_the_schemas_that_the_loader_uses() -> None:
    for name in ("mapping", "template", "buttons"):
        assert json.loads((CONFIG / f"schemas/{name}.schema.json").read_text("utf-8")) == schema(name)


@pytest.mark.parametrize(
    "data", ["[]", "x", "send: x", "send: {params: 3, buttons: x, guardian: []}", "let: [1]", "when: {}"]
)
def test_other_shapes_are_problems_and_not_crashes(data: str) -> None:
    assert problems(data)


def test_every_document_is_in_the_folder() -> None:
    assert len(documents(CONFIG / "templates")) == 16
