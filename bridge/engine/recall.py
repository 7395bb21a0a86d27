"""What a stored event was computed against: the projection that its reader had been told before, in FHIR's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from bridge.engine.scenes import as_raw
from bridge.errors import Undecryptable
from bridge.ledger.crypto import Crypto
from bridge.ledger.tables import outbox
from bridge.mappers.events import RESOURCES


def told_before(connection: Connection, crypto: Crypto, event: int, kind: str) -> Mapping[str, Any] | None:
    """`%previous` of the first message that this event caused; None when it caused none, or nothing was told before."""
    columns = (outbox.c.id, outbox.c.key_id, outbox.c.before)
    rows = connection.execute(select(*columns).where(outbox.c.cause == event).order_by(outbox.c.id))
    for row in rows:
        if row.before is None:
            continue
        try:
            plain = crypto.decrypt(row.before, row.key_id, "outbox", "before", row.id)
        except Undecryptable:
            continue
        return as_raw(RESOURCES[kind].from_json(msgspec.json.decode(plain)))
    return None
