"""Persons and their identities as rows: what the EHR says of a patient, kept so that the fence can ask without a read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select, update

from bridge.engine.site import Site
from bridge.errors import Overtaken
from bridge.ledger import keys, rows
from bridge.ledger.crypto import clear_reference
from bridge.ledger.tables import identity, person
from bridge.ledger.words import Words
from bridge.mappers.contact import canonical
from bridge.mappers.person import Person, refusal
from bridge.mappers.recipient import unfit

_PERSONS = Words("SELECT * FROM person WHERE key IN :keys")
_IDENTITIES = Words("SELECT * FROM identity WHERE person_id IN :people")
_LEARN = Words(
    "INSERT INTO identity (id, person_id, kind, key, since, proof, verified_at, key_id, value) "
    "VALUES (:id, :person_id, :kind, :key, :since, :proof, :verified_at, :key_id, :value) "
    'ON CONFLICT (person_id, key) DO UPDATE SET "until" = NULL, since = excluded.since, proof = excluded.proof '
    'WHERE identity."until" IS NOT NULL'
)


@dataclass(slots=True)
class Held:
    """A person as the ledger has them."""

    row: Row[Any]
    identities: dict[str, Row[Any]] = field(default_factory=dict)  # key -> row, ended ones too


@dataclass(slots=True)
class PersonChange:
    """What reading a person changes; made outside the transaction, applied inside."""

    id: int
    key: str
    values: dict[str, object]
    new: bool
    add: list[dict[str, object]] = field(default_factory=list)
    revive: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    identity_of: dict[str, int] = field(default_factory=dict)  # wa_id -> identity id
    read: bool = False  # made from the resource, not from a reference alone


def load(connection: Connection, person_keys: Iterable[str]) -> dict[str, Held]:
    """Persons by key, with their identities."""
    wanted = list(set(person_keys))
    if not wanted:
        return {}
    held = {row.key: Held(row) for row in _PERSONS.rows(connection, keys=wanted)}
    by_id = {one.row.id: one for one in held.values()}
    for row in _IDENTITIES.rows(connection, people=list(by_id)):
        by_id[row.person_id].identities[row.key] = row
    return held


class People:
    """Persons while one batch is decided: those of the ledger, read when asked for, and those this batch will write."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._held: dict[str, Held | None] = {}
        self.planned: dict[str, PersonChange] = {}  # two events of one new patient make one row

    def get(self, key: str) -> Held | None:
        if key not in self._held:
            with self._site.store.read() as connection:
                self._held[key] = load(connection, [key]).get(key)
        return self._held[key]

    def expect(self, person_keys: Iterable[str]) -> None:
        """Read these together: one query for a batch instead of one for each."""
        missing = {key for key in person_keys if key not in self._held}
        if missing:
            with self._site.store.read() as connection:
                found = load(connection, missing)
            self._held |= {key: found.get(key) for key in missing}


def bare(site: Site, ehr: str, reference: str) -> PersonChange:
    """A person known by reference only: enough for a consent to speak of them."""
    key = site.crypto.index(keys.person(ehr, reference))
    values = _values(ehr, reference, "patient" if reference.startswith("Patient/") else "related")
    return PersonChange(site.ids(), key, values, new=True)


def plan(
    site: Site,
    ehr: str,
    read: Person,
    held: Held | None,
    *,
    read_at: int,
    patient_id: int | None = None,
    row_id: int | None = None,
) -> PersonChange:
    """What a person as read changes against the row we hold."""
    crypto = site.crypto
    key = crypto.index(keys.person(ehr, read.reference))
    person_id = held.row.id if held is not None else row_id or site.ids()
    values = _values(ehr, read.reference, read.kind) | {
        "patient_id": patient_id,
        "refusal": refusal(read) if read.kind == "patient" else unfit(read),
        "language": read.language,
        "zone": read.zone,
        "read_at": read_at,
    }
    if held is not None:
        for fixed in ("ehr", "ref", "kind"):
            values.pop(fixed)
        if patient_id is None:
            values.pop("patient_id")
    change = PersonChange(person_id, key, values, new=held is None, read=True)
    known = held.identities if held is not None else {}
    business = site.clock.now_us()
    current: set[str] = set()
    for phone in read.phones:
        identity_key = crypto.index(keys.identity(canonical(phone.wa_id)))
        if identity_key in current:
            continue
        current.add(identity_key)
        row = known.get(identity_key)
        if row is None:
            new = site.ids()
            change.add.append({
                "id": new, "person_id": person_id, "kind": "phone", "key": identity_key, "since": business,
                "proof": "ehr", "verified_at": business, "key_id": crypto.key_id,
                "value": crypto.encrypt(phone.wa_id.encode(), "identity", "value", new),
            })  # fmt: skip
            change.identity_of[phone.wa_id] = new
        else:
            if row.until is not None:
                change.revive.append(row.id)
            change.identity_of[phone.wa_id] = row.id
    change.end = [
        row.id for identity_key, row in known.items()
        if identity_key not in current and row.until is None and row.proof == "ehr"
    ]  # fmt: skip
    if change.end:
        # what was learned through a number that was taken from them may be somebody else's: it is learned anew through
        # one that is theirs, and until then a person is asked
        change.end += [row.id for row in known.values() if row.until is None and row.proof != "ehr"]
    return change


def _values(ehr: str, reference: str, kind: str) -> dict[str, object]:
    return {"ehr": ehr, "ref": clear_reference(reference), "kind": kind}


def apply(connection: Connection, site: Site, changes: Iterable[PersonChange]) -> None:
    """Write the changes; ended numbers are locked like a STOP is, so that the fence sees them.

    Raises: Overtaken when another node has written one of the new persons first, under an id of its own.
    """
    business = site.clock.now_us()
    changes = sorted({change.id: change for change in changes}.values(), key=lambda c: c.id)
    fresh = [{"id": change.id, "key": change.key, **change.values} for change in changes if change.new]
    rows.insert_many(connection, person, fresh, unless="key")
    if fresh and connection.dialect.name != "sqlite":
        ours = {str(row["key"]): row["id"] for row in fresh}
        there = connection.execute(select(person.c.key, person.c.id).where(person.c.key.in_(list(ours))))
        if any(ours[row.key] != row.id for row in there):
            raise Overtaken("another node met a person first")
    rows.update_many(connection, person, "id", [{"id": c.id, **c.values} for c in changes if not c.new])
    added = [row for change in changes for row in change.add]
    rows.insert_many(connection, identity, added, unless=("person_id", "key"))
    ended = sorted(i for change in changes for i in change.end)
    if ended:
        connection.execute(update(identity).where(identity.c.id.in_(ended)).values(until=business))
        site.links_ended += 1
    revived = sorted(i for change in changes for i in change.revive)
    if revived:
        connection.execute(update(identity).where(identity.c.id.in_(revived)).values(until=None, since=business))


def learn(connection: Connection, site: Site, links: Mapping[tuple[int, str], str]) -> None:
    """User ids that WhatsApp named beside a message: (person id, user id) -> proof. One that had ended begins again."""
    if not links:
        return
    business = site.clock.now_us()
    learned = []
    for (person_id, user_id), proof in sorted(links.items()):
        new = site.ids()
        learned.append({
            "id": new, "person_id": person_id, "kind": "user_id", "key": site.crypto.index(keys.identity(user_id)),
            "since": business, "proof": proof, "verified_at": business, "key_id": site.crypto.key_id,
            "value": site.crypto.encrypt(user_id.encode(), "identity", "value", new),
        })  # fmt: skip
    _LEARN.many(connection, learned)


__all__ = ["Held", "PersonChange", "apply", "bare", "learn", "load", "plan"]
