"""What a person may ask of a running engine, or do to its store while none runs: doubts, the brake, priming."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, and_, func, select, update

from bridge.engine.calendar import sweep_bodies
from bridge.engine.replay import replay
from bridge.engine.site import Site
from bridge.errors import NothingToDo
from bridge.ledger import audit, brake, lanes, outbox
from bridge.ledger.states import CAMPAIGN
from bridge.ledger.tables import attempt, inbox, mark, turn
from bridge.ledger.tables import outbox as outbox_table


def doubts_resend(site: Site, messages: Sequence[int] = (), fenced_before: int | None = None) -> int:
    """Send again what nobody knows the outcome of: a person's decision, recorded."""
    return _decide(site, messages, fenced_before, "ready", "resent")


def doubts_close(site: Site, messages: Sequence[int] = (), fenced_before: int | None = None) -> int:
    """Leave it: a status that comes still later settles it all the same."""
    return _decide(site, messages, fenced_before, "closed", "closed")


def _decide(site: Site, messages: Sequence[int], fenced_before: int | None, to: str, action: str) -> int:
    with site.store.write() as connection:
        wanted = select(outbox_table.c.id).where(outbox_table.c.state.in_(("doubt", "held")))
        if fenced_before is not None:
            fenced = (
                select(attempt.c.message)
                .group_by(attempt.c.message)
                .having(func.max(attempt.c.fenced_at) < fenced_before)
            )
            wanted = wanted.where(outbox_table.c.id.in_(fenced))
        else:
            wanted = wanted.where(outbox_table.c.id.in_([int(m) for m in messages]))
        ids = connection.execute(wanted).scalars().all()
        lanes.lock(connection, sorted(outbox.lanes_of(connection, ids)))
        now = site.store.now(connection)
        moved = outbox.move(connection, ids, to, now, reason=f"{action} by a person", only_from=("doubt", "held"))
        for message in sorted(moved):
            audit.record(connection, row=site.ids(), at=now, action=f"doubt {action}", subject=f"msg_{message}")
        lanes.wake(connection, outbox.lanes_of(connection, moved), now)
    site.wake_sender()
    if not moved:
        raise NothingToDo("no message of these is in doubt or held")
    return len(moved)


def brake_release(site: Site) -> int:
    """Let the campaign class go on; returns how many messages the brake had held."""
    with site.store.write() as connection:
        now = site.store.now(connection)
        held = connection.execute(select(func.count()).select_from(outbox_table).where(_BRAKED)).scalar_one()
        if connection.execute(mark.delete().where(mark.c.key == brake.MARK)).rowcount == 0:
            raise NothingToDo("the brake is not on")
        brake.forget_before(connection, now)
        audit.record(connection, row=site.ids(), at=now, action="brake released", count=held)
    site.wake_pump.set()
    return int(held)


def brake_cancel(site: Site) -> int:
    """Cancel what the brake holds, and let what comes after go on."""
    with site.store.write() as connection:
        now = site.store.now(connection)
        if connection.execute(mark.delete().where(mark.c.key == brake.MARK)).rowcount == 0:
            raise NothingToDo("the brake is not on")
        brake.forget_before(connection, now)
        done = connection.execute(
            update(outbox_table)
            .where(_BRAKED)
            .values(state="cancelled", reason="cancelled by a person while the brake was on", changed_at=now)
        ).rowcount
        audit.record(connection, row=site.ids(), at=now, action="brake cancelled", count=done)
    return int(done)


_BRAKED = and_(outbox_table.c.cls == CAMPAIGN, outbox_table.c.state == "planned")


def reveal(site: Site, name: str) -> Mapping[str, str]:
    """What stands in the encrypted columns of one id, in clear; that somebody looked is recorded.

    Returns: `event`, `message` or `said`, and what it holds.
    """
    prefix, _, digits = name.partition("_")
    if prefix not in _REVEALED or not digits.isdecimal():
        raise NothingToDo("evt_…, msg_… or turn_… expected")
    shown, table, column = _REVEALED[prefix]
    with site.store.write() as connection:
        row = connection.execute(select(table).where(table.c.id == int(digits))).first()
        if row is None:
            raise NothingToDo(f"there is no {name}")
        blob = row._mapping[column]
        audit.record(connection, row=site.ids(), at=site.store.now(connection), action="revealed", subject=name)
    if blob is None:
        return {shown: "(purged)"}
    plain = site.crypto.decrypt(blob, row.key_id, table.name, column, row.id)
    if prefix == "msg":
        decoded = msgspec.json.decode(plain)
        return {shown: str(decoded.get("body") or "(rendered when it is due)")}
    return {shown: plain.decode("utf-8", "replace")}


_REVEALED: dict[str, tuple[str, Table, str]] = {
    "evt": ("event", inbox, "body"),
    "msg": ("message", outbox_table, "content"),
    "turn": ("said", turn, "body"),
}


def ping(site: Site) -> Mapping[str, Any]:
    return {"node": site.node, "now": site.now().isoformat()}


OPERATIONS: dict[str, Callable[..., Any]] = {
    "ping": ping,
    "doubts.resend": doubts_resend,
    "doubts.close": doubts_close,
    "reveal": reveal,
    "replay": replay,
    "retention": sweep_bodies,
    "brake.release": brake_release,
    "brake.cancel": brake_cancel,
}
