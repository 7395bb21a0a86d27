"""The engine is killed, and the outside judges: nothing acknowledged is lost, nothing is said twice, order holds.

Short (`make test`): every named point once, on one of the two stores, and three kills at random on each. Long (`make
faults`): every point and fifty at random on each store, with WhatsApp's real first redelivery after 30 s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import stores
from bench.faults.run import cut_connections, play, two_nodes
from bridge.ledger.faults import POINTS

LONG = os.environ.get("BRIDGE_FAULTS") == "long"
SEED = int(os.environ.get("BRIDGE_FAULTS_SEED", "7"))


@pytest.fixture(autouse=True, scope="module")
def server() -> Iterator[None]:
    yield
    stores.stop()


@pytest.mark.kill
@pytest.mark.parametrize("kind", stores.KINDS)
def test_kill(kind: str, tmp_path: Path) -> None:
    which = stores.KINDS.index(kind)
    runs = play(
        kind,
        tmp_path,
        seed=SEED + which,
        points=POINTS if LONG else POINTS[which::2],
        random_kills=50 if LONG else 3,
        per_settle=8 if LONG else 12,
        retry_base=30.0 if LONG else 1.0,
        rate=15.0 if LONG else 10.0,
        soon=not LONG,
    )
    problems = [problem for figures in runs for problem in (*figures.problems, *figures.verdict.findings)]
    assert not problems, f"{len(problems)} of seed {SEED}: {problems[:20]}"
    assert sum(figures.kills for figures in runs) == (len(POINTS) + 50 if LONG else len(POINTS[which::2]) + 3)
    assert runs[-1].verdict.effects > 20, "too little was going on to prove anything"


@pytest.mark.kill
@pytest.mark.skipif(not LONG, reason="make faults: a minute more; what one lost commit does is in test_lives")
def test_connections_cut(tmp_path: Path) -> None:
    """PostgreSQL lives and drops every connection, again and again: doors say 503, and nobody waits for a lease."""
    figures = cut_connections(tmp_path, seed=SEED, times=12)
    assert [*figures.problems, *figures.verdict.findings] == []
    assert figures.verdict.effects > 20


@pytest.mark.kill
@pytest.mark.skipif(not LONG, reason="make faults: a lease of a minute must run out")
def test_one_of_two_nodes_dies_for_good(tmp_path: Path) -> None:
    figures = two_nodes(tmp_path, seed=SEED)
    assert [*figures.problems, *figures.verdict.findings] == []


def test_every_point_is_in_the_code() -> None:
    """A name in POINTS that no code passes would be a kill that never happens."""
    code = "\n".join(path.read_text("utf-8") for path in Path("bridge").rglob("*.py") if path.name != "faults.py")
    assert [name for name in POINTS if f'faults.point("{name}")' not in code] == []
