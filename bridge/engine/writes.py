"""Writes to the EHR: commands one by one in order, projections coalesced. Claimed, carried out outside any transaction,
recorded; the patient is told "confirmed" after the EHR's 2xx, "requested" when that takes more than five seconds.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import msgspec
from sqlalchemy import and_, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from bridge.engine import projections
from bridge.engine.answers import Thread, answer, lock_lane
from bridge.engine.carrying import REPLY, Carrying, Outcome
from bridge.engine.reads import Reader
from bridge.engine.site import Site
from bridge.errors import BridgeError, EhrRefused, EhrUnreachable, Overtaken
from bridge.ledger import faults, outbox
from bridge.ledger.clock import SECOND
from bridge.ledger.rounds import Rounds
from bridge.ledger.rows import insert_many
from bridge.ledger.store import passing
from bridge.ledger.tables import mark, resource, write
from bridge.ledger.words import Words

log = logging.getLogger(__name__)

WORKERS = 4  # of each EHR
BATCH = 4  # times as many where the EHR takes a batch Bundle
ROOM = 4 * WORKERS  # writes of one EHR claimed and not done: a command asked for now waits behind these
NO_LONGER = ""  # the share of EHRs that have left the config: what was asked of them is held for a person
TELL_LOOK = SECOND // 2  # between two looks for commands that take long
LEASE = 120 * SECOND  # a command's three reads and writes, each within the client's deadline
TELL_AFTER = 5 * SECOND
LONGEST_BACKOFF = 300
IDLE = 0.2
ROUND = 0.05  # seconds between the beginnings of two rounds: Communications that come together go together
LIVE = text("write.state IN ('asked','sending')")  # as its partial index says it, or every write would be looked at
RECORD_AGAIN = (0.1, 0.3, 1.0, 3.0, 10.0)  # seconds; less than the lease in all


_DUE = (  # its first condition as the partial index says it, or every write would be looked at
    "state IN ('asked','sending') AND next_at <= :now AND (state = 'asked' OR (state = 'sending' AND lease_until <= :now))"
)


def _claims(of: str) -> tuple[Words, Words]:
    """Whether anything is due of some EHRs, and its claim: at most one of each resource, the first that was asked."""
    return Words(f"SELECT id FROM write WHERE {_DUE} {of} LIMIT 1"), Words(  # noqa: S608
        f"SELECT * FROM write WHERE {_DUE} AND kind = :kind {of} AND NOT EXISTS (SELECT 1 FROM write AS earlier "  # noqa: S608
        "WHERE earlier.resource_key = write.resource_key AND earlier.id < write.id "
        "AND earlier.state IN ('asked','sending')) ORDER BY next_at LIMIT :most FOR UPDATE OF write SKIP LOCKED"
    )


# of all EHRs, of one, and of those that have left the config
_OF = {None: _claims(""), False: _claims("AND ehr IN :ehrs"), True: _claims("AND NOT ehr IN :ehrs")}
_CLAIMED = Words(
    "UPDATE write SET state = 'sending', owner = :node, lease_until = :until, attempts = attempts + 1 WHERE id IN :ids"
)
_DONE = Words(
    "UPDATE write SET state = 'done', reason = NULL, owner = NULL, lease_until = 0, settled_at = :now "
    "WHERE id IN :ids AND state = 'sending' RETURNING id"
)
_AGAIN = Words(
    "UPDATE write SET state = 'asked', told = NULL, settled_at = NULL, next_at = :now WHERE id IN :ids AND told = :again"
)


class Writer:
    """The write loop and its pool."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._carrying = Carrying(site, reader)
        # each EHR has threads and room of its own: a slow one must not keep the others' patients waiting
        ehrs = site.settings.ehrs
        self._shares: tuple[str | None, ...] = (*ehrs, NO_LONGER) if len(ehrs) > 1 else (None,)
        self._pools: dict[str | None, Executor] = {
            share: ThreadPoolExecutor(WORKERS, thread_name_prefix=f"write-{share or 'ehr'}") for share in self._shares
        }
        self._flying: Counter[str | None] = Counter()
        self._no_batch: set[str] = set()  # EHRs that refused a batch Bundle
        self._last_told = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._site.wake_writes.set()
        self._thread.join(5)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def _run(self) -> None:
        site = self._site
        rounds = Rounds(ROUND)
        while not site.stopping.is_set():
            site.stopping.wait(rounds.wait())
            rounds.begin()
            site.vitals.beat("writes")
            site.wake_writes.clear()
            try:
                busy = self.once()
                rounds.end()
            except SQLAlchemyError as error:
                log.warning("the write loop met a database error", extra={"error": type(error).__name__})
                site.stopping.wait(0.5)
                continue
            except Exception:
                log.exception("the write loop failed")
                site.stopping.wait(1)
                continue
            if not busy:
                site.wake_writes.wait(IDLE)

    def once(self) -> int:
        """Claim what is due and hand it to the pool."""
        now = self._site.store.now()
        if now - self._last_told >= TELL_LOOK:
            self._tell_requested()
            self._last_told = now
        return sum(self._hand_out(share) for share in self._shares)

    def _hand_out(self, share: str | None) -> int:
        most = self._most(share)
        with self._lock:
            room = most - self._flying[share]
        if room < most // 2:  # half of it is still to do: one claim for many costs less than one for each
            return 0
        rows = self._claim(room, share)
        with self._lock:
            self._flying[share] += len(rows)
        alone, together = self._parted(rows)
        for row in alone:
            self._pools[share].submit(self._work, share, row)
        for ehr, some in together:
            self._pools[share].submit(self._work_together, share, ehr, some)
        if rows:
            faults.point("write_after_claim")
        return len(rows)

    def _most(self, share: str | None) -> int:
        one_by_one = self._no_batch if share is None else share in self._no_batch
        return ROOM if one_by_one else ROOM * BATCH

    def _parted(self, rows: Sequence[Any]) -> tuple[list[Any], list[tuple[str, list[Any]]]]:
        """What is written by itself, and new Communications that go as one batch."""
        alone: list[Any] = []
        by_ehr: dict[str, list[Any]] = {}
        for row in rows:
            first = row.verb == "communication" and row.attempts == 0
            if first and row.ehr in self._site.clients and row.ehr not in self._no_batch:
                by_ehr.setdefault(row.ehr, []).append(row)
            else:
                alone.append(row)
        together: list[tuple[str, list[Any]]] = []
        for ehr, some in by_ehr.items():
            if len(some) == 1:
                alone += some
            else:
                together.append((ehr, some))
        return alone, together

    def _claim(self, room: int, share: str | None) -> list[Any]:
        """Due writes, at most one per resource and in the order asked; a dead owner's are taken over."""
        site = self._site
        words, values = _OF[None], {}
        if share is not None:
            words, values = (
                _OF[share == NO_LONGER],
                {"ehrs": list(site.settings.ehrs) if share == NO_LONGER else [share]},
            )
        any_due, claim = words
        with site.store.read() as connection:
            if any_due.first(connection, now=site.store.now(connection), **values) is None:
                return []
        with site.store.write() as connection:
            now = site.store.now(connection)
            rows: list[Any] = []
            for kind in ("command", "projection"):  # each walks the index of what is due and stops
                if len(rows) < room:
                    rows += claim.rows(connection, now=now, kind=kind, most=room - len(rows), **values)
            _CLAIMED.run(connection, ids=[row.id for row in rows], node=site.node, until=now + LEASE)
            return rows

    def _work(self, share: str | None, row: Any) -> None:
        try:
            outcome = self._carry(row)
            faults.point("write_after_call_before_record")
            self._settle(row, outcome)
        except SQLAlchemyError as error:
            log.warning("a write's outcome waits for its lease", extra={"error": type(error).__name__})
        except Exception:
            log.exception("a write failed", extra={"write": row.id})
        finally:
            self._landed(share, 1)

    def _landed(self, share: str | None, count: int) -> None:
        with self._lock:
            self._flying[share] -= count
            look = self._flying[share] <= self._most(share) // 2
        if look:
            self._site.wake_writes.set()

    def _work_together(self, share: str | None, ehr: str, rows: Sequence[Any]) -> None:
        try:
            outcomes = self._carry_together(ehr, rows)
            faults.point("write_after_call_before_record")
            done = [(row, outcome) for row, outcome in zip(rows, outcomes, strict=True) if outcome is not None]
            self._surely(lambda: self._record_together(done))
            left = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]
            for row in left:  # there already, or refused inside the batch: each for itself, and looked for first
                self._settle(row, self._carry(row, look_first=True))
        except SQLAlchemyError as error:
            log.warning("outcomes of writes wait for their lease", extra={"error": type(error).__name__})
        except Exception:
            log.exception("writes failed", extra={"write": rows[0].id})
        finally:
            self._landed(share, len(rows))

    def _carry_together(self, ehr: str, rows: Sequence[Any]) -> list[Outcome | None]:
        try:
            return self._carrying.carry_together(ehr, rows)
        except EhrUnreachable as error:
            reason = f"the EHR cannot be reached: {error}"
            return [Outcome("asked", reason, retry_after=error.retry_after) for _ in rows]
        except EhrRefused:
            self._no_batch.add(ehr)
            log.info("this EHR takes no batch: Communications go one by one", extra={"ehr": ehr})
        except Exception:
            log.exception("carrying out writes failed", extra={"write": rows[0].id})
        return [None for _ in rows]

    def _carry(self, row: Any, *, look_first: bool = False) -> Outcome:
        try:
            return self._carrying.carry(row, look_first=look_first)
        except EhrUnreachable as error:
            return Outcome("asked", f"the EHR cannot be reached: {error}", retry_after=error.retry_after)
        except EhrRefused as error:
            failed = Outcome("refused", str(error))
        except BridgeError as error:
            failed = Outcome("held", str(error))
        except Exception as error:
            log.exception("carrying out a write failed", extra={"write": row.id})
            failed = Outcome("held", f"could not be carried out: {type(error).__name__}")
        return self._carrying.not_done(row, failed) if row.verb in REPLY else failed

    def _settle(self, row: Any, outcome: Outcome) -> None:
        self._surely(lambda: self._record(row, outcome))

    def _surely(self, record: Callable[[], None]) -> None:
        """The EHR has answered: what it said is not thrown away because the database is busy or away for a moment."""
        for wait in RECORD_AGAIN:
            try:
                record()
                return
            except SQLAlchemyError as error:
                if not passing(error):
                    raise
                log.warning("a write's outcome is recorded again", extra={"error": type(error).__name__})
                self._site.stopping.wait(wait)
        record()

    def _record_together(self, results: Sequence[tuple[Any, Outcome]]) -> None:
        """Communications that are done, in a handful of statements; whatever else came of one is recorded by itself."""
        done = {row.id: (row, outcome) for row, outcome in results if outcome.state == "done"}
        if done:
            with self._site.store.write() as connection:
                now = self._site.store.now(connection)
                changed = sorted(_DONE.firsts(connection, ids=sorted(done), now=now))
                self._again(connection, changed, now)
                self._remember(connection, [done[i] for i in changed], now)
        for row, outcome in results:
            if row.id not in done:
                self._record(row, outcome)

    def _record(self, row: Any, outcome: Outcome) -> None:
        site = self._site
        wanted = self._wanted(row) if row.kind == "command" and outcome.reply is not None else None
        try:
            with site.store.write() as connection:
                self._record_in(connection, row, outcome, wanted)
        except Overtaken:
            return  # somebody else took it over and was first: nothing of ours stands
        if row.kind == "command":  # it has told the patient, or asked for a read
            site.wake_sender()
            site.wake_apply.set()

    def _record_in(self, connection: Any, row: Any, outcome: Outcome, wanted: Mapping[str, Any] | None) -> None:
        """Lane, resource, outbox, and the write's own row last: the order of locks everywhere.

        Raises: Overtaken when the write is not ours any more; the transaction must not be committed.
        """
        site, known = self._site, True
        if wanted is not None:
            lock_lane(connection, site, _thread(wanted))
        now = site.store.now(connection)
        if row.kind == "command":
            locked = select(resource.c.key).where(resource.c.key == row.resource_key).with_for_update()
            known = connection.execute(locked).first() is not None
        if outcome.apply is not None:
            outcome.apply(connection, now)
        if wanted is not None and outcome.reply is not None:
            self._tell(connection, row, wanted, outcome.reply, outcome.fields, now)
        values: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason, "owner": None, "lease_until": 0}
        if outcome.state == "asked":
            wait = min(2 ** min(row.attempts, 12), LONGEST_BACKOFF)
            values["next_at"] = now + int(max(wait, outcome.retry_after or 0) * SECOND)
        else:
            values["settled_at"] = now
            if row.kind == "command" and (known or outcome.state != "done"):
                values["echo"] = None  # what the EHR showed of it is applied with this, or it never came to be
        if row.kind == "command" and outcome.reply is not None:
            values["told"] = "outcome"
        ours = update(write).where(write.c.id == row.id, write.c.state == "sending")
        if connection.execute(ours.values(**values)).rowcount != 1:
            raise Overtaken(f"write {row.id} was recorded by somebody else")
        if row.kind == "projection" and outcome.state == "done":
            self._again(connection, [row.id], now)
            self._remember(connection, [(row, outcome)], now)
        if outcome.state in ("held", "refused"):
            site.alarm(connection, f"write {row.id}", "a write to the EHR did not happen", verb=row.verb)

    @staticmethod
    def _remember(connection: Any, results: Sequence[tuple[Any, Outcome]], now: int) -> None:
        """Where the EHR keeps our Communications: the next change of one goes there."""
        kept = [
            {"key": f"communication:{row.message_id}", "value": outcome.known, "at": now}
            for row, outcome in results
            if outcome.known is not None
        ]
        insert_many(connection, mark, kept, unless="key")

    @staticmethod
    def _again(connection: Any, ids: Sequence[int], now: int) -> None:
        """What it tells has changed while it was being written."""
        _AGAIN.run(connection, ids=list(ids), again=projections.AGAIN, now=now)

    def _wanted(self, row: Any) -> dict[str, Any] | None:
        """What a command says, read before any transaction; None where it cannot be read: it must not stop the others."""
        try:
            decoded: dict[str, Any] = msgspec.json.decode(
                self._site.crypto.decrypt(row.wanted, row.key_id, "write", "wanted", row.id)
            )
        except BridgeError:
            return None
        return decoded

    def _tell_requested(self) -> None:
        """Commands that take long: the patient reads that we have it, and later what came of it."""
        site = self._site
        with site.store.read() as connection:
            now = site.store.now(connection)
            slow = and_(
                LIVE,
                write.c.kind == "command",
                write.c.verb.in_(("confirm", "cancel")),
                write.c.state.in_(("asked", "sending")),
                write.c.told.is_(None),
                write.c.asked_at <= now - TELL_AFTER,
            )
            rows = connection.execute(select(write).where(slow).limit(50)).all()
        if not rows:
            return
        told = {row.id: (row, self._wanted(row)) for row in rows}
        with site.store.write() as connection:
            lock_lane(connection, site, *(_thread(wanted) for _, wanted in told.values() if wanted is not None))
            now = site.store.now(connection)
            # an outcome is told under the lane's lock too: what is untold now stays so until we have committed
            untold = and_(write.c.told.is_(None), write.c.state.in_(("asked", "sending")), write.c.id.in_(list(told)))
            still = connection.execute(select(write.c.id).where(untold).order_by(write.c.id)).scalars().all()
            for row, wanted in (told[i] for i in still):
                if wanted is not None:
                    self._tell(connection, row, wanted, "requested", {}, now)
            said = update(write).where(write.c.id.in_(still), write.c.told.is_(None))
            connection.execute(said.values(told="requested"))
        site.wake_sender()

    def _tell(
        self, connection: Any, row: Any, wanted: Mapping[str, Any], reply_id: str, fields: Mapping[str, str], now: int
    ) -> None:
        site = self._site
        message = answer(
            site, _thread(wanted), key=f"write|{row.id}|{reply_id}", reply_id=reply_id,
            fields={"day": wanted["day"], "time": wanted["time"]} | dict(fields), turn=row.turn_id,
        )  # fmt: skip
        outbox.add(connection, site.crypto, site.ids, [message], now)


def _thread(wanted: Mapping[str, Any]) -> Thread:
    """The conversation in which a command was said."""
    return Thread(wanted["number"], wanted["lane_key"], wanted["wa_id"], wanted["user_id"], wanted["language"])
