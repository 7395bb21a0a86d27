"""`make corpus`: every recorded notification and webhook through the running doors; expected and got for every file.

    python -m tests.corpus FOLDER [--only TEXT] [--alter FILE] [--full]

Exits 1 when a file is not read as its `expect` says, is answered otherwise than said, or leaves less than a row for
each thing that happened. Each file meets an engine of its own with an empty store.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.corpus.cases import Outcome, altered, cases, play, quiet

WIDTH = 150  # characters of an expectation in the table; --full shows all


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--alter", default="", help="put a wrong word into the expect of this file: it must fail")
    parser.add_argument("--full", action="store_true", help="do not shorten what was expected and what was got")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="engines at a time")
    chosen = parser.parse_args(arguments)
    found = [case for case in cases(chosen.folder) if chosen.only in case.name]
    if not found:
        print(f"nothing to send in {chosen.folder}")
        return 2
    if chosen.alter:
        found = [altered(case) if case.name.endswith(chosen.alter) else case for case in found]
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("forkserver"), initializer=quiet) as pool:
        outcomes = []
        for outcome in pool.map(play, found, chunksize=8):
            outcomes.append(outcome)
            _show(outcome, full=chosen.full)
    return _sum(outcomes)


def _show(outcome: Outcome, *, full: bool) -> None:
    case = outcome.case
    word = "DIFFERS" if outcome.failed else "ambiguous" if case.ambiguous else "ok"
    limit = None if full or outcome.failed else WIDTH
    print(f"{word:9} {case.name}")
    print(f"          expected {outcome.expected[:limit]}")
    print(f"          got      {outcome.got[:limit]}")
    if case.ambiguous:
        print(f"          ambiguous: {case.ambiguous}")
    for problem in outcome.problems:
        print(f"          ! {problem}")
    sys.stdout.flush()


def _sum(outcomes: list[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.failed]
    unclear = [outcome for outcome in outcomes if outcome.case.ambiguous]
    other = sum(bool(outcome.problems) and not outcome.failed for outcome in unclear)
    print(
        f"\n{len(outcomes)} files: {len(outcomes) - len(failed)} as expected, {len(failed)} not; "
        f"{len(unclear)} ambiguous, of which {other} read otherwise than first expected"
    )
    for outcome in failed:
        print(f"DIFFERS  {outcome.case.name}: {'; '.join(outcome.problems)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
