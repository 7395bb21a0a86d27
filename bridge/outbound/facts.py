"""What the fence reads before it lets a batch of messages go: a handful of queries for all of them, under row locks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from bridge.ledger import optouts
from bridge.ledger.words import Words

CONFIRMATION = "consent-confirmation"  # the purpose of "you will get messages about …"


@dataclass(slots=True)
class World:
    """Everything `policy.may_leave` asks of the store, for one batch."""

    messages: dict[int, Any] = field(default_factory=dict)
    persons: dict[int, Any] = field(default_factory=dict)
    identities: dict[int, Any] = field(default_factory=dict)
    keys_of: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # person -> identity keys
    blocked: dict[str, int] = field(default_factory=dict)  # identity key -> business time of the STOP
    consents: dict[tuple[int, str], tuple[str, int]] = field(
        default_factory=dict
    )  # (person, purpose) -> decision, when
    revisions: dict[str, int] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)  # conversation key -> window_until
    numbers: dict[str, Any] = field(default_factory=dict)
    templates: dict[tuple[str, str, str], str] = field(default_factory=dict)
    waiting: dict[str, Any] = field(default_factory=dict)  # key or subject -> an unapplied event


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


_MESSAGES = Words(
    "SELECT id, state, cls, kind, number, template, language, zone, purpose, person_id, patient_id, identity_id, answers, ehr, event, "
    "missing, resource_key, revision, not_before, not_after, planned_at, quiet, cohort FROM outbox WHERE id IN :messages"
)
_RESOURCES = Words("SELECT key, revision FROM resource WHERE key IN :keys ORDER BY key FOR SHARE")
_PERSONS = Words(
    "SELECT id, key, kind, patient_id, refusal, zone, link_ended_at FROM person WHERE id IN :people ORDER BY id FOR SHARE"
)
_IDENTITIES = Words('SELECT id, person_id, key, "until" FROM identity WHERE person_id IN :people FOR SHARE')
_WINDOWS = Words("SELECT key, window_until FROM conversation WHERE key IN :keys")
_NUMBERS = Words("SELECT key, free_at, paused_until, reason FROM number WHERE key IN :keys ORDER BY key FOR UPDATE")
_TEMPLATES = Words("SELECT waba, name, language, status FROM template WHERE name IN :names")
_CONSENTS = Words(
    "SELECT id, person_id, purpose, decision, decided_at, ref_key, valid_from, valid_until FROM consent "
    "WHERE person_id IN :people ORDER BY id"
)
_BLOCKS = Words("SELECT key, since FROM block WHERE key IN :keys AND lifted_at IS NULL FOR SHARE")
_WAITING = "SELECT key, subject, kind, reason, tries FROM inbox WHERE fate IS NULL AND"
_BY_KEY, _BY_SUBJECT = Words(f"{_WAITING} key IN :keys"), Words(f"{_WAITING} subject IN :keys")


def load(connection: Connection, message_ids: Sequence[int], lane_keys: Mapping[int, str]) -> World:
    """Read the world of these messages but for what was decided (`decisions`). `lane_keys`: lane id -> conversation key."""
    world = World()
    world.messages = {row.id: row for row in _MESSAGES.rows(connection, messages=list(message_ids))}
    messages = world.messages.values()
    resources = {r.resource_key for r in messages if r.resource_key is not None}
    world.revisions = dict(_RESOURCES.rows(connection, keys=sorted(resources)))
    people = sorted({i for r in messages for i in (r.person_id, r.patient_id) if i is not None})
    world.persons = {row.id: row for row in _PERSONS.rows(connection, people=people)}
    for row in _IDENTITIES.rows(connection, people=people):
        world.identities[row.id] = row
        if row.until is None:
            world.keys_of[row.person_id].add(row.key)
    world.windows = dict(_WINDOWS.rows(connection, keys=sorted(set(lane_keys.values()))))
    # locked, for they are spent below: two nodes that shared one would wait for each other
    world.numbers = {row.key: row for row in _NUMBERS.rows(connection, keys=sorted({r.number for r in messages}))}
    names = sorted({r.template for r in messages if r.template is not None})
    for row in _TEMPLATES.rows(connection, names=names):
        world.templates[(row.waba, row.name, row.language)] = row.status
    return world


def decisions(connection: Connection, world: World, business: int) -> None:
    """Read the blocks and consents of `world`'s people into it. `business`: now.

    They are inserted, and no row lock holds back an insert: read them *after* `unapplied`. A STOP that was waiting a
    moment ago either still waits there, or its rows are here; the other way round it could be missed in both places.
    """
    world.consents = newest_decisions(_CONSENTS.rows(connection, people=list(world.persons)), business)
    keys = {key for held in world.keys_of.values() for key in held}
    keys |= {r.key for r in world.identities.values()}
    keys |= {key for row in world.messages.values() if (key := optout_key(world, row)) is not None}
    for row in _BLOCKS.rows(connection, keys=sorted(keys)):
        world.blocked[row.key] = max(row.since, world.blocked.get(row.key, 0))


def optout_key(world: World, row: Any) -> str | None:
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


def unapplied(connection: Connection, keys: set[str]) -> dict[str, Any]:
    """Events that were acknowledged and not applied yet, by conversation, resource or person key."""
    if not keys:
        return {}
    wanted = sorted(keys)
    # apart: an OR of both would walk all that waits, and ten thousand statuses may
    rows = [*_BY_KEY.rows(connection, keys=wanted), *_BY_SUBJECT.rows(connection, keys=wanted)]
    found: dict[str, Any] = {}
    for row in rows:
        for key in (row.key, row.subject):
            if key in keys and (key not in found or found[key].tries == 0):
                found[key] = row
    return found
