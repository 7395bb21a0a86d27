"""`make faults`: one table of faults, row | figure demanded | reached | seed | command; exits 4 when a row does not hold.

    python -m bench.faults [--rows TI8,TI10] [--store sqlite|postgresql] [--short] [--seed 7] [--random 200]

Long is the default: minutes to an hour a row. `--short` is a look in passing. Rows that other targets hold are named below
the table. Each store has a row of its own where the store matters.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, stores
from bench.faults import outage, pytests, sockets, twice
from bench.faults.outcome import Outcome
from bench.faults.rows import ELSEWHERE, Row, chosen
from bench.faults.run import play as kill
from bridge.ledger.faults import POINTS


def kills(kind: str, folder: Path, seed: int, random_kills: int, *, short: bool) -> Outcome:
    """TI1: every named point, then at random."""
    found = kill(
        kind, folder, seed=seed, points=POINTS, random_kills=random_kills, per_settle=8 if not short else 12,
        retry_base=1.0 if short else 30.0, rate=10.0 if short else 15.0, soon=short,
        say=lambda line: print(f"  {line}", flush=True),
    )  # fmt: skip
    last = found[-1].verdict
    problems = [problem for figures in found for problem in (*figures.problems, *figures.verdict.findings)]
    sending, unknown = sum(one.sending for one in found), sum(one.unknown for one in found)
    return Outcome(
        f"{sum(one.kills for one in found)} kills, {last.acknowledged} acknowledged, {last.effects} effects: lost "
        f"{len(last.lost)}, doubled {len(last.doubled)}, late {len(last.late)}, out of order {len(last.out_of_order)}, "
        f"unknown {unknown} of {sending} in flight" + (f"; {problems[0]}" if problems else ""),
        not problems, str(seed),
        f"python -m bench.faults.run --store {kind} --points all --random {random_kills} --seed {seed}"
        + ("" if short else " --retry-base 30 --per-settle 8"),
    )  # fmt: skip


def outages(kind: str, folder: Path, seed: int, *, short: bool) -> Outcome:
    """TI10: all ways of being away, one after the other."""
    found = outage.play(kind, folder, seed, short=short)
    problems = [f"{came.name}: {problem}" for came in found for problem in came.problems]
    return Outcome(
        "; ".join(came.said for came in found) + (f"; {problems[0]}" if problems else ""), not problems, str(seed),
        f"python -m bench.faults.outage --store {kind} --seed {seed}" + (" --short" if short else ""),
    )  # fmt: skip


def play(row: Row, kind: str, folder: Path, given: argparse.Namespace) -> Outcome:
    """One row on one store."""
    match row.scene:
        case "kills":
            count = given.random if given.random is not None else 3 if given.short else 50
            return kills(kind, folder, given.seed, count, short=given.short)
        case "twice":
            return twice.play(kind, folder)
        case "sockets":
            return sockets.play(kind, folder, 5.0 if given.short else 20.0)
        case "outage":
            return outages(kind, folder, given.seed, short=given.short)
        case _:
            return pytests.play(row, kind, short=given.short)


def table(found: list[tuple[str, Row, Outcome]]) -> str:
    """Markdown."""
    lines = ["| row | demanded | reached | holds | seed | command |", "|---|---|---|---|---|---|"]
    for name, row, outcome in found:
        lines.append(
            f"| {name} | {row.demanded} | {outcome.reached.replace('|', '/')} | {'yes' if outcome.holds else 'NO'} "
            f"| {outcome.seed} | `{outcome.command}` |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--rows", default="", help="names with commas; all when left out")
    parser.add_argument("--store", choices=stores.KINDS, help="only this one")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--random", type=int, help="kills at random in TI1")
    given = parser.parse_args(arguments)
    try:
        rows = chosen(given.rows)
    except ValueError as error:
        parser.error(str(error))
    kinds = [given.store] if given.store else list(stores.KINDS)
    base = Path(tempfile.mkdtemp(prefix="bridge-faults-"))
    found: list[tuple[str, Row, Outcome]] = []
    try:
        for row in rows:
            apart = bool(row.scene) or row.per_store
            for kind in kinds if apart else kinds[:1]:
                name = f"{row.name}, {kind}" if apart else row.name
                begun = time.monotonic()
                folder = base / name.replace(", ", "-").replace(" ", "-")
                try:
                    outcome = play(row, kind, folder, given)
                except Exception as error:  # a row that breaks must not keep the others from the table
                    outcome = Outcome(
                        f"the run broke: {type(error).__name__}: {str(error)[:200]}", False, "", row.scene
                    )
                print(f"{name}: {'holds' if outcome.holds else 'DOES NOT HOLD'} ({time.monotonic() - begun:.0f} s): "
                      f"{outcome.reached}", flush=True)  # fmt: skip
                if outcome.holds:
                    shutil.rmtree(folder, ignore_errors=True)
                found.append((name, row, outcome))
    finally:
        stores.stop()
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {machine.name()}, load average {machine.load():.1f}\n")
    print(table(found))
    print("\nHeld by other targets: " + "; ".join(f"{names}: {where}" for names, where in ELSEWHERE.items()))
    if all(outcome.holds for _, _, outcome in found):
        shutil.rmtree(base, ignore_errors=True)
        return 0
    print(f"folders of what did not hold: {base}")
    return 4


if __name__ == "__main__":
    sys.exit(main())
