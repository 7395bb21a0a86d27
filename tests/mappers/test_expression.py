"""Strict FHIRPath: what is refused, what is answered, and that closures, library and HL7's suite agree."""

from __future__ import annotations

import copy
import json
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BadExpression, ExpressionFailed
from bridge.mappers.expression import Expression, scope
from bridge.mappers.expression import compile as compile_path
from bridge.mappers.kinds import OPEN

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
VARIABLES = {
    "patient": frozenset({"Patient"}),
    "practitioner": frozenset({"Practitioner"}),
    "previous": frozenset({"Appointment"}),
    "now": frozenset({"dateTime"}),
    "today": frozenset({"date"}),
    "policy": OPEN,
    "origin": frozenset({"string"}),
}
APPOINTMENT: dict[str, Any] = {
    "resourceType": "Appointment",
    "id": "a1",
    "status": "booked",
    "start": "2026-11-25T14:30:00Z",
    "end": "2026-11-25T16:00:00+01:00",
    "minutesDuration": 30,
    "serviceType": [{"coding": [{"system": "http://hospital.example/service", "code": "blood-test", "display": "x"}]}],
    "participant": [
        {"actor": {"reference": "Patient/p1", "display": "Ana"}, "status": "needs-action"},
        {"actor": {"reference": "Practitioner/d1"}, "status": "accepted", "type": [{"text": "doctor"}]},
    ],
    "extension": [{"url": "http://hospital.example/room", "valueString": "2B"}],
}
PATIENT = {
    "resourceType": "Patient",
    "name": [{"use": "official", "given": ["Ana", "María"]}, {"use": "old", "given": ["Anita"]}],
    "deceasedBoolean": False,
}
GIVEN: dict[str, Any] = {
    "patient": PATIENT,
    "practitioner": None,
    "previous": {"resourceType": "Appointment", "start": "2026-11-25T15:30:00+01:00"},
    "policy": {"loinc": ["1-8", "2-6"], "strict": True},
    "origin": "ehr",
}


def expression(text: str, *, library: bool = False, version: str = "R4", kind: str = "Appointment") -> Expression:
    return compile_path(text, resource_type=kind, fhir_version=version, variables=VARIABLES, library=library)


def evaluate(
    text: str, resource: Any = APPOINTMENT, *, library: bool = False, zone: str = "Europe/Madrid"
) -> list[Any]:
    kind = resource["resourceType"]
    return expression(text, library=library, kind=kind).evaluate(scope(resource, GIVEN, now=NOW, zone=zone))


REFUSED = [
    ("Appointment participant", "BR020", 12, "unexpected 'participant' after a complete expression"),
    ("a.b)", "BR020", 3, "unexpected ')'"),
    ("start..end", "BR020", 6, "unexpected '.'"),
    ("participant.where(", "BR020", 18, "ends too early"),
    ("status = 'booked", "BR020", 9, "unexpected"),
    ("start > #", "BR020", 8, "unexpected '#'"),
    ("", "BR020", 0, "ends too early"),
    ("(" * 3000, "BR020", 2000, "longer than"),
    ("(" * 900 + "status" + ")" * 900, "BR020", 0, "nested too deeply"),
    ("strt", "BR021", 0, 'did you mean "start"?'),
    ("participant.actor.displya", "BR021", 18, 'Reference (FHIR R4) has no element "displya"; did you mean "display"?'),
    ("participant.where(stauts = 'accepted')", "BR021", 18, 'did you mean "status"?'),
    ("Patient.name", "BR021", 0, "this looks at Appointment (FHIR R4), not at Patient"),
    ("%patient.deceasedBoolean", "BR021", 9, 'did you mean "deceased"?'),
    ("%patient.resource.name", "BR021", 9, 'no element "resource"'),
    ("%patien.name", "BR022", 0, 'did you mean "patient"?'),
    ("timeOfDay()", "BR023", 0, "machine's clock"),
    ("participant.actor.resolve()", "BR023", 18, "%patient"),
    ("status.trace('x')", "BR023", 7, "patient data"),
    ("status.uper()", "BR023", 7, 'did you mean "upper"?'),
    ("participant.first(1)", "BR023", 12, "first() takes 0 argument(s), not 1"),
    ("start.now()", "BR023", 6, "stands alone"),
    ("participant.where(start)", "BR021", 18, 'no element "start"'),
    ("participant.where(status)", "BR025", 18, "a condition is true or false; this gives code"),
    ("status and true", "BR025", 0, "this gives code"),
    ("start > true", "BR025", 6, "instant does not compare with boolean"),
    ("status.is(Pateint)", "BR026", 10, 'did you mean "Patient"?'),
]


@pytest.mark.parametrize(
    ("text", "code", "column", "words"), REFUSED, ids=[case[0][:40] or "empty" for case in REFUSED]
)
def test_refused(text: str, code: str, column: int, words: str) -> None:
    with pytest.raises(BadExpression) as caught:
        expression(text)
    assert (caught.value.code, caught.value.column) == (code, column)
    assert words in str(caught.value)


ANSWERS: list[tuple[str, list[Any]]] = [
    ("status", ["booked"]),
    ("Appointment.status", ["booked"]),
    ("participant.status", ["needs-action", "accepted"]),
    ("participant[1].status", ["accepted"]),
    ("participant[7].status", []),
    ("participant.where(status = 'accepted').actor.reference", ["Practitioner/d1"]),
    ("participant.where($index = 0).actor.display", ["Ana"]),
    ("participant.exists(status = 'accepted')", [True]),
    ("participant.all(status = 'accepted')", [False]),
    ("participant.count()", [2]),
    ("participant.type.text.first()", ["doctor"]),
    ("reasonCode.exists()", [False]),
    ("reasonCode.empty()", [True]),
    ("status = 'booked' and minutesDuration = 30", [True]),
    ("status = 'booked' or comment = 'x'", [True]),
    ("comment = 'x'", []),
    ("comment = 'x' and status = 'cancelled'", [False]),
    ("comment = 'x' or status = 'cancelled'", []),
    ("comment = 'x' implies status = 'booked'", [True]),
    ("status = 'cancelled' implies comment = 'x'", [True]),
    ("(status = 'booked').not()", [False]),
    ("status != 'booked'", [False]),
    ("status in ('booked' | 'pending')", [True]),
    ("'1-8' in %policy.loinc", [True]),
    ("'9-9' in %policy.loinc", [False]),
    ("serviceType.coding.where(system='http://hospital.example/service' and code in ('blood-test' | 'x')).code", ["blood-test"]),
    ("%policy.strict", [True]),
    ("%policy.other", []),
    ("%practitioner.name.where(use='official' or use.empty()).first()", []),
    ("%patient.name.given", ["Ana", "María", "Anita"]),
    ("%patient.name.given.count()", [3]),
    ("%patient.name.where(use = 'official').given.first()", ["Ana"]),
    ("%patient.deceased", [False]),
    ("%patient.deceased.ofType(boolean)", [False]),
    ("%patient.deceased.ofType(dateTime)", []),
    ("%patient.deceased is boolean", [True]),
    ("%patient.deceased as dateTime", []),
    ("%origin != 'patient-chat'", [True]),
    ("iif(status = 'booked', 'yes', 'no')", ["yes"]),
    ("participant.select(status).first()", ["needs-action"]),
    ("participant.status.last()", ["accepted"]),
    ("participant.status.tail()", ["accepted"]),
    ("participant.status.take(1)", ["needs-action"]),
    ("participant.status.skip(1)", ["accepted"]),
    ("status.upper()", ["BOOKED"]),
    ("status.startsWith('boo')", [True]),
    ("status.contains('ook')", [True]),
    ("status.length()", [6]),
    ("minutesDuration >= 30", [True]),
    ("minutesDuration > 30.5", [False]),
    ("minutesDuration.toString()", ["30"]),
    ("start < @2026-12-01T00:00:00Z", [True]),
    ("extension('http://hospital.example/room').value", ["2B"]),
    ("{}", []),
    ("{} = 'x'", []),
    ("status & '!'", ["booked!"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ANSWERS, ids=[text for text, _ in ANSWERS])
@pytest.mark.parametrize("library", [False, True], ids=["closure", "library"])
def test_both_ways_agree(text: str, expected: list[Any], library: bool) -> None:
    """The same answer from our closures and from fhirpathpy; and nothing that was read has changed."""
    before = copy.deepcopy((APPOINTMENT, GIVEN))
    assert expression(text, library=library).by_library is library
    assert evaluate(text, library=library) == expected
    assert before == (APPOINTMENT, GIVEN)


BEYOND_THE_LIBRARY = [
    ("(participant.status | 'accepted').count()", "UTC", [2]),
    # 14:30Z is 15:30+01:00: as text they differ
    ("start = %previous.start", "Europe/Madrid", [True]),
    ("start < end", "Europe/Madrid", [True]),
    ("end > start", "Europe/Madrid", [True]),
    ("start > now()", "Europe/Madrid", [True]),
    ("start > %now", "Europe/Madrid", [True]),
    ("start < now() + 3 days", "Europe/Madrid", [False]),
    ("start < now() + 4 days", "Europe/Madrid", [True]),
    ("start - 24 hours < now()", "Europe/Madrid", [False]),
    ("start >= today()", "Europe/Madrid", [True]),
    ("@2026-11-22 = today()", "Europe/Madrid", [True]),
    # in Auckland the 22nd, 09:30Z, is still the 22nd; in Kiritimati (+14) it is too; in Honolulu the 21st
    ("today() = @2026-11-21", "Pacific/Honolulu", [True]),
    # 11:30 in Honolulu on the 25th
    ("start > @2026-11-25", "Pacific/Honolulu", []),
    ("start > @2026-11-24", "Pacific/Honolulu", [True]),
]


@pytest.mark.parametrize(("text", "zone", "expected"), BEYOND_THE_LIBRARY)
def test_the_specification_where_the_library_errs(text: str, zone: str, expected: list[Any]) -> None:
    assert evaluate(text, zone=zone) == expected


def test_a_day_begins_where_the_clinic_is() -> None:
    """00:30 in Madrid on the 25th is the 24th in UTC; `start >= today()` is about the clinic's calendar."""
    visit = {"resourceType": "Appointment", "start": "2026-11-24T23:30:00Z"}
    now = datetime(2026, 11, 24, 23, 15, tzinfo=UTC)
    seen = {zone: scope(visit, {}, now=now, zone=zone) for zone in ("Europe/Madrid", "Europe/London")}
    path = compile_path("start >= @2026-11-25", resource_type="Appointment", fhir_version="R4", variables={})
    assert path.evaluate(seen["Europe/Madrid"]) == []  # the same day: a day is not before or after a time in it
    assert path.evaluate(seen["Europe/London"]) == [False]


FAILS = [
    ("participant.status.upper() = 'X'", "several values where one is wanted"),
    ("participant.status > 'a'", "several values where one is wanted"),
    ("participant.single().status", "several values where one is wanted"),
    ("%policy.loinc and true", "several values where one is wanted"),
]


@pytest.mark.parametrize(("text", "reason"), FAILS)
def test_no_answer_rather_than_a_guess(text: str, reason: str) -> None:
    with pytest.raises(ExpressionFailed, match=reason):
        evaluate(text)


def test_the_library_gets_business_time_and_copies() -> None:
    """`matches` is the library's, so the whole expression is; its now() would be the machine's."""
    text = "start > now() and status.matches('b.+') and now() = %now and today() = %today.toDate()"
    assert expression(text).by_library
    assert evaluate(text) == [True]
    late = scope(APPOINTMENT, GIVEN, now=datetime(2026, 11, 25, 14, 31, tzinfo=UTC), zone="UTC")
    assert expression("start > now() and status.matches('b.+')").evaluate(late) == [False]


def test_what_the_library_raises_names_no_values() -> None:
    with pytest.raises(ExpressionFailed) as caught:
        evaluate("participant.actor.display.matches(participant.status)")
    assert "Ana" not in str(caught.value)
    assert "accepted" not in str(caught.value)


def test_versions_have_their_own_elements() -> None:
    with pytest.raises(BadExpression, match="CodeableReference"):
        expression("serviceType.coding.code", version="R5")
    assert expression("serviceType.concept.coding.code", version="R5").kinds == frozenset({"code"})
    with pytest.raises(BadExpression):
        expression("serviceType.concept", version="R4B")


def test_a_null_in_a_list_is_no_value() -> None:
    """FHIR pads `given` with nulls where only `_given` has something."""
    padded = {"resourceType": "Patient", "name": [{"given": ["Ana", None, "María"]}]}
    assert evaluate("name.given.count()", padded) == [2]
    assert evaluate("name.given.where(matches('.*'))", padded) == ["Ana", "María"]


def test_kinds_of_choices() -> None:
    report = compile_path("effective", resource_type="DiagnosticReport", fhir_version="R4", variables={})
    assert report.kinds == frozenset({"dateTime", "Period"})
    resource = {"resourceType": "DiagnosticReport", "effectivePeriod": {"start": "2026-11-20"}}
    assert report.evaluate(scope(resource, {}, now=NOW, zone="UTC")) == [{"start": "2026-11-20"}]


def test_threads_do_not_see_each_other() -> None:
    """Each with its own clock and resource, half of them through the library's globals."""
    paths = [expression("start > now()"), expression("start > now() and status.matches('b.*')")]
    wrong: list[tuple[int, int]] = []

    def ask(number: int) -> None:
        hour = number % 24
        visit = {**APPOINTMENT, "start": f"2026-11-22T{hour:02d}:30:00Z"}
        for turn in range(40):
            clock = (number + turn) % 24
            seen = scope(visit, {}, now=datetime(2026, 11, 22, clock, 0, tzinfo=UTC), zone="UTC")
            if paths[turn % 2].evaluate(seen) != [hour >= clock]:
                wrong.append((hour, clock))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- HL7's suite -----------------------------------------------------------------------------------------------------

# where our answer is not the suite's, and why
OURS = {
    "testEquality23": "a time without a zone is read in the appointment's zone, not unknown",
    "testNEquality17": "the same",
    "testPlusDate3": "milliseconds that are zero are not written",
    "testPlusDate5": "the same",
    "testPlusDate7": "the same",
    "testPlusDate8": "the same",
    "testPlusDate18": "the same",
    "testPlusDate21": "the same",
    "testPlusDate22": "the same",
    "testIif10": "iif on several items takes them as they are, as the library does",
    "testFHIRPathAsFunction11": "a code counts as a string, as in the library",
    "testFHIRPathAsFunction16": "the same",
    "testFHIRPathIsFunction8": "the corpus's input (R5's) has no such extension",
    "testFHIRPathIsFunction9": "the same",
    "testFHIRPathIsFunction10": "the same",
}
REFUSED_ON_PURPOSE = {
    "BR020": "@2015T: the grammar has no partial dateTime literal",
    "BR022": "%sct and the like: a mapping writes the system it means",
    "BR023": "functions fhirpathpy lacks, trace(), timeOfDay()",
    "BR025": "one thing that is no boolean where a condition stands",
    "BR026": "System.Patient is no type",
}


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    resource: Any
    wanted: list[str]
    invalid: bool
    predicate: bool


def suite(corpus: Path) -> list[Case]:
    """The tests whose input is there."""
    cases = []
    inputs: dict[Path, Any] = {}
    for test in ET.parse(corpus / "fhirpath/tests-fhir-r4.xml").iter("test"):
        file = corpus / "fhirpath" / (test.get("inputfile") or "patient-example.xml").replace(".xml", ".json")
        element = test.find("expression")
        if element is None or not file.exists():
            continue
        if file not in inputs:
            inputs[file] = json.loads(file.read_text("utf-8"))
        wanted = [(output.text or "").lstrip("@").removeprefix("T") for output in test.findall("output")]
        invalid, predicate = element.get("invalid") is not None, test.get("predicate") == "true"
        cases.append(Case(test.get("name", ""), element.text or "", inputs[file], wanted, invalid, predicate))
    return cases


def answer(path: Expression, case: Case) -> list[str] | str:
    """What the path gives, written as the suite writes it."""
    try:
        found = [told(value) for value in path.evaluate(scope(case.resource, {}, now=NOW, zone="UTC"))]
    except ExpressionFailed:
        return "failed"
    if case.predicate and found not in (["true"], ["false"]):
        return ["true" if found else "false"]
    return found


def told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_hl7_suite(corpus: Path) -> None:
    """Every test that our closures answer has HL7's result; every refusal is one we mean; nothing crashes."""
    wrong: list[str] = []
    answered = refused = 0
    for case in suite(corpus):
        kind = case.resource["resourceType"]
        try:
            path = compile_path(case.text, resource_type=kind, fhir_version="R4", variables={})
        except BadExpression as exc:
            refused += 1
            if not case.invalid and exc.code not in REFUSED_ON_PURPOSE:
                wrong.append(f"{case.name}: refused: {exc}")
            continue
        if path.by_library:
            answer(path, case)  # right or wrong is the library's; an exception of another kind would be ours
            continue
        answered += 1
        got = answer(path, case)
        right = got == "failed" if case.invalid else got == case.wanted
        if right is (case.name in OURS):
            wrong.append(f"{case.name}: {case.text!r} gave {got}, wanted {case.wanted or 'an error'}")
    assert wrong == []
    assert answered > 350
    assert refused > 80


def test_closures_and_library_agree_on_the_suite(corpus: Path) -> None:
    """Where both answer, they answer alike; where they do not, HL7 is on the closure's side."""
    differ: set[str] = set()
    both = 0
    for case in suite(corpus):
        kind = case.resource["resourceType"]
        try:
            ours, theirs = (
                compile_path(case.text, resource_type=kind, fhir_version="R4", variables={}, library=library)
                for library in (False, True)
            )
        except BadExpression:
            continue
        if ours.by_library or case.invalid:
            continue
        both += 1
        got = answer(ours, case)
        if got not in (answer(theirs, case), case.wanted):
            differ.add(case.name)
    assert differ <= set(OURS), sorted(differ - set(OURS))
    assert both > 350
