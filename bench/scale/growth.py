"""What a message costs as rows grow, and as nodes grow.

    python -m bench.scale.growth --store postgresql --sizes 0,100000,1000000 --count 400 [--json out.json]
    python -m bench.scale.growth --nodes 1,2,4

A size is the number of old messages; a tenth of it are lanes asleep and reminders armed (10 M: 1 M and 1 M). At each size the
engine runs idle for a while, then carries `--count` appointments through to the last status and the last Communication. CPU is
what is compared: it is steady on a machine that others use too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench import machine, scenes, stores
from bench.scale.fill import Size, bytes_of, fill
from bench.scale.nodes import Node, config_for
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.sandbox.world import free_port

IDLE = 12.0  # seconds
WARM = 60  # messages before anything is measured
LARGE = 20_000  # old messages; of smaller tables PostgreSQL rightly walks the one page there is


def size_of(old: int) -> Size:
    return Size(old // 10, old // 10, old)


class Stage(scenes.Stage):
    """One world; its engine is one process or several nodes that share the doors' port."""

    def __init__(self, folder: Path, kind: str, people: int) -> None:
        super().__init__(folder, kind, scenes.PROFILES["complete"], people)
        self.folder = folder
        self.further: list[Node] = []

    def start(self, nodes: int = 1) -> None:
        self.world.start_engine()
        doors = self.world.doors.removeprefix("http://")
        for n in range(1, nodes):
            place = self.folder / f"node{n}"
            config = config_for(self.world.config, place, doors=doors, console=f"127.0.0.1:{free_port()}")
            self.further.append(Node(place, config, self.world.environment).start())
        if nodes > 1:
            time.sleep(5)  # they have heard of each other

    def stop(self) -> None:
        for node in self.further:
            node.stop()
        self.further.clear()
        self.world.stop_engine()

    def used(self) -> machine.Used:
        one = super().used()
        others = [machine.used(node.pid) for node in self.further]
        return machine.Used(
            one.cpu + sum(each.cpu for each in others), one.rss + sum(each.rss for each in others), one.peak
        )

    def close(self) -> None:
        self.stop()
        super().close()


def idle(stage: Stage) -> dict[str, float]:
    """CPU of looking when there is nothing to do, in ms a second."""
    engine, store = stage.used().cpu, stage.store_cpu()
    time.sleep(IDLE)
    return {
        "idle_engine": (stage.used().cpu - engine) / IDLE * 1000,
        "idle_store": (stage.store_cpu() - store) / IDLE * 1000,
    }


def walks(store: Store) -> dict[str, int]:
    """PostgreSQL: table -> rows that were read by walking whole tables. Nothing the loops ask may grow with these."""
    if store.dialect == "sqlite":
        return {}
    with store.read() as connection:
        rows = connection.execute(text("SELECT relname, seq_tup_read FROM pg_stat_user_tables"))
        return {row[0]: int(row[1]) for row in rows}


def rows(kind: str, olds: list[int], count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One store that grows."""
    folder = Path(tempfile.mkdtemp(prefix="bridge-growth-"))
    stage = Stage(folder, kind, len(olds) * (count + WARM) + 10)
    found: list[dict[str, Any]] = []
    try:
        have, first = Size(0, 0, 0), 1
        for old in olds:
            store = Store(stage.world.store)
            migrate(store)
            want = size_of(old)
            seconds = fill(store, have, want)
            have = want
            before = walks(store)
            stage.start()
            quiet = idle(stage)
            scenes.whole(stage, first, WARM, 100)
            first += WARM
            figures = scenes.whole(stage, first, count, 100)
            first += count
            after = walks(store)
            walked = {t: n - before.get(t, 0) for t, n in after.items() if old >= LARGE and n - before.get(t, 0) > old}
            stage.stop()
            found.append(
                {"store": kind, "nodes": 1, "old": old, "lanes": want.lanes, "reminders": want.reminders}
                | {"mb": bytes_of(store) >> 20, "fill_s": seconds, "walked": walked}
                | {"load": machine.load()} | quiet
                | {name: figures[name] for name in ("whole_cpu_ms", "whole_store_cpu_ms", "whole_s", "rss_mb")}
            )  # fmt: skip
            store.close()
            say(line(found[-1]))
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
        stores.stop()
    return found


def by_nodes(counts: list[int], count: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """One PostgreSQL, several nodes, on the same cores."""
    folder = Path(tempfile.mkdtemp(prefix="bridge-nodes-"))
    stage = Stage(folder, "postgresql", len(counts) * (count + WARM) + 10)
    found: list[dict[str, Any]] = []
    try:
        first = 1
        for nodes in counts:
            stage.start(nodes)
            quiet = idle(stage)
            scenes.whole(stage, first, WARM, 100)
            first += WARM
            figures = scenes.whole(stage, first, count, 100)
            first += count
            connections = stage.count("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bridge'")
            stage.stop()
            found.append(
                {"store": "postgresql", "nodes": nodes, "old": 0, "lanes": 0, "reminders": 0, "mb": 0, "walked": {}}
                | {"load": machine.load(), "connections": connections} | quiet
                | {name: figures[name] for name in ("whole_cpu_ms", "whole_store_cpu_ms", "whole_s", "rss_mb")}
            )  # fmt: skip
            say(line(found[-1]))
    finally:
        stage.close()
        shutil.rmtree(folder, ignore_errors=True)
        stores.stop()
    return found


def line(one: dict[str, Any]) -> str:
    what = (
        f"{one['nodes']} node(s)" if not one["mb"] or one["nodes"] > 1 else f"{size_of(one['old'])} ({one['mb']:,} MB)"
    )
    walked = f"; walked: {one['walked']}" if one["walked"] else ""
    return (
        f"{one['store']}, {what}: {one['whole_cpu_ms']:.2f} + {one['whole_store_cpu_ms']:.2f} ms CPU a message "
        f"(engine + store), {one['whole_s']:.0f}/s, idle {one['idle_engine']:.0f} + {one['idle_store']:.0f} ms/s, "
        f"{one['rss_mb']:.0f} MB, load {one['load']:.0f}{walked}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=(*stores.KINDS, "both", "none"), default="both")
    parser.add_argument("--sizes", default="0,100000,1000000", help="old messages, with commas")
    parser.add_argument("--nodes", default="", help="numbers of nodes, with commas")
    parser.add_argument("--count", type=int, default=400, help="messages measured at each size")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found: list[dict[str, Any]] = []

    def say(text: str) -> None:
        print(text, flush=True)

    for kind in stores.KINDS if given.store == "both" else () if given.store == "none" else (given.store,):
        found += rows(kind, [int(size) for size in given.sizes.split(",")], given.count, say)
    if given.nodes:
        found += by_nodes([int(count) for count in given.nodes.split(",")], given.count, say)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
