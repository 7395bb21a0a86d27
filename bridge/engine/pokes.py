"""Pushes that name nothing: bridge searches by the Subscription's criteria since its last look, and each match becomes
an event of its own, counted as found, not as acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import insert, select

from bridge.engine.fates import Fate, settle
from bridge.engine.fates import wait as put_off
from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.site import Site
from bridge.engine.truth import Event
from bridge.fhir.pieces import hint_piece
from bridge.ledger import audit, keys, lanes
from bridge.ledger.clock import SECOND, from_us
from bridge.ledger.crypto import clear_reference
from bridge.ledger.tables import inbox, subscription

OVERLAP = 120 * SECOND  # looked back further than the last look: clocks differ, and indexes lag behind commits
FIRST_LOOK = 3600 * SECOND


class Pokes:
    """Answers hints without a reference."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader

    def run(self, events: Sequence[Event]) -> int:
        by_door: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
        for event in events:
            by_door[(event.ehr, event.door, self._what(event))].append(event)
        return sum(self._search(ehr, door, what, hits) for (ehr, door, what), hits in by_door.items())

    def _what(self, event: Event) -> str:
        piece = event.piece
        if piece.identifier is not None and piece.identifier.value:
            system = piece.identifier.system
            token = f"{system}|{piece.identifier.value}" if system else piece.identifier.value
            return f"{piece.search or piece.identifier.type}?identifier={token}"
        configured = self._site.settings.ehrs[event.ehr].subscriptions.get(event.door)
        criteria = configured.criteria if configured is not None else None
        base = (
            criteria
            if criteria and "?" in criteria
            else f"{piece.search or (configured.resource if configured else 'Appointment')}?"
        )
        return f"{base}{'' if base.endswith('?') else '&'}_lastUpdated=ge{self._since(event)}"

    def _since(self, event: Event) -> str:
        with self._site.store.read() as connection:
            looked = connection.execute(
                select(subscription.c.looked_at).where(
                    subscription.c.ehr == event.ehr, subscription.c.key == event.door
                )
            ).scalar()
        at = (looked or event.received_at - FIRST_LOOK) - OVERLAP
        return from_us(at).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _search(self, ehr: str, door: str, what: str, events: Sequence[Event]) -> int:
        site = self._site
        if not self._reader.can_read(ehr):
            with site.store.write() as connection:
                return settle(
                    connection,
                    [Fate(e.id, "ignored", "names nothing, no read access") for e in events],
                    site.store.now(connection),
                )
        arrived = max(event.received_at for event in events)
        state = self._reader.need(ehr, [what], begun_after=arrived)
        answer = self._reader.get(ehr, what, begun_after=arrived)
        if isinstance(state, Failed):
            with site.store.write() as connection:
                now = site.store.now(connection)
                put_off(connection, [(e.id, e.tries) for e in events], state.reason, now + 2 * SECOND)
            return 0
        if state == "pending" or not isinstance(answer, Found):
            return 0
        rows = []
        found_at = site.store.now()
        for raw in answer.value or []:
            reference = f"{raw.get('resourceType')}/{raw.get('id')}"
            if clear_reference(reference) is None:
                continue
            rows.append(hint_row(site, ehr, door, reference, found_at))
        with site.store.write() as connection:
            now = site.store.now(connection)
            if rows:
                connection.execute(insert(inbox), rows)
                audit.record(connection, row=site.ids(), at=found_at, action=audit.FOUND, count=len(rows))
            statement = lanes.upsert(connection.dialect.name)(subscription).values(
                ehr=ehr, key=door, looked_at=answer.begun_at
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["ehr", "key"], set_={"looked_at": statement.excluded.looked_at}
                )
            )
            done = settle(connection, [Fate(e.id, "applied", f"searched: {len(rows)} found") for e in events], now)
        site.wake_apply.set()
        return done


def hint_row(site: Site, ehr: str, door: str, reference: str, now: int) -> dict[str, object]:
    """An inbox row that asks for a read of `reference`: found by ourselves, so counted as found."""
    row = site.ids()
    kind = reference.split("/", maxsplit=1)[0]
    subject = {"Consent": keys.anyone(ehr), "Patient": keys.person(ehr, reference)}.get(kind)  # whom it may silence
    return {
        "id": row,
        "source": f"ehr:{ehr}",
        "door": door,
        "kind": "hint",
        "key": site.crypto.index(keys.resource(ehr, reference)),
        "subject": site.crypto.index(subject) if subject is not None else None,
        "received_at": now,
        "key_id": site.crypto.key_id,
        "config_version": site.content.version,
        "body": site.crypto.encrypt(hint_piece(reference).body, "inbox", "body", row),
    }
