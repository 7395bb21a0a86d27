"""Append-only record of what was done and by whom, in the transaction of what it records. Ids and figures only."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection

ACKNOWLEDGED = "acknowledged"  # one per group commit: rows the doors acknowledged
FOUND = "found"  # rows that a search in the EHR added without a door
PLANNED = "planned"  # messages that came to be, counted where their rows are inserted
ASKED = "asked"  # writes to the EHR that came to be
ALARM = "alarm"


def record(
    connection: Connection,
    *,
    row: int,
    at: int,
    action: str,
    subject: str | None = None,
    count: int = 0,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write one entry. `subject` is an id such as `msg_…`; `detail` holds ids and figures, never content."""
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    connection.exec_driver_sql(  # in the driver's words: each group commit writes one
        f"INSERT INTO audit (id, at, action, subject, count, detail) VALUES ({', '.join([mark] * 6)})",  # noqa: S608
        (row, at, action, subject, count, json.dumps(detail) if detail else None),
    )
