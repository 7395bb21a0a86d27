"""Messages: born once by their effect key, changed only from the states they may come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, select, update

from bridge.ledger import audit, lanes, states
from bridge.ledger.clock import Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.tables import outbox


@dataclass(slots=True)
class NewMessage:
    """A row to be; everything a person may read is in `before`, `after` and `content`, encrypted."""

    id: int
    effect_key: str
    cls: int
    state: str  # planned, ready, suppressed
    kind: str  # template, text, interactive
    lane_key: str  # blind index of "conversation|<number>|<identity>"
    number: str
    planned_at: int
    config_version: str
    content: bytes
    reason: str | None = None
    before: bytes | None = None
    after: bytes | None = None
    fields: Mapping[str, object] = field(default_factory=dict)  # further clear columns of `outbox`


def add(connection: Connection, crypto: Crypto, ids: Ids, messages: Sequence[NewMessage], now: int) -> set[int]:
    """Insert what its effect key does not know yet and wake the lanes of what is ready; returns the ids inserted."""
    if not messages:
        return set()
    lane_ids = lanes.ensure(connection, ids, "conversation", ((m.lane_key, m.number) for m in messages))
    rows = []
    for message in messages:
        row: dict[str, object] = dict.fromkeys(_OPTIONAL)
        row |= {
            "id": message.id,
            "effect_key": message.effect_key,
            "cls": message.cls,
            "state": message.state,
            "reason": message.reason,
            "kind": message.kind,
            "lane_id": lane_ids[message.lane_key],
            "number": message.number,
            "planned_at": message.planned_at,
            "added_at": now,
            "config_version": message.config_version,
            "changed_at": now,
            "ready_at": now if message.state == "ready" else None,
            "key_id": crypto.key_id,
            "before": crypto.encrypt(message.before, "outbox", "before", message.id) if message.before else None,
            "after": crypto.encrypt(message.after, "outbox", "after", message.id) if message.after else None,
            "content": crypto.encrypt(message.content, "outbox", "content", message.id),
            "quiet": False,
            "cohort": False,
            "attempted": False,
        }
        rows.append(row | dict(message.fields))
    statement = (
        lanes.upsert(connection.dialect.name)(outbox)
        .on_conflict_do_nothing(index_elements=["effect_key"])
        .returning(outbox.c.id)
    )
    inserted = {row[0] for row in connection.execute(statement, rows)}
    if inserted:
        audit.record(connection, row=ids(), at=now, action=audit.PLANNED, count=len(inserted))
    lanes.wake(connection, {lane_ids[m.lane_key] for m in messages if m.state == "ready" and m.id in inserted}, now)
    return inserted


_OPTIONAL = (
    "cause", "ehr", "resource_key", "resource_ref", "revision", "event", "offset", "mapping", "mapping_version",
    "template", "language", "zone", "purpose", "person_id", "patient_id", "identity_id", "answers", "not_before", "not_after",
)  # fmt: skip


def move(
    connection: Connection,
    message_ids: Iterable[int],
    to: str,
    now: int,
    *,
    reason: str | None = None,
    only_from: Sequence[str] | None = None,
    keep_place: bool = False,
) -> set[int]:
    """Change the state of those that may still become `to`; returns which did. Who is missing: somebody was first.

    `keep_place`: `ready` again as if it had never left, before those of its class that became ready later.
    """
    ids = sorted(set(message_ids))
    if not ids:
        return set()
    values: dict[str, object] = {"state": to, "changed_at": now, "reason": reason}
    if to == "ready" and not keep_place:
        values["ready_at"] = now
    rows = connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(ids), outbox.c.state.in_(only_from or states.may_become(to)))
        .values(values)
        .returning(outbox.c.id)
    )
    return {row[0] for row in rows}


def set_many(connection: Connection, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """UPDATE by id, one statement for all; each row has `id` and `columns`."""
    if rows:
        connection.execute(
            update(outbox).where(outbox.c.id == bindparam("b_id")).values({c: bindparam(f"b_{c}") for c in columns}),
            [{"b_id": row["id"]} | {f"b_{c}": row[c] for c in columns} for row in rows],
        )


def lanes_of(connection: Connection, message_ids: Iterable[int]) -> set[int]:
    ids = sorted(set(message_ids))
    return {r[0] for r in connection.execute(select(outbox.c.lane_id).where(outbox.c.id.in_(ids)))} if ids else set()
