"""What a decision rests on, and what it comes to: read before, written after, in one transaction or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from bridge.engine.fates import Fate
from bridge.engine.persons import PersonChange
from bridge.engine.truth import Group
from bridge.ledger.outbox import NewMessage


@dataclass(slots=True)
class Snapshot:
    """Rows of the ledger that a decision rests on, for one resource."""

    resource: Row[Any] | None = None
    messages: list[Row[Any]] = field(default_factory=list)  # of this resource, every state
    unsaid: set[int] = field(default_factory=set)  # those held or closed by a person that no POST was ever begun for
    echoes: list[Row[Any]] = field(default_factory=list)  # writes whose doing the EHR will show us


@dataclass(slots=True)
class Change:
    """What one group comes to; written in one transaction or not at all."""

    group: Group
    fates: list[Fate]
    resource: dict[str, object] | None = None  # columns to write; None: nothing of it changes
    new: bool = False
    revision: int = 0  # the one the snapshot had
    states: dict[int, str] = field(default_factory=dict)  # message id -> state in the snapshot
    persons: list[PersonChange] = field(default_factory=list)
    supersede: list[int] = field(default_factory=list)
    close: list[int] = field(default_factory=list)  # held for a person, never sent, and overtaken by newer news
    messages: list[NewMessage] = field(default_factory=list)
    consents: list[dict[str, object]] = field(default_factory=list)
    echoes: list[int] = field(default_factory=list)
    alarms: list[tuple[str, str]] = field(default_factory=list)
    restored: bool = False  # the EHR holds an older version than before
    subject: str | None = None  # key of the patient it is about
    others: tuple[str, ...] = ()  # keys of the other patients of a visit for several
