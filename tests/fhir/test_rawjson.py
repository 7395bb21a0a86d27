"""What we do not change stays as it was written."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.fhir import rawjson

AWKWARD = (
    '{"resourceType":"Appointment","id":"a1","x":1.10,"y":1e3,"z":-0,"big":12345678901234567890.0,'
    '"long":123456789012345678901234567890,"beyond":1e999,"unknown":{"b":[],"a":{}},"n":null,"t":true,'
    '"name":"Ñandú \\"q\\" \\\\ \\u0001","_start":{"extension":[{"valueDecimal":0.010}]}}'
)


def test_number_literals_key_order_and_unknown_elements_survive():
    assert rawjson.dumps(rawjson.loads(AWKWARD.encode())).decode() == AWKWARD


def test_a_copied_resource_keeps_its_literals():
    held = copy.deepcopy(rawjson.loads(AWKWARD.encode()))
    held["id"] = "a2"
    assert rawjson.dumps(held).decode() == AWKWARD.replace('"a1"', '"a2"')


def test_a_lone_surrogate_can_be_written_back():
    assert rawjson.dumps(rawjson.loads(b'{"a":"\\ud800 x"}')) == b'{"a":"\\ud800 x"}'


def test_a_byte_order_mark_is_read_over():
    assert rawjson.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_a_number_of_ten_thousand_digits_is_kept():
    body = b'{"a":' + b"9" * 10_000 + b"}"
    assert rawjson.dumps(rawjson.loads(body)) == body


@pytest.mark.parametrize("body", [b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000], ids=["nan", "twice", "deep"])
def test_what_cannot_be_written_back_is_refused_without_being_quoted(body):
    with pytest.raises(rawjson.Unfaithful):
        rawjson.loads(body)


@pytest.mark.parametrize("body", [b"", b"<html>Maria</html>", b'{"name":"Maria', b"\xff\xfe"])
def test_what_is_no_json_is_refused_without_being_quoted(body):
    with pytest.raises(ValueError, match="not") as caught:
        rawjson.loads(body)
    assert "Maria" not in str(caught.value)
    assert caught.value.__cause__ is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_anything_reads_back_equal(value):
    assert rawjson.loads(rawjson.dumps(value)) == value
    assert json.loads(rawjson.dumps(value)) == value
