"""The brake: more than `delivery.brake` planned messages an hour, and the campaign class waits for a person.

Counted is news that an event caused, on machine time; answers are not, nor reminders, which leave on other days.
While the mark stands, campaign messages are born `planned` and the pump passes them by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, select, update

from bridge.ledger import lanes, locks
from bridge.ledger.clock import SECOND
from bridge.ledger.outbox import NewMessage
from bridge.ledger.states import CAMPAIGN, NEWS, URGENT
from bridge.ledger.tables import mark, outbox

MARK = "brake"
RELEASED = "brake:released"  # what was planned before it is forgiven
COUNTED = (URGENT, NEWS, CAMPAIGN)
HOUR = 3600 * SECOND
REASON = "the brake is on: a person releases or cancels it"


def is_on(connection: Connection) -> bool:
    return connection.execute(select(mark.c.key).where(mark.c.key == MARK)).first() is not None


def forget_before(connection: Connection, now: int) -> None:
    """A person decided: the count begins anew."""
    statement = lanes.upsert(connection.dialect.name)(mark).values(key=RELEASED, value="", at=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"at": statement.excluded.at}))


def gate(connection: Connection) -> None:
    """Whoever adds campaign messages: the brake is not put on before they are seen."""
    locks.take(connection, locks.BRAKE_GATE, shared=True)


def planned(connection: Connection, now: int, limit: int) -> int:
    """News that events caused within the hour and since a person decided last; counts no further than `limit`.

    One node counts at a time, until its transaction ends: what it has just planned is there for who counts next.
    """
    locks.take(connection, locks.BRAKE_COUNT)
    released = connection.execute(select(mark.c.at).where(mark.c.key == RELEASED)).scalar()
    some = (
        select(outbox.c.id)
        .where(outbox.c.added_at > max(now - HOUR, released or 0))
        .where(outbox.c.cause.is_not(None), outbox.c.cls.in_(COUNTED))
        .limit(limit)
        .subquery()
    )
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def hold(messages: Iterable[NewMessage]) -> None:
    """What is about to be added and would go at once waits instead."""
    for message in messages:
        if message.cls == CAMPAIGN and message.state == "ready":
            message.state, message.reason = "planned", REASON
            message.fields = dict(message.fields) | {"attempted": True}  # it is rendered already


def put_on(connection: Connection, now: int) -> Sequence[int] | None:
    """Set the mark and take campaign messages that are `ready` back; returns their ids, None if it was on already."""
    locks.take(connection, locks.BRAKE_GATE)
    statement = lanes.upsert(connection.dialect.name)(mark).values(key=MARK, value="", at=now)
    put = statement.on_conflict_do_nothing(index_elements=["key"]).returning(mark.c.key)
    if connection.execute(put).first() is None:
        return None
    rows = connection.execute(
        update(outbox)
        .where(outbox.c.cls == CAMPAIGN, outbox.c.state == "ready")
        .values(state="planned", reason=REASON, attempted=True, changed_at=now)
        .returning(outbox.c.id, outbox.c.lane_id)
    ).all()
    lanes.wake(connection, {row.lane_id for row in rows}, now)
    return [row.id for row in rows]
