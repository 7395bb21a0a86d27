"""Old words are emptied, rows stay; what has not ended and what later news rests on is kept whatever its age."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from bridge.errors import Undecryptable
from bridge.ledger import retention, states, writes
from bridge.ledger.balance import balance
from bridge.ledger.inbox import Entry, Inbox
from bridge.ledger.tables import attempt, audit, inbox, media, outbox, question, seen, turn, write
from tests.ledger.kit import Ledger

DAY = retention.DAY
AGE = 90 * DAY


def now(ledger: Ledger) -> int:
    with ledger.store.read() as connection:
        return ledger.store.now(connection)


def everything(ledger: Ledger, at: int) -> int:
    """One row of each kind whose story ended at `at`; returns the message."""
    message = ledger.put(state="read", before=b"before", after=b"after", content=b"Hola Ana", now=at)
    c: dict[str, Any] = {"key_id": "k1"}
    row = message
    with ledger.store.write() as connection:
        connection.execute(
            insert(inbox).values(
                id=row, source="s", kind="message", received_at=at, body=b"x", fate="applied", config_version="c", **c
            )
        )
        connection.execute(
            insert(attempt).values(
                message=row, n=1, node="n", epoch=1, fenced_at=at, ended_at=at, outcome="accepted", wamid="w", body=b"x", **c
            )
        )  # fmt: skip
        connection.execute(
            insert(turn).values(id=row, conversation_id=1, direction="in", kind="text", at=at, body=b"x", **c)
        )
        connection.execute(
            insert(question).values(id=row, conversation_id=1, kind="cancel", asked_at=at, until=at, body=b"x", **c)
        )
        connection.execute(insert(media).values(id=row, turn_id=row, state="there", at=at, body=b"x", **c))
        asked = {"kind": "command", "verb": "stop", "ehr": "main", "resource_key": "r", "next_at": at, "wanted": b"x"}
        writes.add(connection, ledger.ids, [asked | c | {"id": row, "state": "done"}], at)
        connection.execute(update(write).where(write.c.id == row).values(settled_at=at))
        connection.execute(insert(seen).values(source="s", key=row.to_bytes(16, "big"), at=at))
    return message


def bodies(ledger: Ledger, row: int) -> dict[str, object]:
    found: dict[str, object] = {}
    with ledger.store.read() as connection:
        for rule in retention.RULES:
            key = next(iter(rule.table.primary_key))
            held = connection.execute(select(rule.table).where(key == row)).one()
            for name in rule.columns:
                found[f"{rule.table.name}.{name}"] = held._mapping[name]
    return found


def test_what_is_older_is_emptied_and_its_row_stays(ledger: Ledger) -> None:
    old = everything(ledger, now(ledger) - AGE - DAY)
    new = everything(ledger, now(ledger) - AGE + DAY)
    before = [str(line) for line in balance(ledger.store)]
    counts = retention.sweep(ledger.store, ledger.ids, AGE)
    assert counts == {rule.table.name: 1 for rule in retention.RULES} | {"seen": 0}
    assert set(bodies(ledger, old).values()) == {None}
    kept = {name for name, value in bodies(ledger, new).items() if value is None}
    assert kept == {"write.echo"}  # it never had one
    row = ledger.row(old)
    assert (row.state, row.template, row.after is not None) == ("read", None, True)
    assert [str(line) for line in balance(ledger.store)] == before
    with ledger.store.read() as connection:
        entry = connection.execute(select(audit.c.count).where(audit.c.action == "retention")).scalar_one()
    assert entry == len(retention.RULES)
    assert set(retention.sweep(ledger.store, ledger.ids, AGE).values()) == {0}


def test_an_emptied_column_says_so(ledger: Ledger) -> None:
    old = everything(ledger, now(ledger) - AGE - DAY)
    retention.sweep(ledger.store, ledger.ids, AGE)
    with pytest.raises(Undecryptable, match="emptied"):
        ledger.crypto.decrypt(ledger.row(old).content, "k1", "outbox", "content", old)


@pytest.mark.parametrize("state", sorted(states.MESSAGE))
def test_messages_under_way_keep_their_words(ledger: Ledger, state: str) -> None:
    message = ledger.put(state=state, now=now(ledger) - 2 * AGE)
    retention.sweep(ledger.store, ledger.ids, AGE)
    assert (ledger.row(message).content is not None) is (state in retention.UNDER_WAY)


def test_what_is_still_to_be_written_keeps_its_words(ledger: Ledger) -> None:
    """The EHR has been away for long: the Communication is still owed, and needs the text."""
    message = everything(ledger, now(ledger) - AGE - DAY)
    with ledger.store.write() as connection:
        connection.execute(update(write).values(state="held", message_id=message, settled_at=None))
        connection.execute(update(turn).values(open=True))
        connection.execute(update(inbox).values(fate=None))
    retention.sweep(ledger.store, ledger.ids, AGE)
    kept = {name for name, value in bodies(ledger, message).items() if value is not None}
    assert kept == {"inbox.body", "outbox.content", "outbox.before", "turn.body", "write.wanted"}


def test_many_go_in_small_transactions(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MANY", 3)
    for _ in range(8):
        everything(ledger, now(ledger) - AGE - DAY)
    assert retention.sweep(ledger.store, ledger.ids, AGE)["inbox"] == 8


def test_senders_keys_are_kept_400_days(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        for days in (399, 401, 500):
            connection.execute(
                insert(seen).values(source="s", key=days.to_bytes(16, "big"), at=now(ledger) - days * DAY)
            )
    assert retention.sweep(ledger.store, ledger.ids, AGE)["seen"] == 2
    with ledger.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(seen)).scalar_one() == 1


def test_keys_of_statuses_are_kept_14_days(ledger: Ledger) -> None:
    """Three for each message; Meta redelivers for 7 days. A message's own key of the same age stays."""
    entries = [
        Entry("app:hospital", "front_desk", kind, b"{}", sender_key=f"wamid.{kind}") for kind in ("status", "message")
    ]
    doors = Inbox(ledger.store, ledger.crypto, ledger.ids, "v1", lambda: None)
    for days, left in ((13, 2), (15, 1)):
        doors._commit([doors._prepare(entries)])
        with ledger.store.write() as connection:
            connection.execute(update(seen).values(at=now(ledger) - days * DAY))
        retention.sweep(ledger.store, ledger.ids, AGE)
        with ledger.store.read() as connection:
            assert connection.execute(select(func.count()).select_from(seen)).scalar_one() == left


def test_every_encrypted_column_has_a_rule_or_a_reason(ledger: Ledger) -> None:
    """A new column must say how long it stays readable."""
    kept = {"outbox.after", "resource.projection", "resource.baseline", "identity.value", "seen.key"}
    emptied = {f"{rule.table.name}.{name}" for rule in retention.RULES for name in rule.columns}
    blobs = {
        f"{table.name}.{column.name}"
        for table in outbox.metadata.tables.values()
        for column in table.c
        if column.type.python_type is bytes
    }
    assert blobs == kept | emptied
