"""Two clocks, and ids that many threads and processes make without asking anybody."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger.clock import SECOND, Clock, Ids, MachineClock, from_us, to_us
from tests.ledger.kit import Ledger


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_times_survive_the_round_trip(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert from_us(to_us(moment)) == moment
    assert from_us(to_us(moment)).tzinfo is UTC


def test_business_time_is_pushed_ahead_only() -> None:
    clock = Clock(datetime(2026, 12, 1, 9, tzinfo=UTC))
    before = clock.now()
    assert clock.push(timedelta(days=3)) - before < timedelta(days=3, seconds=1)
    later = clock.now()
    clock.push(timedelta(days=-30))
    assert clock.now() >= later


def test_pushing_business_time_moves_no_lease(ledger: Ledger) -> None:
    """Three days pass for the patient; the node that holds the lane keeps it for its sixty seconds."""
    clock = Clock()
    ledger.put()
    claimed = ledger.claim("n1")
    assert len(claimed) == 1
    held = ledger.lane().lease_until
    clock.push(timedelta(days=3))
    assert ledger.claim("n2") == []
    assert ledger.lane().lease_until == held


def test_machine_time_does_not_follow_a_step_of_the_wall_clock() -> None:
    clock = MachineClock()
    real = time.time_ns
    before = clock.now_us()
    try:
        time.time_ns = lambda: real() + 3600 * 10**9
        assert clock.now_us() - before < SECOND
    finally:
        time.time_ns = real


def test_ids_are_unique_and_grow(ledger: Ledger) -> None:
    ids = Ids(process=7)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [ids() for _ in range(5000)], range(8)))
    flat = [one for part in made for one in part]
    assert len(set(flat)) == len(flat)
    assert all(part == sorted(part) for part in made)
    assert max(flat) < 2**63


def test_ids_of_two_processes_do_not_meet() -> None:
    one, two = Ids(process=1), Ids(process=2)
    assert not {one() for _ in range(20_000)} & {two() for _ in range(20_000)}
