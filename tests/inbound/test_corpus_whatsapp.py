"""Every third-party webhook of the shared corpus, read as its row says; and through the inbox' form and back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bridge.errors import Unusable
from bridge.inbound.providers import cloud_api
from bridge.inbound.providers.updates import Update, to_stored
from bridge.verified import VerifiedBody
from tests.corpus.whatsapp_expect import CORPUS, body_of, compare, rows

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not on this machine")
ROWS = rows() if CORPUS.is_dir() else []


def updates_of(row: dict[str, Any]) -> tuple[Update, ...]:
    try:
        return cloud_api.read(VerifiedBody(body_of(row)))
    except Unusable:
        return ()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_read_as_the_row_says(row: dict[str, Any]) -> None:
    updates = updates_of(row)
    assert compare(row["expect"], updates, row.get("accept", ())) == []
    assert (not updates) == bool(row["expect"].get("unusable"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_stored_and_read_again_is_the_same(row: dict[str, Any]) -> None:
    updates = updates_of(row)
    again = tuple(cloud_api.update_from_stored(to_stored(update)) for update in updates)
    assert again == updates


@pytest.mark.parametrize("row", [row for row in ROWS if row["expect"]["updates"]], ids=lambda row: row["file"])
def test_an_altered_expect_fails(row: dict[str, Any]) -> None:
    updates = updates_of(row)
    for place, want in enumerate(row["expect"]["updates"]):
        for name, value in want.items():
            altered = copy.deepcopy(row["expect"])
            altered["updates"][place][name] = "altered" if value != "altered" else None
            assert compare(altered, updates), f"{name} of update {place} is not compared"
    assert compare({**row["expect"], "updates": []}, updates)
    assert compare({**row["expect"], "waba_id": "somebody else's"}, updates)


def test_another_listed_reading_passes_and_an_unlisted_one_does_not() -> None:
    (row,) = (row for row in ROWS if row.get("accept") == [[]])
    assert compare(row["expect"], (), row["accept"]) == []
    assert compare(row["expect"], (), ())
    assert compare(row["expect"], updates_of(row)[:1], row["accept"])
