"""The table of whatsapp.md §9, row by row, written down a second time as the page has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.outbound.reactions import BY_CODE, DAY, TABLE, react

HOUR = 3600


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# codes, kind, scope, seconds, alarm, tries
ROWS: list[tuple[list[int], str, str, int, bool, int | None]] = [
    ([0, 190, 102], "alarm_stop", "number", 0, True, None),
    ([3, 10, *span(200, 299), 131005], "alarm_stop", "number", 0, True, None),
    ([1, 2, 131000, 133004], "unsure", "message", 0, False, None),
    ([4], "backoff", "number", 60, False, None),
    ([33], "alarm_stop", "number", 0, True, None),
    ([100], "permanent", "message", 0, True, None),
    ([130403], "permanent", "recipient", 0, False, None),
    ([130429], "backoff", "number", 2, False, None),
    ([130472], "permanent", "message", 0, False, None),
    ([130497], "permanent", "recipient", 0, True, None),
    ([131008, 131009, 131021, 135000], "permanent", "message", 0, True, None),
    ([131016], "unsure", "message", 0, False, None),
    ([131020, 131041, 131059, *span(131201, 131215)], "permanent", "message", 0, True, None),
    ([131026], "permanent", "recipient", 0, False, None),
    ([131030], "alarm_stop", "number", 0, True, None),
    ([131031, 368], "alarm_stop", "number", 0, True, None),
    ([131037], "alarm_stop", "number", 0, True, None),
    ([131042], "alarm_stop", "number", 0, True, None),
    ([131044], "alarm_stop", "number", 0, True, None),
    ([131045, 133006, 133010, 136024], "alarm_stop", "number", 0, True, None),
    ([131047], "window", "message", 0, False, None),
    ([131048], "permanent", "number", 0, True, None),
    ([131049], "retry_after", "recipient", 24 * HOUR, False, 1),
    ([131050], "optout", "recipient", 0, False, None),
    ([131051], "permanent", "message", 0, False, None),
    ([131052], "retry_after", "message", 60, False, 1),
    ([131053], "retry_after", "message", 5, False, 1),
    ([131055, 131063, 134100, 134101, 134102], "retry_after", "number", 600, True, None),
    ([131056], "pair", "recipient", 4, False, None),
    ([131057], "retry_after", "number", 60, False, None),
    ([131060], "permanent", "message", 0, False, None),
    ([131062], "permanent", "recipient", 0, False, None),
    ([131064], "alarm_stop", "number", 0, True, None),
    ([132000, 132012, 132018], "permanent", "message", 0, True, None),
    ([132001], "hold_template", "template", 0, True, None),
    ([132005], "permanent", "message", 0, True, None),
    ([132007], "permanent", "message", 0, True, None),
    ([132008], "permanent", "message", 0, True, None),
    ([132015], "hold_template", "template", 3 * HOUR, True, None),
    ([132016], "hold_template", "template", 0, True, None),
    ([132021], "permanent", "message", 0, False, None),
    ([132068], "alarm_stop", "template", 0, True, None),
    ([132069], "retry_after", "template", HOUR, True, None),
    ([133000, 133005, 133008, 133009, 133015, 133016], "alarm_stop", "number", 0, True, None),
    ([134011], "alarm_stop", "number", 0, True, None),
    ([137000], "permanent", "recipient", 0, True, None),
    ([*span(138000, 138021)], "permanent", "message", 0, False, None),
    ([613], "backoff", "number", 60, False, None),
    ([*span(139000, 139004), *span(139100, 139103), 139200], "permanent", "message", 0, True, None),
    ([*span(147001, 147007)], "permanent", "message", 0, False, None),
    ([*span(2388000, 2388999)], "permanent", "message", 0, False, None),
    ([2494100], "backoff", "number", 60, False, None),
    ([80007], "backoff", "number", 300, False, None),
    ([999999, -1, 131017, 5, 300], "backoff", "message", 30, True, 3),
]

HTTP = [
    (401, "alarm_stop"),
    (403, "alarm_stop"),
    (404, "alarm_stop"),
    (405, "alarm_stop"),
    (407, "alarm_stop"),
    (408, "unsure"),
    (413, "permanent"),
    (425, "backoff"),
    (429, "backoff"),
    (400, "backoff"),
    (418, "backoff"),
    (301, "alarm_stop"),
    (307, "alarm_stop"),
    (500, "unsure"),
    (502, "unsure"),
    (503, "unsure"),
    (504, "unsure"),
    (599, "unsure"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0][0]))
def test_row(row: tuple[list[int], str, str, int, bool, int | None]) -> None:
    codes, kind, scope, seconds, alarm, tries = row
    for code in codes:
        for http in (None, 400, 401, 403, 404, 429):  # the HTTP status says little
            found = react(code, http)
            assert (found.kind, found.scope, found.seconds, found.alarm, found.tries) == (
                kind,
                scope,
                seconds,
                alarm,
                tries,
            ), code


def test_no_code_is_in_the_table_that_is_not_in_the_rows() -> None:
    assert set(BY_CODE) == {code for codes, *_ in ROWS[:-1] for code in codes}


def test_no_code_stands_in_two_rows() -> None:
    named = [each for codes, _ in TABLE for code in codes for each in (code if isinstance(code, range) else [code])]
    assert len(named) == len(set(named))


@pytest.mark.parametrize(("http", "kind"), HTTP)
def test_without_a_code(http: int, kind: str) -> None:
    assert react(None, http).kind == kind


@given(code=st.one_of(st.none(), st.sampled_from(sorted(BY_CODE)), st.integers()), http=st.integers(500, 599))
def test_a_server_error_may_always_have_sent(code: int | None, http: int) -> None:
    assert react(code, http).kind == "unsure"


@pytest.mark.parametrize(("given_", "seconds"), [(None, 60), (5, 60), (90, 90), (10**9, DAY)])
def test_retry_after_only_lengthens(given_: float | None, seconds: int) -> None:
    assert react(4, 400, retry_after=given_).seconds == seconds


def test_retry_after_changes_nothing_that_is_over() -> None:
    assert react(131026, 400, retry_after=30) == react(131026, 400)


def test_what_is_over_is_said_to_be() -> None:
    assert {row[1] for row in ROWS if react(row[0][0]).final} == {"permanent", "optout", "window"}


def test_another_channel_is_proposed_where_whatsapp_cannot() -> None:
    assert {code for code, reaction in BY_CODE.items() if reaction.fallback} == {131026, 131049}
