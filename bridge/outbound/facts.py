"""What the fence reads before it lets a batch of messages go: a handful of queries for all of them, under row locks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from bridge.ledger import optouts
from bridge.ledger.tables import (
    block,
    consent,
    conversation,
    identity,
    inbox,
    number,
    outbox,
    person,
    resource,
    template,
)

CONFIRMATION = "consent-confirmation"  # the purpose of "you will get messages about …"


@dataclass(slots=True)
class World:
    """Everything `policy.may_leave` asks of the store, for one batch."""

    messages: dict[int, Row[Any]] = field(default_factory=dict)
    persons: dict[int, Row[Any]] = field(default_factory=dict)
    identities: dict[int, Row[Any]] = field(default_factory=dict)
    keys_of: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # person -> identity keys
    blocked: dict[str, int] = field(default_factory=dict)  # identity key -> business time of the STOP
    consents: dict[tuple[int, str], tuple[str, int]] = field(
        default_factory=dict
    )  # (person, purpose) -> decision, when
    revisions: dict[str, int] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)  # conversation key -> window_until
    numbers: dict[str, Row[Any]] = field(default_factory=dict)
    templates: dict[tuple[str, str, str], str] = field(default_factory=dict)
    waiting: dict[str, Row[Any]] = field(default_factory=dict)  # key or subject -> an unapplied event


def lock_rows(connection: Connection, statement: Any) -> Any:
    """FOR SHARE on PostgreSQL; SQLite's one write transaction is the lock."""
    return statement if connection.dialect.name == "sqlite" else statement.with_for_update(read=True)


def newest_decisions(rows: Iterable[Any], business: int) -> dict[tuple[int, str], tuple[str, int]]:
    """(person, purpose) -> permit or deny, and when it was decided: of one Consent only what was read last, of several the newest decision.

    Two of the same moment that disagree are a deny. `rows` come in the order in which they were recorded.
    """
    last: dict[tuple[int, str, object], Any] = {}
    for row in rows:
        last[(row.person_id, row.purpose, row.ref_key or row.id)] = row
    best: dict[tuple[int, str], Any] = {}
    for (person_id, purpose, _), row in last.items():
        if row.decision not in ("permit", "deny"):
            continue
        if (row.valid_from or 0) > business or (row.valid_until is not None and row.valid_until <= business):
            continue
        held = best.get((person_id, purpose))
        if held is None or (row.decided_at, row.decision == "deny") >= (held.decided_at, held.decision == "deny"):
            best[(person_id, purpose)] = row
    return {key: (str(row.decision), int(row.decided_at)) for key, row in best.items()}


def load(connection: Connection, message_ids: Sequence[int], lane_keys: Mapping[int, str]) -> World:
    """Read the world of these messages but for what was decided (`decisions`). `lane_keys`: lane id -> conversation key."""
    world = World()
    light = [c for c in outbox.c if c.name not in {"before", "after", "content"}]
    for row in connection.execute(select(*light).where(outbox.c.id.in_(message_ids))):
        world.messages[row.id] = row
    resources = {r.resource_key for r in world.messages.values() if r.resource_key is not None}
    if resources:
        held = select(resource.c.key, resource.c.revision).where(resource.c.key.in_(resources)).order_by(resource.c.key)
        world.revisions = {row.key: row.revision for row in connection.execute(lock_rows(connection, held))}
    people = {i for r in world.messages.values() for i in (r.person_id, r.patient_id) if i is not None}
    if people:
        for row in connection.execute(
            lock_rows(connection, select(person).where(person.c.id.in_(people)).order_by(person.c.id))
        ):
            world.persons[row.id] = row
        columns = [c for c in identity.c if c.name != "value"]
        for row in connection.execute(lock_rows(connection, select(*columns).where(identity.c.person_id.in_(people)))):
            world.identities[row.id] = row
            if row.until is None:
                world.keys_of[row.person_id].add(row.key)
    windows = select(conversation.c.key, conversation.c.window_until).where(
        conversation.c.key.in_(set(lane_keys.values()))
    )
    world.windows = {row.key: row.window_until for row in connection.execute(windows)}
    ours = {r.number for r in world.messages.values()}
    rates = select(number).where(number.c.key.in_(ours)).order_by(number.c.key)
    if connection.dialect.name != "sqlite":  # spent below: two nodes that shared it would wait for each other
        rates = rates.with_for_update()
    world.numbers = {row.key: row for row in connection.execute(rates)}
    names = {r.template for r in world.messages.values() if r.template is not None}
    if names:
        known = select(template.c.waba, template.c.name, template.c.language, template.c.status)
        for row in connection.execute(known.where(template.c.name.in_(names))):
            world.templates[(row.waba, row.name, row.language)] = row.status
    return world


def decisions(connection: Connection, world: World, business: int) -> None:
    """Read the blocks and consents of `world`'s people into it. `business`: now.

    They are inserted, and no row lock holds back an insert: read them *after* `unapplied`. A STOP that was waiting a
    moment ago either still waits there, or its rows are here; the other way round it could be missed in both places.
    """
    if world.persons:
        said = select(consent).where(consent.c.person_id.in_(world.persons)).order_by(consent.c.id)
        world.consents = newest_decisions(connection.execute(said), business)
    keys = {key for held in world.keys_of.values() for key in held}
    keys |= {r.key for r in world.identities.values()}
    keys |= {key for row in world.messages.values() if (key := optout_key(world, row)) is not None}
    if keys:
        blocked = select(block.c.key, block.c.since).where(block.c.key.in_(keys), block.c.lifted_at.is_(None))
        for row in connection.execute(lock_rows(connection, blocked)):
            world.blocked[row.key] = max(row.since, world.blocked.get(row.key, 0))


def optout_key(world: World, row: Row[Any]) -> str | None:
    """Where it stands that this identity stopped marketing messages, should Meta have refused this template with that."""
    holder = world.identities.get(row.identity_id) if row.identity_id is not None else None
    return optouts.key_of(holder.key, row.template) if holder is not None and row.template is not None else None


def permitted_at(world: World, person_id: int | None, purpose: str | None) -> int | None:
    """When the person permitted messages of this purpose, if that is their newest decision; a confirmation of a
    consent serves any purpose."""
    times = [
        at
        for (person, about), (decision, at) in world.consents.items()
        if person == person_id and decision == "permit" and purpose in (about, CONFIRMATION)
    ]
    return max(times, default=None)


def stopped(world: World, keys: set[str], permitted_at: int | None) -> bool:
    """Whether one of these identities wrote STOP and no newer decision of the person has lifted it."""
    return any(permitted_at is None or world.blocked[key] >= permitted_at for key in keys if key in world.blocked)


def unapplied(connection: Connection, keys: set[str]) -> dict[str, Row[Any]]:
    """Events that were acknowledged and not applied yet, by conversation, resource or person key."""
    if not keys:
        return {}
    columns = select(inbox.c.key, inbox.c.subject, inbox.c.kind, inbox.c.reason, inbox.c.tries)
    waiting = columns.where(inbox.c.fate.is_(None))
    # apart: an OR of both would walk all that waits, and ten thousand statuses may
    rows = [*connection.execute(waiting.where(inbox.c.key.in_(keys)))]
    rows += connection.execute(waiting.where(inbox.c.subject.in_(keys)))
    found: dict[str, Any] = {}
    for row in rows:
        for key in (row.key, row.subject):
            if key in keys and (key not in found or found[key].tries == 0):
                found[key] = row
    return found
