"""Applying: acknowledged events become fates, messages, writes and consents. One thread, one transaction a batch.

Order: what patients wrote, then what EHRs pushed, then statuses. Everything is decided outside the transaction against
a snapshot; a group whose snapshot no longer holds is left for the next round. A batch that fails is retried group by
group, and the one to blame ends as `failed` with an alarm while the others go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bridge.engine import accounts, people_events, persons, replies, statuses
from bridge.engine.braking import Braking
from bridge.engine.fates import Fate, settle, unsettled
from bridge.engine.fates import wait as put_off
from bridge.engine.fetching import Fetching, snapshots
from bridge.engine.news import Change, News, Snapshot
from bridge.engine.pokes import Pokes
from bridge.engine.reads import Reader
from bridge.engine.site import Site
from bridge.engine.truth import Event, Group, Judge, Pending, Truth, Waiting
from bridge.errors import Overtaken
from bridge.ledger import faults, lanes, outbox, rows
from bridge.ledger.clock import SECOND
from bridge.ledger.rounds import Rounds
from bridge.ledger.states import RECALLABLE
from bridge.ledger.store import passing
from bridge.ledger.tables import consent, mark, resource, write
from bridge.ledger.words import Words
from bridge.mappers.events import RESOURCES

log = logging.getLogger(__name__)

GROUPS = 200  # resources of one batch
ASIDE = 400  # resources that wait for a read at once: reading further ahead would let answers grow stale
STATUSES = 1000
RESTORED_ONCE = 24 * 3600 * SECOND  # what a restored backup brings back within a day is one restoration
IDLE = 0.1  # seconds
ROUND = 0.02  # seconds between the beginnings of two rounds: what comes together is applied together
FULL = 100  # events of one round that make a batch worth its statements

_KINDS = ("message", "notification", "hint", "status", "account")
_WAITING = Words(
    "SELECT "  # noqa: S608
    + ", ".join(f"EXISTS (SELECT 1 FROM inbox WHERE fate IS NULL AND kind = '{kind}') AS {kind}" for kind in _KINDS)  # noqa: S608
)
_REVISIONS = Words("SELECT key, revision FROM resource WHERE key IN :keys ORDER BY key FOR UPDATE")
_STATES = Words("SELECT id, state FROM outbox WHERE id IN :messages ORDER BY id FOR UPDATE")

T = TypeVar("T")


class Applier:
    """The apply loop."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._judge = Judge(site, reader)
        self._statuses = statuses.Statuses(site)
        self._replies = replies.Replies(site, reader)
        self._accounts = accounts.Accounts(site)
        self._pokes = Pokes(site, reader)
        self._braking = Braking(site)
        self._fetching = Fetching(site, reader)
        self.further: list[Callable[[], int]] = []  # what else must run in this loop's thread: `bridge prime`
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._site.wake_apply.set()
        self._thread.join(10)

    def answered(self) -> None:
        """A read came back: what waits for it may go on."""
        self._site.wake_apply.set()

    def _run(self) -> None:
        site = self._site
        rounds, done = Rounds(ROUND), 0
        while not site.stopping.is_set():
            site.stopping.wait(rounds.wait(full=done >= FULL))
            rounds.begin()
            site.vitals.beat("apply")
            site.wake_apply.clear()
            done = self.once()
            rounds.end()
            if not done:
                site.wake_apply.wait(IDLE)

    def once(self) -> int:
        """One round; returns how many events were applied."""
        done = 0
        steps: dict[str, Callable[[], int]] = {
            "message": self._replies.run,
            "event": self._events,
            "status": lambda: self._statuses.run(STATUSES),
            "account": self._accounts.run,
        }
        waiting = self._waiting()
        for step in (*(run for kind, run in steps.items() if kind in waiting), *self.further):
            try:
                done += step()
            except SQLAlchemyError as error:
                log.warning("apply met a database error", extra={"error": type(error).__name__}, exc_info=True)
                self._site.stopping.wait(0.2)
            except Exception:  # what one step cannot do must not keep the others from their work
                log.exception("apply failed")
                self._site.stopping.wait(0.2)
        return done

    def _waiting(self) -> set[str]:
        """What kinds of rows wait, asked in one query: most rounds are about one of them."""
        try:
            with self._site.store.read() as connection:
                row = _WAITING.first(connection)
        except SQLAlchemyError:
            return {"message", "event", "status", "account"}  # each step says for itself what is wrong
        found = {kind for kind, there in zip(_KINDS, row, strict=True) if there}
        return found | ({"event"} if found & {"notification", "hint"} else set())

    # --- events of EHRs --------------------------------------------------------------------------------------------

    def _events(self) -> int:
        rows = self._fetching.rows()
        if not rows:
            return 0
        groups, broken, pokes = self._fetching.groups(rows)
        done = self._settle(broken)
        done += self._one_by_one(self._pokes.run, pokes, lambda event: [event])
        people = [g for g in groups if g.reference.split("/")[0] in people_events.TYPES]
        others = [g for g in groups if g.reference.split("/")[0] in RESOURCES]
        done += self._run_groups(others)
        done += self._one_by_one(
            lambda some: people_events.run(self._site, self._reader, some, self.wait),
            people,
            lambda group: group.events,
        )
        return done

    def _one_by_one(
        self, run: Callable[[Sequence[T]], int], items: Sequence[T], events: Callable[[T], Sequence[Event]]
    ) -> int:
        """All together; what fails together is tried one by one, and the one to blame ends as failed."""
        try:
            return run(items) if items else 0
        except Exception as error:
            if passing(error):
                raise
            if len(items) > 1:
                return sum(self._one_by_one(run, [item], events) for item in items)
            return self._blame(events(items[0]), error)

    def _blame(self, events: Sequence[Event], error: Exception) -> int:
        log.exception("applying failed", extra={"events": [f"evt_{event.id}" for event in events]})
        return self._settle([Fate(e.id, "failed", f"applying failed: {type(error).__name__}") for e in events])

    def _run_groups(self, groups: Sequence[Group]) -> int:
        if not groups:
            return 0
        found = snapshots(self._site.store, [group.key for group in groups])
        primed, priming = self._fetching.primed()
        people = persons.People(self._site)
        people.expect(self._fetching.patients(groups))
        news = News(self._site, self._reader, people)
        with self._reader.gathered():
            decidable = [g for g in groups if not self._lacks(g, found[g.key], news, primed)]
        changes: list[Change] = []
        with self._reader.gathered():
            for group in decidable:
                if group.ehr in priming and not group.reference.startswith("Consent/"):
                    self.wait(group.events, Waiting("waits for `bridge prime` to end", 2.0))
                    continue
                decided = self._decide(group, found[group.key], news, primed)
                if isinstance(decided, Pending):
                    self._fetching.aside(group, decided)
                elif isinstance(decided, Waiting):
                    self.wait(group.events, decided)
                else:
                    changes.append(decided)
        return self.commit(changes)

    def _lacks(self, group: Group, snapshot: Snapshot, news: News, primed: Collection[str]) -> bool:
        """Whether it is new, and waits for reads: a decision would find that out at half the price of deciding."""
        pushed = group.events[-1].piece
        new = snapshot.resource is None and all(event.piece.resource is not None for event in group.events)
        if (
            not new
            or group.ehr not in primed
            or pushed.resource is None
            or not group.reference.startswith("Appointment/")
        ):
            return False
        pending = news.beforehand(group.ehr, pushed.resource, pushed.included)
        if pending is None:
            return False
        self._fetching.aside(group, pending)
        return True

    def _decide(
        self, group: Group, snapshot: Snapshot, news: News, primed: Collection[str]
    ) -> Change | Pending | Waiting:
        try:
            truth = self._judge.judge(group, snapshot.resource)
            if not isinstance(truth, Truth):
                return truth
            held = self._judge.held(snapshot.resource, group.reference.split("/")[0])
            return news.decide(group, snapshot, truth, held, primed=group.ehr in primed)
        except Exception as error:  # one event of 500 must not stop the others
            log.exception("deciding failed", extra={"events": [f"evt_{event.id}" for event in group.events]})
            failed = Change(
                group, [Fate(e.id, "failed", f"deciding failed: {type(error).__name__}") for e in group.events]
            )
            failed.revision = snapshot.resource.revision if snapshot.resource is not None else 0
            failed.alarms.append((f"evt_{group.events[-1].id}", "an event could not be decided"))
            return failed

    # --- writing ---------------------------------------------------------------------------------------------------

    def commit(self, changes: Sequence[Change]) -> int:
        """Apply decided changes; what a batch cannot do together is tried one by one."""
        if not changes:
            return 0
        try:
            done = self._commit(changes)
        except Exception as error:
            self._braking.lost()
            if passing(error):  # a deadlock, a lost connection: nobody's event is to blame, all are tried again
                raise
            if len(changes) > 1:
                return sum(self.commit([change]) for change in changes)
            if isinstance(error, Overtaken) or (isinstance(error, IntegrityError) and self._is_there(changes[0])):
                return 0  # another node was first: decided again in the next round
            return self._blame(changes[0].group.events, error)
        faults.point("apply_after_commit")
        self._site.wake_sender()
        return done

    def _is_there(self, change: Change) -> bool:
        """Whether a resource that was new to this change has a row by now."""
        with self._site.store.read() as connection:
            found = connection.execute(select(resource.c.key).where(resource.c.key == change.group.key)).first()
        return change.new and found is not None

    def _commit(self, changes: Sequence[Change]) -> int:
        site = self._site
        with site.store.write() as connection:
            self._lock_lanes(connection, changes)
            now = site.store.now(connection)
            waiting = unsettled(connection, sorted(e.id for change in changes for e in change.group.events))
            mine = [c for c in changes if all(e.id in waiting for e in c.group.events)]
            good = self._still_true(connection, mine)
            persons.apply(connection, site, (p for c in good for p in c.persons))
            self._write_resources(connection, good)
            said = [row for change in good for row in change.consents]
            rows.insert_many(connection, consent, said)
            gone = [i for change in good for i in change.supersede]
            moved = outbox.move(connection, gone, "superseded", now, reason="newer news", only_from=RECALLABLE)
            lanes.wake(connection, outbox.lanes_of(connection, moved), now)
            unsaid = [i for change in good for i in change.close]
            outbox.move(connection, unsaid, "closed", now, reason="newer news; it was never sent", only_from=("held",))
            messages = [m for c in good for m in c.messages]
            self._braking.before(connection, messages)
            added = outbox.add(connection, site.crypto, site.ids, messages, now)
            self._braking.after(connection, [m for m in messages if m.id in added], now)
            used = [i for change in good for i in change.echoes]
            if used:
                connection.execute(update(write).where(write.c.id.in_(used)).values(echo=None))
            for change in good:
                for subject, why in change.alarms:
                    site.alarm(connection, subject, why)
            for ehr in sorted({change.group.ehr for change in good if change.restored}):
                self._restored(connection, ehr, now)
            done = settle(connection, [fate for change in good for fate in change.fates], now)
            faults.point("apply_before_commit")
        return done

    def _restored(self, connection: Connection, ehr: str, now: int) -> None:
        """A restored backup shows in thousands of resources: one alarm for the EHR."""
        key = f"restored:{ehr}"
        since = connection.execute(select(mark.c.at).where(mark.c.key == key)).scalar()
        if since is not None and now - since < RESTORED_ONCE:
            return
        statement = lanes.upsert(connection.dialect.name)(mark).values(key=key, value="alarmed", at=now)
        connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"at": statement.excluded.at}))
        self._site.alarm(connection, f"ehr {ehr}", "the EHR went back to an older version: restored from a backup?")

    def _lock_lanes(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Lanes come first in the order of locks: the fence holds one while it reads resources and persons."""
        if connection.dialect.name == "sqlite":
            return
        wanted = ((message.lane_key, message.number) for change in changes for message in change.messages)
        ids = set(lanes.ensure(connection, self._site.ids, "conversation", wanted).values())
        here = [i for change in changes for i, state in change.states.items() if state in RECALLABLE]
        lanes.lock(connection, sorted(ids | outbox.lanes_of(connection, here)))

    def _still_true(self, connection: Connection, changes: Sequence[Change]) -> list[Change]:
        """Those whose snapshot still holds, their rows locked: resource, then outbox."""
        wanted = sorted(change.group.key for change in changes)
        revisions = dict(_REVISIONS.rows(connection, keys=wanted))
        ids = sorted(i for change in changes for i in change.states)
        found: dict[int, str] = {}
        for start in range(0, len(ids), 500):
            found |= dict(_STATES.rows(connection, messages=ids[start : start + 500]))
        good = []
        for change in changes:
            same = revisions.get(change.group.key, 0) == change.revision and all(
                (found.get(i) in RECALLABLE) == (state in RECALLABLE) for i, state in change.states.items()
            )
            if same and all(found.get(i) == "held" for i in change.close):
                good.append(change)
        return good

    @staticmethod
    def _write_resources(connection: Connection, changes: Sequence[Change]) -> None:
        known = sorted((c for c in changes if c.resource is not None), key=lambda c: c.group.key)
        rows.insert_many(connection, resource, [{"key": c.group.key, **(c.resource or {})} for c in known if c.new])
        rows.update_many(
            connection, resource, "key", [{"key": c.group.key, **(c.resource or {})} for c in known if not c.new]
        )

    def _settle(self, fates: Sequence[Fate]) -> int:
        if not fates:
            return 0
        with self._site.store.write() as connection:
            done = settle(connection, fates, self._site.store.now(connection))
            for fate in fates:
                if fate.fate == "failed":
                    self._site.alarm(connection, f"evt_{fate.event}", "an event failed")
        return done

    def wait(self, events: Sequence[Event], waiting: Waiting) -> None:
        """Rows that cannot be applied now keep their reason and their next try."""
        with self._site.store.write() as connection:
            now = self._site.store.now(connection)
            put_off(connection, [(e.id, e.tries) for e in events], waiting.reason, now + int(waiting.seconds * SECOND))
