"""Machine times that only a broken clock can have written are brought back to what ours writes at most."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from bridge.ledger import horizons
from bridge.ledger.clock import SECOND
from bridge.ledger.horizons import HORIZONS
from bridge.ledger.tables import inbox, number, outbox, write
from tests.ledger.kit import Ledger

DAY = 86_400 * SECOND


def far(ledger: Ledger, by: int) -> None:
    """Every time that a horizon watches stands `by` from now."""
    message = ledger.put(state="planned")
    body = {"key_id": "k1", "config_version": "c"}
    with ledger.store.write() as connection:
        now = ledger.store.now(connection)
        connection.execute(insert(number).values(key="front_desk", free_at=now + by, paused_until=now + by))
        connection.execute(
            insert(inbox).values(id=1, source="s", kind="hint", received_at=now, next_try=now + by, body=b"", **body)
        )
        connection.execute(
            insert(write).values(
                id=1, kind="command", verb="confirm", ehr="main", resource_key="r", state="sending", asked_at=now,
                next_at=now + by, lease_until=now + by, key_id="k1",
            )
        )  # fmt: skip
        connection.execute(update(outbox).where(outbox.c.id == message).values(retry_at=now + by))
    with ledger.store.read() as connection:
        at = ledger.store.now(connection) + by
    ledger.set_lane(lease_until=at, next_at=at, free_at=at)


def ahead(ledger: Ledger) -> list[float]:
    """How far each stands ahead, as a share of its own horizon."""
    found = []
    with ledger.store.read() as connection:
        now = ledger.store.now(connection)
        for horizon in HORIZONS:
            found.append((connection.execute(select(horizon.column)).scalar_one() - now) / horizon.reach)
    return found


def test_a_day_ahead_becomes_the_horizon_and_counts_down(ledger: Ledger) -> None:
    far(ledger, DAY)
    assert min(ahead(ledger)) > 1
    with ledger.store.read() as connection:
        before = ledger.store.now(connection)
    assert horizons.clamp(ledger.store) == len(HORIZONS)
    with ledger.store.read() as connection:
        for horizon in HORIZONS:
            until = connection.execute(select(horizon.column)).scalar_one()
            assert before + horizon.reach <= until <= ledger.store.now(connection) + horizon.reach
    assert horizons.clamp(ledger.store) == 0, "brought back once: it may not be pushed ahead again and again"


def test_what_ours_may_write_is_left_alone(ledger: Ledger) -> None:
    far(ledger, SECOND)
    before = ahead(ledger)
    assert horizons.clamp(ledger.store) == 0
    assert all(0 < one <= 1 for one in before)


def test_a_lane_of_a_broken_clock_is_claimed_again(ledger: Ledger) -> None:
    ledger.put()
    with ledger.store.read() as connection:
        now = ledger.store.now(connection)
    ledger.set_lane(lease_until=now + DAY, owner="dead")
    assert ledger.claim("n2", now=now + 90 * SECOND) == []
    horizons.clamp(ledger.store)
    assert len(ledger.claim("n2", now=now + 90 * SECOND)) == 1


def test_rows_that_have_ended_are_not_touched(ledger: Ledger) -> None:
    far(ledger, DAY)
    with ledger.store.write() as connection:
        connection.execute(update(inbox).values(fate="applied"))
        connection.execute(update(outbox).values(state="read"))
        connection.execute(update(write).values(state="done"))
    assert horizons.clamp(ledger.store) == len([h for h in HORIZONS if h.live is None])
