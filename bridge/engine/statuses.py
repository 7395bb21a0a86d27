"""Statuses settle messages: folded per message in memory, one UPDATE for each that moves, forward only.

A status proves acceptance whatever the POST's answer was: it settles `sending`, `doubt` and `held`. One that names no
message of ours waits a minute (its POST's answer may be on its way) and is then ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, literal, or_, select, update

from bridge.engine import persons, projections
from bridge.engine.fates import Fate, settle
from bridge.engine.recorded import decide_again
from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.inbound.providers.cloud_api import update_from_stored
from bridge.inbound.providers.updates import Status
from bridge.ledger import faults, keys, lanes, optouts, states, tokens
from bridge.ledger.clock import SECOND
from bridge.ledger.rows import update_many
from bridge.ledger.store import passing
from bridge.ledger.tables import identity, inbox
from bridge.ledger.tables import outbox as outbox_table
from bridge.ledger.words import Words
from bridge.outbound.record import alarm_twice

log = logging.getLogger(__name__)

STRANGER_WAITS = 60 * SECOND
SETTLES = frozenset({"delivered", "read", "played", "failed"})
COLUMN = {"sent": "sent_at", "delivered": "delivered_at", "read": "read_at", "played": "read_at"}


_BY_WAMID = Words("SELECT wamid, message, n FROM attempt WHERE wamid IN :wamids")
_MESSAGES = Words(
    "SELECT id, state, lane_id, person_id, ehr, patient_id, answers, resource_key, identity_id FROM outbox WHERE id IN :messages "
    "ORDER BY id FOR UPDATE"
)
_DOUBTS = Words("SELECT lane_id FROM outbox WHERE id IN :messages AND state = 'doubt'")
_NEWEST = Words("SELECT message, max(n) FROM attempt WHERE message IN :messages GROUP BY message")
_UNPROVED = Words(
    "SELECT message, n FROM attempt WHERE message IN :messages AND (outcome IS NULL OR outcome != 'accepted')"
)
_PROVE = Words(
    "UPDATE attempt SET outcome = 'accepted', wamid = :wamid, ended_at = :now "
    "WHERE message = :message AND n = :n AND (outcome IS NULL OR outcome != 'accepted')"
)


@dataclass(slots=True)
class _Seen:
    event: int
    status: Status
    message: int | None
    n: int | None


class Statuses:
    """Applies waiting statuses in batches."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def run(self, limit: int) -> int:
        """One batch; returns how many statuses got their fate."""
        site = self._site
        now = site.store.now()
        with site.store.read() as connection:
            due = or_(inbox.c.next_try.is_(None), inbox.c.next_try <= now)
            rows = connection.execute(
                select(inbox.c.id, inbox.c.body, inbox.c.key_id, inbox.c.received_at)
                .where(inbox.c.fate.is_(None), inbox.c.kind == "status", due)
                .where(*site.share("apply").mine(None, inbox.c.id))
                .order_by(inbox.c.id)
                .limit(limit)
            ).all()
            if not rows:
                return 0
            seen, fates = self._read(rows)
            self._by_wamid(connection, seen)
        strangers = [s for s in seen if s.message is None]
        received = {row.id: row.received_at for row in rows}
        late = [s for s in strangers if now - received[s.event] >= STRANGER_WAITS]
        fates += [Fate(s.event, "ignored", "names no message of ours") for s in late]
        early = [s.event for s in strangers if now - received[s.event] < STRANGER_WAITS]
        known = [s for s in seen if s.message is not None]
        try:
            self._apply(known, fates, early)
        except Exception as error:
            if passing(error):
                raise
            self._apply([], [*fates, *self._one_by_one(known)], early)
        return len(fates) + len(seen) - len(strangers)

    def _one_by_one(self, seen: Sequence[_Seen]) -> list[Fate]:
        """What could not be applied together; returns the fates of those to blame."""
        failed: list[Fate] = []
        for s in seen:
            try:
                self._apply([s], [], [])
            except Exception as error:
                if passing(error):
                    raise
                log.exception("a status could not be applied", extra={"event": f"evt_{s.event}"})
                failed.append(Fate(s.event, "failed", f"applying failed: {type(error).__name__}"))
        if failed:
            with self._site.store.write() as connection:
                for fate in failed:
                    self._site.alarm(connection, f"evt_{fate.event}", "a status could not be applied")
        return failed

    def _read(self, rows: Sequence[Any]) -> tuple[list[_Seen], list[Fate]]:
        seen: list[_Seen] = []
        fates: list[Fate] = []
        for row in rows:
            try:
                status = update_from_stored(self._site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id))
            except (BridgeError, ValueError, KeyError, TypeError) as error:
                fates.append(Fate(row.id, "failed", f"its row cannot be read: {type(error).__name__}"))
                continue
            if not isinstance(status, Status):
                fates.append(Fate(row.id, "failed", "not a status"))
                continue
            named = tokens.read_callback(status.callback_data)
            seen.append(_Seen(row.id, status, *(named or (None, None))))
        return seen, fates

    def _by_wamid(self, connection: Any, seen: Sequence[_Seen]) -> None:
        unknown = {
            self._site.crypto.index(keys.wamid(s.status.id)): s for s in seen if s.message is None and s.status.id
        }
        if not unknown:
            return
        found = {row.wamid: (row.message, row.n) for row in _BY_WAMID.rows(connection, wamids=list(unknown))}
        for s in seen:
            if s.message is None and s.status.id:
                hit = found.get(self._site.crypto.index(keys.wamid(s.status.id)))
                if hit is not None:
                    s.message, s.n = hit

    def _apply(self, seen: Sequence[_Seen], known: Sequence[Fate], early: Sequence[int]) -> None:
        site, fates = self._site, list(known)
        ids = sorted({s.message for s in seen if s.message is not None})
        with site.store.write() as connection:
            now, business = site.store.now(connection), site.clock.now_us()
            self._lock_lanes(connection, ids)
            rows: dict[int, Any] = {}
            for start in range(0, len(ids), 500):
                rows |= {row.id: row for row in _MESSAGES.rows(connection, messages=ids[start : start + 500])}
            newest = self._newest(connection, {s.message for s in seen if s.status.status == "failed" and s.message})
            changes: dict[int, dict[str, Any]] = {}
            attempts: dict[tuple[int, int], str] = {}
            links: dict[tuple[int, str], int] = {}  # (person, user id) -> the identity it was sent to
            stopped: set[int] = set()
            for s in seen:
                row = rows.get(s.message or 0)
                if row is None:
                    fates.append(Fate(s.event, "ignored", "names no message of ours"))
                    continue
                if s.status.status != "failed" or s.n is None or s.n >= newest.get(row.id, 0):
                    self._fold(s, row, changes, business)  # an earlier try that failed says nothing of the later one
                if s.status.status in states.RANK and s.status.id and s.n is not None:
                    attempts[(row.id, s.n)] = s.status.id
                if s.status.recipient_user_id and row.person_id is not None and row.identity_id is not None:
                    links[(row.person_id, s.status.recipient_user_id)] = row.identity_id
                if s.status.status == "failed" and s.status.errors[:1] == (optouts.CODE,):
                    stopped.add(row.id)
                fates.append(Fate(s.event, "applied", s.status.status if s.status.status in _WORDS else "status"))
            self._write(connection, rows, changes, now)
            self._prove(connection, attempts, now)
            persons.learn(connection, site, self._theirs(connection, links))
            optouts.record(connection, site.ids, stopped, business)
            lanes.wake(connection, {rows[i].lane_id for i, c in changes.items() if rows[i].state == "doubt"}, now)
            self._communications(connection, rows, changes, now)
            settle(connection, fates, now)
            if early:
                connection.execute(
                    update(inbox)
                    .where(inbox.c.id.in_(early), inbox.c.fate.is_(None))
                    .values(
                        reason="names no message of ours yet",
                        next_try=now + (literal(2 * SECOND, BigInteger).op("<<")(inbox.c.tries)),  # 2, 4, 8 … s
                        tries=inbox.c.tries + 1,
                    )
                )
            faults.point("status_before_commit")
        faults.point("status_after_commit")
        decide_again(site, [i for i, change in changes.items() if change["state"] == "failed"])
        if changes:
            site.wake_writes.set()
        if any(rows[i].state == "doubt" for i in changes):
            site.wake_sender()  # its lane is free again

    @staticmethod
    def _theirs(connection: Any, links: dict[tuple[int, str], int]) -> dict[tuple[int, str], str]:
        """Links through a number that is still this person's: a late status of an old number says nothing of them now."""
        if not links:
            return {}
        current = select(identity.c.id).where(
            identity.c.id.in_(sorted(set(links.values()))), identity.c.until.is_(None)
        )
        still = set(connection.execute(current).scalars())
        return {link: "webhook" for link, through in links.items() if through in still}

    @staticmethod
    def _lock_lanes(connection: Any, ids: Sequence[int]) -> None:
        """A doubt that ends wakes its lane, and lanes come first in the order of locks."""
        if connection.dialect.name == "sqlite":
            return
        doubts: set[int] = set()
        for start in range(0, len(ids), 500):
            doubts.update(_DOUBTS.firsts(connection, messages=ids[start : start + 500]))
        lanes.lock(connection, sorted(doubts))

    @staticmethod
    def _fold(s: _Seen, row: Any, changes: dict[int, dict[str, Any]], business: int) -> None:
        change = changes.get(row.id, {})
        current = change.get("state", row.state)
        status = s.status.status or ""
        at = s.status.timestamp * SECOND if s.status.timestamp else business
        merged = states.merge_status(current, status)
        if merged is None and status not in COLUMN:
            return
        if merged is not None:
            change["state"] = merged
            if merged == "failed":
                code = s.status.errors[0] if s.status.errors else None
                change["reason"] = (
                    f"WhatsApp could not deliver it (code {code})" if code else "WhatsApp could not deliver it"
                )
            else:
                change["reason"] = None
        if status in COLUMN:
            change.setdefault(COLUMN[status], at)
        change.setdefault("state", current)
        changes[row.id] = change

    @staticmethod
    def _write(connection: Any, rows: dict[int, Any], changes: dict[int, dict[str, Any]], now: int) -> None:
        moved = []
        for message, change in changes.items():
            values: dict[str, Any] = {"id": message, **{name: change[name] for name in sorted(change)}}
            if values["state"] == rows[message].state:
                values.pop("state")
            else:
                values["changed_at"] = now
            moved.append(values)
        update_many(connection, outbox_table, "id", moved)

    @staticmethod
    def _newest(connection: Any, messages: set[int]) -> dict[int, int]:
        """The newest attempt of each message."""
        return dict(_NEWEST.rows(connection, messages=sorted(messages)))

    def _prove(self, connection: Any, attempts: dict[tuple[int, int], str], now: int) -> None:
        """The attempt that a status names was accepted, whatever became of its answer."""
        messages = sorted({message for message, _ in attempts})
        unproved: set[tuple[int, int]] = set()
        for start in range(0, len(messages), 500):
            unproved |= set(_UNPROVED.rows(connection, messages=messages[start : start + 500]))
        attempts = {key: wamid for key, wamid in attempts.items() if key in unproved}
        if not attempts:
            return
        index = self._site.crypto.index
        _PROVE.many(
            connection,
            [
                {"message": m, "n": n, "wamid": index(keys.wamid(wamid)), "now": now}
                for (m, n), wamid in sorted(attempts.items())
            ],
        )
        alarm_twice(connection, self._site.ids, {message for message, _ in attempts}, now)

    def _communications(
        self, connection: Any, rows: dict[int, Any], changes: dict[int, dict[str, Any]], now: int
    ) -> None:
        """A message that has settled is to stand in the EHR as a Communication: one projection row, coalesced."""
        due = [
            rows[i] for i, c in changes.items()
            if c["state"] in SETTLES and rows[i].state not in (SETTLES - {"failed"}) and rows[i].ehr is not None
        ]  # fmt: skip
        projections.ask(connection, self._site, due, now)


_WORDS = {"sent", "delivered", "read", "played", "failed", "deleted", "warning"}
