"""Webhooks as Meta writes them: updates, envelope, ASCII-only bytes, signatures. Pure.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/ (whatsapp.md §7 of the reference).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bridge.sandbox.whatsapp.phones import Bubble, Person


@dataclass(slots=True, eq=False)
class Update:
    """One item of a webhook: a message, a status, or any other change of the account."""

    kind: str  # "messages" | "statuses" | "account"
    key: str  # for the journal: the wamid, or "wamid|status"
    item: dict[str, Any]
    waba_id: str
    phone_number_id: str = ""
    display: str = ""
    contact: dict[str, Any] | None = None
    field: str = "messages"
    created: float = 0.0  # machine time: newer ones are redelivered first
    attempts: int = 0
    happens: Callable[[], None] | None = None  # what it does to the phone when its time comes, delivered or not


def status(
    bubble: Bubble, name: str, at: float, *, version: str, error: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`statuses[]`: sent, delivered, read or failed of a message we were asked to send."""
    person = bubble.person
    item: dict[str, Any] = {"id": bubble.wamid, "status": name, "timestamp": str(int(at))}
    if person.shows_number and person.wa_id:
        item["recipient_id"] = person.wa_id
    item["recipient_user_id"] = person.user_id
    if bubble.callback is not None:
        item["biz_opaque_callback_data"] = bubble.callback
    if error is not None:
        return item | {"errors": [error]}
    if name in {"sent", "delivered"}:
        if int(version.lstrip("v").split(".")[0] or 0) < 24:  # v24 dropped it
            origin = {"type": bubble.category}
            item["conversation"] = {
                "id": hashlib.md5(person.user_id.encode(), usedforsecurity=False).hexdigest(),
                "origin": origin,
            }
        item["pricing"] = {"billable": True, "pricing_model": "PMP", "category": bubble.category, "type": "regular"}
    return item


def message(
    person: Person, wamid: str, at: float, kind: str, node: Any, context: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`messages[]`: something a person wrote, tapped or sent. `node` stands under the key named like `kind`."""
    item: dict[str, Any] = {"from": person.wa_id} if person.shows_number and person.wa_id else {}
    item |= {"from_user_id": person.user_id, "id": wamid, "timestamp": str(int(at)), "type": kind}
    if context is not None:
        item["context"] = context
    if kind == "unsupported":
        error = {"code": 131051, "title": "Message type unknown", "message": "Message type unknown",
                 "error_data": {"details": "Message type is currently not supported."}}  # fmt: skip
        return item | {"errors": [error], "unsupported": node}
    return item | {kind: node}


def envelope(updates: Iterable[Update], *, grouped: bool, now: float) -> bytes:
    """One POST body of any mix of updates, for one app.

    Args:
        grouped: messages of one number share a `value`, and so do its statuses; else every update has a change of its own.
            Meta does both.
    """
    entries: dict[str, list[dict[str, Any]]] = {}
    shared: dict[tuple[str, str, str], dict[str, Any]] = {}
    for update in updates:
        changes = entries.setdefault(update.waba_id, [])
        if update.kind == "account":
            changes.append({"field": update.field, "value": update.item})
            continue
        key = (update.waba_id, update.phone_number_id, update.kind)
        value = shared.get(key) if grouped else None
        if value is None:
            value = {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": update.display, "phone_number_id": update.phone_number_id},
                "contacts": [],
                update.kind: [],
            }
            shared[key] = value
            changes.append({"value": value, "field": update.field})
        value[update.kind].append(update.item)
        if update.contact is not None and update.contact not in value["contacts"][-3:]:
            value["contacts"].append(update.contact)
    listed = [{"id": waba_id, "time": int(now), "changes": changes} for waba_id, changes in entries.items()]
    document = {"object": "whatsapp_business_account", "entry": listed}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def signatures(body: bytes, app_secret: str) -> dict[str, str]:
    """Both headers Meta sends, over the bytes as they leave."""
    key = app_secret.encode()
    return {
        "X-Hub-Signature": "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
    }
