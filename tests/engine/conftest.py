"""One workbench per test, closed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import Bench

Workshop = Callable[..., Bench]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Makes workbenches: `workshop("postgresql", site={…})`."""
    made: list[Bench] = []

    def make(kind: str = "sqlite", **changes: Any) -> Bench:
        bench = Bench(tmp_path / str(len(made)), kind, **changes)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(workshop: Workshop) -> Bench:
    return workshop()
