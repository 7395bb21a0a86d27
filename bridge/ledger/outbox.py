"""Messages: born once by their effect key, changed only from the states they may come from.

Order. Of the messages of one lane and class, ids and `ready_at` rise in the order of the commits that made them ready, and
a lane's messages leave by class, `ready_at`, id. It holds whatever thread or node they come from, because both are drawn
here while the lane's row is locked, and `ready_at` never below that of a message that already waits there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from bridge.ledger import audit, lanes, states
from bridge.ledger.clock import Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.rows import insert_many, update_many
from bridge.ledger.tables import outbox
from bridge.ledger.words import Words


@dataclass(slots=True)
class NewMessage:
    """A row to be; everything a person may read is in `before`, `after` and `content`, encrypted."""

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
    id: int = field(default=0, init=False)  # given by `add`, in the order in which messages queue


def add(connection: Connection, crypto: Crypto, ids: Ids, messages: Sequence[NewMessage], now: int) -> set[int]:
    """Give ids, insert what its effect key does not know yet and wake the lanes of what is ready; returns the ids inserted.

    Locks the lanes: a caller that locks rows of other tables has locked them before.
    """
    if not messages:
        return set()
    lane_ids = lanes.ensure(connection, ids, "conversation", ((m.lane_key, m.number) for m in messages))
    lanes.lock(connection, sorted(set(lane_ids.values())))
    behind = _behind(connection, {lane_ids[m.lane_key] for m in messages if m.state == "ready"}, now)
    rows = []
    for message in messages:
        message.id = ids()
        rows.append(
            _BLANK
            | {
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
                "ready_at": behind if message.state == "ready" else None,
                "key_id": crypto.key_id,
                "before": crypto.encrypt(message.before, "outbox", "before", message.id) if message.before else None,
                "after": crypto.encrypt(message.after, "outbox", "after", message.id) if message.after else None,
                "content": crypto.encrypt(message.content, "outbox", "content", message.id),
            }
            | dict(message.fields)
        )
    insert_many(connection, outbox, rows, unless="effect_key")
    inserted = set(_THERE.firsts(connection, ids=[message.id for message in messages]))
    if inserted:
        audit.record(connection, row=ids(), at=now, action=audit.PLANNED, count=len(inserted))
    lanes.wake(connection, {lane_ids[m.lane_key] for m in messages if m.state == "ready" and m.id in inserted}, now)
    return inserted


_OPTIONAL = (
    "cause", "ehr", "resource_key", "resource_ref", "revision", "event", "offset", "mapping", "mapping_version",
    "template", "language", "zone", "purpose", "person_id", "patient_id", "identity_id", "answers", "not_before", "not_after",
    "missing", "reply_within",
)  # fmt: skip
_FLAGS = ("quiet", "cohort", "attempted")
_BLANK: dict[str, object] = dict.fromkeys(_OPTIONAL) | dict.fromkeys(_FLAGS, False)
_THERE = Words("SELECT id FROM outbox WHERE id IN :ids")
_NEWEST = Words("SELECT max(ready_at) FROM outbox WHERE lane_id IN :lanes AND state = 'ready'")
_LANES = Words("SELECT DISTINCT lane_id FROM outbox WHERE id IN :ids")
_MOVE = Words(
    "UPDATE outbox SET state = :to_state, changed_at = :now, reason = :reason WHERE id IN :ids AND state IN :only RETURNING id"
)
_QUEUE = Words(
    "UPDATE outbox SET state = :to_state, changed_at = :now, reason = :reason, ready_at = :ready "
    "WHERE id IN :ids AND state IN :only RETURNING id"
)


def _behind(connection: Connection, lane_ids: Collection[int], now: int) -> int:
    """`ready_at` of what becomes ready in these lanes, whose rows are locked: behind all that waits there, even if the clock
    went back in between (another node's database after a failover, a stepped clock and a restart)."""
    if not lane_ids:
        return now
    newest = _NEWEST.firsts(connection, lanes=sorted(lane_ids))[0]
    return max(now, newest + 1) if newest is not None and newest < now + lanes.HORIZON else now


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

    What becomes `ready` locks its lane: a caller that locks rows of other tables has locked it before.
    `keep_place`: `ready` again as if it had never left, before those of its class that became ready later.
    """
    ids = sorted(set(message_ids))
    if not ids:
        return set()
    values = {
        "ids": ids,
        "to_state": to,
        "now": now,
        "reason": reason,
        "only": list(only_from or states.may_become(to)),
    }
    if to != "ready" or keep_place:
        return set(_MOVE.firsts(connection, **values))
    queues = lanes_of(connection, ids)
    lanes.lock(connection, sorted(queues))
    return set(_QUEUE.firsts(connection, ready=_behind(connection, queues, now), **values))


def set_many(connection: Connection, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """UPDATE by id, one statement for all; each row has `id` and `columns`."""
    update_many(connection, outbox, "id", [{name: row[name] for name in ("id", *columns)} for row in rows])


def set_planned(connection: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """The same for those that are still `planned`, one statement for all; every row has the same columns beside `id`."""
    update_many(connection, outbox, "id", rows, where="state = 'planned'")


def lanes_of(connection: Connection, message_ids: Iterable[int]) -> set[int]:
    return set(_LANES.firsts(connection, ids=sorted(set(message_ids))))
