"""A Patient or RelatedPerson that changed: deaths, merges, new numbers, new languages, noted so that the fence can ask.

A push of a person is always answered by a read where we may read: pushes come out of order, and a wrong number is
worse than a late one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.engine import persons
from bridge.engine.fates import Fate, settle
from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.site import Site
from bridge.engine.truth import LAG_TRIES, Event, Group, Waiting
from bridge.errors import UnreadableResource
from bridge.ledger import keys
from bridge.mappers.person import read_person

TYPES = frozenset({"Patient", "RelatedPerson"})


def run(site: Site, reader: Reader, groups: Sequence[Group], wait: Callable[[Sequence[Event], Waiting], None]) -> int:
    """Apply what is known of changed persons; returns how many events got their fate."""
    fates: list[Fate] = []
    changes: list[persons.PersonChange] = []
    people = persons.People(site)
    for group in groups:  # who may speak for a patient is searched for: an answer from before this push may name others
        kind = group.reference.split("/", maxsplit=1)[0]
        reader.outdate(group.ehr, kind, max(event.received_at for event in group.events))
    with reader.gathered():
        answers = [(group, _raw(reader, group)) for group in groups]
    for group, raw in answers:
        if isinstance(raw, Waiting):
            wait(group.events, raw)
            continue
        if raw is None:
            continue  # a read is on its way
        if isinstance(raw, str):
            fates += [Fate(event.id, "ignored", raw) for event in group.events]
            continue
        held = people.get(site.crypto.index(keys.person(group.ehr, group.reference)))
        if held is None:
            fates += [Fate(event.id, "ignored", "nobody we have written to yet") for event in group.events]
            continue
        try:
            person = read_person(raw, region=site.settings.site.region, now=site.now())
        except UnreadableResource as error:
            fates += [Fate(event.id, "unusable", str(error)) for event in group.events]
            continue
        change = persons.plan(site, group.ehr, person, held, read_at=site.store.now())
        if person.kind == "related":  # it may be said to be another patient's from now on, or nobody's
            whose = people.get(site.crypto.index(keys.person(group.ehr, person.patient))) if person.patient else None
            change.values["patient_id"] = whose.row.id if whose is not None else None
        changes.append(change)
        fates += [Fate(event.id, "applied", "person") for event in group.events]
    if not fates:
        return 0
    with site.store.write() as connection:
        persons.apply(connection, site, changes)
        return settle(connection, fates, site.store.now(connection))


def _raw(reader: Reader, group: Group) -> Mapping[str, Any] | Waiting | str | None:
    if not reader.can_read(group.ehr):
        pushed = [event.piece.resource for event in group.events if event.piece.resource is not None]
        return pushed[-1] if pushed else "no read access"
    arrived = max(event.received_at for event in group.events)
    state = reader.need(group.ehr, [group.reference], begun_after=arrived)
    if isinstance(state, Failed):
        return Waiting(state.reason, 2.0)
    answer = reader.get(group.ehr, group.reference, begun_after=arrived)
    if state == "pending" or not isinstance(answer, Found):
        return None
    if answer.state == "refused":
        return "the EHR refused to show it to us"
    tries = max(event.tries for event in group.events)
    if answer.state == "missing" and tries < LAG_TRIES and not any(event.piece.deleted for event in group.events):
        reader.forget(group.ehr, group.reference)
        return Waiting("the EHR does not have it yet (404)", 1.0 * 2**tries)
    if answer.value is None:
        # deleted in the EHR: nobody there may be written to any more
        kind, _, identity = group.reference.partition("/")
        return {"resourceType": kind, "id": identity, "active": False}
    return dict(answer.value)
