"""`bridge prime <ehr>`: what the EHR holds already becomes the baseline, without a message, and reminders are armed.

One thread reads; what it read is decided and written in the apply loop's own thread, so that a push and a page of the
search never race for one row. Until it ends, pushes of that EHR wait; what is found again is left as it is, so it may be
stopped, started again and run twice.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.engine import persons
from bridge.engine.apply import Applier
from bridge.engine.fetching import snapshots
from bridge.engine.news import Change, News, Snapshot
from bridge.engine.pokes import hint_row
from bridge.engine.reads import Reader
from bridge.engine.site import Site
from bridge.engine.truth import Group, Judge, Pending, Truth, Waiting
from bridge.errors import CannotPrime, EhrRefused, EhrUnreachable, UnreadableResource
from bridge.fhir.versions import version_of
from bridge.ledger import audit, keys, lanes
from bridge.ledger.tables import inbox, mark
from bridge.mappers.events import same
from bridge.mappers.events.appointment import PROMISED

log = logging.getLogger(__name__)

BATCH = 100
TRIES = 3  # of one resource whose writing fails
LONGEST_WAIT = 60.0  # seconds between two attempts at an EHR that cannot be read
WORDS = ("read", "new", "known", "changed", "past or not promised", "unreadable", "reminders", "consents")


@dataclass(slots=True)
class _Item:
    group: Group
    truth: Truth
    tries: int = 0
    change: Change | None = None  # what was written for it last


@dataclass(slots=True)
class Run:
    """One EHR being primed."""

    ehr: str
    state: str = "running"  # running, done, failed
    reason: str | None = None  # what it waits for, or why it failed
    counts: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)  # resource keys: a search that begins anew counts nothing twice
    batch: list[_Item] = field(default_factory=list)  # the apply thread's; empty: the reader may bring the next
    empty: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        return {
            "ehr": self.ehr,
            "state": self.state,
            "reason": self.reason,
            "counts": {word: self.counts[word] for word in WORDS},
        }


class Primer:
    """Runs at most one priming per EHR."""

    def __init__(self, site: Site, reader: Reader, applier: Applier) -> None:
        self._site = site
        self._reader = reader
        self._applier = applier
        self._judge = Judge(site, reader)
        self._runs: dict[str, Run] = {}
        self._waiting: list[Run] = []  # those whose batch the apply thread is to write
        self._threads: list[threading.Thread] = []
        applier.further.append(self._step)

    # --- what is asked of it ---------------------------------------------------------------------------------------

    def start(self, ehr: str) -> Mapping[str, Any]:
        """Begin, or say how far the one that runs is.

        Raises: CannotPrime.
        """
        if ehr not in self._site.settings.ehrs:
            raise CannotPrime("the config has no EHR of that name")
        if not self._reader.can_read(ehr):
            raise CannotPrime(f"ehrs.{ehr} has no base_url: it cannot be read")
        held = self._runs.get(ehr)
        if held is not None and held.state == "running":
            return held.as_json()
        run = self._runs[ehr] = Run(ehr)
        with self._site.store.write() as connection:
            statement = lanes.upsert(connection.dialect.name)(mark).values(
                key=f"priming:{ehr}", value="", at=self._site.store.now(connection)
            )
            connection.execute(statement.on_conflict_do_nothing(index_elements=["key"]))
        thread = threading.Thread(target=self._run, args=(run,), name=f"prime-{ehr}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return run.as_json()

    def status(self, ehr: str) -> Mapping[str, Any]:
        run = self._runs.get(ehr)
        if run is None:
            raise CannotPrime("it is not being primed by this engine")
        return run.as_json()

    def resume(self) -> None:
        """Go on with what an earlier life of this engine had begun."""
        with self._site.store.read() as connection:
            keys = [f"priming:{ehr}" for ehr in self._site.settings.ehrs]
            begun = connection.execute(select(mark.c.key).where(mark.c.key.in_(keys))).scalars().all()
        for key in begun:
            ehr = key.removeprefix("priming:")
            if self._reader.can_read(ehr):
                self.start(ehr)

    def stop(self) -> None:
        for run in self._runs.values():
            run.empty.set()
        for thread in self._threads:
            thread.join(5)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _run(self, run: Run) -> None:
        try:
            self._stages(run)
        except EhrRefused as error:
            self._failed(run, str(error))
        except Exception as error:
            log.exception("priming failed", extra={"ehr": run.ehr})
            self._failed(run, type(error).__name__)

    def _stages(self, run: Run) -> None:
        settings = self._site.settings
        zone = ZoneInfo(settings.ehrs[run.ehr].zone or settings.site.zone)
        today = self._site.now().astimezone(zone).date().isoformat()
        for (
            recognise
        ) in settings.consent.recognise:  # first: whoever has refused is armed no reminder that must be stopped
            try:
                self._stage(run, "Consent", [("category", recognise.category)])
            except EhrRefused as error:
                # such servers exist: consents are read for each person when they are first met
                log.warning("consents cannot be searched by category", extra={"ehr": run.ehr, "error": str(error)})
        self._stage(run, "Appointment", [("date", f"ge{today}")])
        if self._site.stopping.is_set():
            return
        site = self._site
        with site.store.write() as connection:
            now = site.store.now(connection)
            statement = lanes.upsert(connection.dialect.name)(mark).values(key=f"primed:{run.ehr}", value="", at=now)
            connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"at": now}))
            connection.execute(mark.delete().where(mark.c.key == f"priming:{run.ehr}"))
            audit.record(
                connection, row=site.ids(), at=now, action="primed", subject=f"ehr {run.ehr}",
                count=run.counts["new"], detail={word: run.counts[word] for word in WORDS},
            )  # fmt: skip
        run.state, run.reason = "done", None
        log.info("primed", extra={"ehr": run.ehr})
        site.wake_apply.set()

    def _failed(self, run: Run, reason: str) -> None:
        """Nothing may wait for it any longer; said when it is so, as the end of one that went well."""
        site = self._site
        try:
            with site.store.write() as connection:
                connection.execute(mark.delete().where(mark.c.key == f"priming:{run.ehr}"))
                site.alarm(connection, f"ehr {run.ehr}", "priming failed")
        except SQLAlchemyError as error:
            log.warning("priming's end could not be noted", extra={"error": type(error).__name__})
        finally:
            run.reason, run.state = reason, "failed"

    def _stage(self, run: Run, kind: str, query: Sequence[tuple[str, str]]) -> None:
        """One search to its end; from its beginning again when the EHR went away in between."""
        site = self._site
        tries = 0
        while not site.stopping.is_set():
            begun = site.store.now()  # of the whole search: what is pushed while it pages is not answered by it
            items: list[_Item] = []
            try:
                for found in site.clients[run.ehr].search(kind, [*query, ("_count", str(BATCH))]):
                    item = self._item(run, kind, found.resource, begun)
                    if item is not None:
                        items.append(item)
                    if len(items) >= BATCH:
                        self._hand_over(run, items)
                        items = []
                    if site.stopping.is_set():
                        return
                self._hand_over(run, items)
                run.reason = None
                return
            except EhrUnreachable as error:
                run.reason = f"the EHR cannot be read: {error}"
                self._hand_over(run, items)
                site.stopping.wait(min(2.0**tries, LONGEST_WAIT))
                tries += 1

    def _item(self, run: Run, kind: str, raw: Mapping[str, Any], begun: int) -> _Item | None:
        reference = f"{raw.get('resourceType')}/{raw.get('id')}"
        key = self._site.crypto.index(keys.resource(run.ehr, reference))
        if raw.get("resourceType") != kind or key in run.seen:
            return None
        run.seen.add(key)
        run.counts["read"] += 1
        try:
            projection = self._judge.project(run.ehr, raw)
        except UnreadableResource:
            run.counts["unreadable"] += 1
            return None
        if kind == "Appointment":
            wanted = projection.status in PROMISED and projection.start is not None
            wanted = wanted and projection.start > self._site.now()
        else:
            wanted = projection.status == "active"
        if not wanted:
            run.counts["past or not promised"] += 1
            return None
        truth = Truth([], projection=projection, raw=raw, version=version_of(raw), read_at=begun)
        return _Item(Group(run.ehr, reference, key, []), truth)

    def _hand_over(self, run: Run, items: list[_Item]) -> None:
        """Wait until the apply thread has written all of it."""
        if not items:
            return
        run.empty.clear()
        run.batch = items
        self._waiting.append(run)
        self._site.wake_apply.set()
        while not run.empty.wait(1.0):
            if self._site.stopping.is_set():
                return

    # --- writing, in the apply loop's thread ---------------------------------------------------------------------------

    def _step(self) -> int:
        """Decide and write what of each batch can be; returns how much moved."""
        return sum(self._write(run) for run in tuple(self._waiting))

    def _write(self, run: Run) -> int:
        found = snapshots(self._site.store, [item.group.key for item in run.batch])
        news = News(self._site, self._reader, persons.People(self._site))
        left: list[_Item] = []
        hints: list[str] = []
        changes: list[Change] = []
        with self._reader.gathered():
            for item in run.batch:
                row = found[item.group.key].resource
                if row is not None:
                    self._is_there(run, item, row, hints)
                    continue
                decided = self._decide(run, item, found[item.group.key], news)
                if isinstance(decided, Pending | Waiting):
                    left.append(item)
                elif decided is None:
                    run.counts["unreadable"] += 1
                else:
                    item.change = decided
                    item.tries += 1
                    changes.append(decided)
                    left.append(item)  # until it is seen to be there: a batch may fail
        moved = len(run.batch) - len(left) + len(changes)
        self._applier.commit(changes)
        self._hint(run, hints)
        run.batch = left
        if not left:
            self._waiting.remove(run)
            run.empty.set()
        return moved

    def _is_there(self, run: Run, item: _Item, row: Row[Any], hints: list[str]) -> None:
        if item.change is not None:
            run.counts["new"] += 1
            run.counts["reminders"] += len(item.change.messages)
            run.counts["consents"] += len(item.change.consents)
        elif same(self._judge.held(row, item.group.reference.split("/", maxsplit=1)[0]), item.truth.projection):
            run.counts["known"] += 1
        else:
            run.counts["changed"] += 1
            hints.append(item.group.reference)  # what we follow already goes the way of every change

    def _decide(self, run: Run, item: _Item, snapshot: Snapshot, news: News) -> Change | Pending | Waiting | None:
        """None: nothing can be made of it."""
        if item.tries >= TRIES:
            return None
        try:
            decided = news.decide(item.group, snapshot, item.truth, None, prime=True)
        except Exception as error:  # one resource of thousands must not stop the others
            log.exception("priming one resource failed", extra={"ehr": run.ehr, "error": type(error).__name__})
            return None
        if isinstance(decided, Waiting):
            run.reason = decided.reason
        elif isinstance(decided, Change):
            run.reason = None
            return decided if decided.resource is not None else None
        return decided

    def _hint(self, run: Run, references: Sequence[str]) -> None:
        if not references:
            return
        site = self._site
        now = site.store.now()
        rows = [hint_row(site, run.ehr, "prime", reference, now) for reference in references]
        with site.store.write() as connection:
            connection.execute(inbox.insert(), rows)
            audit.record(connection, row=site.ids(), at=now, action=audit.FOUND, count=len(rows))
