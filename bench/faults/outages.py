"""Ways in which a store is there and cannot commit, each put right again: crash, disk full, read-only, a lock somebody holds.

Each is a context manager that returns with the store away and leaves with it back. `commits`: whether the engine can
commit meanwhile (then 200 is right).
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from bench import stores
from bridge.sandbox.world import World

DISK = 96  # MB of the small disk
Hold = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Outage:
    name: str
    seconds: float  # for which it is away
    away: Callable[[World], AbstractContextManager[None]]
    commits: bool = False
    small_disk: bool = False


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@contextmanager
def stopped(_: World) -> Iterator[None]:
    """Crashed (immediate shutdown), and started again: recovery from its log."""
    stores.halt()
    try:
        yield
    finally:
        stores.revive()


@contextmanager
def cut_again_and_again(world: World) -> Iterator[None]:
    """Every connection ended; the server lives, so what commits in between is acknowledged."""
    stores.cut(world.store)
    yield
    stores.cut(world.store)


@contextmanager
def read_only(world: World) -> Iterator[None]:
    """What a node finds that has come to a standby: it may read, and write nothing."""
    name = make_url(world.store).database
    with stores.admin() as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    stores.cut(world.store)
    try:
        yield
    finally:
        with stores.admin() as connection:
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        stores.cut(world.store)  # a promotion ends the standby's sessions, as does a proxy


@contextmanager
def locked(world: World) -> Iterator[None]:
    """Somebody's open transaction holds the inbox against writers."""
    with stores.admin(str(make_url(world.store).database)) as connection:
        connection.autocommit = False
        connection.execute("LOCK TABLE inbox IN SHARE MODE")
        yield
        connection.rollback()


@contextmanager
def open_snapshot(world: World) -> Iterator[None]:
    """Somebody's open transaction has read, and holds its snapshot: nothing may be cleaned up meanwhile."""
    with stores.admin(str(make_url(world.store).database)) as connection:
        connection.autocommit = False
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM inbox")
        yield
        connection.rollback()


# --- SQLite ----------------------------------------------------------------------------------------------------------


@contextmanager
def write_locked(world: World) -> Iterator[None]:
    """Another program has begun to write, and does not end."""
    with contextlib.closing(
        sqlite3.connect(str(make_url(world.store).database), isolation_level=None, timeout=30)
    ) as held:
        held.execute("BEGIN IMMEDIATE")
        yield
        held.execute("ROLLBACK")


@contextmanager
def reading(world: World) -> Iterator[None]:
    """Another program reads in one long transaction: the log cannot be brought home meanwhile."""
    with contextlib.closing(sqlite3.connect(str(make_url(world.store).database), isolation_level=None)) as held:
        held.execute("BEGIN")
        held.execute("SELECT count(*) FROM inbox").fetchone()
        yield
        held.execute("ROLLBACK")


# --- a disk of its own, small enough to fill -------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A RAM disk of `DISK` MB at this folder. Needs root, as a container on a CI machine has."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=0700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a server may still hold its files for a moment


@contextmanager
def full(world: World) -> Iterator[None]:
    """Not a byte is left on the disk of the store."""
    filler = world.folder / "data" / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    try:
        yield
    finally:
        filler.unlink()


def of(kind: str, *, short: bool) -> list[Outage]:
    """All of this store's; `short` for a look in passing."""
    long = 10.0 if short else 60.0
    some = 10.0 if short else 20.0
    disk = Outage("disk full", some, full, small_disk=True)
    if kind == "sqlite":
        return [
            disk,
            Outage("another program's write lock", long, write_locked),
            Outage("another program's open reading", long, reading, commits=True),
        ]
    return [
        Outage("crash and restart", 0.0, stopped),
        Outage("failover gap", 10.0 if short else 30.0, stopped),
        Outage("connections cut", some, cut_again_and_again, commits=True),
        disk,
        Outage("read-only", some, read_only),
        Outage("open transaction that locks the inbox", long, locked),
        Outage("open transaction that has read", long, open_snapshot, commits=True),
    ]
