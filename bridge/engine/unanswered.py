"""`then.no_reply`: who has not answered a message for so long is a person's to call.

An answer is a tap on that message or on another about the same visit, or words without a button. Nobody is called about
what has moved on meanwhile, was answered before, is over, or never arrived.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from bridge.engine.site import Site
from bridge.engine.situations import visit_of
from bridge.engine.tasks import open_task
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import conversation, lane, outbox, resource, turn, write

LOOK = 20 * SECOND  # business time between two looks
BATCH = 200
WHOLE_SECOND = SECOND  # WhatsApp's timestamps are cut to seconds, ours are not
ARRIVED = ("accepted", "sent", "delivered", "read", "played")
COLUMNS = [c for c in outbox.c if c.name not in {"before", "after", "content"}]


class Unanswered:
    """Looks at messages that a mapping wants answered; turned by the pump."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._last = -LOOK

    def once(self) -> int:
        """One look; returns how many messages it dealt with."""
        site = self._site
        business = site.clock.now_us()
        if abs(business - self._last) < LOOK:
            return 0
        self._last = business
        periods = [each.no_reply for each in site.content.mappings.mappings if each.no_reply is not None]
        soonest = int(min(periods).total_seconds() * SECOND) if periods else 0
        waiting = (outbox.c.reply_within.is_not(None), outbox.c.accepted_at.is_not(None))
        due = (outbox.c.accepted_at <= business - soonest, outbox.c.accepted_at + outbox.c.reply_within <= business)
        mine = site.share("pump").mine(None, outbox.c.id)
        with site.store.read() as connection:
            wanted = select(*COLUMNS).where(*waiting, *due, *mine).order_by(outbox.c.accepted_at).limit(BATCH)
            rows = connection.execute(wanted).all()
            silent = {row.id for row in rows if self._silent(connection, row)}
        for row in rows:
            with site.store.write() as connection:
                once = update(outbox).where(outbox.c.id == row.id, outbox.c.reply_within.is_not(None))
                if connection.execute(once.values(reply_within=None)).rowcount == 1 and row.id in silent:
                    hours = row.reply_within / (3600 * SECOND)
                    open_task(connection, site, row, site.ids(), f"no answer within {hours:g} h to {row.mapping}")
        return len(rows)

    def _silent(self, connection: Connection, row: Any) -> bool:
        if row.state not in ARRIVED:
            return False
        held = connection.execute(select(resource).where(resource.c.key == row.resource_key)).first()
        if held is None or held.revision != row.revision:
            return False
        if held.type == "Appointment":
            visit = visit_of(self._site, held, "", row.language or "", row.zone or self._site.settings.site.zone)
            if visit is None or visit.start <= self._site.now():
                return False
        decided = select(write.c.id).where(
            write.c.resource_key == row.resource_key,
            write.c.kind == "command",
            write.c.person_id == row.person_id,
            write.c.state.in_(("asked", "sending", "done")),
        )
        if connection.execute(decided.limit(1)).first() is not None:
            return False
        said = (
            select(turn.c.message_id)
            .join(conversation, conversation.c.id == turn.c.conversation_id)
            .join(lane, lane.c.key == conversation.c.key)
            .where(
                lane.c.id == row.lane_id,
                turn.c.direction == "in",
                turn.c.kind.not_in(("reaction", "system")),
                turn.c.at >= row.accepted_at - WHOLE_SECOND,
            )
        )
        tapped = set(connection.execute(said).scalars())
        if None in tapped or row.id in tapped:
            return False
        about = select(outbox.c.id).where(outbox.c.id.in_(tapped), outbox.c.resource_key == row.resource_key)
        return not tapped or connection.execute(about.limit(1)).first() is None
