"""Every third-party push is read as its `expect` says, and so are the rows stored for it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bridge.fhir.dialects import DIALECTS
from bridge.fhir.notification import parse_piece, read, split
from tests.corpus.fhir_expect import NOT_COMPARED, Row, compare, differences, observe_pieces, rows

ROWS = list(rows())
pytestmark = pytest.mark.skipif(not ROWS, reason="the shared corpus is not on this machine")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_read_as_expected(row: Row) -> None:
    found = compare(row.expect, read(row.push(), DIALECTS["generic"]))
    assert not found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_stored_pieces_say_the_same(row: Row) -> None:
    pieces = split(read(row.push(), DIALECTS["generic"]), "Appointment")
    assert not differences(row.expect, observe_pieces([parse_piece(piece.body) for piece in pieces]))


def test_whole_corpus_is_there() -> None:
    assert len(ROWS) == 112 + 38


def altered(value: Any) -> Any:
    """The same kind of value, but another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) or value is None:
        return f"{value}-altered"
    return [*value, {"number": "99", "focus": None}] if isinstance(value, list) else value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_one_altered_expect_is_noticed(row: Row) -> None:
    """Each key that is compared, altered alone, must make the comparison fail: none is compared in vain."""
    notification = read(row.push(), DIALECTS["generic"])
    for key in row.expect.keys() - NOT_COMPARED:
        expect = copy.deepcopy(dict(row.expect))
        expect[key] = [*expect[key], "Patient/nobody"] if key in {"included", "resources"} else altered(expect[key])
        assert compare(expect, notification), key
    for place, event in enumerate(row.expect.get("events", [])):
        for key in event:
            expect = copy.deepcopy(dict(row.expect))
            expect["events"][place][key] = altered(event[key])
            assert compare(expect, notification), f"events[{place}].{key}"
