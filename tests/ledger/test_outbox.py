"""Messages: born once by their effect key, changed only from the states they may come from, counted where they are born."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from sqlalchemy import func, select

from bridge.ledger import audit, lanes, outbox, states, writes
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import audit as audit_table
from bridge.ledger.tables import outbox as outbox_table
from bridge.ledger.tables import write
from tests.ledger.kit import Ledger, until_somebody_waits_for_a_lock


def counted(ledger: Ledger, action: str) -> int:
    with ledger.store.read() as connection:
        wanted = select(func.coalesce(func.sum(audit_table.c.count), 0)).where(audit_table.c.action == action)
        return int(connection.execute(wanted).scalar_one())


def test_an_effect_happens_once(ledger: Ledger) -> None:
    first, again, born = ledger.message(effect_key="m|main|Appointment/a1|1|Patient/p1"), None, 0
    for _ in range(3):
        again = ledger.message(effect_key=first.effect_key)
        with ledger.store.write() as connection:
            added = outbox.add(connection, ledger.crypto, ledger.ids, [first, again, ledger.message()], 1)
        born = born or first.id
        assert again.id not in added
    with ledger.store.read() as connection:
        ids = connection.execute(
            select(outbox_table.c.id).where(outbox_table.c.effect_key == first.effect_key)
        ).scalars()
        assert ids.all() == [born]
        rows = connection.execute(select(func.count()).select_from(outbox_table)).scalar_one()
    assert rows == 4
    assert counted(ledger, audit.PLANNED) == 4, "what was there already is not counted again"


def test_two_nodes_with_one_effect(pg: Ledger) -> None:
    nodes = [pg.open() for _ in range(4)]

    def add(i: int) -> int:
        with nodes[i].write() as connection:
            messages = [pg.message(effect_key=f"effect {k}", lane=f"lane-{k % 3}") for k in range(20)]
            return len(outbox.add(connection, pg.crypto, pg.ids, messages, 1))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(add, range(4))) == 20
    assert counted(pg, audit.PLANNED) == 20


def test_a_message_that_was_not_born_wakes_nobody(ledger: Ledger) -> None:
    ledger.put(effect_key="once", state="superseded")
    with ledger.store.write() as connection:
        assert outbox.add(connection, ledger.crypto, ledger.ids, [ledger.message(effect_key="once")], 1) == set()
    assert ledger.lane().next_at is None


def test_contents_are_encrypted_for_their_own_row(ledger: Ledger) -> None:
    message = ledger.put(content=b"Hola Ana", before=b"before", after=b"after")
    row = ledger.row(message)
    for column, value in (("content", b"Hola Ana"), ("before", b"before"), ("after", b"after")):
        blob = row._mapping[column]
        assert value not in blob
        assert ledger.crypto.decrypt(blob, row.key_id, "outbox", column, message) == value


@pytest.mark.parametrize("source", states.MESSAGE)
def test_moves_are_those_of_the_table(ledger: Ledger, source: str) -> None:
    """For every pair of states: the row changes exactly where the table says it may."""
    rows = {target: ledger.put(state=source, lane=f"lane-{target}", now=1) for target in states.MESSAGE}
    with ledger.store.write() as connection:
        for target, message in rows.items():
            moved = outbox.move(connection, [message], target, 50, reason="why")
            assert moved == ({message} if target in states.MESSAGE[source] else set()), (source, target)
    for target, message in rows.items():
        row = ledger.row(message)
        if target in states.MESSAGE[source]:
            assert (row.state, row.reason, row.changed_at) == (target, "why", 50)
            assert (row.ready_at == 50) is (target == "ready")
        else:
            assert (row.state, row.reason, row.changed_at) == (source, None, 1)


def test_a_move_may_be_narrower_than_the_table(ledger: Ledger) -> None:
    found = {state: ledger.put(state=state, lane=state) for state in ("sending", "doubt", "held")}
    with ledger.store.write() as connection:
        moved = outbox.move(connection, [*found.values(), 999], "ready", 5, only_from=("sending",))
        assert moved == {found["sending"]}
        assert outbox.move(connection, [], "ready", 5) == set()


def test_who_comes_second_changes_nothing(pg: Ledger) -> None:
    """Two nodes move one message at once: one of them is told that somebody was first."""
    message = pg.put()
    nodes = [pg.open(), pg.open()]

    def move(i: int) -> int:
        with nodes[i].write() as connection:
            return len(outbox.move(connection, [message], ("superseded", "sending")[i], 5))

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(move, range(2))) == 1


@pytest.mark.parametrize("behind", [0, 60], ids=["its clock is right", "its clock is behind"])
def test_who_commits_first_is_first_in_line(pg: Ledger, behind: int) -> None:
    """Two nodes add to one lane at once. One made its message first and comes to the lane second: it queues second, by id
    and by `ready_at`, whatever its clock says."""
    pg.put(lane="lane-1", state="accepted", now=1)
    node, at = pg.open(), pg.store.now()
    slow, fast = pg.message(), pg.message()
    with ThreadPoolExecutor(1) as pool:
        with pg.store.write() as connection:
            outbox.add(connection, pg.crypto, pg.ids, [fast], at)

            def add() -> None:
                with node.write() as other:
                    outbox.add(other, pg.crypto, pg.ids, [slow], at - behind * SECOND)

            adding = pool.submit(add)
            until_somebody_waits_for_a_lock(pg)
        adding.result(10)
    assert fast.id < slow.id
    assert pg.row(fast.id).ready_at < pg.row(slow.id).ready_at


def test_what_becomes_ready_again_queues_behind(ledger: Ledger) -> None:
    """A planned message whose time has come, by a clock that was set back: it does not overtake who waits already."""
    planned, waits = ledger.put(state="planned", now=100), ledger.put(now=100)
    with ledger.store.write() as connection:
        assert outbox.move(connection, [planned], "ready", 40) == {planned}
    assert ledger.row(waits).ready_at < ledger.row(planned).ready_at


def test_a_broken_clock_is_not_followed(ledger: Ledger) -> None:
    """A place far in the future, as only a broken clock writes it, does not become everybody's."""
    ledger.put(now=100 + 2 * lanes.HORIZON)
    assert ledger.row(ledger.put(now=100)).ready_at == 100


def test_set_many(ledger: Ledger) -> None:
    one, two = ledger.put(), ledger.put()
    with ledger.store.write() as connection:
        rows = [{"id": one, "tries": 3, "retry_at": 7}, {"id": two, "tries": 4, "retry_at": None}]
        outbox.set_many(connection, rows, ["tries", "retry_at"])
    assert [(ledger.row(i).tries, ledger.row(i).retry_at) for i in (one, two)] == [(3, 7), (4, None)]


@pytest.mark.parametrize(("state", "cls"), list(product(("planned", "ready"), (states.ANSWER, states.CAMPAIGN))))
def test_what_is_born_ready_queues(ledger: Ledger, state: str, cls: int) -> None:
    ledger.put(state=state, cls=cls, now=9)
    lane = ledger.lane()
    assert (lane.next_at, lane.cls) == ((9, cls) if state == "ready" else (None, None))


# --- writes --------------------------------------------------------------------------------------------------------------


def asked(ledger: Ledger, row: int, **changes: object) -> dict[str, object]:
    return {
        "id": row, "kind": "projection", "verb": "communication", "ehr": "main", "resource_key": f"out {row}",
        "state": "asked", "next_at": 1, "key_id": "k1",
    } | changes  # fmt: skip


def test_a_projection_asked_twice_is_one_row(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        assert writes.add(connection, ledger.ids, [asked(ledger, 1), asked(ledger, 2)], 7) == {1, 2}
        assert writes.add(connection, ledger.ids, [asked(ledger, 2, verb="other"), asked(ledger, 3)], 8) == {3}
        assert writes.add(connection, ledger.ids, [], 8) == set()
        found = connection.execute(select(write.c.id, write.c.verb, write.c.asked_at).order_by(write.c.id)).all()
    assert [tuple(row) for row in found] == [(1, "communication", 7), (2, "communication", 7), (3, "communication", 8)]
    assert counted(ledger, audit.ASKED) == 3
