"""Communications the EHR must come to hold: one row a message or turn, however often its state changes before it is written."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.engine.site import Site

AFTER_ACCEPTED = 600  # seconds after which a message that no status settled is written all the same


def communication(site: Site, message: Any, now: int, *, delay: int = 0) -> dict[str, object]:
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
        "next_at": now + delay,
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
