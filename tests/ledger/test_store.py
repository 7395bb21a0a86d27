"""One database, two engines: who may write when, and whose clock counts."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from bridge.errors import StoreLocked
from bridge.ledger.clock import SECOND
from bridge.ledger.store import Store, _PriorityLock
from bridge.ledger.tables import mark
from tests.ledger.kit import Ledger


def test_the_doors_go_first() -> None:
    """Whoever waited before: urgent waiters are served, in any number, before the others."""
    lock = _PriorityLock()
    order: list[str] = []

    def take(name: str, urgent: bool) -> None:
        lock.acquire(urgent=urgent)
        order.append(name)
        lock.release()

    lock.acquire(urgent=False)
    threads = []
    for name in ("apply", "send", "pump"):
        threads.append(threading.Thread(target=take, args=(name, False)))
        threads[-1].start()
    while len(lock._condition._waiters) < 3:  # type: ignore[attr-defined]
        time.sleep(0.001)
    for name in ("door 1", "door 2"):
        threads.append(threading.Thread(target=take, args=(name, True)))
        threads[-1].start()
    while lock._urgent < 2:
        time.sleep(0.001)
    lock.release()
    for thread in threads:
        thread.join(5)
    assert set(order[:2]) == {"door 1", "door 2"}
    assert sorted(order[2:]) == ["apply", "pump", "send"]


def test_what_raises_is_rolled_back_and_frees_the_lock(ledger: Ledger) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), ledger.store.write() as connection:
            connection.execute(insert(mark).values(key="a", value="", at=1))
            raise ZeroDivisionError
    with ledger.store.write(urgent=True) as connection:
        connection.execute(insert(mark).values(key="a", value="", at=1))
    with pytest.raises(IntegrityError), ledger.store.write() as connection:
        connection.execute(insert(mark).values(key="a", value="", at=1))
    with ledger.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(mark)).scalar_one() == 1


def test_readers_see_what_is_committed_only(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        connection.execute(insert(mark).values(key="a", value="", at=1))
        with ledger.store.read() as reading:
            assert reading.execute(select(mark.c.key)).all() == []
    with ledger.store.read() as reading:
        assert len(reading.execute(select(mark.c.key)).all()) == 1


def test_a_second_engine_is_refused_and_a_dead_ones_lock_is_free(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    code = (
        "import sys; from pathlib import Path; from bridge.ledger.store import Store\n"
        "store = Store('sqlite:///' + sys.argv[1] + '/x.db'); store.lock(Path(sys.argv[1])); print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StoreLocked):
            ledger.store.lock(folder)
        assert (folder / "engine.lock").read_text() == str(other.pid)
        other.kill()
        other.wait()
    ledger.store.lock(folder)  # nothing has to be cleaned up after a kill
    second = Store("sqlite://")
    with pytest.raises(StoreLocked):
        second.lock(folder)
    ledger.store.close()
    second.lock(folder)
    second.close()


def test_the_databases_clock_counts_on_postgresql(pg: Ledger) -> None:
    """A node that is five seconds off knows it, and what it writes bears the database's time."""
    node = pg.open()
    node._machine._anchor += 5 * SECOND
    assert 4.5 * SECOND < node.drift() < 5.5 * SECOND
    with node.write() as connection, pg.store.read() as other:
        assert abs(node.now(connection) - pg.store.now(other)) < SECOND


def test_sqlite_has_no_other_clock(ledger: Ledger) -> None:
    if ledger.store.dialect == "sqlite":
        assert ledger.store.drift() == 0
    else:
        assert abs(ledger.store.drift()) < SECOND
