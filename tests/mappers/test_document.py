"""YAML with places: what is read, what is refused, and how a problem looks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import Refused
from bridge.mappers.document import Document, check_schema, load_document

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["event"],
    "properties": {
        "event": {"enum": ["appointment.booked", "appointment.reminder"]},
        "when": {"type": "array"},
        "enabled": {"type": "boolean"},
        "remind": {"type": "object"},
        "delivery": {"$ref": "#/$defs/delivery"},
        "names": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$", "examples": ["day"]}},
        "languages": {"type": "object", "propertyNames": {"enum": ["es", "en"]}},
        "params": {"type": "object", "additionalProperties": {"$ref": "#/$defs/param"}},
        "token": {"type": "string", "pattern": r"^\$\{env:", "writeOnly": True},
        "count": {"type": "integer", "minimum": 1},
        "list": {"type": "array", "minItems": 2, "uniqueItems": True},
    },
    "if": {"properties": {"event": {"const": "appointment.reminder"}}, "required": ["event"]},
    "then": {"required": ["remind"]},
    "else": {"not": {"required": ["remind"]}},
    "$defs": {
        "delivery": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"expires": {"type": "string", "pattern": "^[0-9]+[hd]$", "examples": ["24h", "3d"]}},
        },
        "text": {
            "oneOf": [
                {"type": "string"},
                {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}},
            ]
        },
        "param": {
            "if": {"type": "string"},
            "else": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "path": {"type": "string"},
                    "text": {"$ref": "#/$defs/text"},
                    "as": {"enum": ["date.long", "date.short"]},
                },
                "oneOf": [{"required": ["path"]}, {"required": ["text"]}],
            },
        },
    },
}


def refusals(text: str) -> list[str]:
    with pytest.raises(Refused) as caught:
        load_document(text, "a.yaml")
    return [f"{each.line}:{each.column} {each.code}" for each in caught.value.problems]


def found(text: str) -> list[str]:
    problems = check_schema(load_document(text, "a.yaml"), SCHEMA)
    return [f"{each.line}:{each.column} {each.code} {each.message}" for each in problems]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("21:00", "21:00"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T10:00:00+01:00", "2026-11-22T10:00:00+01:00"),
        ("'007'", "007"),
        ('"true"', "true"),
        ("+34600111222", 34600111222),
        ("=", "="),
        ("{es: 'No, gracias'}", {"es": "No, gracias"}),
        ("[a, 1, null]", ["a", 1, None]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_a_plain_value_is_read_as_yaml_1_2(written: str, value: object) -> None:
    read = load_document(f"a: {written}\n", "a.yaml").data["a"]
    assert read == value
    assert type(read) is type(value)


def test_a_key_is_always_text() -> None:
    assert load_document("on: 1\n12: 2\ntrue: 3\nno: 4\n", "a.yaml").data == {"on": 1, "12": 2, "true": 3, "no": 4}


def test_an_alias_is_its_value_and_has_the_place_of_its_anchor() -> None:
    doc = load_document("a: &x {b: 1}\nc: *x\n", "a.yaml")
    assert doc.data["c"] == {"b": 1}
    assert doc.position(("c",)) == (1, 4)
    assert doc.position(("c",), key=True) == (2, 1)


def test_windows_line_ends_and_a_byte_order_mark_do_not_move_places() -> None:
    doc = load_document("\ufeffa: 1\r\nb:\r\n  c: x\r\n", "a.yaml")
    assert doc.data == {"a": 1, "b": {"c": "x"}}
    assert doc.position(("b", "c")) == (3, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b: c\n", ["1:5 BR001"]),
        ("a: [1\nb: 2\n", ["1:4 BR001"]),
        ("a: @x\n", ["1:4 BR001"]),
        ("a: \x01\n", ["1:4 BR001"]),
        ("a: *nothing\n", ["1:4 BR001"]),
        ("[" * 3000, ["1:1 BR001"]),
        ("a: 1\nb: 2\na: 3\nb: 4\n", ["3:1 BR002", "4:1 BR002"]),
        ("a:\n\tb: 1\n", ["2:1 BR003"]),
        ("%YAML 1.1\n---\na: yes\n", ["1:1 BR004"]),
        ("a: 1\n<<: {b: 2}\n", ["2:1 BR004"]),
        ("a: !!python/object:os.system x\n", ["1:4 BR004"]),
        ("a: !secret x\n", ["1:4 BR004"]),
        ("a: 0600111222\nb: 1\nc: 010\n", ["1:4 BR004", "3:4 BR004"]),
        ("? [a, b]\n: 1\n", ["1:3 BR004"]),
        ("a: &a [*a]\n", ["1:4 BR004"]),
        ("x: &x [" + "1," * 60 + "]\ny: &y [" + "*x," * 60 + "]\nz: [" + "*y," * 60 + "]\n", ["1:110 BR004"]),
        ("a: {es: No, gracias, en: No}\n", ["1:13 BR005"]),
        ("", ["1:1 BR006"]),
        ("# nothing\n", ["1:1 BR006"]),
        ("a: 1\n---\nb: 2\n", ["2:1 BR006"]),
    ],
)
def test_what_cannot_be_read_for_certain_is_refused(text: str, expected: list[str]) -> None:
    assert refusals(text) == expected


def test_a_comma_without_quotes_is_named() -> None:
    with pytest.raises(Refused, match="a value that contains a comma needs quotes"):
        load_document("buttons: {es: No, gracias}\n", "a.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event: appointment.boked\n", '1:8 BR012 "appointment.boked" is not allowed here; did you mean "appointment.booked"?'),
        ("event: x\n", '1:8 BR012 "x" is not allowed here; allowed: appointment.booked, appointment.reminder'),
        ("event: appointment.booked\nwen: []\n", '2:1 BR011 unknown key "wen" in (root); did you mean "when"?'),
        ("event: appointment.booked\nzzz: []\n", '2:1 BR011 unknown key "zzz" in (root)'),
        ("when: []\n", '1:1 BR013 missing key "event" in (root)'),
        ("event: appointment.reminder\n", '1:1 BR013 missing key "remind" in (root)'),
        ("event: appointment.booked\nremind: {}\n", '2:1 BR014 "remind" only belongs to event appointment.reminder'),
        ("event: appointment.booked\ndelivery: {expires: 12 hours}\n", '2:21 BR015 "12 hours" has the wrong form; write it like 24h or 3d'),
        ("event: appointment.booked\nnames: {X: 1}\n", '2:9 BR015 the name "X" has the wrong form; write it like day'),
        ("event: appointment.booked\nlanguages: {enn: 1}\n", '2:13 BR012 "enn" is not a name that can stand in languages; did you mean "en"?'),
        ("event: appointment.booked\nenabled: yes\n", "2:10 BR010 this should be true or false, not text"),
        ("event: appointment.booked\nwhen:\n", "2:1 BR010 this should be a list, not empty"),
        ("event: appointment.booked\ncount: 0\n", "2:8 BR010 this should be at least 1"),
        ("event: appointment.booked\nlist: [1]\n", "2:7 BR010 this should be a list of at least 2"),
        ("event: appointment.booked\nlist: [1, 1]\n", "2:7 BR010 this should be a list without repetitions"),
        ("event: appointment.booked\nparams: {d: {as: date.lng, path: x}}\n", '2:18 BR012 "date.lng" is not allowed here; did you mean "date.long"?'),
        ("event: appointment.booked\nparams: {d: {as: date.long}}\n", '2:10 BR013 this needs "path" or "text"'),
        ("event: appointment.booked\nparams: {d: {path: x, text: y}}\n", '2:10 BR010 give only one of "path" or "text"'),
        ("event: appointment.booked\nparams: {d: {text: {es: 5}}}\n", "2:25 BR010 this should be text, not a number"),
        ("event: appointment.booked\nparams: {d: {text: 5}}\n", "2:20 BR010 this should be text or a mapping, not a number"),
        ("event: appointment.booked\nparams: {d: 5}\n", "2:13 BR010 this should be a mapping, not a number"),
    ],
)  # fmt: skip
def test_schema_errors_say_what_was_meant(text: str, expected: str) -> None:
    assert found(text) == [expected]


def test_all_problems_come_at_once_in_reading_order() -> None:
    text = "delivery: {expires: soon, expire: 1}\nwen: 1\nevent: x\nenabled: 1\n"
    assert [each.split()[1] for each in found(text)] == ["BR015", "BR011", "BR011", "BR012", "BR010"]


def test_a_problem_looks_as_the_mapping_language_says() -> None:
    doc = load_document("version: 1\n\nevent: appointment.boked\n", "bad.yaml")
    problems = [each for each in check_schema(doc, SCHEMA) if each.code == "BR012"]
    assert str(problems[0]) == (
        'bad.yaml:3:8: error BR012 "appointment.boked" is not allowed here; did you mean "appointment.booked"?\n'
        "     3 | event: appointment.boked\n"
        "       |        ^"
    )


def test_a_secret_written_out_is_never_repeated() -> None:
    problem = check_schema(load_document("event: appointment.booked\ntoken: hunter2\n", "a.yaml"), SCHEMA)[0]
    assert problem.code == "BR030"
    assert "hunter2" not in str(problem) + repr(problem)


def test_the_place_inside_a_value_counts_from_its_first_letter() -> None:
    doc = load_document('plain: ab cd\nquoted: "ab cd"\n', "a.yaml")
    assert doc.problem(("plain",), "BR020", "", offset=3).column == 11
    assert doc.problem(("quoted",), "BR020", "", offset=3).column == 13
    assert doc.problem(("quoted",), "BR020", "", offset=0).column == 10
    assert doc.problem(("quoted",), "BR020", "").column == 9


def test_what_is_not_there_has_the_place_of_its_parent() -> None:
    doc = load_document("a:\n  b: {c: 1}\n", "a.yaml")
    assert doc.position(("a", "b", "nowhere", 3)) == (2, 6)
    assert doc.position(()) == (1, 1)


@given(st.text(alphabet=st.sampled_from("ab: -[]{}#&*!|>'\"%@`,?\n\t 01~<"), max_size=60))
def test_any_text_is_a_document_or_refused(text: str) -> None:
    try:
        doc = load_document(text, "a.yaml")
    except Refused as exc:
        assert exc.problems
        assert all(each.line >= 1 and each.column >= 1 for each in exc.problems)
    else:
        assert isinstance(doc, Document)
        check_schema(doc, SCHEMA)
