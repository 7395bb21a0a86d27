"""Several nodes on several hosts, with PostgreSQL on a host of its own, under the load of `bench.faults`; anything may die.

    python -m bench.scale.cluster --seed 5 [--nodes 3] [--seconds 20]

Judged from the journals and the acknowledgements alone (`bench.faults.checker`), and for the node that lost its database by
what the ledger says of its fences. Exits 4 when anything is not as it must be; 77 where namespaces cannot be made.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from bench.faults import checker, history
from bench.faults.load import Load, Notes
from bench.faults.run import Figures, Kills
from bench.scale.balancer import Balancer
from bench.scale.hosts import Hosts, possible
from bench.scale.nodes import Node, config_for
from bench.scale.postgres import Server
from bridge.sandbox.world import World

PORT, HEALTH = 8700, 8701
TAKES = 20.0  # seconds a node may need to notice that its database is gone
LEASE = 60.0  # seconds of a conversation's lease


class Cluster(Kills):
    """A world whose engine is several nodes. The rest (load, quiet, ledger) is that of the kill tests."""

    def __init__(self, folder: Path, hosts: Hosts, database: Server, *, seed: int, rate: float) -> None:
        self.kind, self.folder, self.seed, self.soon = "postgresql", folder, seed, False
        self.rng = random.Random(seed)
        self.hosts, self.database = hosts, database
        outside = hosts.NETS["out"] + ".1"
        folder.mkdir(parents=True, exist_ok=True)
        database.execute("CREATE DATABASE bridge")
        self.world = World(
            folder,
            store=database.url("bridge"),
            site={"quiet_hours": {"from": "03:00", "to": "03:01"}},
            ehr_options={"arguments": ("--seed", str(seed), "--host", outside)},
            whatsapp_arguments=("--seed", str(seed), "--retry-base", "1", "--host", outside),
        )
        self._rate, self._patience = rate, 180.0
        self._before, self._sending, self._died = set(), 0, float("inf")
        self.nodes: dict[str, Node] = {}
        self._working = threading.Event()

    def __enter__(self) -> Cluster:
        self._stack = ExitStack()
        self._stack.enter_context(self.world)
        self.world.ehr.post("faults", duplicate=0.1, reorder=0.3)
        self.world.whatsapp.post("settings", duplicate=0.15, reorder=0.2)
        store = f"postgresql+psycopg://postgres@{self.database.address}:{self.database.port}/bridge"
        names = [name for name in self.hosts.names if name.startswith("n")]
        for name in names:
            address = self.hosts.address(name, "out")
            place = self.folder / name
            config = config_for(self.world.config, place, doors=f"{address}:{PORT}", console=f"{address}:{HEALTH}")
            whole = json.loads(config.read_text("utf-8"))
            config.write_text(json.dumps(whole | {"store": {"url": store}}), encoding="utf-8")
            self.nodes[name] = Node(place, config, self.world.environment, before=self.hosts.before(name))
            self._stack.callback(self.nodes[name].stop)
            self.nodes[name].start()
        port = int(self.world.doors.rpartition(":")[2])
        self._stack.enter_context(Balancer(port, [(self.hosts.address(name, "out"), PORT) for name in names]))
        self.notes = Notes(self.folder)
        self.load = Load(self.world, self.notes, random.Random(self.seed + 1), self._rate)
        self.load.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.load.stop()
        self.notes.close()
        self._stack.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The load goes on beside."""
        enough = threading.Event()
        thread = threading.Thread(target=lambda: self.load.work(1e9, enough), daemon=True)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join(30)

    # --- what is done to it ----------------------------------------------------------------------------------------

    def kill_one(self, figures: Figures, away: float) -> None:
        """kill -9 of a node; it comes back later, under its name."""
        name = self.rng.choice(list(self.nodes))
        at = time.time()
        self.nodes[name].kill()
        self.notes.write("kill", at=at, how=f"node {name}", sending=0)
        figures.kills += 1
        time.sleep(away)
        self.nodes[name].start()

    def roll(self, figures: Figures) -> None:
        """SIGTERM to one after the other; the next when the last is back."""
        for name, node in self.nodes.items():
            if node.stop() != 0:
                figures.problems.append(f"{name}: SIGTERM did not end it with 0")
            node.start()
            if self.ready(name)[0] != 200:
                figures.problems.append(f"{name}: not ready after its restart: {self.ready(name)[1]}")

    def crash_database(self, away: float) -> None:
        """The database's host loses power, and comes back."""
        self.database.crash()
        time.sleep(away)
        self.database.start()

    def part(self, figures: Figures, seconds: float) -> str:
        """A node loses its database and nothing else. What it says of itself, and what it does, is looked at."""
        name = self.rng.choice(list(self.nodes))
        node_name = (self.folder / name / "data" / "node").read_text("ascii").strip()
        self.hosts.cut(name, "db")
        cut = self._now()
        time.sleep(min(TAKES, seconds))
        status, problems = self.ready(name)
        if status != 503 or not any("store" in each for each in problems):
            figures.problems.append(f"{name} without its database calls itself {status}: {problems}")
        time.sleep(max(0.0, seconds - TAKES))
        healed = self._now()
        self.hosts.heal(name, "db")
        deadline = time.monotonic() + 40
        while self.ready(name)[0] != 200:
            if time.monotonic() > deadline:
                figures.problems.append(f"{name} is not ready 40 s after its database is back: {self.ready(name)[1]}")
                break
            time.sleep(0.3)
        back = self._now()
        fenced = self._one(
            "SELECT count(*) FROM attempt WHERE node = %s AND fenced_at BETWEEN %s AND %s",
            node_name, cut + 1_000_000, healed,
        )  # fmt: skip
        if fenced:
            figures.problems.append(f"{name} fenced {fenced} messages while it had no database")
        open_ends = "SELECT count(*) FROM attempt WHERE node = %s AND fenced_at < %s AND outcome IS NULL"
        deadline = time.monotonic() + 15
        while (left := self._one(open_ends, node_name, cut)) and time.monotonic() < deadline:
            time.sleep(0.3)
        if left:
            figures.problems.append(f"{name} has {left} fences of before the cut still open 15 s after it is back")
        outcomes = self.database.execute(
            "SELECT outcome, count(*) FROM attempt WHERE node = %s AND fenced_at < %s AND ended_at >= %s GROUP BY outcome",
            node_name, cut, cut, database="bridge",
        )  # fmt: skip
        found = {str(outcome): int(str(count)) for outcome, count in outcomes}
        return (
            f"{name} cut off for {(healed - cut) / 1e6:.0f} s, ready {(back - healed) / 1e6:.1f} s after; fenced meanwhile 0; "
            f"of what it had fenced: {found or 'all was recorded before'}"
        )

    def ready(self, name: str) -> tuple[int, list[str]]:
        try:
            answer = requests.get(f"http://{self.hosts.address(name, 'out')}:{HEALTH}/readyz", timeout=15)
            return answer.status_code, list(answer.json()["problems"])
        except requests.RequestException as error:
            return 0, [type(error).__name__]

    def _now(self) -> int:
        """The database's clock, which is this machine's."""
        return time.time_ns() // 1000

    def _one(self, query: str, *values: object) -> int:
        return int(str(self.database.execute(query, *values, database="bridge")[0][0]))

    # --- the end ---------------------------------------------------------------------------------------------------

    def judge(self, figures: Figures) -> None:
        """As after kills: quiet, a person looks after what no phone shows, quiet, verdict, ledger."""
        begun = time.monotonic()
        self.world.whatsapp.delete("faults")
        self._quiet(figures)
        shown = {post.message for post in history.read(self.folder).posts}
        listed = json.loads(self.world.cli("doubts", "--json"))
        open_ends = {row["id"].removeprefix("msg_") for row in listed}
        figures.unknown = len(open_ends)
        for message in sorted(open_ends & shown):
            figures.problems.append(f"msg_{message} is on the phone and still in doubt")
        if lost := sorted(open_ends - shown):
            self.notes.write("resent", messages=[f"msg_{message}" for message in lost], at=time.time())
            self.world.cli("doubts", "resend", *(f"msg_{message}" for message in lost))
            self._quiet(figures)
        figures.settle = time.monotonic() - begun
        figures.verdict = checker.judge(history.read(self.folder))
        self.ledger(figures)
        for name, node in self.nodes.items():
            if node.stop() != 0:
                figures.problems.append(f"{name}: SIGTERM did not end it with 0")


def run(
    folder: Path, *, seed: int, nodes: int = 3, seconds: float = 20.0, long_cut: bool = True, rate: float = 8.0,
    say: Callable[[str], None] = print,
) -> list[Figures]:  # fmt: skip
    """Kills, a rolling restart, a crash of the database and partitions, one after the other under load; judged at the end."""
    names = ["db", *(f"n{i + 1}" for i in range(nodes))]
    figures = Figures(f"{nodes} nodes on hosts of their own, seed {seed}")
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts(names))
        database = Server(hosts.address("db", "db"), 5432, hosts.before("db"))
        stack.callback(database.close)
        database.create()
        cluster = stack.enter_context(Cluster(folder, hosts, database, seed=seed, rate=rate))
        with cluster.at_work():
            time.sleep(seconds / 2)
            steps: list[tuple[str, Callable[[], Any]]] = [
                ("kill -9 of a node", lambda: cluster.kill_one(figures, 2.0)),
                ("kill -9 of a node, away for good long", lambda: cluster.kill_one(figures, seconds)),
                ("rolling restart", lambda: cluster.roll(figures)),
                ("the database crashes", lambda: cluster.crash_database(3.0)),
                ("partition, shorter than a lease", lambda: cluster.part(figures, TAKES + 5)),
                *([("partition, longer", lambda: cluster.part(figures, LEASE + 20))] if long_cut else []),
            ]
            for name, step in steps:
                begun = time.monotonic()
                found = step()
                say(f"  {name}: {time.monotonic() - begun:.0f} s{'; ' + found if found else ''}")
                time.sleep(seconds / 4)
        cluster.judge(figures)
    say(str(figures))
    for each in (*figures.problems, *figures.verdict.findings):
        say(f"  {each}")
    return [figures]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of load around each thing that happens")
    parser.add_argument("--rate", type=float, default=8.0, help="acts of the load a second")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    if reason := possible():
        print(f"skipped: {reason}")
        return 77
    folder = given.folder or Path(tempfile.mkdtemp(prefix="bridge-cluster-"))
    found = run(
        folder, seed=given.seed, nodes=given.nodes, seconds=given.seconds, rate=given.rate,
        say=lambda line: print(line, flush=True),
    )  # fmt: skip
    good = all(figures.good for figures in found)
    if good and given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"journals, acknowledgements and logs: {folder}")
    return 0 if good else 4


if __name__ == "__main__":
    sys.exit(main())
