"""What became of a POST, merged whenever it comes and whoever holds the lane: the epoch protects the lane, never the outcome.

Proof of acceptance wins over `sending`, `doubt`, `held` and a later try still `ready`. A refusal or a doubt changes the
message only if this attempt is its newest; an unknown outcome is never tried again by us.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, select, update

from bridge.ledger import audit, keys, lanes, optouts, outbox, states
from bridge.ledger.clock import SECOND, Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.tables import attempt, lane, number
from bridge.ledger.tables import outbox as outbox_table
from bridge.ledger.words import Words
from bridge.outbound.reactions import Reaction

log = logging.getLogger(__name__)

MAX_TRIES = 6  # of refusals that may pass: 5 s doubling, about 5 minutes
BACKOFF = 5 * SECOND
LONGEST_BACKOFF = 600 * SECOND
UNREACHABLE = 2 * SECOND
FLYING = ("sending", "doubt")  # a doubt of a lane taken over ends when its own POST says what became of it


_MESSAGES = Words(
    "SELECT id, state, lane_id, number, tries, cls FROM outbox WHERE id IN :messages ORDER BY id FOR UPDATE"
)
_NEWEST = Words("SELECT message, max(n) FROM attempt WHERE message IN :messages GROUP BY message")
_ACCEPTED = Words(
    "UPDATE attempt SET ended_at = :now, outcome = :outcome, http = :http, code = :code, wamid = :wamid, key_id = :key_id, "
    "body = :body WHERE message = :message AND n = :n"
)
_ENDED = Words(
    "UPDATE attempt SET ended_at = :now, outcome = :outcome, http = :http, code = :code, wamid = :wamid, key_id = :key_id, "
    "body = :body WHERE message = :message AND n = :n AND (outcome IS NULL OR outcome != 'accepted')"
)
_IS_ACCEPTED = Words(
    "UPDATE outbox SET state = 'accepted', changed_at = :now, reason = NULL, accepted_at = :business "
    "WHERE id IN :messages AND state = :state"
)
_RECOVERED = Words("UPDATE number SET reason = NULL, paused_until = 0 WHERE key IN :numbers AND reason IS NOT NULL")
_TWICE = Words(
    "SELECT message, count(*) FROM attempt WHERE message IN :messages AND outcome = 'accepted' "
    "GROUP BY message HAVING count(*) > 1"
)
_SENDING = Words("SELECT id FROM outbox WHERE lane_id IN :lanes AND state = 'sending'")


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one attempt. `lane_id` is None for an outcome that holds no lane (a status webhook, a late answer)."""

    message: int
    n: int
    outcome: Literal["accepted", "refused", "doubt", "taken_back"]
    lane_id: int | None = None
    epoch: int | None = None
    http: int | None = None
    code: int | None = None
    reaction: Reaction | None = None
    reason: str | None = None
    wamid: str | None = None
    user_id: str | None = None
    unreachable: bool = False  # no connection: every other message of this number would meet the same


class Recorder:
    """Writes results in batches, inside a transaction that the caller opens."""

    def __init__(self, crypto: Crypto, ids: Ids) -> None:
        self._crypto = crypto
        self._ids = ids

    def run(self, connection: Connection, results: Sequence[Result], *, now: int, business: int) -> set[int]:
        """Merge results; returns the lanes to wake (the caller releases those it holds)."""
        if not results:
            return set()
        held = {r.lane_id for r in results if r.lane_id is not None}
        lanes.lock(connection, sorted(held))
        ids = sorted({r.message for r in results})
        rows = {row.id: row for row in _MESSAGES.rows(connection, messages=ids)}
        newest = dict(_NEWEST.rows(connection, messages=ids))
        self._attempts(connection, results, now)
        self._accepted(connection, [r for r in results if r.outcome == "accepted"], rows, now, business)
        for result in results:
            row = rows.get(result.message)
            if row is None or result.outcome == "accepted" or result.n != newest.get(result.message):
                continue
            if result.outcome == "doubt":
                outbox.move(connection, [row.id], "doubt", now, reason=result.reason, only_from=("sending",))
            elif result.outcome == "taken_back":
                self._again(connection, row, now, result.reason)
                if result.unreachable:
                    pause(connection, row.number, now + UNREACHABLE, "WhatsApp cannot be reached")
            else:
                self._refused(connection, result, row, now)
        stopped = {r.message for r in results if r.reaction is not None and r.reaction.kind == "optout"}
        optouts.record(connection, self._ids, stopped & set(rows), business)
        return {row.lane_id for row in rows.values()}

    # --- by outcome ------------------------------------------------------------------------------------------------

    def _attempts(self, connection: Connection, results: Sequence[Result], now: int) -> None:
        crypto = self._crypto
        changes = []
        for r in results:
            body = None
            if r.wamid is not None:
                row = f"{r.message}.{r.n}"
                body = crypto.encrypt(msgspec.json.encode({"wamid": r.wamid}), "attempt", "body", row)
            changes.append({
                "message": r.message, "n": r.n, "now": now, "outcome": r.outcome, "http": r.http,
                "code": None if r.code is None else str(r.code),
                "wamid": crypto.index(keys.wamid(r.wamid)) if r.wamid is not None else None,
                "key_id": crypto.key_id if body is not None else None, "body": body,
            })  # fmt: skip
        _ACCEPTED.many(connection, [c for c in changes if c["outcome"] == "accepted"])
        # what a status has proved in the meantime is not unsaid by a lost answer
        _ENDED.many(connection, [c for c in changes if c["outcome"] != "accepted"])

    def _accepted(
        self, connection: Connection, results: Sequence[Result], rows: dict[int, Any], now: int, business: int
    ) -> None:
        by_state: dict[str, list[int]] = {}
        for result in results:
            row = rows.get(result.message)
            if row is not None and states.merge_status(row.state, "accepted") == "accepted":
                by_state.setdefault(row.state, []).append(row.id)
        for state, ids in by_state.items():
            _IS_ACCEPTED.run(connection, messages=ids, state=state, now=now, business=business)
        if results:
            _RECOVERED.run(connection, numbers=sorted({rows[r.message].number for r in results if r.message in rows}))
            alarm_twice(connection, self._ids, {r.message for r in results}, now)

    @staticmethod
    def _again(connection: Connection, row: Any, now: int, reason: str | None) -> None:
        """Back into the queue, at its old place: it never left us, or nobody could have taken it."""
        outbox.move(connection, [row.id], "ready", now, reason=reason, only_from=FLYING, keep_place=True)

    def _refused(self, connection: Connection, result: Result, row: Any, now: int) -> None:
        reaction = result.reaction
        reason = result.reason
        if reaction is not None and reaction.alarm and reaction.kind != "alarm_stop":
            audit.record(
                connection, row=self._ids(), at=now, action=audit.ALARM, subject=f"msg_{row.id}",
                detail={"why": reason, "code": result.code},
            )  # fmt: skip
        if reaction is None or reaction.final:
            outbox.move(connection, [row.id], "failed", now, reason=reason, only_from=FLYING)
            return
        if reaction.kind == "unsure":
            outbox.move(connection, [row.id], "doubt", now, reason=reason, only_from=("sending",))
            return
        if reaction.scope == "number" or reaction.kind == "alarm_stop":
            wait = max(int((reaction.seconds or 60) * SECOND), SECOND)
            pause(connection, row.number, now + min(wait, 300 * SECOND), reason)
            self._again(connection, row, now, reason)
            if reaction.kind == "alarm_stop":
                audit.record(
                    connection, row=self._ids(), at=now, action=audit.ALARM, subject=f"number {row.number}",
                    detail={"why": reason, "code": result.code},
                )  # fmt: skip
            return
        tries = row.tries + 1
        if tries > (reaction.tries if reaction.tries is not None else MAX_TRIES):
            outbox.move(
                connection, [row.id], "failed", now, reason=f"{reason}; tried {tries} times", only_from=("sending",)
            )
            return
        if reaction.kind == "pair":
            wait = min(4 ** (tries - 1) * SECOND * 6, LONGEST_BACKOFF)
            connection.execute(update(lane).where(lane.c.id == row.lane_id).values(free_at=now + wait))
        else:
            wait = max(min(BACKOFF * 2 ** (tries - 1), LONGEST_BACKOFF), int((reaction.seconds or 0) * SECOND))
        if outbox.move(connection, [row.id], "planned", now, reason=reason, only_from=("sending",)):
            outbox.set_many(
                connection,
                [{"id": row.id, "retry_at": now + wait, "tries": tries, "attempted": True}],
                ["retry_at", "tries", "attempted"],
            )


def pause(connection: Connection, name: str, until: int, reason: str | None) -> None:
    """Our number stands still until a machine time (µs); with a reason it is then tried one message a second."""
    statement = lanes.upsert(connection.dialect.name)(number).values(key=name, paused_until=until, reason=reason)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={"paused_until": statement.excluded.paused_until, "reason": statement.excluded.reason},
        )
    )


def alarm_twice(connection: Connection, ids: Ids, messages: Collection[int], now: int) -> None:
    """Two accepted attempts of one message are what must never be: shown, and a person is told."""
    for message, count in _TWICE.rows(connection, messages=sorted(messages)):
        subject = f"msg_{message}"
        audit.record(
            connection, row=ids(), at=now, action=audit.ALARM, subject=subject, count=count,
            detail={"why": "two attempts of one message were accepted"},
        )  # fmt: skip
        log.error("two attempts of one message were accepted", extra={"message_id": subject})


def to_doubt(connection: Connection, lane_ids: Iterable[int], now: int, *, reason: str) -> set[int]:
    """`sending` rows of lanes whose holder is gone: nobody knows whether a byte left, so they are in doubt.

    Returns the messages.
    """
    ids = sorted(set(lane_ids))
    lost = set(_SENDING.firsts(connection, lanes=ids))
    return _doubt(connection, lost, now, reason=reason)


def orphans(connection: Connection, node: str, flying: Collection[int] = ()) -> list[Any]:
    """Attempts of this node without an end, but for those of messages that are `flying`: message, n, lane_id."""
    open_ends = (
        select(attempt.c.message, attempt.c.n, outbox_table.c.lane_id)
        .join(outbox_table, outbox_table.c.id == attempt.c.message)
        .where(outbox_table.c.state == "sending", attempt.c.node == node, attempt.c.outcome.is_(None))
        .order_by(attempt.c.message)
    )
    return [row for row in connection.execute(open_ends) if row.message not in flying]


def take_over(connection: Connection, node: str, now: int) -> set[int]:
    """The first thing a new life of a node does: its last life's leases end, what that was sending is in doubt at once.

    Returns the messages in doubt. Nobody waits for a lease of somebody who is known to be dead.
    """
    lanes.forget_node(connection, node)
    left = orphans(connection, node)
    lost = _doubt(connection, {row.message for row in left}, now, reason="this engine died while it was sending it")
    lanes.wake(connection, {row.lane_id for row in left}, now)
    return lost


def _doubt(connection: Connection, messages: Collection[int], now: int, *, reason: str) -> set[int]:
    lost = outbox.move(connection, messages, "doubt", now, reason=reason, only_from=("sending",))
    if lost:
        connection.execute(
            update(attempt)
            .where(attempt.c.message.in_(sorted(lost)), attempt.c.outcome.is_(None))
            .values(outcome="doubt", ended_at=now)
        )
    return lost
