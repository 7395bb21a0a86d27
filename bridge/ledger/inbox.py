"""The one door into the ledger: many requests, one commit, and nobody is answered before it.

Who brings a request hashes and encrypts its rows; one writer thread takes what waits, drops what the sender has sent
before (`seen`), commits all of it at once, and says so to everyone who brought something. Nobody's thread waits.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from bridge.errors import StoreBusy
from bridge.ledger import audit, faults
from bridge.ledger.clock import Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.store import Store

log = logging.getLogger(__name__)

STATUS_KEYS = " status"  # ends the source of a status's key in `seen`
MAX_ROWS = 2000  # of one commit: bounds how long the write connection is held
WAIT = 8.0  # seconds a door waits for its commit before it answers 503
POISON = "the store does not take it: report it with this event's id"
TICK = 0.5  # seconds between looks at who has waited too long
CHUNK = 300  # rows of one multi-row statement: SQLite allows 32,766 parameters


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as a door hands it over."""

    source: str
    door: str
    kind: str  # notification, hint, message, status, account
    body: bytes
    key: str | None = None  # in clear: "conversation|…" or "resource|…"; stored as a blind index
    subject: str | None = None
    sender_key: str | None = None  # what the sender guarantees to be unique, in clear
    fate: str | None = None  # known at the door: a handshake, a foreign number, something unusable
    reason: str | None = None


_COLUMNS = (
    "id", "source", "door", "kind", "key", "subject", "received_at", "key_id", "body", "fate", "planned", "reason",
    "config_version", "settled_at",
)  # fmt: skip
_values = itemgetter(*_COLUMNS)


Done = Callable[[BaseException | None], None]


@dataclass(slots=True)
class _Request:
    rows: list[dict[str, object]]
    seen: list[tuple[str, bytes] | None]
    done: Done | None = None  # told once: None when it is durable, else what came between
    until: float = math.inf  # monotonic seconds: later than this nobody waits for it
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, error: BaseException | None) -> None:
        """Tell whoever waits; who comes second (the writer, or the clock) says nothing."""
        with self.lock:
            done, self.done = self.done, None
        if done is None:
            return
        if error is None:
            faults.point("after_commit_before_answer")
        try:
            done(error)
        except Exception:  # one that cannot be told must not keep the others of its commit from hearing
            log.exception("who brought a request could not be told of its end")

    def end(self, error: BaseException | None) -> None:
        """The writer is done with it: told, and its bodies are let go, though the clock looks at it once more."""
        self.settle(error)
        self.rows, self.seen = [], []


def seen_source(entry: Entry) -> str:
    """Statuses apart from the rest: their keys are kept for days, not for a year (`retention`)."""
    return f"{entry.source}{STATUS_KEYS}" if entry.kind == "status" else entry.source


class Inbox:
    """Group commit of the doors."""

    def __init__(
        self, store: Store, crypto: Crypto, ids: Ids, config_version: str, committed: Callable[[], None]
    ) -> None:
        self._store = store
        self._crypto = crypto
        self._ids = ids
        self.config_version = config_version
        self._committed = committed
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: deque[_Request] = deque()  # in the order they came, so in the order their time is up
        self._thread = threading.Thread(target=self._run, name="inbox-writer", daemon=True)
        self._watch = threading.Thread(target=self._look_at_the_clock, name="inbox-clock", daemon=True)
        self._stopped = threading.Event()
        self._open = True

    def start(self) -> None:
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        """Finish what waits, refuse what comes."""
        self._open = False
        self._queue.put(None)
        self._thread.join(WAIT)
        self._stopped.set()

    def say_version(self, config_version: str) -> None:
        """What rows are stamped with from now on: the configuration was changed while we run."""
        self.config_version = config_version

    def submit(self, entries: Sequence[Entry], done: Done) -> None:
        """Have every entry committed; `done` is called once, from another thread, with None when they are durable, or with
        what came between: the sender is told to come again. It must not wait for anything."""
        if not self._open:
            done(StoreBusy("the engine is shutting down"))
            return
        request = self._prepare(entries)
        request.done, request.until = done, time.monotonic() + WAIT
        faults.point("door_before_commit")
        self._waiting.append(request)
        self._queue.put(request)

    def append(self, entries: Sequence[Entry]) -> None:
        """Returns when every entry is durable.

        Raises: StoreBusy when that could not be had in time; the caller answers 503.
        """
        ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.submit(entries, ended.put)
        try:
            error = ended.get(timeout=WAIT)
        except queue.Empty:
            raise StoreBusy(f"no commit within {WAIT:g} s") from None
        if error is not None:
            raise StoreBusy(str(error) if isinstance(error, StoreBusy) else type(error).__name__) from error

    def _look_at_the_clock(self) -> None:
        """A store that hangs keeps the writer; those who wait are told in time all the same."""
        while not self._stopped.wait(TICK) or self._waiting:
            now = math.inf if self._stopped.is_set() else time.monotonic()
            while self._waiting and (self._waiting[0].done is None or self._waiting[0].until <= now):
                self._waiting.popleft().settle(StoreBusy(f"no commit within {WAIT:g} s"))

    def _prepare(self, entries: Sequence[Entry]) -> _Request:
        now = self._store.now()
        rows: list[dict[str, object]] = []
        seen: list[tuple[str, bytes] | None] = []
        for entry in entries:
            row = self._ids()
            rows.append(
                {
                    "id": row,
                    "source": entry.source,
                    "door": entry.door,
                    "kind": entry.kind,
                    "key": self._crypto.index(entry.key) if entry.key is not None else None,
                    "subject": self._crypto.index(entry.subject) if entry.subject is not None else None,
                    "received_at": now,
                    "key_id": self._crypto.key_id,
                    "body": self._crypto.encrypt(entry.body, "inbox", "body", row),
                    "fate": entry.fate,
                    "planned": None,
                    "reason": entry.reason,
                    "config_version": self.config_version,
                    "settled_at": now if entry.fate is not None else None,
                }
            )
            seen.append(
                (seen_source(entry), self._crypto.index16(f"seen|{entry.sender_key}"))
                if entry.sender_key is not None
                else None
            )
        return _Request(rows, seen)

    # --- the writer ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, size, last = [first], len(first.rows), False
            while size < MAX_ROWS:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                batch.append(following)
                size += len(following.rows)
            try:
                self._commit(batch)
            except Exception:  # without this thread both doors answer 503 for good
                log.exception("a group commit ended in a way that nobody thought of")
            if last:
                return

    def _commit(self, batch: list[_Request]) -> None:
        try:
            with self._store.write(urgent=True) as connection:
                self._write(connection, batch)
        except Exception as error:  # the thread must outlive anything
            log.warning("group commit failed", extra={"error": type(error).__name__, "requests": len(batch)})
            if len(batch) > 1 and not getattr(error, "connection_invalidated", False):
                for request in batch:  # one of them may be to blame: the others must not pay
                    self._commit([request])
                return
            if len(batch) == 1 and _to_blame(error) and self._commit_by_row(batch[0]):
                return
            for request in batch:
                request.end(error)
            return
        self._committed()
        for request in batch:
            request.end(None)

    def _commit_by_row(self, request: _Request) -> bool:
        """A request that the store takes in no other way: row by row, and the one that fails becomes unusable."""
        for row, key in zip(request.rows, request.seen, strict=True):
            plain = row | {
                "key": None, "subject": None, "fate": "unusable", "reason": POISON, "settled_at": row["received_at"],
            }  # fmt: skip
            for attempt, seen in ((row, key), (plain, None)):
                try:
                    with self._store.write(urgent=True) as connection:
                        self._write(connection, [_Request([attempt], [seen])])
                        if attempt is plain:
                            audit.record(
                                connection, row=self._ids(), at=self._store.now(), action=audit.ALARM,
                                subject=f"evt_{row['id']}", detail={"why": POISON},
                            )  # fmt: skip
                    break
                except Exception as error:
                    log.warning("a row could not be stored", extra={"error": type(error).__name__})
                    if attempt is plain or not _to_blame(error):
                        return False
        self._committed()
        request.end(None)
        return True

    def _write(self, connection: Connection, batch: list[_Request]) -> None:
        now = self._store.now()  # this node's: reads of the EHR, which answer these rows, are timed by it too
        keys = {key for request in batch for key in request.seen if key is not None}
        fresh = insert_seen(connection, sorted(keys), now)
        rows: list[dict[str, object]] = []
        for request in batch:
            for row, key in zip(request.rows, request.seen, strict=True):
                row["received_at"] = now  # as the audit entry that counts it: `bridge ledger --since` cuts both alike
                if key is None:
                    rows.append(row)
                elif key in fresh:
                    fresh.discard(key)  # the same key twice in one batch: the first one counts
                    rows.append(row)
        if rows:
            marks = ", ".join([_mark(connection)] * len(_COLUMNS))
            statement = f"INSERT INTO inbox ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608
            connection.exec_driver_sql(statement, [_values(row) for row in rows])
            audit.record(connection, row=self._ids(), at=now, action=audit.ACKNOWLEDGED, count=len(rows))
        faults.point("door_in_commit")


def _mark(connection: Connection) -> str:
    """How the driver marks a value's place."""
    return "?" if connection.dialect.name == "sqlite" else "%s"


def _to_blame(error: Exception) -> bool:
    """Whether a row may be at fault; a store that is away, full, locked or read-only says so in other words."""
    return not isinstance(error, OperationalError | InterfaceError | InternalError) and not (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def insert_seen(connection: Connection, keys: Sequence[tuple[str, bytes]], now: int) -> set[tuple[str, bytes]]:
    """Insert what is not there yet; returns what was new. Sorted keys: two nodes lock in one order.

    In the driver's own words: parsing a text of 600 bind names took most of a group commit.
    """
    mark = _mark(connection)
    fresh: set[tuple[str, bytes]] = set()
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        marks = ", ".join([f"({mark}, {mark}, {mark})"] * len(chunk))
        statement = f"INSERT INTO seen (source, key, at) VALUES {marks} ON CONFLICT DO NOTHING RETURNING source, key"  # noqa: S608
        parameters = tuple(value for source, key in chunk for value in (source, key, now))
        fresh.update((row[0], bytes(row[1])) for row in connection.exec_driver_sql(statement, parameters))
    return fresh
