"""Who stopped marketing messages inside WhatsApp: Meta refuses them with 131050, and trying again would be refused again.

Meta says so of an identity and of a template that it counts as marketing; other templates still go (reference/whatsapp.md
§9). A row of `block` whose key names both; lifted when WhatsApp reports that marketing is wanted again.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, insert, select, update

from bridge.ledger.clock import Ids
from bridge.ledger.tables import block, identity, outbox

CODE = 131050


def key_of(identity_key: str, template: str) -> str:
    """The key in `block`; no identity has such a key."""
    return f"{identity_key}:{template}"


def record(connection: Connection, ids: Ids, messages: Collection[int], business: int) -> None:
    """These messages were refused with 131050. `business`: now, µs."""
    if not messages:
        return
    refused = (
        select(identity.c.key, outbox.c.template)
        .join(outbox, outbox.c.identity_id == identity.c.id)
        .where(outbox.c.id.in_(sorted(messages)), outbox.c.template.is_not(None))
    )
    wanted = {key_of(row.key, row.template) for row in connection.execute(refused)}
    there = select(block.c.key).where(block.c.key.in_(wanted), block.c.lifted_at.is_(None))
    new = sorted(wanted - set(connection.execute(there).scalars()))
    if new:
        connection.execute(insert(block), [{"id": ids(), "key": key, "since": business} for key in new])


def lift(connection: Connection, identity_keys: Collection[str], business: int) -> int:
    """Marketing messages are wanted again by these identities; returns how many refusals that ends."""
    ended = 0
    for key in sorted(identity_keys):
        theirs = block.c.key.startswith(key_of(key, ""), autoescape=True)
        lifted = update(block).where(theirs, block.c.lifted_at.is_(None)).values(lifted_at=business)
        ended += connection.execute(lifted).rowcount
    return ended
