"""TS4 in small: a number's rate in every second, whatever held the event loop up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger.clock import SECOND
from bridge.outbound.limits import PACE, Pace, interval

RATES = (0.2, 1.0, 7.5, 70.0, 80.0, 1000.0)


def begun(rate: float, slots: list[float], wakes: dict[int, float]) -> list[float]:
    """When the POSTs of these slots begin; the loop is held up before some of them, for so long."""
    pace, found, late = Pace(rate), [], 0.0
    for at, slot in enumerate(slots):
        late = max(late, slot + wakes.get(at, 0.0))
        now = max(slot, late)
        while (ahead := pace.wait(now)) > 0:
            now += ahead
        found.append(now)
    return found


@pytest.mark.parametrize("rate", RATES)
@given(held=st.dictionaries(st.integers(0, 400), st.floats(0, 3), max_size=6))
def test_never_more_than_the_rate(rate: float, held: dict[int, float]) -> None:
    most = max(1, int(rate))
    slots = [at * interval(rate) / SECOND for at in range(max(400, 2 * most))]
    times = begun(rate, slots, held)
    assert all(after >= before for before, after in pairwise(times))
    for first, one_more in zip(times, times[most:], strict=False):
        assert one_more - first >= most / rate  # so many in a second, or one in its time


@pytest.mark.parametrize("rate", RATES)
def test_on_average_nearly_all_of_it(rate: float) -> None:
    slots = [at * interval(rate) / SECOND for at in range(2000)]
    times = begun(rate, slots, dict.fromkeys(range(0, 2000, 100), 0.1))
    assert 1999 / (times[-1] - times[0]) >= 0.95 * rate
    assert PACE > 0.95


def test_what_a_stall_held_back_follows_at_once() -> None:
    """Not one by one from then on: a late loop must not make the morning longer."""
    pace = Pace(70)
    assert [pace.wait(10.0) for _ in range(70)] == [0.0] * 70
    assert pace.wait(10.0) > 1.0
    assert pace.wait(11.05) == 0.0
