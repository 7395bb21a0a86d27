"""`python -m bench.peers`: install what this machine can run, measure in interleaved rounds, print the table."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import machine
from bench.peers import report, server
from bench.peers.peers import PEERS, Peer
from bench.peers.scene import WARM, Round, measure
from bench.peers.stage import NotDone


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="notifications measured in a round of a peer")
    parser.add_argument("--warm", type=int, default=WARM, help="notifications before them that are not measured")
    parser.add_argument("--kills", type=int, default=300, help="notifications of the kill in each round; 0: no kill")
    parser.add_argument("--only", default="", help="names, with commas: " + ", ".join(peer.name for peer in PEERS))
    parser.add_argument("--install-only", action="store_true", help="fill the cache folder, measure nothing")
    parser.add_argument("--keep", type=Path, help="folder for journals and logs of every round (else a temporary one)")
    parser.add_argument("--out", type=Path, help="every figure of every round, as JSON")
    return parser.parse_args(given)


def chosen(only: str) -> list[Peer]:
    """Those asked for which this machine can run; says why not of the others."""
    names = [name for name in only.split(",") if name]
    if unknown := set(names) - {peer.name for peer in PEERS}:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in PEERS)}")
    found = []
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        if missing := peer.missing():
            print(f"SKIPPED {peer.name}: this machine has no {' and no '.join(missing)}")
            continue
        try:
            peer.install()
        except subprocess.CalledProcessError as error:
            print(f"SKIPPED {peer.name}: {' '.join(map(str, error.cmd))} ended with {error.returncode}")
            continue
        found.append(peer)
    return found


def main(given: Sequence[str] | None = None) -> int:
    args = arguments(given)
    peers = chosen(args.only)
    if args.install_only:
        return 0
    folder = args.keep or Path(tempfile.mkdtemp(prefix="bench-peers-"))
    begun = datetime.now(UTC)
    rounds: list[Round] = []
    out: dict[str, str] = {}  # who fell out, and why
    try:
        for turn in range(args.rounds):
            for peer in peers:
                if peer.name in out:
                    continue
                at = folder / f"{turn + 1}-{peer.name}"
                try:
                    one = measure(peer, at, count=args.count, kills=args.kills, warm=args.warm)
                except NotDone as problem:
                    out[peer.name] = str(problem)
                    print(f"round {turn + 1}/{args.rounds} {peer.name}: {problem}", file=sys.stderr, flush=True)
                    continue
                finally:
                    if args.keep is None:
                        shutil.rmtree(at, ignore_errors=True)
                rounds.append(one)
                print(
                    f"round {turn + 1}/{args.rounds} {peer.name}: {one.values['sends_s']:.0f}/s, {one.values['cpu_ms']:.2f} ms, "
                    f"lost {len(one.verdict.lost)}, doubled {len(one.verdict.doubled)} (load average {one.load_average:.1f})",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    finally:
        server.stop()
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    minutes = (datetime.now(UTC) - begun).total_seconds() / 60
    about = {"at": begun.isoformat(timespec="seconds"), "machine": machine.name(), "count": args.count, "kills": args.kills,
             "repeats": args.rounds, "minutes": round(minutes, 1), "fell_out": out}  # fmt: skip
    if args.out is not None:
        args.out.write_text(json.dumps(report.as_json(rounds, about), indent=1), encoding="utf-8")
    if rounds:
        averages = sorted(one.load_average for one in rounds)
        print(f"{about['at']}  {about['machine']}")
        print(
            f"{args.count} notifications a round after {args.warm} unmeasured ones, median of {args.rounds} interleaved rounds; kills summed over them; "
            f"{minutes:.0f} min, load average {averages[0]:.1f} to {averages[-1]:.1f}; load, pretend EHR and pretend WhatsApp "
            "run on the same cores"
        )
        print()
        print(report.table(report.medians(rounds)))
    for name, why in out.items():
        print(f"FELL OUT {name}: {why.splitlines()[0]}")
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())
