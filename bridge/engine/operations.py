"""What a person may ask of a running engine, or do to its store while none runs: doubts, the brake, priming."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update

from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.ledger import audit, lanes, outbox
from bridge.ledger.states import CAMPAIGN
from bridge.ledger.tables import attempt, mark
from bridge.ledger.tables import outbox as outbox_table


class NothingToDo(BridgeError):
    """The operation names nothing that is in the state it needs."""

    remedy = "`bridge doubts` lists what may be resent or closed."


def doubts_resend(site: Site, messages: Sequence[int] = (), fenced_before: int | None = None) -> int:
    """Send again what nobody knows the outcome of: a person's decision, recorded."""
    return _decide(site, messages, fenced_before, "ready", "resent")


def doubts_close(site: Site, messages: Sequence[int] = (), fenced_before: int | None = None) -> int:
    """Leave it: a status that comes still later settles it all the same."""
    return _decide(site, messages, fenced_before, "closed", "closed")


def _decide(site: Site, messages: Sequence[int], fenced_before: int | None, to: str, action: str) -> int:
    with site.store.write() as connection:
        now = site.store.now(connection)
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
        moved = outbox.move(connection, ids, to, now, reason=f"{action} by a person", only_from=("doubt", "held"))
        for message in sorted(moved):
            audit.record(connection, row=site.ids(), at=now, action=f"doubt {action}", subject=f"msg_{message}")
        lanes.wake(connection, outbox.lanes_of(connection, moved), now)
    site.wake_sender()
    if not moved:
        raise NothingToDo("no message of these is in doubt or held")
    return len(moved)


def brake_release(site: Site) -> int:
    """Let the campaign class go on."""

    with site.store.write() as connection:
        done = connection.execute(mark.delete().where(mark.c.key == "brake")).rowcount
        audit.record(connection, row=site.ids(), at=site.store.now(connection), action="brake released")
    site.wake_pump.set()
    return int(done)


def brake_cancel(site: Site) -> int:
    """Cancel what the brake holds."""

    with site.store.write() as connection:
        now = site.store.now(connection)
        done = connection.execute(
            update(outbox_table)
            .where(outbox_table.c.cls == CAMPAIGN, outbox_table.c.state == "planned")
            .values(state="cancelled", reason="cancelled by a person while the brake was on", changed_at=now)
        ).rowcount
        connection.execute(mark.delete().where(mark.c.key == "brake"))
        audit.record(connection, row=site.ids(), at=now, action="brake cancelled", count=done)
    return int(done)


def ping(site: Site) -> Mapping[str, Any]:
    return {"node": site.node, "now": site.now().isoformat()}


OPERATIONS: dict[str, Callable[..., Any]] = {
    "ping": ping,
    "doubts.resend": doubts_resend,
    "doubts.close": doubts_close,
    "brake.release": brake_release,
    "brake.cancel": brake_cancel,
}
