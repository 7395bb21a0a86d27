"""What holds now, from what was pushed and what is held: newer, the same, or only a hint that a read must answer.

Design §3 "Same or newer". Pure but for the answers that `Reader` has at hand; what is missing comes back as `Pending`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Row

from bridge.engine.fates import Fate
from bridge.engine.foreign import without_foreign
from bridge.engine.reads import Failed, Found
from bridge.engine.site import Site
from bridge.errors import UnreadableResource
from bridge.fhir.pieces import Piece
from bridge.fhir.versions import Version, freshness, number, version_of
from bridge.ledger.clock import from_us, to_us
from bridge.mappers.events import RESOURCES, same

_CLEAN = re.compile(r"[A-Za-z0-9.-]{1,64}")  # what may stand in a clear column
_TAG = re.compile(r'(W/)?"[A-Za-z0-9._-]{1,64}"')
AGAIN = "again"  # door of a hint of ours: what was computed from this resource is computed anew, changed or not
LAG_TRIES = 3  # a 404 right after a notification may be a replica that is behind


@dataclass(frozen=True, slots=True)
class Event:
    """An unapplied row of the inbox, decrypted."""

    id: int
    ehr: str
    door: str
    received_at: int
    tries: int
    piece: Piece


@dataclass(slots=True)
class Group:
    """The unapplied events of one resource, in the order of arrival."""

    ehr: str
    reference: str
    key: str
    events: list[Event]


@dataclass(slots=True)
class Pending:
    """A read is on its way; look again when it is there."""

    ehr: str
    whats: tuple[str, ...]  # "Patient/p1", "Consent?patient=Patient/p1"


@dataclass(slots=True)
class Waiting:
    """The EHR cannot be read, or has not caught up: the rows wait with the reason."""

    reason: str
    seconds: float


@dataclass(slots=True)
class Truth:
    """What is to be applied. `projection` None: nothing changes but fates (and what is noted of the version)."""

    fates: list[Fate]
    projection: Any = None
    raw: Mapping[str, Any] | None = None  # the resource as pushed or read; None for one deleted
    included: Mapping[str, Any] = field(default_factory=dict)
    cause: int | None = None  # the event whose fate tells what was planned
    version: Version | None = None
    etag: str | None = None
    read_at: int | None = None
    restored: bool = False  # the EHR went back in time


class Judge:
    """Decides for one group against what the ledger holds."""

    def __init__(self, site: Site, reader: Any) -> None:
        self._site = site
        self._reader = reader

    def project(self, ehr: str, resource: Mapping[str, Any]) -> Any:
        """The projection of a raw resource. Raises: UnreadableResource."""
        settings = self._site.settings
        kind = RESOURCES[str(resource.get("resourceType"))]
        client = self._site.clients.get(ehr)
        return kind.project(
            without_foreign(resource, client.local if client is not None else None),
            settings.ehrs[ehr].fhir_version,
            zone=settings.ehrs[ehr].zone or settings.site.zone,
            recognise=settings.consent.recognise,
            now=self._site.now(),
        )

    def held(self, row: Row[Any] | None, kind: str) -> Any:
        if row is None or row.projection is None:
            return None
        plain = self._site.crypto.decrypt(row.projection, row.key_id, "resource", "projection", row.key)
        return RESOURCES[kind].from_json(msgspec.json.decode(plain))

    def judge(self, group: Group, row: Row[Any] | None) -> Truth | Pending | Waiting:
        """What the group's events come to."""
        kind = group.reference.split("/", maxsplit=1)[0]
        readable = self._reader.can_read(group.ehr)
        truth = Truth([])
        current = self.held(row, kind)
        version = version_held(row)
        hints: list[Event] = []
        for event in group.events:
            piece = event.piece
            if row is not None and event.received_at < row.read_at and event.door != AGAIN:
                truth.fates.append(Fate(event.id, "merged", "a read begun later has been applied"))
                continue
            if piece.resource is None:
                hints.append(event)
                continue
            try:
                pushed = self.project(group.ehr, piece.resource)
            except UnreadableResource as error:
                truth.fates.append(Fate(event.id, "unusable", str(error)))
                continue
            theirs = version_of(piece.resource)
            if current is not None and same(current, pushed):
                truth.fates.append(Fate(event.id, "merged", "says what we hold already"))
                if freshness(version, theirs) == "newer":
                    version = truth.version = theirs
                    if truth.projection is not None:
                        truth.raw, truth.included = piece.resource, piece.included
                continue
            fresh = freshness(version, theirs) == "newer" or (
                not readable and theirs.last_updated is None and number(theirs.version_id) is None
            )
            if not fresh:
                hints.append(event)
                continue
            if truth.cause is not None:
                truth.fates.append(Fate(truth.cause, "merged", "overtaken before it was applied"))
            current, version = pushed, theirs
            truth.projection, truth.raw, truth.included = pushed, piece.resource, piece.included
            truth.cause, truth.version, truth.etag = event.id, theirs, None
        if not hints:
            return truth
        if not readable:
            for event in hints:
                deleted = event.piece.deleted and current is not None
                if event.door == AGAIN and current is not None:
                    truth.projection, truth.raw, truth.cause = current, None, event.id
                elif deleted:
                    truth.projection, truth.raw, truth.cause = RESOURCES[kind].gone(current), None, event.id
                else:
                    truth.fates.append(Fate(event.id, "ignored", "stale, no read access"))
            return truth
        return self._by_read(group, row, truth, hints, kind)

    def _by_read(
        self, group: Group, row: Row[Any] | None, truth: Truth, hints: Sequence[Event], kind: str
    ) -> Truth | Pending | Waiting:
        arrived = max(event.received_at for event in group.events)
        state = self._reader.need(group.ehr, [group.reference], begun_after=arrived)
        if isinstance(state, Failed):
            return Waiting(state.reason, _back_off(max(event.tries for event in hints)))
        answer = self._reader.get(group.ehr, group.reference, begun_after=arrived)
        if state == "pending" or not isinstance(answer, Found):
            return self._so_far(group, row, hints) or Pending(group.ehr, (group.reference,))
        held = self.held(row, kind)
        if truth.cause is not None:
            truth.fates.append(Fate(truth.cause, "merged", "answered by a read"))
        cause = hints[-1].id
        truth.fates += [Fate(event.id, "merged", "one read answers all") for event in hints[:-1]]
        truth.projection, truth.raw, truth.cause, truth.included = None, None, None, {}
        truth.read_at = answer.begun_at
        if answer.state == "found":
            anew = any(event.door == AGAIN for event in hints)
            return self._read_found(group, row, truth, answer, None if anew else held, cause)
        tries = max(event.tries for event in hints)
        if answer.state == "missing" and tries < LAG_TRIES and not any(event.piece.deleted for event in hints):
            self._reader.forget(group.ehr, group.reference)
            return Waiting("the EHR does not have it yet (404)", 1.0 * 2**tries)
        if answer.state == "refused":
            truth.read_at = None
            truth.fates.append(Fate(cause, "failed", "the EHR refused to show it to us"))
            return truth
        gone = RESOURCES[kind].gone(held) if held is not None else None
        if gone is None or same(gone, held):
            truth.fates.append(Fate(cause, "ignored", "the EHR does not have it (any more)"))
        else:
            truth.projection, truth.cause = gone, cause
        return truth

    def _so_far(self, group: Group, row: Row[Any] | None, hints: Sequence[Event]) -> Truth | Pending | Waiting | None:
        """An answer that serves the earlier events only: they need not wait until a busy resource is quiet for once."""
        first = min(event.received_at for event in hints)
        answer = self._reader.get(group.ehr, group.reference, begun_after=first)
        if not isinstance(answer, Found):
            return None
        served = [event for event in group.events if event.received_at <= answer.begun_at]
        return self.judge(Group(group.ehr, group.reference, group.key, served), row)

    def _read_found(
        self, group: Group, row: Row[Any] | None, truth: Truth, answer: Found, held: Any, cause: int
    ) -> Truth:
        theirs = version_of(answer.value)
        truth.version, truth.etag = theirs, answer.etag
        truth.restored = _went_back(version_held(row), theirs)
        try:
            now = self.project(group.ehr, answer.value)
        except UnreadableResource as error:
            truth.fates.append(Fate(cause, "unusable", str(error)))
            return truth
        if held is not None and same(held, now):
            truth.fates.append(Fate(cause, "merged", "the EHR holds what we hold already"))
        else:
            truth.projection, truth.raw, truth.cause = now, answer.value, cause
        return truth


def version_held(row: Row[Any] | None) -> Version | None:
    """The version that a row of `resource` was last applied from."""
    if row is None:
        return None
    return Version(from_us(row.last_updated) if row.last_updated is not None else None, row.version)


def _went_back(held: Version | None, read: Version) -> bool:
    if held is None:
        return False
    ours, theirs = number(held.version_id), number(read.version_id)
    return ours is not None and theirs is not None and theirs < ours


def _back_off(tries: int) -> float:
    return float(min(2**tries, 60))


def version_values(version: Version | None, etag: str | None) -> dict[str, object]:
    """Columns of `resource` that note a version."""
    if version is None:
        return {}
    at = version.last_updated
    clean = version.version_id if version.version_id and _CLEAN.fullmatch(version.version_id) else None
    tag = etag if etag and _TAG.fullmatch(etag) else None
    return {"version": clean, "last_updated": to_us(at) if at is not None else None, "etag": tag}
