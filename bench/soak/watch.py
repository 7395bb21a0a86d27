"""Looking on while a soak runs: what waits in the store, what the engine's process holds, how large the tables are.

Nothing here is asked by the judge. A look that fails because the database is just being crashed is left out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from bench import machine
from bridge.sandbox.world import World

WAITING = {  # :soon is two minutes from now, microseconds: a reminder in a week is not waited for
    "events": "SELECT count(*) FROM inbox WHERE fate IS NULL",
    "messages": "SELECT count(*) FROM outbox WHERE state IN ('ready', 'sending')"
    " OR (state = 'planned' AND (not_before IS NULL OR not_before < :soon))",
    "writes": "SELECT count(*) FROM write WHERE state IN ('asked', 'sending') AND next_at < :soon",
    "doubts": "SELECT count(*) FROM outbox WHERE state IN ('doubt', 'held')",
}


@dataclass(slots=True)
class Store:
    """The store as a bystander sees it."""

    url: str
    _engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self._engine = create_engine(self.url, pool_pre_ping=True)

    def one(self, sql: str, **values: Any) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(sql), values).scalar_one() or 0)

    def waiting(self) -> dict[str, int]:
        soon = int((time.time() + 120) * 1_000_000)
        return {name: self.one(sql, **({"soon": soon} if ":soon" in sql else {})) for name, sql in WAITING.items()}

    def ids(self, sql: str) -> list[int]:
        with self._engine.connect() as connection:
            return [int(row[0]) for row in connection.execute(text(sql))]

    def connections(self) -> int:
        """Of everybody but ourselves to this database; SQLite has none."""
        if self._engine.dialect.name == "sqlite":
            return 0
        return self.one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def close(self) -> None:
        self._engine.dispose()


def sizes(url: str) -> dict[str, tuple[float, float]]:
    """Table -> MB as it is (indexes and TOAST included), MB once rewritten: the live size. Changes the store's files.

    SQLite has one file: pages as they are, and as a copy by VACUUM INTO has them.
    """
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    found: dict[str, tuple[float, float]] = {}
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                page = int(connection.execute(text("PRAGMA page_size")).scalar_one())
                before = int(connection.execute(text("PRAGMA page_count")).scalar_one()) * page
                path = Path(str(engine.url.database))
                copy = path.with_suffix(".copy")
                connection.execute(text("VACUUM INTO :path"), {"path": str(copy)})
                found["bridge.db"] = (before / 2**20, copy.stat().st_size / 2**20)
                copy.unlink()
                return found
            tables = [str(row[0]) for row in connection.execute(text("SELECT relname FROM pg_stat_user_tables"))]
            for table in tables:
                size = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
                before = int(connection.execute(size, {"name": table}).scalar_one())
                connection.execute(text(f'VACUUM FULL "{table}"'))
                found[table] = (
                    before / 2**20,
                    int(connection.execute(size, {"name": table}).scalar_one()) / 2**20,
                )
    finally:
        engine.dispose()
    return found


@dataclass(slots=True)
class Watch:
    """`look` appends one sample, as a dictionary of figures, to `samples` and to samples.jsonl."""

    world: World
    store: Store
    folder: Path
    samples: list[dict[str, Any]] = field(default_factory=list)
    begun: float = field(default_factory=time.time)

    def look(self, extra: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {"at": round(time.time() - self.begun, 1), "load": round(machine.load(), 2)}
        found |= extra()
        engine = self.world.engine
        if engine is not None:
            found |= process(engine.pid)
        for name, pretend in (("ehr", self.world.ehr), ("whatsapp", self.world.whatsapp)):
            try:
                found[f"{name}_rss"] = round(machine.used(pretend.process.pid).rss)
            except (FileNotFoundError, ProcessLookupError):
                continue
        try:
            found |= self.store.waiting()
            found["connections"] = self.store.connections()
        except DBAPIError:
            found["store"] = "away"
        self.samples.append(found)
        with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        return found


def process(pid: int) -> dict[str, Any]:
    """Memory (MB), open files and threads of a process; empty when it has just died."""
    try:
        used = machine.used(pid)
        files = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return {"pid": pid, "rss": round(used.rss, 1), "cpu": round(used.cpu, 1), "files": files, "threads": threads}
