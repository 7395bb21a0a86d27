"""Figures as a table with goals, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.scenes import Figures


@dataclass(frozen=True, slots=True)
class Line:
    """One row: what it is, and what we aim at (profile or "" for both; `least` or `most`)."""

    name: str
    label: str
    unit: str
    least: float | None = None
    most: float | None = None
    only: str = ""  # the goal holds for this "store/profile" prefix

    def goal(self, where: str) -> str:
        if not where.startswith(self.only):
            return ""
        if self.least is not None:
            return f">= {self.least:,.0f}"
        return f"< {self.most:,.0f}" if self.most is not None else ""

    def reached(self, where: str, value: float) -> str:
        if not self.goal(where):
            return ""
        good = value >= self.least if self.least is not None else value < (self.most or 0)
        return "yes" if good else "no"


LINES = (
    Line("start_s", "start to first ack, empty store", "s", most=2),
    Line("restart_s", "start to first ack, store in place", "s", most=2),
    Line("first_message_s", "start to first message accepted", "s"),
    Line("ehr_door_acks_s", "EHR door: durable acks, full R4 Appointments", "/s", least=3000),
    Line("ehr_door_p50_ms", "  latency p50 at that rate", "ms"),
    Line("ehr_door_p99_ms", "  latency p99 at that rate", "ms", most=100),
    Line("steady_p50_ms", "  latency p50 at the steady rate", "ms"),
    Line("steady_p99_ms", "  latency p99 at the steady rate", "ms", most=100),
    Line("single_acks_s", "WhatsApp door: durable acks, 1 status per request", "/s", least=3000),
    Line("single_p50_ms", "  latency p50", "ms"),
    Line("single_p99_ms", "  latency p99", "ms", most=100),
    Line("single_applied_s", "  statuses applied, until none waits", "/s"),
    Line("single_cpu_us", "  engine CPU a status", "us"),
    Line("batched_acks_s", "WhatsApp door: statuses acknowledged, 100 per request", "/s"),
    Line("batched_p50_ms", "  latency p50", "ms"),
    Line("batched_p99_ms", "  latency p99", "ms", most=250),
    Line("batched_applied_s", "  statuses applied, until none waits", "/s"),
    Line("batched_cpu_us", "  engine CPU a status", "us"),
    Line("sends_s", "notification to accepted send, no statuses", "/s"),
    Line("send_cpu_ms", "  engine CPU a message", "ms"),
    Line("send_store_cpu_ms", "  PostgreSQL CPU a message", "ms"),
    Line("whole_s", "end to end with three statuses, until all is done", "/s", least=300, only="sqlite/complete"),
    Line("whole_sends_s", "  sends accepted meanwhile", "/s"),
    Line("whole_cpu_ms", "  engine CPU a message", "ms"),
    Line("whole_store_cpu_ms", "  PostgreSQL CPU a message", "ms"),
    Line("whole_sandbox_cpu_ms", "  CPU a message of the pretend EHR and WhatsApp", "ms"),
    Line("rss_start_mb", "memory after start (RSS)", "MB"),
    Line("rss_mb", "memory after everything (RSS)", "MB", most=200),
    Line("peak_mb", "memory, peak", "MB"),
)


def medians(rounds: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """`store/profile` -> name -> median over the rounds."""
    grouped: dict[str, list[Figures]] = {}
    for one in rounds:
        grouped.setdefault(f"{one.store}/{one.profile}", []).append(one)
    return {
        where: {
            line.name: median(one.values[line.name] for one in held) for line in LINES if line.name in held[0].values
        }
        for where, held in grouped.items()
    }


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown: a row a figure, a column a store and profile, the goal, and where it is reached."""
    columns = list(found)
    rows = [["", *columns, "goal", "reached"]]
    for line in LINES:
        values = [found[where].get(line.name) for where in columns]
        if all(value is None or value == 0 for value in values):
            continue
        goals = {line.goal(where) for where in columns} - {""}
        said = [line.reached(where, value) for where, value in zip(columns, values, strict=True) if value is not None]
        verdicts = [one for one in said if one]
        rows.append([
            f"{line.label} ({line.unit})",
            *(number(value) if value is not None else "" for value in values),
            next(iter(goals), ""),
            "" if not verdicts else "yes" if all(v == "yes" for v in verdicts) else "no" if "yes" not in verdicts else "partly",
        ])  # fmt: skip
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    shown = [
        "| "
        + " | ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if not at else ":") for at, width in enumerate(widths)) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def ratios(found: dict[str, dict[str, float]]) -> list[str]:
    """Figures of one run against each other: these survive a change of machine better than the figures themselves."""
    said = []
    for name, label in (("sends_s", "sends"), ("whole_s", "end to end"), ("ehr_door_acks_s", "EHR door")):
        for profile in ("core", "complete"):
            ours, theirs = found.get(f"sqlite/{profile}", {}), found.get(f"postgresql/{profile}", {})
            if name in ours and name in theirs:
                said.append(f"{label}, {profile}: PostgreSQL reaches {theirs[name] / ours[name]:.2f} of SQLite")
        for store in ("sqlite", "postgresql"):
            core, complete = found.get(f"{store}/core", {}), found.get(f"{store}/complete", {})
            if name in core and name in complete:
                said.append(f"{label}, {store}: complete reaches {complete[name] / core[name]:.2f} of core")
    return said


def as_json(rounds: Sequence[Figures], about: dict[str, Any]) -> dict[str, Any]:
    return about | {
        "medians": medians(rounds),
        "rounds": [
            {"store": one.store, "profile": one.profile, "load_average": one.load_average, **one.values}
            for one in rounds
        ],
    }
