"""Several nodes on one store: who lives, who takes what, and the brake that holds for all of them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from bridge.engine import compose
from bridge.engine.apply import Applier
from bridge.engine.presence import WHOLE, Presence, Share
from bridge.engine.reads import Reader
from bridge.ledger import brake, nodes, states
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import inbox, outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench, Inline


@pytest.fixture
def bench(workshop: Workshop) -> Bench:
    return workshop("postgresql", delivery={"brake": 100, "doubt_wait": "30m"})


def presence(bench: Bench, name: str, *roles: str) -> Presence:
    return Presence(bench.store, bench.site.ids, name, roles or ("apply", "pump"), set)


def test_a_node_that_is_not_heard_of_has_no_share(bench: Bench) -> None:
    a, b, c = (presence(bench, name) for name in "abc")
    for one in (a, b, c, a, b):
        one._beat()
    assert [one.share("apply") for one in (a, b, c)] == [Share(0, 3), Share(1, 3), Share(2, 3)]
    bench.store.ahead += nodes.GONE - SECOND
    a._beat(), b._beat()
    bench.store.ahead += 2 * SECOND
    a._beat(), b._beat()
    assert [one.share("apply") for one in (a, b)] == [Share(0, 2), Share(1, 2)]
    b.stop()
    a._beat()
    assert a.share("apply") == WHOLE


def test_only_who_has_the_role_and_fills_it(bench: Bench) -> None:
    dead: set[str] = set()
    a, b = presence(bench, "a", "apply"), Presence(bench.store, bench.site.ids, "b", ("apply", "send"), lambda: dead)
    door = presence(bench, "c", "doors")
    for one in (a, b, door, a):
        one._beat()
    assert a.share("apply") == Share(0, 2)
    assert door.share("apply") == WHOLE, "asked by nobody"
    dead.add("apply")
    b._beat(), a._beat()
    assert a.share("apply") == WHOLE, "b's loop is dead: all of it is a's"


def test_shares_are_disjoint_and_complete(bench: Bench) -> None:
    for n in range(30):
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, minutes=n)))
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, minutes=n), minutes=15))
    with bench.store.read() as connection:
        rows = connection.execute(select(inbox.c.id, inbox.c.key)).all()
        parts = [
            set(connection.execute(select(inbox.c.id).where(*Share(i, 3).mine(inbox.c.key, inbox.c.id))).scalars())
            for i in range(3)
        ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(rows) == 60
    assert all(10 <= len(part) <= 30 for part in parts)
    by_key: dict[str, set[int]] = {}
    for row in rows:
        by_key.setdefault(row.key, set()).update(i for i, part in enumerate(parts) if row.id in part)
    assert all(len(owners) == 1 for owners in by_key.values()), "one resource belongs to one node"


def test_what_is_another_nodes_is_left_to_it(bench: Bench) -> None:
    for n in range(20):
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, minutes=n)))
    for n in range(10):
        bench.says(f"3461200{n:04d}", "hola")
    bench.pass_(seconds=3)
    bench.site.share = lambda role: Share(0, 2)
    bench.apply()
    left = len([row for row in bench.rows(inbox) if row.fate is None])
    assert 5 <= left <= 25
    bench.site.share = lambda role: Share(1, 2)
    bench.apply()
    assert [row for row in bench.rows(inbox) if row.fate is None] == []
    assert len(bench.messages(outbox.c.event == "appointment.booked")) == 20


def fetched(applier: Applier, rows: Callable[[], Any]) -> Any:
    """Everything that waits, whoever's share it is: here the test says whose turn it is."""
    share, applier._site.share = applier._site.share, lambda role: WHOLE
    try:
        return rows()
    finally:
        applier._site.share = share


def second(bench: Bench) -> Applier:
    """Another node's apply loop on the same store."""
    site = replace(bench.site, node="other")
    reader = Reader(site.clients, bench.store.now, lambda: None)
    reader._pools = dict.fromkeys(reader._pools, Inline())  # type: ignore[arg-type]
    return Applier(site, reader)


def test_the_brake_counts_what_all_nodes_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node thought that it alone used up the room: two planned nearly twice as many before one of them looked."""
    monkeypatch.setitem(compose.PRIORITY, "normal", states.CAMPAIGN)
    monkeypatch.setitem(compose.PRIORITY, "high", states.CAMPAIGN)
    appliers = (bench.applier, second(bench))
    for i, applier in enumerate(appliers):
        applier._site.share = lambda role, i=i: Share(i, 2)
        monkeypatch.setattr(applier._fetching, "rows", partial(fetched, applier, applier._fetching.rows))
    for n in range(140):
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, minutes=n)))
        for _ in range(9):  # read, then decided
            appliers[n % 2].once()
            if len(bench.messages(outbox.c.cls == states.CAMPAIGN)) > n:
                break
        else:
            raise AssertionError("it was not its turn")
        if bench.alarms():
            break
    planned = bench.messages(outbox.c.cls == states.CAMPAIGN)
    assert len(planned) == 101, "at the first that is one too many, whichever node plans it"
    assert {row.state for row in planned} == {"planned"}
    assert {row.reason for row in planned} == {brake.REASON}
    for n in range(200, 210):
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, minutes=n)))
        for _ in range(3):
            appliers[n % 2].once()
    assert {row.state for row in bench.messages(outbox.c.cls == states.CAMPAIGN)} == {"planned"}
    assert len(bench.alarms()) == 1


def test_what_is_rolled_back_shows_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.clerk(people.appointment("v0", MORNING + timedelta(days=9)))
    bench.apply()
    assert bench.applier._braking._room == 99
    bench.clerk(people.appointment("v1", MORNING + timedelta(days=9)))
    monkeypatch.setattr("bridge.engine.apply.settle", lambda *_: 1 / 0)
    bench.apply()
    assert bench.applier._braking._room == 0
