"""Two nodes that meet a person or a resource for the first time at once: one is first, the other decides again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from bridge.engine.news import Change
from bridge.ledger import keys
from bridge.ledger.store import Store
from bridge.ledger.tables import identity, outbox, person, resource
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench

ANA = "34612000101"
VISIT = MORNING + timedelta(days=9)


@pytest.fixture
def node(workshop: Workshop) -> Bench:
    return workshop("postgresql")


def first_comes(node: Bench, monkeypatch: pytest.MonkeyPatch, other: Callable[[Any], None]) -> None:
    """`other` commits on another connection after this node has decided and before it writes."""
    commit, once = node.applier._commit, iter([True])

    def late(changes: Sequence[Change]) -> int:
        if next(once, False):
            elsewhere = Store(str(node.store.url.render_as_string(hide_password=False)))
            with elsewhere.write() as connection:
                other(connection)
            elsewhere.close()
        return commit(changes)

    monkeypatch.setattr(node.applier, "_commit", late)


def test_a_person_met_by_both(node: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key = node.crypto.index(keys.person("main", "Patient/ana"))

    def other(connection: Any) -> None:
        connection.execute(insert(person).values(id=7, ehr="main", key=key, ref="Patient/ana", kind="patient"))

    first_comes(node, monkeypatch, other)
    node.clerk(people.appointment("a1", VISIT))
    node.clerk(people.appointment("a2", VISIT + timedelta(hours=1)))
    node.settle()
    assert node.told(ANA) == ["appointment_booked"] * 2
    assert {row.id for row in node.rows(person)} == {7}
    assert {row.person_id for row in node.messages()} == {7}
    assert {row.person_id for row in node.rows(identity)} == {7}, "no number belongs to somebody who is not there"
    assert node.alarms() == []


def test_a_resource_met_by_both(node: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other node has applied a push of the same visit: what is the same merges, nothing is lost or told twice."""
    node.clerk(people.appointment("a1", VISIT))
    node.settle()
    with node.store.write() as connection:
        (held,) = connection.execute(select(resource)).mappings().all()
        connection.execute(delete(resource))
        connection.execute(delete(outbox).where(outbox.c.offset.is_not(None)))

    first_comes(node, monkeypatch, lambda connection: connection.execute(insert(resource).values(**held)))
    node.notify(node.ehr.get("Appointment/a1"))
    node.settle()
    assert [fate for fate, _ in node.fates()] == ["planned", "merged"]
    assert node.told(ANA) == ["appointment_booked"]
    assert node.alarms() == []
