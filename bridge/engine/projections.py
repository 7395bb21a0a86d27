"""Communications the EHR must come to hold: one row a message or turn, however often its state changes before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, case, literal, update

from bridge.engine.site import Site
from bridge.ledger import writes
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import write

AFTER_ACCEPTED = 600 * SECOND  # a message that no status settled until then is written all the same


AGAIN = "again"  # in `told` of a projection: it changed while it was being written


def ask(connection: Connection, site: Site, messages: Sequence[Any], now: int) -> None:
    """Communications of outbound messages: one written already is brought up to date, one being written is written again."""
    rows = {message.id: communication(site, message, now) for message in messages if takes_them(site, message.ehr)}
    if not rows:
        return
    known = sorted(set(rows) - writes.add(connection, site.ids, list(rows.values()), now))
    flying = write.c.state == "sending"
    for start in range(0, len(known), 500):
        connection.execute(
            update(write)
            .where(write.c.id.in_(known[start : start + 500]), write.c.state.in_(("asked", "sending", "done")))
            .values(
                state=case((flying, literal("sending")), else_=literal("asked")),
                told=case((flying, literal(AGAIN)), else_=write.c.told),
                next_at=case((flying, write.c.next_at), else_=literal(now)),
                settled_at=None,
            )
        )


def takes_them(site: Site, ehr: str) -> bool:
    """Whether this EHR is written Communications at all."""
    configured = site.settings.ehrs.get(ehr)
    return configured is not None and configured.base_url is not None and configured.writeback.communication == "create"


def communication(site: Site, message: Any, now: int) -> dict[str, object]:
    """A `write` row for an outbound message. Its id is the message's own: asked twice, it is one row."""
    return {
        "id": message.id,
        "kind": "projection",
        "verb": "communication",
        "ehr": message.ehr,
        "resource_key": f"out {message.id}",
        "message_id": message.id,
        "person_id": message.patient_id,
        "state": "asked",
        "next_at": now,
        "asked_at": now,
        "key_id": site.crypto.key_id,
        "wanted": None,
    }


def inbound(
    site: Site, *, turn: int, ehr: str, person_id: int, conversation_id: int, now: int, wanted: dict[str, Any]
) -> dict[str, object]:
    """A `write` row for something a patient said."""
    return {
        "id": turn,
        "kind": "projection",
        "verb": "communication-in",
        "ehr": ehr,
        "resource_key": f"in {turn}",
        "turn_id": turn,
        "person_id": person_id,
        "conversation_id": conversation_id,
        "state": "asked",
        "next_at": now,
        "asked_at": now,
        "key_id": site.crypto.key_id,
        "wanted": site.crypto.encrypt(msgspec.json.encode(wanted), "write", "wanted", turn),
    }
