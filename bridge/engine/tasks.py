"""Something for a person to do that nobody has written: an open turn in the conversation it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from bridge.engine.site import Site
from bridge.ledger import lanes
from bridge.ledger.tables import conversation, lane, turn

TASK = "task"  # kind of such a turn


def open_task(connection: Connection, site: Site, row: Any, task: int, reason: str) -> None:
    """Open it, once.

    Args:
        row: the message it is about (id, lane_id, number, language).
        task: the turn's id; what has been there stays as it is.
        reason: ours, never a patient's words.
    """
    upsert = lanes.upsert(connection.dialect.name)
    key = connection.execute(select(lane.c.key).where(lane.c.id == row.lane_id)).scalar_one()
    talk = upsert(conversation).values(id=site.ids(), number=row.number, key=key, language=row.language)
    connection.execute(talk.on_conflict_do_nothing(index_elements=["key"]))
    where = connection.execute(select(conversation.c.id).where(conversation.c.key == key)).scalar_one()
    made = upsert(turn).values(
        id=task, conversation_id=where, direction="out", kind=TASK, message_id=row.id, at=site.clock.now_us(), open=True,
        reason=reason, key_id=site.crypto.key_id,
    )  # fmt: skip
    connection.execute(made.on_conflict_do_nothing(index_elements=["id"]))


def close_tasks(connection: Connection, tasks: Sequence[int]) -> None:
    """What was to be done has come about by itself."""
    done = update(turn).where(turn.c.id.in_(sorted(tasks)), turn.c.kind == TASK, turn.c.open)
    connection.execute(done.values(open=False))
