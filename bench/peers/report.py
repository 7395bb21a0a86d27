"""The table: a row a figure, a column a peer, the goal and whether it is reached. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.peers.scene import Round
from bench.report import number

OURS = "bridge"
MEASURES = ("node-red", "node-red-full")  # the goal is set against Node-RED: against whichever is better at it


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    label: str
    goal: str = ""


LINES = (
    Line("sends_s", "notification to accepted send (/s)", ">= 2x Node-RED's"),
    Line("whole_s", "until its three statuses are recorded (/s)"),
    Line("cpu_ms", "CPU a message, peer and its database (ms)", "<= half of Node-RED's"),
    Line("store_cpu_ms", "  of that, PostgreSQL (ms)"),
    Line("acks_s", "EHR door: acknowledged (/s)"),
    Line("ack_p99_ms", "  p99 (ms)"),
    Line("rss_mb", "memory after the work (RSS) (MB)"),
    Line("store_mb", "  PostgreSQL beside it (PSS) (MB)"),
)
KILLS = (
    Line("lost", "kill -9: acknowledged, no message", "0"),
    Line("doubled", "kill -9: told twice", "0"),
    Line("statuses_lost", "kill -9: statuses acknowledged, not recorded", "0"),
    Line("for_a_person", "kill -9: of unknown outcome, left to a person"),
    Line("acknowledged", "  of notifications acknowledged"),
)


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Peer -> figure -> median over its rounds; what a kill cost is summed over them."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(one.peer for one in rounds):
        held = [one for one in rounds if one.peer == name]
        found[name] = {line.name: median(one.values[line.name] for one in held) for line in LINES}
        if any(one.verdict.acknowledged for one in held):
            found[name] |= {
                "lost": sum(len(one.verdict.lost) for one in held),
                "doubled": sum(len(one.verdict.doubled) for one in held),
                "statuses_lost": sum(one.verdict.statuses_lost for one in held),
                "for_a_person": sum(one.verdict.for_a_person for one in held),
                "acknowledged": sum(one.verdict.acknowledged for one in held),
            }
    return found


def reached(name: str, found: dict[str, dict[str, float]]) -> str:
    """Does bridge on SQLite reach this row's goal? Empty where nobody can tell."""
    ours = found.get(OURS, {}).get(name)
    others = [found[each][name] for each in MEASURES if name in found.get(each, {})]
    if ours is None:
        return ""
    match name:
        case "lost" | "doubled" | "statuses_lost":
            return "yes" if ours == 0 else "no"
        case "sends_s" if others:
            theirs = max(others)
            return f"{'yes' if ours >= 2 * theirs else 'no'} ({ours / theirs:.2f}x)"
        case "cpu_ms" if others:
            theirs = min(others)
            return f"{'yes' if ours <= theirs / 2 else 'no'} ({ours / theirs:.2f}x)"
    return ""


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    rows = [["", *found, "goal (bridge)", "reached"]]
    for line in (*LINES, *KILLS):
        values = [each.get(line.name) for each in found.values()]
        if all(value is None for value in values) or (line.name.startswith("store_") and not any(values)):
            continue
        whole = line in KILLS
        shown = ["" if value is None else f"{value:,.0f}" if whole else number(value) for value in values]
        rows.append([line.label, *shown, line.goal, reached(line.name, found)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]

    def one(row: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
    return "\n".join([one(rows[0]), rule, *(one(row) for row in rows[1:])])


def as_json(rounds: Sequence[Round], about: dict[str, Any]) -> dict[str, Any]:
    return about | {
        "medians": medians(rounds),
        "rounds": [
            {"peer": one.peer, "load_average": one.load_average, **one.values, "acknowledged": one.verdict.acknowledged,
             "lost": one.verdict.lost, "doubled": one.verdict.doubled, "statuses_lost": one.verdict.statuses_lost,
             "for_a_person": one.verdict.for_a_person}
            for one in rounds
        ],
    }  # fmt: skip
