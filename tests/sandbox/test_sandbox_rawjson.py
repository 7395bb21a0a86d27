"""A change leaves every byte it does not concern as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sandbox.ehr import rawjson

RAW = b'{"resourceType":"Appointment","id":"a1","x":1.50,"big":123456789012345678901234567890,"participant":[{"a":2.0e0},{"status":"needs-action","z":0.10}]}'


def test_stamp_keeps_numbers_and_unknown_elements() -> None:
    stamped = rawjson.stamp(
        RAW, resource_type="Appointment", id="a1", version="7", updated="2026-11-25T10:00:00.000+00:00"
    )
    assert b'"x":1.50' in stamped
    assert b"123456789012345678901234567890" in stamped
    assert b'"meta":{"versionId":"7","lastUpdated":"2026-11-25T10:00:00.000+00:00"}' in stamped


def test_stamp_keeps_the_rest_of_meta() -> None:
    raw = b'{"resourceType":"Patient","id":"p","meta":{"profile":["x"],"versionId":"old"}}'
    assert b'"versionId":"2","lastUpdated":"now","profile":["x"]' in rawjson.stamp(
        raw, resource_type="Patient", id="p", version="2", updated="now"
    )


def test_patch_touches_only_its_path() -> None:
    patched = rawjson.patch(
        RAW,
        [
            {"op": "test", "path": "/participant/1/status", "value": "needs-action"},
            {"op": "replace", "path": "/participant/1/status", "value": "accepted"},
        ],
    )
    assert patched == RAW.replace(b"needs-action", b"accepted")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/id", "value": "other"},
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "remove", "path": "/participant/9"},
        {"op": "frobnicate", "path": "/id"},
        {"op": "add", "path": "id", "value": 1},
        {"op": "add", "path": "/id"},
    ],
)
def test_patch_refuses(operation: dict) -> None:
    with pytest.raises(rawjson.BadPatch):
        rawjson.patch(RAW, [operation])


@given(
    st.dictionaries(
        st.text(max_size=8), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8), max_size=6
    )
)
def test_add_then_remove_is_nothing(members: dict) -> None:
    import msgspec

    members.pop("new", None)
    raw = msgspec.json.encode(members)
    there_and_back = rawjson.patch(
        rawjson.patch(raw, [{"op": "add", "path": "/new", "value": [1, {"a": "ñ"}]}]),
        [{"op": "remove", "path": "/new"}],
    )
    assert there_and_back == raw
