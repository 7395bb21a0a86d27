"""planned → ready: what is due is rendered, or re-read and rendered, and queues in its lane. One mechanism for reminders,
for what waited out quiet hours, and for what was refused and may try again.

What is due long after it was planned is looked at again first: `reminding`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from bridge.engine import compose, projections
from bridge.engine.compose import Draft
from bridge.engine.consentless import Consentless
from bridge.engine.documents import Documents
from bridge.engine.gates import gate_of
from bridge.engine.reads import Reader
from bridge.engine.reminding import Postponed, SecondLook
from bridge.engine.site import Site
from bridge.engine.unanswered import Unanswered
from bridge.errors import BridgeError
from bridge.ledger import faults, horizons, keys, lanes, outbox
from bridge.ledger.clock import SECOND, from_us
from bridge.ledger.states import CAMPAIGN, REMINDER
from bridge.ledger.tables import identity, mark, write
from bridge.ledger.tables import outbox as outbox_table
from bridge.mappers.contact import canonical
from bridge.mappers.render import Skip, render

log = logging.getLogger(__name__)

BATCH = 200
AT_ONCE = 50  # messages that become ready in one transaction: SQLite's only writer is held for some milliseconds
ROUND = 0.05  # seconds between the beginnings of two rounds: what was read meanwhile goes together
RECENT = 15 * 60 * SECOND  # a read not older than this confirms a reminder
IDLE = 0.2
CLAMP_LOOK = (
    60.0  # seconds between two looks at the store's clock; when it jumped, times that only that writes are sought
)
CLAMP_WALK = 3600.0  # seconds after which they are sought without a reason: it walks whole tables
JUMP = SECOND  # µs by which the store's clock and this process's may part between two looks
UNSETTLED_LOOK = 20.0  # seconds between two looks at what no status settled
PLANNED = text("state = 'planned'")
LIVE = text("state IN ('doubt','sending')")  # as its partial index says it, or every message would be looked at
DOUBT_LOOK = 2.0  # seconds between two looks at doubts


@dataclass(frozen=True, slots=True)
class _Made:
    """A message that may queue now. `content` None: it was rendered before."""

    row: Any
    content: bytes | None = None
    template: str = ""
    language: str = ""
    wa_id: str = ""
    version: str = ""  # of the words, which are made now


class Pump:
    """The loop over planned messages; also moves doubts that waited long enough to a person."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._look = SecondLook(site, reader)
        self.documents = Documents(site)
        self._consentless, self._unanswered = Consentless(site), Unanswered(site)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._last_doubts = self._last_unsettled = 0
        self._last_clamp = self._last_walk = -math.inf
        self._clock_then = 0  # the store's, at the last look

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._site.wake_pump.set()
        self._thread.join(5)
        self.documents.stop()

    def _run(self) -> None:
        site = self._site
        begun = 0.0
        while not site.stopping.is_set():
            site.stopping.wait(max(0.0, begun + ROUND - time.monotonic()))
            begun = time.monotonic()
            site.vitals.beat("pump")
            site.wake_pump.clear()
            try:
                busy = self.once()
            except SQLAlchemyError as error:
                log.warning("the pump met a database error", extra={"error": type(error).__name__})
                site.stopping.wait(0.5)
                continue
            except Exception:
                log.exception("the pump failed")
                site.stopping.wait(1)
                continue
            if not busy:
                site.wake_pump.wait(IDLE)

    def once(self) -> int:
        """One round; returns how many messages moved."""
        self._doubts()
        self._clamp()
        self._unsettled()
        self._consentless.once()
        self._unanswered.once()
        site = self._site
        with site.store.read() as connection:
            business, now = site.clock.now_us(), site.store.now(connection)
            due = and_(
                PLANNED,
                or_(outbox_table.c.retry_at.is_(None), outbox_table.c.retry_at <= now),
            )
            braked = connection.execute(select(mark.c.key).where(mark.c.key == "brake")).first() is not None
            due = and_(due, *site.share("pump").mine(None, outbox_table.c.id))
            if braked:
                due = and_(due, outbox_table.c.cls != CAMPAIGN)
            ids: list[int] = []
            # apart, so that each walks its part of the index and stops: a hundred thousand reminders wait behind
            for when in (outbox_table.c.not_before.is_(None), outbox_table.c.not_before <= business):
                ordered = (
                    select(outbox_table.c.id).where(due, when).order_by(outbox_table.c.not_before, outbox_table.c.id)
                )
                ids += connection.execute(ordered.limit(BATCH - len(ids))).scalars() if len(ids) < BATCH else ()
            waiting = self._look.waiting(ids)  # for a read that is on its way: not looked at again before it is there
            wanted = [i for i in ids if i not in waiting]
            found = connection.execute(select(outbox_table).where(outbox_table.c.id.in_(wanted))) if wanted else ()
            by_id = {row.id: row for row in found}
        made, moved = [], 0
        for row in (by_id[i] for i in wanted if i in by_id):
            done = self._guarded(row, business)
            if isinstance(done, _Made):
                made.append(done)
            else:
                moved += done
        for first in range(0, len(made), AT_ONCE):
            moved += self._ready(made[first : first + AT_ONCE])
        return moved

    # --- one message -----------------------------------------------------------------------------------------------

    def _guarded(self, row: Any, business: int) -> _Made | int:
        """One that breaks us ends as failed: those behind it must leave all the same."""
        try:
            return self._one(row, business)
        except SQLAlchemyError:
            raise
        except Exception as error:
            log.exception("a message could not be made", extra={"message_id": f"msg_{row.id}"})
            return self._end(row, "failed", f"it could not be made: {type(error).__name__}")

    def _one(self, row: Any, business: int) -> _Made | int:
        if row.not_after is not None and business >= row.not_after:
            return self._end(row, "expired", "too late to be useful: its expiry passed before it could leave")
        if row.attempted:
            return _Made(row)
        if row.kind == "document":
            return self.documents.take(row)
        try:
            plain = self._site.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id)
            draft = Draft.from_bytes(plain)
        except (BridgeError, ValueError):
            return self._end(row, "failed", "its row cannot be read")
        if row.cls == REMINDER:
            looked = self._look.again(row, draft, business)
            if looked is None:
                return 0
            if isinstance(looked, Postponed):
                return self._postpone(row, looked)
            if isinstance(looked, str):
                return self._end(row, "suppressed", looked)
            draft = looked
        mapping = self._site.content.mappings.get(row.mapping)
        if mapping is None or not mapping.enabled:
            return self._end(row, "suppressed", "its mapping is no longer there, or is paused")
        rendered = render(mapping, compose.context(self._site, draft, row.ehr, from_us(business)))
        if isinstance(rendered, Skip):
            return self._end(row, "suppressed", rendered.reason)
        template = self._site.content.catalogue.get(rendered.template)
        named = template is None or template.parameter_format == "named"
        gate = gate_of(self._site, mapping, draft.scene.patient)
        content = compose.to_content(rendered, draft, named=named, gate=gate)
        return _Made(row, content.to_bytes(), rendered.template, rendered.language, draft.wa_id, mapping.version)

    def _ready(self, made: Sequence[_Made]) -> int:
        """They queue in their lanes; returns how many did."""
        site = self._site
        sealed = {
            one.row.id: site.crypto.encrypt(one.content, "outbox", "content", one.row.id, one.row.key_id)
            for one in made
            if one.content is not None
        }
        with site.store.write() as connection:
            values = {one.row.id: self._values(connection, one, sealed) for one in made}
            queues = {one.row.id: {one.row.lane_id, values[one.row.id]["lane_id"]} for one in made}
            lanes.lock(connection, sorted(set().union(*queues.values())))
            now = site.store.now(connection)
            outbox.set_planned(connection, list(values.values()))  # first: it queues in the lane it has now
            moved = outbox.move(connection, values, "ready", now, only_from=("planned",))
            lanes.wake(connection, set().union(*(queues[i] for i in moved)), now)
            faults.point("pump_before_commit")
        if moved:
            site.wake_sender()
        return len(moved)

    def _values(self, connection: Any, one: _Made, sealed: Mapping[int, bytes]) -> dict[str, Any]:
        """What changes in its row beside the state."""
        row = one.row
        held = {
            "id": row.id, "retry_at": None, "content": row.content, "template": row.template, "language": row.language,
            "mapping_version": row.mapping_version, "identity_id": row.identity_id, "lane_id": row.lane_id,
        }  # fmt: skip
        if one.content is None:
            return held
        return held | {
            "content": sealed[row.id], "template": one.template, "language": one.language, "mapping_version": one.version,
            **self._address(connection, row, one.wa_id),
        }  # fmt: skip

    def _address(self, connection: Any, row: Any, wa_id: str) -> dict[str, Any]:
        """Where it goes now: the number may have changed since it was planned."""
        site = self._site
        key = site.crypto.index(keys.identity(canonical(wa_id)))
        found = connection.execute(
            select(identity.c.id).where(identity.c.person_id == row.person_id, identity.c.key == key)
        ).scalar()
        if found is None or found == row.identity_id:
            return {}
        lane_key = site.crypto.index(keys.conversation(row.number, canonical(wa_id)))
        lane = lanes.ensure(connection, site.ids, "conversation", [(lane_key, row.number)])[lane_key]
        return {"identity_id": found, "lane_id": lane}

    def _postpone(self, row: Any, until: Postponed) -> int:
        with self._site.store.write() as connection:
            planned = update(outbox_table).where(outbox_table.c.id == row.id, outbox_table.c.state == "planned")
            moved = connection.execute(
                planned.values(
                    not_before=until.not_before, not_after=until.not_after, retry_at=until.retry_at, reason=until.reason
                )
            )
        return 0 if until.retry_at is not None else moved.rowcount

    def _end(self, row: Any, state: str, reason: str) -> int:
        site = self._site
        with site.store.write() as connection:
            now = site.store.now(connection)
            moved = outbox.move(connection, [row.id], state, now, reason=reason, only_from=("planned",))
            if moved and state == "failed":
                site.alarm(connection, f"msg_{row.id}", reason)
            return len(moved)

    def _clamp(self) -> None:
        since = time.monotonic() - self._last_clamp
        if since < CLAMP_LOOK:
            return
        with self._site.store.read() as connection:
            now, self._last_clamp = self._site.store.now(connection), time.monotonic()
        jumped = math.isinf(since) or abs(now - self._clock_then - since * SECOND) > JUMP
        self._clock_then = now
        if jumped or time.monotonic() - self._last_walk >= CLAMP_WALK:
            self._last_walk = time.monotonic()
            if (count := horizons.clamp(self._site.store)) > 0:
                log.warning("times too far ahead were brought back", extra={"events": count})

    # --- doubts ----------------------------------------------------------------------------------------------------

    def _doubts(self) -> None:
        """A doubt that no status settled in time is a person's to decide; one whose sender died is a doubt."""
        site = self._site
        now = site.store.now()
        if now - self._last_doubts < DOUBT_LOOK * SECOND:
            return
        self._last_doubts = now
        wait = int(site.settings.delivery.doubt_wait.total_seconds() * SECOND)
        late = and_(LIVE, outbox_table.c.state == "doubt", outbox_table.c.changed_at <= now - wait)
        with site.store.read() as connection:
            ids: Sequence[int] = connection.execute(select(outbox_table.c.id).where(late).limit(500)).scalars().all()
        if ids:
            with site.store.write() as connection:
                moved = outbox.move(
                    connection, ids, "held", now, reason="nobody knows whether it arrived: a person must decide",
                    only_from=("doubt",),
                )  # fmt: skip
                for message in sorted(moved):
                    site.alarm(connection, f"msg_{message}", "a message whose outcome is unknown waits for a person")

    def _unsettled(self) -> None:
        """What WhatsApp took ten minutes ago and no status settled stands in the EHR all the same."""
        site = self._site
        now = site.store.now()
        if now - self._last_unsettled < UNSETTLED_LOOK * SECOND:
            return
        self._last_unsettled = now
        columns = (outbox_table.c.id, outbox_table.c.ehr, outbox_table.c.patient_id)
        quiet = and_(
            outbox_table.c.state.in_(("accepted", "sent")),
            outbox_table.c.changed_at <= now - projections.AFTER_ACCEPTED,
            outbox_table.c.ehr.is_not(None),
        )
        missing = ~select(write.c.id).where(write.c.id == outbox_table.c.id).exists()
        with site.store.read() as connection:
            rows = connection.execute(select(*columns).where(quiet, missing).limit(500)).all()
        if rows:
            with site.store.write() as connection:
                projections.ask(connection, site, rows, now)
            site.wake_writes.set()
