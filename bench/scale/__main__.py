"""Everything about scale-out, one table: goal and reached.

    python -m bench.scale [--quick]

Hosts in network namespaces (root; else skipped with the reason), failover of PostgreSQL, cost as rows and as nodes grow.
`--quick`: one cluster of two nodes without the long partition, and small sizes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine, stores
from bench.scale import cluster, failover, growth, plot
from bench.scale.hosts import possible

GROWS = 1.3  # times the CPU of an empty store that a message may cost in a full one


class Table:
    """Rows: what, goal, reached, and whether that is good (None: a figure without a goal)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, bool | None]] = []

    def add(self, what: str, goal: str, reached: str, good: bool | None = None) -> None:
        self.rows.append((what, goal, reached, good))
        print(f"{'' if good is None else 'good' if good else 'NOT GOOD':8} {what} | {goal} | {reached}", flush=True)

    def markdown(self) -> str:
        marks = {None: "", True: "yes", False: "**no**"}
        lines = ["| | goal | reached | holds |", "|---|---|---|---|"]
        return "\n".join([*lines, *(f"| {a} | {b} | {c} | {marks[d]} |" for a, b, c, d in self.rows)])


def hosts(table: Table, *, quick: bool) -> None:
    if reason := possible():
        table.add("nodes on hosts of their own", "0 lost, 0 doubled", f"skipped: {reason}")
        return
    told: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="bridge-cluster-"))
    (found,) = cluster.run(folder, seed=7, nodes=2 if quick else 3, long_cut=not quick, say=told.append)
    reached = f"{found.verdict}; listed as unknown {found.unknown}"
    table.add(
        "kill -9 of nodes, rolling restart, crash of the database, a node cut off from it",
        "0 lost, doubled, late, out of order; nothing fenced while cut off", reached, found.good,
    )  # fmt: skip
    for line in told[:-1]:
        print(f"         {line.strip()}")
    if found.good:
        shutil.rmtree(folder, ignore_errors=True)


def failovers(table: Table, *, quick: bool) -> None:
    for mode in failover.MODES[:1] if quick else failover.MODES:
        folder = Path(tempfile.mkdtemp(prefix="bridge-failover-"))
        found = failover.run(folder, mode, seed=7, seconds=8.0 if quick else 15.0, say=lambda _: None)
        strict = mode == failover.MODES[0]
        verdict, forgotten = found.figures.verdict, found.forgotten
        table.add(
            f"failover to a standby: {mode}", "0 lost, 0 doubled" if strict else "(PostgreSQL's promise)",
            f"lost {len(verdict.lost)}, doubled {len(verdict.doubled)} of {verdict.acknowledged} acknowledged; forgotten "
            f"{forgotten['inbox']} events, {forgotten['attempt']} fences; acknowledging again after {found.again:.1f} s",
            found.figures.good if strict else None,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def costs(table: Table, sizes: list[int], nodes: list[int], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind in stores.KINDS:
        of = growth.rows(kind, sizes, count, lambda line: print(f"         {line}", flush=True))
        found += of
        first, last = (one["whole_cpu_ms"] + one["whole_store_cpu_ms"] for one in (of[0], of[-1]))
        table.add(
            f"{kind}: CPU a message, {growth.size_of(sizes[-1])}, against an empty store", f"<= {GROWS:g} times",
            f"{last:.2f} ms against {first:.2f} ms", last <= GROWS * first,
        )  # fmt: skip
        walked = {name: rows for one in of for name, rows in one["walked"].items()}
        if kind == "postgresql":
            table.add("postgresql: tables that a loop walks whole", "none", ", ".join(walked) or "none", not walked)
    of = growth.by_nodes(nodes, count, lambda line: print(f"         {line}", flush=True))
    found += of
    total = {one["nodes"]: one["whole_cpu_ms"] + one["whole_store_cpu_ms"] for one in of}
    table.add(
        f"CPU a message by nodes ({', '.join(map(str, total))})", f"<= {GROWS:g} times that of one",
        ", ".join(f"{value:.2f} ms" for value in total.values()), max(total.values()) <= GROWS * total[nodes[0]],
    )  # fmt: skip
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sizes", default="", help="old messages, with commas; 10000000 needs 25 GB of disk")
    parser.add_argument("--count", type=int, default=0, help="messages measured at each size")
    parser.add_argument("--only", choices=("hosts", "failover", "cost"), default="")
    parser.add_argument("--plots", type=Path, help="folder to write the plots into: docs/images")
    given = parser.parse_args(arguments)
    sizes = given.sizes or ("0,20000" if given.quick else "0,100000,1000000")
    print(f"{datetime.now(UTC).isoformat(timespec='seconds')}  {machine.name()}, load average {machine.load():.1f}")
    table = Table()
    if given.only in ("", "hosts"):
        hosts(table, quick=given.quick)
    if given.only in ("", "failover"):
        failovers(table, quick=given.quick)
    if given.only in ("", "cost"):
        count = given.count or (100 if given.quick else 400)
        found = costs(table, [int(size) for size in sizes.split(",")], [1, 2] if given.quick else [1, 2, 4], count)
        if given.plots is not None:
            plot.write(found, given.plots)
    print()
    print(table.markdown())
    return 4 if any(good is False for *_, good in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
