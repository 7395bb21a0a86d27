"""A database that takes longer for a fence than a POST may wait for its start: messages leave all the same."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from bridge.outbound import sender
from bridge.outbound.carrier import NotSent
from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench


class Wire:
    """A carrier that notes what it is given."""

    def __init__(self) -> None:
        self.posts = 0

    async def post(self, *_: Any, **__: Any) -> NotSent:
        self.posts += 1
        return NotSent("a test's")


@pytest.mark.parametrize("fence_takes, starts_late, leaves", [(0.4, 0.0, 1), (0.0, 0.4, 0)])
def test_only_what_comes_after_the_commit_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fence_takes: float, starts_late: float, leaves: int
) -> None:
    monkeypatch.setattr(sender, "START_WITHIN", 0.3)
    run = bench.sender._fence.run
    monkeypatch.setattr(bench.sender._fence, "run", lambda *a, **k: (run(*a, **k), time.sleep(fence_takes))[0])
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.apply()
    (shot,) = bench.fence()
    time.sleep(starts_late)
    wire = Wire()
    asyncio.run(bench.sender._post(wire, shot))  # type: ignore[arg-type]
    assert wire.posts == leaves
