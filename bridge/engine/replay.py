"""A stored event decided again with today's mappings: what would be said now, beside what was said then.

Decided against what its reader had been told *before* it, so that the event is news again. Nothing is written, unless a
person asks to send: then the new messages carry the effect key of the old with `#2`, `#3` … behind it, and the audit says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Event as Bell
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Row, select

from bridge.engine import persons
from bridge.engine.braking import Braking
from bridge.engine.change import Change, Snapshot
from bridge.engine.news import News
from bridge.engine.pokes import hint_row
from bridge.engine.reads import Failed, Found, Reader
from bridge.engine.replayed import Case, compare, named, shown_now, what
from bridge.engine.site import Site
from bridge.engine.standing import primed
from bridge.engine.truth import Event, Group, Judge, Pending, Truth, Waiting
from bridge.errors import BridgeError, EhrUnreachable, NothingToDo, Overtaken, Undecryptable, UnreadableResource
from bridge.fhir.pieces import Piece, parse_piece
from bridge.ledger import audit, lanes, outbox
from bridge.ledger.clock import Clock, from_us
from bridge.ledger.outbox import NewMessage
from bridge.ledger.states import LIVE, TOLD
from bridge.ledger.tables import attempt, consent, inbox, resource
from bridge.ledger.tables import outbox as outbox_table
from bridge.mappers.events import RESOURCES, same

PATIENCE = 20.0  # seconds for all reads together; the control socket's other side waits for a minute
NEVER_APPLIED = ("failed", "ignored", "unusable")  # of these nothing is held: sending means to apply it first
AS_IT_CAME, AS_IT_IS = "as it came", "as the EHR has it now"
OURS = "our own write"


def replay(site: Site, event: int, really_send: bool = False, as_then: bool = False) -> Mapping[str, Any]:
    """Decide an event of an EHR again.

    Args:
        site: the running engine's, or one made under its lock.
        event: inbox.id.
        really_send: send what comes out, though it may have been sent before.
        as_then: decide with the clock of then: what a changed mapping would have said of a visit that is over by now.

    Returns:
        `then` and `now` (fate, reason, messages without their words), `differences` in sentences, `same`, and of what was
        sent the ids in `sent` and the reasons against the rest in `not_sent`.

    Raises: NothingToDo, EhrUnreachable, Overtaken.
    """
    if really_send and as_then:
        raise NothingToDo("what is sent is decided with today's clock")
    bell = Bell()
    reader = Reader(site.clients, site.store.now, bell.set)
    try:
        case = _case(site, reader, bell, event)
        if as_then:
            site = replace(site, clock=Clock(_came_at(site, case)))
        if case.row.reason == OURS:
            change = Change(_group(case), [])
            now: dict[str, Any] = {"fate": "applied", "reason": OURS, "messages": []}
        else:
            current = _is_current(site, case)
            change = _decide(site, reader, bell, case, at_current=really_send and current)
            now = shown_now(change)
        result = compare(site, case, change, now)
        if really_send:
            result |= _send(site, case, change)
        return result
    finally:
        reader.stop()


# --- what it is decided on ---------------------------------------------------------------------------------------------


def _case(site: Site, reader: Reader, bell: Bell, event: int) -> Case:
    with site.store.read() as connection:
        row = connection.execute(select(inbox).where(inbox.c.id == event)).first()
        if row is None:
            raise NothingToDo(f"there is no evt_{event}")
        if row.kind not in ("notification", "hint"):
            raise NothingToDo(f"evt_{event} did not come from an EHR: only what an EHR pushed is decided again")
        if row.fate is None:
            raise NothingToDo(f"evt_{event} has not been applied yet: it is decided by itself")
        if row.key is None:
            raise NothingToDo(f"evt_{event} names no resource that could be decided again")
        held = connection.execute(select(resource).where(resource.c.key == row.key)).first()
        columns = [c for c in outbox_table.c if c.name not in {"before"}]
        messages = connection.execute(
            select(*columns).where(outbox_table.c.resource_key == row.key, outbox_table.c.answers.is_(None))
        ).all()
        unsaid = _unsaid(connection, messages)
    ehr = row.source.removeprefix("ehr:")
    if ehr not in site.settings.ehrs:
        raise NothingToDo(f"evt_{event}: its EHR is no longer in the config")
    piece = _piece(site, row)
    reference = (piece.reference if piece is not None else None) or (held.ref if held is not None else None)
    if reference is None:
        raise NothingToDo(f"evt_{event} names no resource that could be decided again")
    if reference.partition("/")[0] not in RESOURCES:
        raise NothingToDo(f"evt_{event} is about {reference.partition('/')[0]}, of which patients are told nothing")
    case = Case(row, ehr, reference, None, None, {}, AS_IT_CAME, held, list(messages), unsaid)
    judge = Judge(site, reader)
    try:
        if piece is not None and piece.resource is not None:
            case.projection, case.raw = judge.project(ehr, piece.resource), piece.resource
            case.included = piece.included
        else:
            _read(case, judge, reader, bell)
    except UnreadableResource as error:
        raise NothingToDo(f"evt_{event} cannot be decided: {error}") from None
    return case


def _piece(site: Site, row: Row[Any]) -> Piece | None:
    """What came; None where retention has emptied it."""
    try:
        return parse_piece(site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id))
    except Undecryptable:
        return None
    except (BridgeError, ValueError, KeyError, TypeError):
        raise NothingToDo(f"what is stored of evt_{row.id} cannot be read") from None


def _read(case: Case, judge: Judge, reader: Reader, bell: Bell) -> None:
    """The resource as the EHR has it now; as it was deleted, where the EHR has it no more."""
    case.source = AS_IT_IS
    if not reader.can_read(case.ehr):
        raise NothingToDo(f"evt_{case.row.id} carries no resource, and this EHR cannot be read: it has no base_url")
    answer = _await(reader, bell, case.ehr, case.reference)
    if answer.value is not None:
        case.projection, case.raw = judge.project(case.ehr, answer.value), answer.value
        return
    kind = case.reference.partition("/")[0]
    last = judge.held(case.held, kind) if answer.state in ("missing", "deleted") else None
    if last is None:
        raise NothingToDo(f"the EHR does not show {case.reference} ({answer.state})")
    case.projection = RESOURCES[kind].gone(last)


def _await(reader: Reader, bell: Bell, ehr: str, what: str) -> Found:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        bell.clear()
        state = reader.need(ehr, [what])
        if isinstance(state, Failed):
            raise EhrUnreachable(state.reason)
        answer = reader.get(ehr, what)
        if isinstance(answer, Found):
            return answer
        bell.wait(0.5)
    raise EhrUnreachable(f"no answer within {PATIENCE:.0f} s")


def _unsaid(connection: Connection, messages: Sequence[Row[Any]]) -> set[int]:
    waiting = {row.id for row in messages if row.state in ("held", "closed")}
    tried = connection.execute(select(attempt.c.message).where(attempt.c.message.in_(sorted(waiting)))).scalars()
    return waiting - set(tried)


def _is_current(site: Site, case: Case) -> bool:
    """Whether what the event says is what the ledger holds now."""
    if case.held is None:
        return False
    held = Judge(site, None).held(case.held, case.held.type)
    return held is not None and same(held, case.projection)


# --- deciding ----------------------------------------------------------------------------------------------------------


def _came_at(site: Site, case: Case) -> datetime:
    """Business time when the event was decided: its messages know it; else as the clock has been pushed by now."""
    planned = [row.planned_at for row in case.caused]
    return from_us(min(planned)) if planned else from_us(case.row.received_at) + site.clock.offset


def _group(case: Case) -> Group:
    row = case.row
    event = Event(row.id, case.ehr, row.door, row.received_at, 0, Piece("notification", case.reference))
    return Group(case.ehr, case.reference, row.key, [event])


def _decide(site: Site, reader: Reader, bell: Bell, case: Case, *, at_current: bool) -> Change:
    """As the apply loop would, against what was told before this event."""
    snapshot = Snapshot(_resource_then(case, at_current=at_current), _told_then(case), case.unsaid, [])
    truth = Truth([], case.projection, case.raw, case.included, cause=case.row.id)
    with site.store.read() as connection:
        is_primed = primed(connection, site.settings, case.ehr)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        bell.clear()
        news = News(site, reader, persons.People(site))
        decided = news.decide(_group(case), snapshot, truth, None, primed=is_primed)
        if isinstance(decided, Waiting):
            raise EhrUnreachable(decided.reason)
        if not isinstance(decided, Pending):
            return decided
        bell.wait(0.5)
    raise EhrUnreachable(f"no answer within {PATIENCE:.0f} s")


def _resource_then(case: Case, *, at_current: bool) -> Any:
    """The resource's row as it was before the event, as far as deciding looks at it."""
    held = case.held
    if held is None:
        return None
    revisions = [row.revision for row in case.caused if row.revision is not None]
    revision = held.revision if at_current or not revisions else min(revisions)
    values = dict(held._mapping) | {"revision": revision - 1}
    if held.baseline_revision >= min(revisions, default=held.revision + 1):
        values |= {"baseline": None, "baseline_revision": 0}
    return SimpleNamespace(**values)


def _told_then(case: Case) -> list[Row[Any]]:
    return [row for row in case.messages if row.state in TOLD and (row.cause is None or row.cause < case.row.id)]


# --- sending -----------------------------------------------------------------------------------------------------------


def _send(site: Site, case: Case, change: Change) -> dict[str, Any]:
    """Send what was decided, once more."""
    if case.row.reason == OURS:
        return {"not_sent": ["it was bridge's own write: nobody is told of it"]}
    if not _is_current(site, case):
        if case.row.fate in NEVER_APPLIED and site.clients.get(case.ehr) is not None:
            return _apply_it(site, case)
        return {"not_sent": [f"{case.reference} has changed since: what this event says holds no longer"]}
    not_sent = []
    chosen: list[tuple[NewMessage, str]] = []
    for made in change.messages:
        name = named(made)
        older = sorted(
            (row for row in case.messages if (row.mapping, row.person_id, row.offset) == name), key=lambda row: row.id
        )
        waiting = [row for row in older if row.state in LIVE]
        if waiting:
            not_sent.append(f"{what(name[0], name[2])}: msg_{waiting[-1].id} is {waiting[-1].state} and not over yet")
        elif name[2] is not None and any(row.state in TOLD for row in older):
            not_sent.append(f"{what(name[0], name[2])}: a reminder is not sent twice")
        else:
            own = [row for row in older if row.cause == case.row.id]
            chosen.append((made, (own[0].effect_key if own else made.effect_key).partition("#")[0]))
    if not chosen:
        if not change.messages:
            not_sent.append(change.fates[-1].reason or "nothing comes of it" if change.fates else "nothing comes of it")
        return {"not_sent": not_sent}
    return {"sent": _commit(site, case, change, chosen), "not_sent": not_sent}


def _commit(site: Site, case: Case, change: Change, chosen: Sequence[tuple[NewMessage, str]]) -> list[str]:
    assert case.held is not None
    messages = [made for made, _ in chosen]
    braking = Braking(site)
    with site.store.write() as connection:
        if connection.dialect.name != "sqlite":  # lanes come first in the order of locks
            ids = lanes.ensure(connection, site.ids, "conversation", [(m.lane_key, m.number) for m in messages])
            lanes.lock(connection, sorted(ids.values()))
        now = site.store.now(connection)
        revision = select(resource.c.revision).where(resource.c.key == case.row.key).with_for_update()
        if connection.execute(revision).scalar() != case.held.revision:
            raise Overtaken(f"{case.reference} changed while evt_{case.row.id} was decided again")
        persons.apply(connection, site, change.persons)
        if change.consents:
            connection.execute(consent.insert(), change.consents)
        for made, base in chosen:
            made.effect_key = f"{base}#{_next(connection, base)}"
        braking.before(connection, messages)
        added = outbox.add(connection, site.crypto, site.ids, messages, now)
        if len(added) != len(messages):
            raise Overtaken(f"evt_{case.row.id} is being replayed by somebody else")
        braking.after(connection, messages, now)
        sent = [f"msg_{each}" for each in sorted(added)]
        audit.record(
            connection, row=site.ids(), at=now, action="replayed", subject=f"evt_{case.row.id}", count=len(sent),
            detail={"messages": sent},
        )  # fmt: skip
    site.wake_sender()
    site.wake_pump.set()
    return sent


def _next(connection: Connection, base: str) -> int:
    """The number behind the effect key: 2 for the first replay."""
    there = select(outbox_table.c.effect_key).where(outbox_table.c.effect_key.startswith(f"{base}#", autoescape=True))
    numbers = [key.rpartition("#")[2] for key in connection.execute(there).scalars()]
    return max((int(each) for each in numbers if each.isdecimal()), default=1) + 1


def _apply_it(site: Site, case: Case) -> dict[str, Any]:
    """An event that never was applied: the engine reads the resource and decides, as for any news; no key is doubled."""
    with site.store.write() as connection:
        now = site.store.now(connection)
        row = hint_row(site, case.ehr, "replay", case.reference, now)
        connection.execute(inbox.insert().values(**row))
        audit.record(connection, row=site.ids(), at=now, action=audit.FOUND, count=1)
        audit.record(
            connection, row=site.ids(), at=now, action="replayed", subject=f"evt_{case.row.id}", count=0,
            detail={"as": f"evt_{row['id']}"},
        )  # fmt: skip
    site.wake_apply.set()
    return {
        "applied_as": f"evt_{row['id']}",
        "not_sent": [f"it was never applied: the engine applies it now, as evt_{row['id']}"],
    }
