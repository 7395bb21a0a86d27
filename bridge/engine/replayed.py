"""A stored event then and now: what it caused when it came, beside what today's mappings would make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Row

from bridge.engine.change import Change
from bridge.engine.site import Site
from bridge.errors import Undecryptable
from bridge.ledger.clock import from_us
from bridge.ledger.outbox import NewMessage
from bridge.outbound.content import Content

QUIET = frozenset({"merged", "ignored", "applied"})  # nobody is told, and nobody should have been

Named = tuple[Any, Any, Any]  # mapping, person, offset: the same message then and now


@dataclass(slots=True)
class Case:
    """What an event is decided on."""

    row: Row[Any]
    ehr: str
    reference: str
    projection: Any
    raw: Mapping[str, Any] | None
    included: Mapping[str, Any]
    source: str  # as it came, or as the EHR has it now
    held: Row[Any] | None  # the resource as the ledger has it now
    messages: list[Row[Any]] = field(default_factory=list)  # of this resource
    unsaid: set[int] = field(default_factory=set)  # held or closed without a try

    @property
    def caused(self) -> list[Row[Any]]:
        return [row for row in self.messages if row.cause == self.row.id]


def shown_now(change: Change) -> dict[str, Any]:
    fate = change.fates[-1] if change.fates else None
    return {
        "fate": fate.fate if fate is not None else "ignored",
        "reason": fate.reason if fate is not None else None,
        "messages": [_shown_new(each) for each in change.messages],
    }


def compare(site: Site, case: Case, change: Change, now: Mapping[str, Any]) -> dict[str, Any]:
    row = case.row
    then = _then(case)
    elsewhere = {
        each.effect_key for each in case.messages if each.cause != row.id
    }  # another event's: its reminders stand
    new = {named(each): each for each in change.messages if each.effect_key not in elsewhere}
    fate = "merged" if change.messages and not new else now["fate"]
    differences = []
    is_same = set(then) == set(new) and (row.fate == fate or bool(new))
    for name, old in then.items():
        about = what(old.mapping, old.offset)
        made = new.get(name)
        if made is None:
            is_same = False
            differences.append(f"{about}: then {old.state} (msg_{old.id}), now nothing")
            continue
        words = _words(site, old, made)
        is_same = is_same and words is not False
        said = {
            True: "the same words",
            False: "other words",
            None: "words not compared: they are rendered when due, or emptied",
        }
        version = "" if old.mapping_version == made.fields["mapping_version"] else ", by a changed mapping"
        differences.append(f"{about}: then {old.state} (msg_{old.id}), now {made.state}: {said[words]}{version}")
    for name, made in new.items():
        if name not in then:
            differences.append(f"{what(made.fields['mapping'], made.fields['offset'])}: then nothing, now {made.state}")
    if not then and not new:
        is_same = (row.fate, row.reason) == (fate, now["reason"]) or {row.fate, fate} <= QUIET
        if not is_same:
            differences.append(f"then {row.fate} ({row.reason or '—'}), now {now['fate']} ({now['reason'] or '—'})")
    return {
        "event": f"evt_{row.id}",
        "about": case.reference,
        "decided": case.source,
        "then": {"fate": row.fate, "reason": row.reason, "messages": [_shown_old(each) for each in then.values()]},
        "now": dict(now),
        "differences": differences,
        "same": is_same,
        "sent": [],
        "not_sent": [],
    }


def _then(case: Case) -> dict[Named, Row[Any]]:
    """The event's own messages, without those that a replay added later."""
    return {
        (row.mapping, row.person_id, row.offset): row
        for row in sorted(case.caused, key=lambda row: row.id)
        if "#" not in row.effect_key
    }


def named(made: NewMessage) -> Named:
    return made.fields["mapping"], made.fields["person_id"], made.fields["offset"]


def what(mapping: Any, offset: Any) -> str:
    return f"{mapping} ({offset} before)" if offset is not None else str(mapping)


def _shown_old(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{row.id}", "mapping": row.mapping, "mapping_version": row.mapping_version, "offset": row.offset,
        "template": row.template, "language": row.language, "state": row.state, "reason": row.reason,
    }  # fmt: skip


def _shown_new(made: NewMessage) -> dict[str, Any]:
    due = made.fields["not_before"]
    shown = {name: made.fields[name] for name in ("mapping", "mapping_version", "offset", "template", "language")}
    at = from_us(due).isoformat() if isinstance(due, int) else None
    return shown | {"state": made.state, "reason": made.reason, "not_before": at}


def _words(site: Site, old: Row[Any], made: NewMessage) -> bool | None:
    """Whether the phone would show the same; None where one of the two is not rendered."""
    try:
        held = _body(site.crypto.decrypt(old.content, old.key_id, "outbox", "content", old.id))
    except Undecryptable:
        return None
    fresh = _body(made.content)
    return None if held is None or fresh is None else held == fresh


def _body(content: bytes) -> str | None:
    try:
        held = Content.from_bytes(content)
    except msgspec.ValidationError:
        return None  # a draft
    return "\n".join((held.above, held.body))
