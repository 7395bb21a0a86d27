"""What a broken clock wrote is sought when the store's clock has jumped, and at the start: the search walks whole tables."""

from __future__ import annotations

import math

import pytest

from bridge.engine import pump
from bridge.ledger.clock import SECOND
from tests.engine.harness import Bench


def test_sought_at_the_start_after_a_jump_and_once_an_hour(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[int] = []
    monkeypatch.setattr(pump.horizons, "clamp", lambda store: sought.append(1) or 0)
    clock = [1000.0]
    monkeypatch.setattr(pump.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bench.store, "now", lambda connection=None: int(clock[0] * SECOND) + bench.store.ahead)

    def later(seconds: float) -> int:
        clock[0] += seconds
        before = len(sought)
        bench.pump._clamp()
        return len(sought) - before

    assert later(0) == 1, "a life begins"
    assert [later(61) for _ in range(5)] == [0] * 5
    bench.store.ahead -= 3600 * SECOND
    assert later(1) == 0
    assert later(61) == 1, "the clock went back"
    assert later(61) == 0
    bench.store.ahead += 3600 * SECOND
    assert later(61) == 1, "and ahead"
    assert sum(later(61) for _ in range(60)) == 1, "once an hour without a reason"
    assert not math.isinf(bench.pump._last_walk)
