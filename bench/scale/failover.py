"""The primary dies under load, its standby is promoted, and the engine goes on through a URL that names both.

    python -m bench.scale.failover --seed 3

Three times: a synchronous standby (nothing acknowledged may be lost, nothing sent twice), an asynchronous one in step, and an
asynchronous one that had lost touch 5 s before. What an asynchronous standby forgets is a figure, no failure: it is
PostgreSQL's promise that is weaker. Judged from the journals and the acknowledgements.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults import checker, history
from bench.faults.run import Figures, Kills
from bench.scale.postgres import Server
from bridge.sandbox.world import World, free_port

STANDBY = "standby"
LOST_TOUCH = 5.0  # seconds before the primary's death
MODES = ("synchronous", "asynchronous, in step", f"asynchronous, {LOST_TOUCH:g} s behind")


@dataclass(slots=True)
class Failover:
    """What came of one."""

    mode: str
    figures: Figures
    again: float = 0.0  # seconds from the primary's death to the first acknowledgement after the promotion
    forgotten: dict[str, int] = field(default_factory=dict)  # table -> rows that the dead primary had committed


class Pair(Kills):
    """A world whose engine's store is a primary with a standby."""

    def __init__(self, folder: Path, mode: str, *, seed: int, rate: float) -> None:
        self.kind, self.folder, self.seed, self.soon, self.mode = "postgresql", folder, seed, False, mode
        self.rng = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)
        self.primary = Server("127.0.0.1", free_port()).create()
        self.standby = Server("127.0.0.1", free_port()).follow(self.primary, STANDBY)
        self.primary.execute("CREATE DATABASE bridge")
        self.primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
        if mode == MODES[0]:
            self.primary.configure(synchronous_standby_names=STANDBY, synchronous_commit="on")
            self.primary.execute("SELECT pg_reload_conf()")
            self.primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        hosts = "host=127.0.0.1,127.0.0.1&port=" + f"{self.primary.port},{self.standby.port}"
        self.world = World(
            folder,
            store=f"postgresql+psycopg://postgres@/bridge?{hosts}&target_session_attrs=read-write",
            site={"quiet_hours": {"from": "03:00", "to": "03:01"}},
            ehr_options={"arguments": ("--seed", str(seed))},
            whatsapp_arguments=("--seed", str(seed), "--retry-base", "1"),
        )
        self._rate, self._patience = rate, 150.0
        self._before, self._sending, self._died = set(), 0, float("inf")

    def __exit__(self, *problem: object) -> None:
        super().__exit__(*problem)
        self.standby.close()
        self.primary.close()

    def fail_over(self, result: Failover, seconds: float) -> None:
        """Load; the primary dies; after 2 s (somebody, or Patroni, has noticed) the standby is promoted; load goes on."""
        self.world.start_engine()
        enough = threading.Event()
        work = threading.Thread(target=lambda: self.load.work(1e9, enough), daemon=True)
        work.start()
        time.sleep(seconds)
        if self.mode == MODES[2]:
            self.standby.configure(primary_conninfo="host=127.0.0.1 port=1 connect_timeout=1")
            self.standby.execute("SELECT pg_reload_conf()")
            time.sleep(LOST_TOUCH)
        died = time.time()
        self.primary.crash()
        time.sleep(2.0)
        self.standby.promote()
        time.sleep(seconds)
        enough.set()
        work.join(30)
        acked = [note["acked"] for note in _notes(self.folder) if note["what"] == "push" and note["acked"]]
        later = [at for at in acked if at > died + 0.5]
        result.again = min(later) - died if later else float("nan")

    def forgotten(self) -> dict[str, int]:
        """What the dead primary had committed, and so acknowledged or acted upon, and the new one has never heard of."""
        self.primary.start()
        found = {}
        for table, key in (("inbox", "id"), ("attempt", "message::text || n")):
            query = f"SELECT {key} FROM {table}"
            was, now = (set(server.execute(query, database="bridge")) for server in (self.primary, self.standby))
            found[table] = len(was - now)
        return found


def _notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / history.ACKS).read_text("utf-8").splitlines()]


def run(
    folder: Path, mode: str, *, seed: int, seconds: float, rate: float = 10.0, say: Callable[[str], None] = print
) -> Failover:
    """One failover, until all is quiet, judged."""
    with Pair(folder, mode, seed=seed, rate=rate) as pair:
        figures = Figures(f"{mode} standby, seed {seed}")
        result = Failover(mode, figures)
        pair.fail_over(result, seconds)
        pair._quiet(figures)
        listed = json.loads(pair.world.cli("doubts", "--json"))
        figures.unknown = len(listed)
        shown = {post.message for post in history.read(folder).posts}
        if lost := sorted({row["id"].removeprefix("msg_") for row in listed} - shown):
            pair.notes.write("resent", messages=[f"msg_{message}" for message in lost], at=time.time())
            pair.world.cli("doubts", "resend", *(f"msg_{message}" for message in lost))
            pair._quiet(figures)
        figures.verdict = checker.judge(history.read(folder))
        pair.ledger(figures)
        result.forgotten = pair.forgotten()
        if mode == MODES[0] and any(result.forgotten.values()):
            figures.problems.append(f"the synchronous standby has forgotten {result.forgotten}")
    say(
        f"{figures}; acknowledging again {result.again:.1f} s after the primary's death; "
        f"forgotten: {result.forgotten['inbox']} events, {result.forgotten['attempt']} fences"
    )
    found = [*figures.problems, *figures.verdict.findings]
    for each in found if mode == MODES[0] else found[:4]:
        say(f"  {each}")
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=12.0, help="of load before and after")
    parser.add_argument("--mode", choices=("all", *map(str, range(len(MODES)))), default="all")
    given = parser.parse_args(arguments)
    results = []
    for n, mode in enumerate(MODES):
        if given.mode in ("all", str(n)):
            folder = Path(tempfile.mkdtemp(prefix="bridge-failover-"))
            results.append(run(folder, mode, seed=given.seed, seconds=given.seconds))
            if results[-1].figures.good:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(f"journals and acknowledgements: {folder}")
    return 0 if all(each.figures.good for each in results if each.mode == MODES[0]) else 4


if __name__ == "__main__":
    sys.exit(main())
