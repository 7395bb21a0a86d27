"""`bridge ledger` tells the truth: it holds when all is well, and any row gone, added or strange makes it fail."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, delete, insert, update

from bridge.ledger import audit, writes
from bridge.ledger.balance import balance
from bridge.ledger.inbox import Entry, Inbox
from bridge.ledger.tables import audit as audit_table
from bridge.ledger.tables import inbox, outbox, write
from tests.ledger.kit import Ledger


def fill(ledger: Ledger) -> None:
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    door.start()
    door.append([Entry("ehr:main", "appointments", "notification", b"{}") for _ in range(3)])
    door.append([Entry("app:hospital", "front_desk", "status", b"{}", fate="unusable")])
    door.stop()
    for state in ("planned", "ready", "read", "superseded"):
        ledger.put(state=state)
    with ledger.store.write() as connection:
        now = ledger.store.now(connection)
        row = {"kind": "command", "verb": "confirm", "ehr": "main", "resource_key": "r", "next_at": 1, "key_id": "k1"}
        writes.add(connection, ledger.ids, [row | {"id": 1, "state": "asked"}, row | {"id": 2, "state": "done"}], now)
        audit.record(connection, row=ledger.ids(), at=now, action=audit.FOUND, count=1)
        connection.execute(
            insert(inbox).values(
                id=1, source="ehr:main", kind="hint", received_at=now, key_id="k1", body=b"", config_version="c"
            )
        )
        connection.execute(update(inbox).where(inbox.c.id == 1).values(fate="merged"))


def test_it_holds(ledger: Ledger) -> None:
    fill(ledger)
    events, messages, asked = balance(ledger.store)
    assert (events.holds, messages.holds, asked.holds) == (True, True, True)
    assert str(events) == "events: 4 acknowledged + 1 found = 1 merged + 1 unusable + 3 waiting"
    assert str(messages) == "messages: 4 planned = 1 read + 1 superseded + 1 planned + 1 ready"
    assert str(asked) == "writes: 2 asked = 1 done + 1 asked"


def test_an_empty_store_balances(ledger: Ledger) -> None:
    assert all(line.holds for line in balance(ledger.store))


def lost_event(connection: Connection) -> None:
    connection.execute(delete(inbox).where(inbox.c.fate.is_(None)))


def event_nobody_counted(connection: Connection) -> None:
    connection.execute(
        insert(inbox).values(id=2, source="s", kind="hint", received_at=10**17, key_id="k", config_version="c")
    )


def strange_fate(connection: Connection) -> None:
    connection.execute(update(inbox).where(inbox.c.fate == "unusable").values(fate="forgotten"))


def lost_message(connection: Connection) -> None:
    connection.execute(delete(outbox).where(outbox.c.state == "superseded"))


def strange_state(connection: Connection) -> None:
    connection.execute(update(outbox).where(outbox.c.state == "ready").values(state="somewhere"))


def lost_write(connection: Connection) -> None:
    connection.execute(delete(write).where(write.c.state == "done"))


def counted_twice(connection: Connection) -> None:
    connection.execute(update(audit_table).where(audit_table.c.action == audit.ASKED).values(count=3))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lost_event, 0), (event_nobody_counted, 0), (strange_fate, 0), (lost_message, 1), (strange_state, 1),
        (lost_write, 2), (counted_twice, 2),
    ],
)  # fmt: skip
def test_it_fails(ledger: Ledger, damage: Callable[[Connection], None], line: int) -> None:
    fill(ledger)
    with ledger.store.write() as connection:
        damage(connection)
    assert [one.holds for one in balance(ledger.store)] == [i != line for i in range(3)]
    assert "≠" in str(balance(ledger.store)[line])


def test_since(ledger: Ledger) -> None:
    """What was there before is left out on both sides; nothing falls between."""
    fill(ledger)
    with ledger.store.read() as connection:
        after = ledger.store.now(connection) + 1
    assert [sum(line.counted.values()) for line in balance(ledger.store, after)] == [0, 0, 0]
    ledger.put(now=after + 5)
    with ledger.store.write() as connection:
        row = {"kind": "command", "verb": "stop", "ehr": "main", "resource_key": "r", "next_at": 1, "key_id": "k1"}
        writes.add(connection, ledger.ids, [row | {"id": 9, "state": "asked"}], after + 5)
    lines = balance(ledger.store, after)
    assert [sum(line.counted.values()) for line in lines] == [0, 1, 1]
    assert all(line.holds for line in lines)


def test_it_holds_while_everything_moves(ledger: Ledger) -> None:
    """One snapshot for all three lines: writers that never stop do not make it lie."""
    door = Inbox(ledger.store, ledger.crypto, ledger.ids, "config", lambda: None)
    door.start()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            door.append([Entry("ehr:main", "a", "hint", b"{}")] * 3)
            ledger.put()

    worker = threading.Thread(target=work)
    worker.start()
    reader = ledger.open(readonly=True)
    try:
        for _ in range(25):
            assert all(line.holds for line in balance(reader)), [str(line) for line in balance(reader)]
    finally:
        stop.set()
        worker.join()
        door.stop()
