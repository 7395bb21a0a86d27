"""What the doors took and nobody has applied yet, as groups: the events of one resource, decrypted, with what the ledger
holds of it. A few at a time, so that answers of the EHR do not grow stale while others wait for theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from bridge.engine import people_events
from bridge.engine.change import Snapshot
from bridge.engine.fates import Fate
from bridge.engine.reads import Reader
from bridge.engine.site import Site
from bridge.engine.truth import Event, Group, Pending
from bridge.errors import BridgeError
from bridge.fhir.pieces import Piece, parse_piece
from bridge.ledger import keys
from bridge.ledger.states import RECALLABLE, TOLD
from bridge.ledger.store import Store
from bridge.ledger.tables import inbox
from bridge.ledger.words import Words
from bridge.mappers import tolerant
from bridge.mappers.events import RESOURCES

GROUPS = 200  # resources of one batch
ASIDE = 400  # resources that wait for a read at once: reading further ahead would let answers grow stale

_DUE = Words(
    "SELECT id, key FROM inbox WHERE fate IS NULL AND kind = :kind AND (next_try IS NULL OR next_try <= :now) "
    "ORDER BY id LIMIT :most"
)
_WAITING = "SELECT id, source, door, key, received_at, tries, key_id, body FROM inbox WHERE fate IS NULL AND"
_BY_KEY, _BY_ID = Words(f"{_WAITING} key IN :keys"), Words(f"{_WAITING} id IN :ids")
_MARKS = Words("SELECT key FROM mark WHERE key IN :keys")
_RESOURCES = Words("SELECT * FROM resource WHERE key IN :keys")
_MESSAGES = Words(
    "SELECT id, state, resource_key, revision, person_id, patient_id, answers, key_id, after FROM outbox "
    "WHERE resource_key IN :keys AND state IN :states AND answers IS NULL"
)
_ECHOES = Words("SELECT id, resource_key, key_id, echo FROM write WHERE resource_key IN :keys AND echo IS NOT NULL")
_TRIED = Words("SELECT DISTINCT message FROM attempt WHERE message IN :messages")


class Fetching:
    """Picks what the next round is about."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._pending: dict[str, Pending] = {}  # inbox key -> the reads it waits for
        self._parsed: dict[int, Piece] = {}  # events of what is pending: they are decrypted and read once

    def aside(self, group: Group, pending: Pending) -> None:
        """It waits for reads; picked again when none of them is on its way any more."""
        self._pending[group.key] = pending
        if len(self._parsed) >= 2 * ASIDE:  # another node has applied some
            self._parsed.clear()
        self._parsed |= {event.id: event.piece for event in group.events}

    def rows(self) -> Sequence[Row[Any]]:
        """Every unapplied event of the resources of one batch, those first that came first."""
        now = self._site.store.now()
        self._pending = {k: held for k, held in self._pending.items() if self._reader.awaited(held.ehr, held.whats)}
        aside = set(self._pending)
        # an EHR that is slow to answer has read far enough ahead; what the others push is fetched all the same
        by_ehr = Counter(held.ehr for held in self._pending.values())
        full = [ehr for ehr, count in by_ehr.items() if count >= ASIDE // len(self._site.settings.ehrs)]
        beside = sum(count for ehr, count in by_ehr.items() if ehr not in full)
        room = min(GROUPS, ASIDE - beside)
        if room <= 0 or len(full) == len(self._site.settings.ehrs):
            return []
        with self._site.store.read() as connection:
            due = or_(inbox.c.next_try.is_(None), inbox.c.next_try <= now)
            ours = self._site.share("apply").mine(inbox.c.key, inbox.c.id)
            chosen: list[int] = []
            taken: set[str] = set()
            # a query per kind: each walks its part of the index in order and stops, where both together would be sorted
            limit = GROUPS * 2 + 4 * beside
            light = (
                [
                    row
                    for kind in ("notification", "hint")
                    for row in _DUE.rows(connection, kind=kind, now=now, most=limit)
                ]
                if not ours and not full
                else [
                    row
                    for kind in ("notification", "hint")
                    for row in connection.execute(
                        select(inbox.c.id, inbox.c.key)
                        .where(
                            inbox.c.fate.is_(None),
                            inbox.c.kind == kind,
                            due,
                            *ours,
                            *([inbox.c.source.not_in([f"ehr:{ehr}" for ehr in full])] if full else []),
                        )
                        .order_by(inbox.c.id)
                        .limit(limit)
                    )
                ]
            )
            for row in sorted(light, key=lambda row: row.id):
                key = row.key or f"poke {row.id}"
                if key in aside or (len(taken) >= room and key not in taken):
                    continue
                taken.add(key)
                chosen.append(row.id)
            if not chosen:
                return []
            keyed = [key for key in taken if not key.startswith("poke ")]
            # every unapplied event of a chosen resource, those that wait for their next try too: one read answers all.
            # By key and by id apart: an OR of both would read every waiting row with its body.
            found = {row.id: row for row in _BY_KEY.rows(connection, keys=keyed)}
            pokes = [event for event in chosen if event not in found]
            found |= {row.id: row for row in _BY_ID.rows(connection, ids=pokes)}
            return [found[event] for event in sorted(found)]

    def _piece(self, row: Row[Any]) -> Piece:
        return parse_piece(self._site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id))

    def groups(self, rows: Sequence[Row[Any]]) -> tuple[list[Group], list[Fate], list[Event]]:
        """Groups of resources, events whose row says nothing, and pushes that name nothing."""
        groups: dict[str, Group] = {}
        broken: list[Fate] = []
        pokes: list[Event] = []
        for row in rows:
            ehr = row.source.removeprefix("ehr:")
            try:
                piece = self._parsed.pop(row.id, None) or self._piece(row)
            except (BridgeError, ValueError, KeyError, TypeError) as error:
                broken.append(Fate(row.id, "failed", f"its row cannot be read: {type(error).__name__}"))
                continue
            event = Event(row.id, ehr, row.door, row.received_at, row.tries, piece)
            if ehr not in self._site.settings.ehrs:
                broken.append(Fate(row.id, "failed", "its EHR is no longer in the config"))
            elif piece.reference is None or row.key is None:
                pokes.append(event)
            else:
                group = groups.setdefault(row.key, Group(ehr, piece.reference, row.key, []))
                group.events.append(event)
        for group in list(groups.values()):
            kind = group.reference.split("/")[0]
            if kind not in RESOURCES and kind not in people_events.TYPES:
                broken += [Fate(e.id, "ignored", f"{kind}: nothing here reads it") for e in group.events]
                del groups[group.key]
        return list(groups.values()), broken, pokes

    def patients(self, groups: Iterable[Group]) -> Iterator[str]:
        """Keys of the patients that a batch's pushes name, so that they are read from the store together."""
        for group in groups:
            for event in group.events:
                raw = event.piece.resource
                named = [tolerant.mapping(p.get("actor")) for p in tolerant.objects((raw or {}).get("participant"))]
                named += [tolerant.mapping((raw or {}).get(name)) for name in ("subject", "patient")]
                for reference in map(tolerant.reference, named):
                    if reference is not None and reference.startswith("Patient/"):
                        yield self._site.crypto.index(keys.person(group.ehr, reference))

    def primed(self) -> tuple[set[str], set[str]]:
        """EHRs whose news is told, and those that are being primed for the first time."""
        ehrs = self._site.settings.ehrs
        with self._site.store.read() as connection:
            marks = set(
                _MARKS.firsts(connection, keys=[f"{what}:{key}" for key in ehrs for what in ("primed", "priming")])
            )
        primed = {key for key, ehr in ehrs.items() if ehr.prime == "none" or f"primed:{key}" in marks}
        return primed, {key for key in ehrs if f"priming:{key}" in marks} - primed


def snapshots(store: Store, resource_keys: Sequence[str]) -> dict[str, Snapshot]:
    """What the ledger holds of each of these resources, and of the messages about it."""
    found: dict[str, Snapshot] = defaultdict(Snapshot)
    with store.read() as connection:
        wanted = list(resource_keys)
        for row in _RESOURCES.rows(connection, keys=wanted):
            found[row.key].resource = row
        for row in _MESSAGES.rows(connection, keys=wanted, states=[*RECALLABLE, *TOLD]):
            found[row.resource_key].messages.append(row)
        _unsaid(connection, found)
        for row in _ECHOES.rows(connection, keys=wanted):
            found[row.resource_key].echoes.append(row)
    for key in resource_keys:
        found[key]
    return found


def _unsaid(connection: Connection, found: Mapping[str, Snapshot]) -> None:
    """What is held or closed without ever having been tried was not told."""
    waiting = {row.id: key for key, one in found.items() for row in one.messages if row.state in ("held", "closed")}
    if waiting:
        tried = set(_TRIED.firsts(connection, messages=sorted(waiting)))
        for message, key in waiting.items():
            if message not in tried:
                found[key].unsaid.add(message)
