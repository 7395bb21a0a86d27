"""Writes to the EHR as rows: added once by their id, and counted where they are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from bridge.ledger import audit
from bridge.ledger.clock import Ids
from bridge.ledger.lanes import upsert
from bridge.ledger.tables import write


def add(connection: Connection, ids: Ids, rows: Sequence[Mapping[str, object]], now: int) -> set[int]:
    """Insert rows of one shape, asked `now`; what is there already stays as it is. Returns the ids inserted."""
    if not rows:
        return set()
    statement = (
        upsert(connection.dialect.name)(write).on_conflict_do_nothing(index_elements=["id"]).returning(write.c.id)
    )
    parameters = [{**row, "asked_at": now} for row in rows]
    inserted = {row[0] for row in connection.execute(statement, parameters)}
    if inserted:
        audit.record(connection, row=ids(), at=now, action=audit.ASKED, count=len(inserted))
    return inserted
