"""TS11 to its end: every walk of length ≤ 5, 111,110 of them, on each store: `make walks`.

    python -m tests.engine.all_walks [--store sqlite|postgresql] [--processes 2] [--batch 2000]

Each walk has a visit and a patient of its own; the judge is `test_walks.judge`, which reads only what the pretend phone
got. Processes share the walks by turns, so that a slow one holds up the end by a batch at most. Prints a line for every
batch as it ends, a line for every walk that ended wrong, and a last line per store; exit 1 when a walk ended wrong.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.engine.harness import Bench
from tests.engine.test_walks import LENGTH, STEPS, Walk, Walks, check
from tests.stores import KINDS

TOTAL = sum(len(STEPS) ** length for length in range(1, LENGTH + 1))
DONE = "walks of this process:"


def every() -> Iterator[Walk]:
    """All walks, the short ones first."""
    return itertools.chain.from_iterable(itertools.product(STEPS, repeat=length) for length in range(1, LENGTH + 1))


def part(kind: str, share: int, of: int, batch: int) -> bool:
    """Play every `of`-th batch, beginning with number `share`; says whether all ended well."""
    walks, played, wrong, begun = every(), 0, 0, time.monotonic()
    for n in itertools.count():
        some = list(itertools.islice(walks, batch))
        if not some:
            break
        if n % of != share:
            continue
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), kind)
            try:
                check(bench, Walks(bench).play(some))
            except AssertionError as error:
                wrong += 1
                print(f"{kind}: WRONG in batch {n}: {error}", flush=True)
            finally:
                bench.close()
        played += len(some)
        print(
            f"{kind} {share + 1}/{of}: batch {n}, {len(some)} walks, {played} so far, "
            f"{time.monotonic() - begun:.0f} s, {wrong} batches wrong",
            flush=True,
        )
    print(f"{DONE} {played}", flush=True)
    return not wrong


def run(kind: str, processes: int, batch: int) -> bool:
    """All walks on one store, in processes of their own; whether all were played and ended well."""
    begun = time.monotonic()
    words = [
        sys.executable,
        "-m",
        "tests.engine.all_walks",
        "--store",
        kind,
        "--batch",
        str(batch),
        "--of",
        str(processes),
    ]
    children = [
        subprocess.Popen([*words, "--share", str(share)], stdout=subprocess.PIPE, text=True)
        for share in range(processes)
    ]
    played: list[int] = []

    def listen(child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(DONE):
                played.append(int(line.removeprefix(DONE)))
            else:
                print(line, end="", flush=True)

    listeners = [threading.Thread(target=listen, args=(child,)) for child in children]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    ended = [child.wait() for child in children]
    well = not any(ended) and sum(played) == TOTAL
    print(
        f"{kind}: {sum(played)} of {TOTAL} walks played to their end in {time.monotonic() - begun:.0f} s, "
        + ("every last text equals the EHR" if well else "NOT all well"),
        flush=True,
    )
    return well


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--store", choices=KINDS, action="append", help="both, unless said")
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options.add_argument("--batch", type=int, default=2_000, help="walks played side by side")
    options.add_argument("--share", type=int, help=argparse.SUPPRESS)
    options.add_argument("--of", type=int, default=1, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.share is not None:
        return 0 if part(chosen.store[0], chosen.share, chosen.of, chosen.batch) else 1
    well = [run(kind, chosen.processes, chosen.batch) for kind in chosen.store or KINDS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
