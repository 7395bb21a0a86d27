"""One database, two engines: SQLite (embedded) and PostgreSQL, opened the same way and spoken to in the same statements.

SQLite has one write connection behind a lock in which the doors' commit goes first; reads use WAL snapshots of their
own. PostgreSQL has a pool. `now` is the machine clock: the database's own on PostgreSQL, anchored wall time on SQLite.
"""

from __future__ import annotations

import fcntl
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pysqlite3.dbapi2
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool, StaticPool

from bridge.errors import StoreLocked
from bridge.ledger.clock import MachineClock

MAX_DRIFT = 2_000_000  # µs a node's clock may be off the database's: beyond it the node claims nothing and says so
_PG_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
READERS = 12  # SQLite connections kept for reading: opening one costs more than most reads
IDLE_IN_TRANSACTION = 10_000  # ms; between two statements of ours lie milliseconds
LOCK_WAIT = 10_000  # ms
STATEMENT = 60_000  # ms; the longest of ours take some tens
SILENCE = 10_000  # ms in which bytes on the way to the other side are not acknowledged: it is gone
RESTED = 1.0  # seconds after which a PostgreSQL connection is asked whether it is still there


def passing(error: BaseException) -> bool:
    """Whether it was the database and not the rows: connection, lock, deadlock, disk, a store that may only be read.

    The same rows may do in a moment; for every other error one of them is to blame, and it will be again.
    """
    if isinstance(error, OperationalError | InternalError | InterfaceError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _connection(*, patient: bool) -> dict[str, Any]:
    """How a connection to PostgreSQL behaves when the other side is gone, slow or in the way.

    `patient`: verbs that only look may count ten million rows.
    """
    own = {
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,  # a node that is cut off lets go of its locks
        "lock_timeout": LOCK_WAIT,
        "statement_timeout": 0 if patient else STATEMENT,
        "tcp_user_timeout": SILENCE,  # the server's side of a connection whose other end says nothing any more
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        "jit": "off",  # compiling a plan costs more than the rows we ask for
    }
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in own.items()),
        "connect_timeout": 5,  # s, for each host of the URL
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENCE,  # our side: a query is not waited for in a quarter of an hour of silence
        "application_name": "bridge",
    }


class _PriorityLock:
    """A lock whose urgent waiters are served before all others."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._held = False
        self._urgent = 0
        self._waiting = 0

    def acquire(self, *, urgent: bool) -> None:
        with self._condition:
            self._waiting += 1
            self._urgent += urgent
            try:
                while self._held or (self._urgent and not urgent):
                    self._condition.wait()
            finally:
                self._waiting -= 1
                self._urgent -= urgent
            self._held = True

    def release(self) -> None:
        with self._condition:
            self._held = False
            if self._waiting:
                self._condition.notify_all()


def _ping_idle(engine: Engine) -> None:
    """Ask a connection that has rested whether it is still there; one that was just in use is known to be.

    `pool_pre_ping` asks before every transaction: a round trip more for each group commit.
    """

    def rests(_: Any, record: Any) -> None:
        record.info["rests_since"] = time.monotonic()

    def leaves(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < RESTED:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise DisconnectionError from error  # the pool opens another

    event.listen(engine, "checkin", rests)
    event.listen(engine, "checkout", leaves)


class Store:
    """The ledger's database.

    Args:
        url: `sqlite:///path/bridge.db` or `postgresql+psycopg://…`.
        readonly: verbs that only look: SQLite is opened `mode=ro` with `query_only`.
    """

    def __init__(self, url: str, *, readonly: bool = False, pool: int = 10) -> None:
        self.url: URL = make_url(url)
        self.dialect: str = self.url.get_backend_name()
        self.readonly = readonly
        self._machine = MachineClock()
        self._lock = _PriorityLock()
        self._lock_file: IO[str] | None = None
        if self.dialect == "sqlite":
            if not readonly:
                Path(str(self.url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write_engine: Engine = self._sqlite(StaticPool, readonly=False)
            self._read_engine: Engine = self._sqlite(QueuePool, readonly=True)
        else:
            self._write_engine = self._read_engine = create_engine(
                self.url,
                pool_size=pool,
                max_overflow=4,
                pool_use_lifo=True,  # what is seldom needed rests, and is closed by nobody's surprise
                hide_parameters=True,
                connect_args=_connection(patient=readonly),
            )
            _ping_idle(self._write_engine)

    def _sqlite(self, poolclass: type[Any], *, readonly: bool) -> Engine:
        path = Path(str(self.url.database)).absolute()
        address = f"file:{path}?mode=ro" if readonly else f"file:{path}"

        def connect() -> Any:
            connection = pysqlite3.dbapi2.connect(
                address, uri=True, timeout=10, isolation_level=None, check_same_thread=False, cached_statements=512
            )
            cursor = connection.cursor()
            if readonly:
                cursor.execute("PRAGMA query_only=ON")
            else:
                cursor.execute("PRAGMA journal_mode=WAL")
                cursor.execute("PRAGMA synchronous=FULL")
                cursor.execute("PRAGMA wal_autocheckpoint=4000")
            cursor.execute(f"PRAGMA cache_size={-500 if readonly else -8000}")  # kB; readers are many
            cursor.execute("PRAGMA temp_store=MEMORY")
            cursor.close()
            return connection

        engine = create_engine(
            "sqlite://", creator=connect, module=pysqlite3.dbapi2, poolclass=poolclass, hide_parameters=True,
            **({"pool_size": READERS} if poolclass is QueuePool else {}),
        )  # fmt: skip
        begin = "BEGIN" if readonly else "BEGIN IMMEDIATE"
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin) and None)
        return engine

    # --- transactions ----------------------------------------------------------------------------------------------

    @contextmanager
    def write(self, *, urgent: bool = False) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises. Keep it short: no network call,
        no mapping, no decryption inside. `urgent` is the doors' commit."""
        if self.dialect != "sqlite":
            with self._write_engine.begin() as connection:
                yield connection
            return
        self._lock.acquire(urgent=urgent)
        try:
            with self._write_engine.begin() as connection:
                yield connection
        finally:
            self._lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read from; nothing is locked."""
        with self._read_engine.connect() as connection:
            yield connection

    def now(self, connection: Connection | None = None) -> int:
        """Machine time in microseconds; on PostgreSQL the database's own where a connection is at hand."""
        if self.dialect == "sqlite" or connection is None:
            return self._machine.now_us()
        return int(connection.execute(_PG_NOW).scalar_one())

    def drift(self) -> int:
        """This node's clock minus the database's, in microseconds; 0 on SQLite."""
        if self.dialect == "sqlite":
            return 0
        with self.read() as connection:
            return self._machine.now_us() - int(connection.execute(_PG_NOW).scalar_one())

    # --- one engine per SQLite store -------------------------------------------------------------------------------

    def lock(self, folder: Path, name: str = "engine") -> None:
        """Take the lock `<name>.lock` in the data folder.

        Raises: StoreLocked when another process has it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.lock"
        handle = path.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise StoreLocked(f"another engine holds {path}") from None
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        self._lock_file = handle

    def close(self) -> None:
        self._read_engine.dispose()
        if not self.readonly:
            self._write_engine.dispose()  # last: SQLite's last connection brings the WAL home, and a reader may not
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None
