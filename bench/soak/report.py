"""The table of a soak: what it was held to, and what it reached."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench import machine
from bench.faults import checker
from bench.soak.run import Books, Plan

GROWTH = 1.10  # last quarter against the first settled one
BLOAT = 2.0
SMALL = 8.0  # MB: below it a table's bloat is pages, not waste
NEVER = ("lost", "doubled", "late", "out_of_order")


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    goal: str
    reached: str
    holds: bool


def rows(
    plan: Plan, books: Books, samples: list[dict[str, Any]], balance: dict[str, Any], waiting: dict[str, int],
    verdict: checker.Verdict, stops: int, tables: dict[str, tuple[float, float]],
) -> list[Row]:  # fmt: skip
    last = samples[-1] if samples else {}
    acts = int(last.get("acts", 0))
    rate = acts / books.worked if books.worked else 0.0
    behind = max((float(one.get("behind", 0)) for one in samples), default=0.0)
    made = [
        Row("duration of the load", f"{plan.seconds / 60:.0f} min", f"{books.worked / 60:.1f} min",
            books.worked >= plan.seconds - 5),
        Row("acts a second (open loop)", f"{plan.rate:g}",
            f"{rate:.1f} ({acts} acts, {last.get('refused', 0)} refused by the pretend servers, {behind:.1f} s behind at most)",
            rate >= 0.98 * plan.rate),
        Row("  in each eighth of the time", "", rates(samples), True),
        Row("faults", f"one each {plan.fault_every:g} s", str(len(books.faults)), bool(books.faults)),
        Row("ledger balances", "yes", "yes" if all(line["holds"] for line in balance["lines"]) else "NO",
            all(line["holds"] for line in balance["lines"])),
        Row("waits at the end", "nothing", ", ".join(f"{n} {c}" for n, c in waiting.items()) or
            f"nothing, {books.quiet_after:.0f} s after the load", not waiting),
        *(Row(kind.replace("_", " "), "0", str(len(getattr(verdict, kind))), not getattr(verdict, kind)) for kind in NEVER),
        Row("acknowledged (notifications, webhooks)", "", str(verdict.acknowledged), True),
        Row("effects (POSTs WhatsApp accepted)", "", f"{verdict.effects}; {stops} patients said STOP", True),
        Row("unknown after the kills", f"<= {books.sending} in flight",
            f"{books.unknown}; {books.resent} sent again by a person", books.unknown <= books.sending),
        *(growth(samples, name, what, unit) for name, what, unit in (
            ("rss", "memory of the engine", " MB"), ("files", "open files and sockets", ""),
            ("connections", "connections to the store", ""), ("threads", "threads", ""))),
        *bloat(tables),
    ]  # fmt: skip
    return [*made, Row("other problems", "none", "; ".join(books.problems) or "none", not books.problems)]


def quarters(samples: list[dict[str, Any]], name: str) -> list[float]:
    """Medians of eight equal parts of the run: quarters of an hour, when it is two hours."""
    held = [one for one in samples if name in one]
    if len(held) < 8:
        return [float(one[name]) for one in held]
    end = max(float(one["at"]) for one in held) + 1e-6
    parts: list[list[float]] = [[] for _ in range(8)]
    for one in held:
        parts[min(7, int(8 * float(one["at"]) / end))].append(float(one[name]))
    return [median(part) for part in parts if part]


def rates(samples: list[dict[str, Any]]) -> str:
    """Acts a second in eight equal parts of the run."""
    ends = [(0.0, 0)]
    last = float(samples[-1]["at"]) if samples else 0.0
    for part in range(1, 9):
        upto = [one for one in samples if float(one["at"]) <= part * last / 8]
        if upto:
            ends.append((float(upto[-1]["at"]), int(upto[-1].get("acts", 0))))
    pairs = itertools.pairwise(ends)
    return ", ".join(f"{(acts - before) / (at - since):.0f}" for (since, before), (at, acts) in pairs if at > since)


def growth(samples: list[dict[str, Any]], name: str, what: str, unit: str) -> Row:
    """The last eighth against the second: in the first, caches fill and pools open."""
    found = quarters(samples, name)
    if len(found) < 3:
        return Row(f"growth, {what}", "< 10 %", "too short to say", True)
    ratio = found[-1] / found[1] if found[1] else 1.0
    shown = ", ".join(f"{value:.0f}" for value in found)
    return Row(f"growth, {what}", "< 10 %", f"{100 * (ratio - 1):+.0f} % ({shown}{unit})", ratio < GROWTH)


def bloat(tables: dict[str, tuple[float, float]]) -> list[Row]:
    """The worst table of a size that matters, and all together."""
    if not tables:
        return [Row("size of the store against live size", f"< {BLOAT:g}", "not measured", False)]
    total, live = (sum(pair[at] for pair in tables.values()) for at in (0, 1))
    made = [
        Row("size of the store against live size", f"< {BLOAT:g}",
            f"{total / live:.2f} ({total:.0f} MB, {live:.0f} MB rewritten)", total < BLOAT * live)
    ]  # fmt: skip
    large = {name: pair for name, pair in tables.items() if pair[0] >= SMALL}
    if large:
        worst = max(large, key=lambda name: large[name][0] / max(large[name][1], 0.01))
        now, then = large[worst]
        made.append(Row(f"  worst table over {SMALL:g} MB ({worst})", f"< {BLOAT:g}",
                        f"{now / max(then, 0.01):.2f} ({now:.0f} MB, {then:.0f} MB)", now < BLOAT * then))  # fmt: skip
    return made


def table(found: list[Row]) -> str:
    """Markdown."""
    shown = [
        ("", "goal", "reached", ""),
        *((row.what, row.goal, row.reached, "" if row.holds else "DOES NOT HOLD") for row in found),
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in shown]
    return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]])


def write(plan: Plan, books: Books, found: list[Row], verdict: checker.Verdict, command: str) -> str:
    """The whole report, also into FOLDER/report.md and report.json."""
    said = [
        f"Soak, {plan.kind}, seed {plan.seed}: `{command}`", "", machine.name(), "", table(found), "",
        "Faults: " + "; ".join(f"{fault['at'] / 60:.0f} min {fault['name']}" for fault in books.faults),
    ]  # fmt: skip
    if verdict.findings:
        said += ["", "Findings:", *(f"- {finding}" for finding in verdict.findings[:50])]
    text = "\n".join(said) + "\n"
    (plan.folder / "report.md").write_text(text, encoding="utf-8")
    value = {
        "rows": [[row.what, row.goal, row.reached, row.holds] for row in found],
        "faults": books.faults, "findings": verdict.findings,
    }  # fmt: skip
    (plan.folder / "report.json").write_text(json.dumps(value, indent=1), encoding="utf-8")
    return text
