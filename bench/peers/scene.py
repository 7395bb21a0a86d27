"""One peer, one round: it starts, shows that it does the work, is warmed up, measured, killed and judged."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.peers import check, judge
from bench.peers.kill import kill
from bench.peers.peers import Peer
from bench.peers.stage import Stage

WARM = 400  # unmeasured messages: a JVM compiles what runs often, connections and caches come to be


@dataclass(slots=True)
class Round:
    """Figures of one peer in one round, by the names of `report.LINES`."""

    peer: str
    values: dict[str, float] = field(default_factory=dict)
    verdict: judge.Verdict = field(default_factory=judge.Verdict)
    load_average: float = 0.0


def measure(peer: Peer, folder: Path, *, count: int, kills: int, warm: int = WARM) -> Round:
    """
    Raises:
        NotDone: it does not do the work, or did not come to an end.
    """
    found = Round(peer.name)
    with Stage(peer, folder, 1 + warm + count + kills) as stage:
        check.conforms(stage, 0)
        if warm:
            _through(stage, 1, warm, 1)
        found.values = _through(stage, 1 + warm, count, 1 + warm)
        if kills:
            found.verdict = kill(stage, 1 + warm + count, kills)
        found.load_average = machine.load()
    return found


def _through(stage: Stage, first: int, count: int, before: int) -> dict[str, float]:
    """`count` notifications as fast as the door takes them, each to a message and its three statuses, one per webhook, until the
    last `read` is recorded."""
    load = stage.appointments(first, count)
    cpu, store, begun = stage.cpu(), stage.store_cpu(), time.monotonic()
    load.go()
    door = load.result()
    sent = stage.until(lambda: stage.accepted() >= before + count, f"{count} messages accepted")
    ended = stage.until(lambda: stage.recorded() >= before + count, f"{count} statuses recorded")
    used = stage.used()
    return {
        "acks_s": door["rate"],
        "ack_p99_ms": door["p99_ms"],
        "sends_s": count / (sent - begun),
        "whole_s": count / (ended - begun),
        "cpu_ms": (stage.cpu() - cpu) / count * 1000,
        "store_cpu_ms": (stage.store_cpu() - store) / count * 1000,
        "rss_mb": used.rss,
        "store_mb": stage.store_memory(),
    }
