"""The doors' commit: many requests, one transaction; nobody is answered before it; nothing is counted that is not there."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError, OperationalError

from bridge.errors import StoreBusy
from bridge.ledger import inbox as module
from bridge.ledger.audit import ACKNOWLEDGED
from bridge.ledger.inbox import Entry, Inbox
from bridge.ledger.tables import audit, inbox, seen
from tests.ledger.kit import Ledger


def entry(body: bytes = b"{}", **changes: object) -> Entry:
    return Entry(**({"source": "app:hospital", "door": "front_desk", "kind": "message", "body": body} | changes))  # type: ignore[arg-type]


@pytest.fixture
def door(ledger: Ledger) -> Iterator[Inbox]:
    opened = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    opened.start()
    yield opened
    opened.stop()


def counted(ledger: Ledger) -> tuple[int, int, int]:
    """Rows of `inbox`, what `audit` says was acknowledged, and in how many commits."""
    with ledger.store.read() as connection:
        rows = connection.execute(select(func.count()).select_from(inbox)).scalar_one()
        said = connection.execute(
            select(func.coalesce(func.sum(audit.c.count), 0), func.count()).where(audit.c.action == ACKNOWLEDGED)
        ).one()
    return int(rows), int(said[0]), int(said[1])


def test_many_requests_share_commits(ledger: Ledger, door: Inbox) -> None:
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: door.append([entry(b"%d" % i)]), range(400)))
    rows, said, commits = counted(ledger)
    assert (rows, said) == (400, 400)
    assert commits < 200, "requests that wait together are committed together"


def test_everything_waiting_is_one_commit(ledger: Ledger) -> None:
    """Deterministic: twenty requests queue before the writer runs."""
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(door.append, [entry(), entry()]) for _ in range(20)]
        while door._queue.qsize() < 20:
            pass
        assert counted(ledger) == (0, 0, 0)
        assert not any(one.done() for one in waiting), "nobody is answered before the commit"
        door.start()
        for one in waiting:
            one.result(10)
    door.stop()
    assert counted(ledger) == (40, 40, 1)


def test_what_the_sender_repeats_counts_once(ledger: Ledger, door: Inbox) -> None:
    door.append([entry(b"1", sender_key="w1"), entry(b"1 again", sender_key="w1"), entry(b"2", sender_key="w2")])
    door.append([entry(b"1 later", sender_key="w1"), entry(b"no key"), entry(b"no key")])
    with ledger.store.read() as connection:
        rows = connection.execute(select(inbox).order_by(inbox.c.id)).all()
        keys = connection.execute(select(func.count()).select_from(seen)).scalar_one()
    bodies = [ledger.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id) for row in rows]
    assert bodies == [b"1", b"2", b"no key", b"no key"]
    assert keys == 2
    assert counted(ledger)[:2] == (4, 4)


def test_the_same_key_of_another_source_is_another_event(ledger: Ledger, door: Inbox) -> None:
    door.append([entry(sender_key="1"), entry(sender_key="1", source="ehr:main")])
    assert counted(ledger)[0] == 2


def test_only_repeats_leave_no_entry(ledger: Ledger, door: Inbox) -> None:
    door.append([entry(sender_key="w1")])
    door.append([entry(sender_key="w1")])
    assert counted(ledger) == (1, 1, 1)


def test_more_than_a_statement_holds(ledger: Ledger, door: Inbox) -> None:
    """A batch of Meta's is up to 1,000 updates: keys are inserted in chunks."""
    door.append([entry(b"%d" % i, sender_key=f"w{i}") for i in range(module.CHUNK * 2 + 7)])
    door.append([entry(b"%d" % i, sender_key=f"w{i}") for i in range(module.CHUNK * 2 + 8)])
    assert counted(ledger)[:2] == (module.CHUNK * 2 + 8,) * 2


def test_more_than_a_commit_holds_goes_in_two(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(door.append, [entry()] * 5) for _ in range(6)]
        while door._queue.qsize() < 6:
            pass
        door.start()
        for one in waiting:
            one.result(10)
    door.stop()
    assert counted(ledger) == (30, 30, 3)


def test_nothing_of_it_is_readable(ledger: Ledger, door: Inbox) -> None:
    """Poison and patients alike: what came from outside stands encrypted or as a blind index, never as text."""
    secret = "Ana \x00\ud800 +34612000101"
    door.append([entry(secret.encode("utf-8", "surrogatepass"), key=secret, subject=secret, sender_key=secret)])
    with ledger.store.read() as connection:
        row = connection.execute(select(inbox)).one()
        key = connection.execute(select(seen.c.key)).scalar_one()
    clear = " ".join(str(value) for value in row._mapping.values()) + repr(bytes(row.body)) + repr(bytes(key))
    assert "612000101" not in clear
    assert "Ana" not in clear
    assert row.key == ledger.crypto.index(secret)


def test_a_failed_commit_is_a_503_and_nothing_is_kept(
    ledger: Ledger, door: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(module.audit, "record", full)
    with pytest.raises(StoreBusy) as caught:
        door.append([entry(b"Ana", sender_key="w1")])
    assert "Ana" not in str(caught.value)
    monkeypatch.undo()
    assert counted(ledger) == (0, 0, 0)
    door.append([entry(b"Ana", sender_key="w1")])  # the sender comes again: its key was rolled back with the rest
    assert counted(ledger) == (1, 1, 1)


def test_one_bad_request_does_not_cost_the_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    write = Inbox._write

    def picky(self: Inbox, connection: Connection, batch: Sequence[module._Request]) -> None:
        write(self, connection, list(batch))
        if any(row["door"] == "bad" for request in batch for row in request.rows):
            raise IntegrityError("INSERT", {}, psycopg.errors.NotNullViolation())

    monkeypatch.setattr(Inbox, "_write", picky)
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(door.append, [entry()]) for _ in range(3)]
        bad = pool.submit(door.append, [entry(door="bad")])
        while door._queue.qsize() < 4:
            pass
        door.start()
        for one in good:
            one.result(10)
        with pytest.raises(StoreBusy):
            bad.result(10)
    door.stop()
    assert counted(ledger) == (3, 3, 3)


def test_one_poisoned_row_of_a_batch_is_kept_as_unusable(ledger: Ledger, door: Inbox) -> None:
    """What no text column takes on either store: the row says so, the other 200 go on, and the sender hears 200."""
    rows = [entry(b"%d" % i, sender_key=f"w{i}") for i in range(200)]
    rows[77] = entry(b"poison", sender_key="w77", fate="ignored", reason="\ud800")
    door.append(rows)
    door.append(rows[:70])
    with ledger.store.read() as connection:
        found = connection.execute(select(inbox).where(inbox.c.fate.is_not(None))).one()
        alarm = connection.execute(select(audit.c.subject).where(audit.c.action == "alarm")).scalar_one()
    assert (found.fate, found.reason) == ("unusable", module.POISON)
    assert ledger.crypto.decrypt(found.body, found.key_id, "inbox", "body", found.id) == b"poison"
    assert alarm == f"evt_{found.id}"
    assert counted(ledger)[:2] == (200, 200)


def test_the_writer_outlives_anything(ledger: Ledger, door: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Inbox, "_write", broken)
    with pytest.raises(StoreBusy):
        door.append([entry()])
    monkeypatch.undo()
    door.append([entry()])
    assert counted(ledger)[0] == 1


def test_closing_ends_what_waits_and_refuses_what_comes(ledger: Ledger) -> None:
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(door.append, [entry()]) for _ in range(5)]
        while door._queue.qsize() < 5:
            pass
        door.start()
        door.stop()
        for one in waiting:
            one.result(10)
    with pytest.raises(StoreBusy):
        door.append([entry()])
    assert counted(ledger)[0] == 5


def test_nobody_waits_for_ever(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.05)
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)  # never started: a stuck writer
    with pytest.raises(StoreBusy):
        door.append([entry()])


def test_who_waits_without_a_thread_is_told_by_the_clock_and_only_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer hangs in a commit; the sender is told to come again in time, and not a second time when it is done."""
    monkeypatch.setattr(module, "WAIT", 0.2)
    monkeypatch.setattr(module, "TICK", 0.02)
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    told: list[BaseException | None] = []
    with ledger.store.write():  # what keeps SQLite's writer
        if ledger.store.dialect != "sqlite":
            monkeypatch.setattr(door, "_commit", lambda batch: threading.Event().wait(0.6))
        door.start()
        door.submit([entry()], told.append)
        deadline = time.monotonic() + 5
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [type(error) for error in told] == [StoreBusy]
    door.stop()
    assert len(told) == 1


def test_one_that_cannot_be_told_keeps_nobody_from_hearing(ledger: Ledger) -> None:
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    told: list[BaseException | None] = []

    def breaks(_: BaseException | None) -> None:
        raise RuntimeError("the connection is in an odd state")

    for done in (breaks, told.append, breaks, told.append):
        door.submit([entry()], done)
    door.start()
    door.stop()
    assert told == [None, None]


def test_two_nodes_with_the_same_keys(pg: Ledger) -> None:
    """Both insert the same keys in other orders: no deadlock, and each event once."""
    doors = [Inbox(store, pg.crypto, pg.ids, "config", lambda: None) for store in (pg.store, pg.open())]
    for door in doors:
        door.start()
    start = threading.Barrier(2)

    def send(door: Inbox, order: Sequence[int]) -> None:
        start.wait()
        for i in order:
            door.append([entry(sender_key=f"w{(i * 7 + k) % 60}") for k in range(20)])

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(send, doors[0], range(30)), pool.submit(send, doors[1], range(30, 0, -1))]:
            one.result(30)
    for door in doors:
        door.stop()
    rows, said, _ = counted(pg)
    assert rows == said == 60


def test_received_and_counted_are_cut_alike(ledger: Ledger, door: Inbox) -> None:
    """`bridge ledger --since` asks both: they must bear one time."""
    door.append([entry()])
    with ledger.store.read() as connection:
        at = connection.execute(select(inbox.c.received_at)).scalar_one()
        assert connection.execute(select(audit.c.at)).scalar_one() == at
