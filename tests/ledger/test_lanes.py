"""Lanes: most urgent first, one holder at a time, no wake-up lost, a dead holder's lease taken over."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from bridge.ledger import lanes, outbox, states
from bridge.ledger.clock import SECOND
from bridge.ledger.lanes import HORIZON, LEASE, PAIR_BURST, PAIR_INTERVAL, pair_slot, pair_spend
from bridge.ledger.tables import lane
from bridge.ledger.tables import outbox as outbox_table
from tests.ledger.kit import NUMBER, ROOM, Ledger, until_somebody_waits_for_a_lock


def test_claim_order_is_class_then_time(ledger: Ledger) -> None:
    for i, cls in enumerate((states.CAMPAIGN, states.NEWS, states.ANSWER, states.REMINDER, states.URGENT)):
        ledger.put(cls=cls, lane=f"lane-{cls}", now=1000 + i)
    ledger.put(cls=states.NEWS, lane="lane-earlier", now=10)
    claimed = ledger.claim(now=2000)
    assert [one.cls for one in claimed] == [1, 2, 3, 3, 4, 5]
    two = ledger.claim(now=2000 + LEASE, room={NUMBER: 2})
    assert [one.key for one in two] == ["lane-1", "lane-2"], "with room for two, the two most urgent"
    assert {one.key for one in ledger.claim(now=2000 + LEASE, room={NUMBER: 2})} == {"lane-3", "lane-earlier"}


def test_of_one_class_the_earliest_first(ledger: Ledger) -> None:
    for i in (3, 1, 2):
        ledger.put(lane=f"lane-{i}", now=i)
    assert [ledger.claim(now=10, room={NUMBER: 1})[0].key for _ in range(3)] == ["lane-1", "lane-2", "lane-3"]


def test_one_holder_at_a_time_until_the_lease_ends(ledger: Ledger) -> None:
    ledger.put(now=1)
    (first,) = ledger.claim("n1", now=100)
    assert ledger.claim("n2", now=100 + LEASE - 1) == []
    (second,) = ledger.claim("n2", now=100 + LEASE)
    assert (second.id, second.epoch) == (first.id, first.epoch + 1)
    assert ledger.lane().owner == "n2"


def test_who_lost_its_lane_frees_nothing(ledger: Ledger) -> None:
    ledger.put(now=1)
    (first,) = ledger.claim("n1", now=100)
    (second,) = ledger.claim("n2", now=100 + LEASE)
    with ledger.store.write() as connection:
        lanes.release(connection, "n1", {first.id: first.epoch}, 200)
        lanes.defer(connection, "n1", {(first.id, first.epoch): 999})
    assert (ledger.lane().owner, ledger.lane().epoch) == ("n2", second.epoch)
    assert ledger.lane().next_at != 999


def test_the_same_node_again_is_another_epoch(ledger: Ledger) -> None:
    """A node whose lease ran out and that claimed anew must not free its new claim with its old one."""
    ledger.put(now=1)
    (old,) = ledger.claim("n1", now=100)
    ledger.claim("n1", now=100 + LEASE)
    with ledger.store.write() as connection:
        lanes.release(connection, "n1", {old.id: old.epoch}, 200)
    assert ledger.lane().owner == "n1"


def test_numbers_without_room_are_left_alone(ledger: Ledger) -> None:
    ledger.put(now=1)
    ledger.put(lane="other", number="second", now=1)
    assert ledger.claim(now=10, room={NUMBER: 0}) == []
    assert [one.number for one in ledger.claim(now=10, room={NUMBER: 0, "second": 5})] == ["second"]


def test_only_ready_messages_queue(ledger: Ledger) -> None:
    """What is planned or held for a person blocks nobody."""
    for state in ("planned", "held", "accepted", "superseded"):
        ledger.put(state=state)
    assert (ledger.lane().next_at, ledger.lane().cls) == (None, None)
    assert ledger.claim(now=10**17) == []
    ledger.put(now=5)
    assert (ledger.lane().next_at, ledger.lane().cls) == (5, states.NEWS)


@pytest.mark.parametrize(
    ("cls", "waits"), [(states.NEWS, True), (states.REMINDER, True), (states.URGENT, False), (states.ANSWER, False)]
)
def test_a_doubt_holds_news_back_for_a_minute_and_no_answer(ledger: Ledger, cls: int, waits: bool) -> None:
    ledger.put(state="doubt", now=1000)
    ledger.put(cls=cls, now=2000)
    assert ledger.lane().next_at == (1000 + lanes.DOUBT_BLOCKS if waits else 2000)
    with ledger.store.write() as connection:
        ledger.wake(connection, now=1000 + lanes.DOUBT_BLOCKS)
    assert ledger.lane().next_at == 1000 + lanes.DOUBT_BLOCKS


def test_a_doubt_of_a_clock_that_ran_ahead_blocks_a_minute_at_most(ledger: Ledger) -> None:
    ledger.put(state="doubt", now=10**15)
    ledger.put(now=1000)
    assert ledger.lane().next_at == 1000 + lanes.DOUBT_BLOCKS


def test_a_lane_that_is_sending_is_claimed_when_its_holder_is_dead(ledger: Ledger) -> None:
    """Nothing else is ready in it, and yet somebody has to come and see that it is a doubt."""
    ledger.put(now=1)
    ledger.claim("n1", now=100)
    with ledger.store.write() as connection:
        outbox.move(connection, connection.execute(select(outbox_table.c.id)).scalars(), "sending", 100)
        ledger.wake(connection, now=100)
    assert ledger.claim("n2", now=100 + LEASE - 1) == []
    assert len(ledger.claim("n2", now=100 + LEASE)) == 1


def test_forget_node(ledger: Ledger) -> None:
    for i in range(3):
        ledger.put(lane=f"lane-{i}", now=1)
    kept = ledger.claim("n1", now=10, room={NUMBER: 1})[0]
    ledger.claim("n1", now=10, room={NUMBER: 1})
    ledger.claim("n2", now=10)
    with ledger.store.write() as connection:
        assert lanes.forget_node(connection, "n1", keep=[kept.id]) == 1
    with ledger.store.read() as connection:
        owners = connection.execute(select(lane.c.owner).order_by(lane.c.key)).scalars().all()
    assert sorted(map(str, owners)) == ["None", "n1", "n2"]
    assert [one.key for one in ledger.claim("n3", now=11)] == ["lane-1"]


def test_lanes_are_made_once(ledger: Ledger) -> None:
    with ledger.store.write() as connection:
        first = lanes.ensure(connection, ledger.ids, "conversation", [("a", NUMBER), ("b", NUMBER), ("a", NUMBER)])
        again = lanes.ensure(connection, ledger.ids, "conversation", [("b", NUMBER), ("c", NUMBER)])
        other = lanes.ensure(connection, ledger.ids, "resource", [("a", None)])
    assert again["b"] == first["b"]
    assert other["a"] != first["a"]


# --- PostgreSQL: two nodes at once -----------------------------------------------------------------------------------


def test_no_wake_up_is_lost(pg: Ledger) -> None:
    """One node frees the lane while another adds a message to it: whoever commits last, the lane is due.

    The order is forced: the adder has inserted and waits for the lane's row, which the holder is about to free having
    seen nothing. A subquery inside the holder's UPDATE would leave the lane asleep with a message in it.
    """
    first = pg.put(now=1)
    (held,) = pg.claim("n1", now=10)
    adder = pg.open()
    message = pg.message()
    with ThreadPoolExecutor(1) as pool:
        with pg.store.write() as connection:
            outbox.move(connection, [first], "accepted", 20, only_from=("ready",))
            lanes.release(connection, "n1", {held.id: held.epoch}, 20)
            assert connection.execute(select(lane.c.next_at)).scalar_one() is None

            def add() -> None:
                with adder.write() as other:
                    outbox.add(other, pg.crypto, pg.ids, [message], 30)

            adding = pool.submit(add)
            until_somebody_waits_for_a_lock(pg)
        adding.result(10)
    assert pg.lane().next_at == 30


def test_a_message_added_before_the_holder_frees_is_seen(pg: Ledger) -> None:
    first = pg.put(now=1)
    (held,) = pg.claim("n1", now=10)
    holder = pg.open()
    with ThreadPoolExecutor(1) as pool:
        with pg.store.write() as connection:
            outbox.add(connection, pg.crypto, pg.ids, [pg.message()], 30)

            def free() -> None:
                with holder.write() as other:
                    outbox.move(other, [first], "accepted", 20, only_from=("ready",))
                    lanes.release(other, "n1", {held.id: held.epoch}, 40)

            freeing = pool.submit(free)
            until_somebody_waits_for_a_lock(pg)
        freeing.result(10)
    assert (pg.lane().next_at, pg.lane().owner) == (40, None)


def test_two_nodes_never_claim_one_lane(pg: Ledger) -> None:
    for i in range(60):
        pg.put(lane=f"lane-{i}", now=1)
    nodes = [pg.open() for _ in range(4)]
    start = threading.Barrier(4)

    def work(i: int) -> list[int]:
        got: list[int] = []
        start.wait()
        for _ in range(15):
            with nodes[i].write() as connection:
                got += [one.id for one in lanes.claim(connection, f"n{i}", 10, {NUMBER: 3})]
        return got

    with ThreadPoolExecutor(4) as pool:
        taken = [one for part in pool.map(work, range(4)) for one in part]
    assert len(taken) == len(set(taken)) == 60


def test_adding_claiming_and_freeing_leaves_nothing_asleep(pg: Ledger) -> None:
    """Four writers on five lanes, at random: in the end every lane with something ready is due."""
    nodes = [pg.open() for _ in range(4)]
    with pg.store.write() as connection:
        lanes.ensure(connection, pg.ids, "conversation", [(f"lane-{i}", NUMBER) for i in range(5)])

    def add(i: int) -> None:
        for k in range(25):
            messages = [pg.message(lane=f"lane-{(k + j) % 5}") for j in range(2)]
            with nodes[i].write() as connection:
                outbox.add(connection, pg.crypto, pg.ids, messages, 100 + k)

    def send(i: int) -> None:
        for k in range(40):
            with nodes[i].write() as connection:
                claimed = lanes.claim(connection, f"n{i}", 1000 + k, ROOM)
                for one in claimed:
                    ready = select(outbox_table.c.id).where(
                        outbox_table.c.lane_id == one.id, outbox_table.c.state == "ready"
                    )
                    outbox.move(
                        connection,
                        connection.execute(ready.limit(1)).scalars(),
                        "accepted",
                        1000 + k,
                        only_from=("ready",),
                    )
                lanes.release(connection, f"n{i}", {one.id: one.epoch for one in claimed}, 1000 + k)

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(add, 0), pool.submit(add, 1), pool.submit(send, 2), pool.submit(send, 3)]:
            one.result(60)
    with pg.store.read() as connection:
        full = select(outbox_table.c.lane_id).where(outbox_table.c.state == "ready")
        asleep = connection.execute(
            select(func.count()).where(lane.c.id.in_(full), lane.c.next_at.is_(None))
        ).scalar_one()
        idle = connection.execute(
            select(func.count()).where(lane.c.id.not_in(full), lane.c.next_at.is_not(None))
        ).scalar_one()
    assert (asleep, idle) == (0, 0)


# --- the recipient's rate -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=60), st.sampled_from([1, PAIR_BURST]))
def test_pair_rate(gaps: list[int], burst: int) -> None:
    """Whenever they come: never more than `burst` within any stretch of `burst` intervals, and never early."""
    free_at, now, slots = 0, 10**15, []
    for gap in gaps:
        now += gap
        slot = pair_slot(free_at, now, burst=burst)
        assert slot >= now
        free_at = pair_spend(free_at, slot)
        slots.append(slot)
        now = slot
    for i in range(len(slots) - burst):
        assert slots[i + burst] - slots[i] >= PAIR_INTERVAL


def test_a_free_at_of_a_broken_clock_is_clamped(ledger: Ledger) -> None:
    ledger.put(now=1)
    ledger.set_lane(free_at=10**17)
    (claimed,) = ledger.claim(now=1000)
    assert claimed.free_at == 1000 + HORIZON
    assert pair_slot(10**17, 1000, burst=1) == 1000 + HORIZON


def test_a_claimed_lane_can_be_put_off(ledger: Ledger) -> None:
    ledger.put(now=1)
    (one,) = ledger.claim(now=10)
    with ledger.store.write() as connection:
        lanes.defer(connection, "n1", {(one.id, one.epoch): 500})
    assert ledger.claim("n2", now=499) == []
    assert len(ledger.claim("n2", now=500)) == 1


def test_doubted_lanes(ledger: Ledger) -> None:
    ledger.put(state="doubt", now=1000)
    ledger.put(lane="other", now=1000)
    with ledger.store.write() as connection:
        ids = connection.execute(select(lane.c.id)).scalars().all()
        mine = connection.execute(select(lane.c.id).where(lane.c.key == "lane-1")).scalar_one()
        assert lanes.doubted(connection, ids, 2000) == {mine}
        assert lanes.doubted(connection, ids, 1000 + lanes.DOUBT_BLOCKS) == set()
        connection.execute(update(outbox_table).values(state="held"))
        assert lanes.doubted(connection, ids, 2000) == set()
