"""Meta's Cloud API webhooks: bytes whose sender is proven -> updates.

Source: whatsapp.md §7 (transport, envelope); https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from bridge.errors import SignatureMismatch, Unusable
from bridge.inbound.providers import items
from bridge.inbound.providers.items import node, seconds, word
from bridge.inbound.providers.salvage import Broken, broken_in, decode
from bridge.inbound.providers.updates import Other, Update, Where, seen_key, subject, to_stored
from bridge.verified import VerifiedBody

__all__ = ["challenge", "read", "seen_key", "subject", "to_stored", "update_from_stored", "verify"]

OBJECT = "whatsapp_business_account"
MAX_UPDATES = 5_000  # Meta promises at most 1,000 in one POST
MAX_CHALLENGE = 256  # characters; Meta's is about ten digits, and we echo it

# Lists of value whose items are events; everything else of a change is one account event.
ITEMS = {
    "messages": "message",
    "statuses": "status",
    "calls": "call",
    "message_echoes": "smb_message_echoes",
    "user_id_update": "user_id_update",
    "groups": "group",
    "automatic_events": "automatic_events",
}
_CARRIES_ERRORS = ("message", "call")  # beside one of these, value.errors belongs to it
_FRAME = {"messaging_product", "metadata", "contacts", "errors"}  # of a value; says nothing by itself
_NOT_OURS = {"standby", "history"}  # another owner holds the thread, or it is an old one: not said to us now


def verify(body: bytes, header: str | None, app_secrets: Sequence[str]) -> VerifiedBody:
    """Check `X-Hub-Signature-256` over the bytes as received: re-serialised JSON would not match.

    Every secret is tried, so that the time taken says nothing about which of them (old, new) fits.

    Raises:
        SignatureMismatch: no header, or none of the secrets made it.
    """
    given = (header or "").strip().encode("utf-8", "replace")
    fits = False
    for secret in app_secrets:
        expected = b"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
        fits |= hmac.compare_digest(expected, given) and secret != ""
    if not fits:
        raise SignatureMismatch("X-Hub-Signature-256 does not match the body")
    return VerifiedBody(body)


def challenge(args: Mapping[str, str], verify_token: str) -> str:
    """The handshake of a new webhook URL: what to answer, as bare text.

    Raises:
        SignatureMismatch: the caller does not know our verify token.
    """
    given = args.get("hub.verify_token", "").encode("utf-8", "replace")
    knows = hmac.compare_digest(verify_token.encode(), given) and verify_token != ""
    answer = args.get("hub.challenge", "")
    if not knows or args.get("hub.mode") != "subscribe" or not 0 < len(answer) <= MAX_CHALLENGE:
        raise SignatureMismatch("hub.verify_token does not match")
    return answer


def read(body: VerifiedBody) -> tuple[Update, ...]:
    """Every update of a POST, in document order; at least one.

    An item that cannot be used becomes an `Other` of kind "unusable" and never costs its neighbours.

    Raises:
        Unusable: there is nothing in the body that can be told apart; the caller keeps it whole.
    """
    tree = decode(body)
    entries = node(tree).get("entry")
    if not isinstance(entries, list):
        raise Unusable("no list of entries")
    if "object" in tree and tree["object"] != OBJECT:
        raise Unusable("object is not whatsapp_business_account")
    updates = tuple(islice((update for entry in entries for update in _entry(entry)), MAX_UPDATES + 1))
    if len(updates) > MAX_UPDATES:
        raise Unusable("far more updates than Meta sends in one POST")
    if not updates:
        raise Unusable("no update in it")
    broken = [update.reason for update in updates if isinstance(update, Other) and update.kind == "unusable"]
    if len(broken) == len(updates):
        raise Unusable(f"nothing usable in it: {broken[0]}")
    return updates


def _entry(entry: Any) -> Iterator[Update]:
    changes = node(entry).get("changes")
    if not isinstance(changes, list):
        where = Where(word(node(entry).get("id")), None, None, None)
        broken = broken_in(entry)
        yield items.unusable(where, "entry without changes", None if broken else entry, broken.text if broken else None)
        return
    waba, time = word(entry.get("id")), seconds(entry.get("time"))
    if waba is not None and len(waba) > items.MAX_ID:
        waba = None
    for change in changes:
        yield from _change(waba, time, change)


def _change(waba: str | None, time: int | None, change: Any) -> Iterator[Update]:
    value = node(change).get("value")
    field = word(node(change).get("field"))
    metadata = node(node(value).get("metadata"))
    number = word(metadata.get("phone_number_id"))
    if number is not None and len(number) > items.MAX_ID:
        number = None
    where = Where(waba, number, field, time)
    if isinstance(change, Broken):
        yield items.unusable(where, change.reason, text=change.text)
        return
    if not isinstance(value, dict):
        broken = broken_in(change)
        if broken or not isinstance(change, dict):
            reason = broken.reason if broken else "change is not an object"
            yield items.unusable(where, reason, None if broken else change, broken.text if broken else None)
        else:
            yield Other(where, "unknown", None, {}, (), None, change, None)
        return
    found = (
        {}
        if field in _NOT_OURS
        else {name: value[name] for name in value if name in ITEMS and isinstance(value[name], list)}
    )
    beside = value.get("errors")
    if not isinstance(beside, list) or not beside:
        beside = []
    carriers = sum(len(found[name]) for name in found if ITEMS[name] in _CARRIES_ERRORS)
    near = tuple(beside) if carriers == 1 and not broken_in(beside) else ()
    if any(found.values()):
        yield from _items(where, value, found, near)
    if beside and not near:
        yield items.errors(where, beside)
    if any(found.values()) or beside:
        return
    if value.keys() <= _FRAME or field is None:
        broken = broken_in(value)
        if broken:
            yield items.unusable(where, broken.reason, text=broken.text)
        else:
            yield Other(where, "unknown", None, {}, (), None, change, None)
        return
    yield items.account(where, value)


def _items(
    where: Where, value: dict[str, Any], found: Mapping[str, list[Any]], near: tuple[Any, ...]
) -> Iterator[Update]:
    people = value.get("contacts")
    contacts = (
        [who for who in people if isinstance(who, dict) and not broken_in(who)] if isinstance(people, list) else []
    )
    by_number = {number: who for who in reversed(contacts) if isinstance(number := who.get("wa_id"), str)}
    by_user = {user: who for who in reversed(contacts) if isinstance(user := who.get("user_id"), str)}
    for name, raws in found.items():
        kind = ITEMS[name]
        only = contacts[0] if len(contacts) == 1 and len(raws) == 1 else None
        for raw in raws:
            if broken := items.broken_item(where, raw):
                yield broken
            elif kind == "message":
                sender, user = raw.get("from"), raw.get("from_user_id")
                contact = _who(by_number, sender) or _who(by_user, user) or only
                yield items.message(where, raw, contact, near)
            elif kind == "status":
                recipient, user = raw.get("recipient_id"), raw.get("recipient_user_id")
                contact = _who(by_number, recipient) or _who(by_user, user) or (only if recipient is None else None)
                yield items.status(where, raw, contact)
            else:
                field = where.field or ""
                group = field if field.startswith("group_") else "group_update"
                yield items.other(group if kind == "group" else kind, where, raw, near if kind == "call" else ())


def _who(known: Mapping[str, dict[str, Any]], key: Any) -> dict[str, Any] | None:
    return known.get(key) if isinstance(key, str) else None


def update_from_stored(stored: bytes) -> Update:
    """The update as `read` made it, from what `to_stored` kept; read anew, so that a later reader sees more in old rows.

    Raises:
        Unusable: not something `to_stored` wrote.
    """
    try:
        parts = msgspec.json.decode(stored)
        where = Where(parts["waba_id"], parts["phone_number_id"], parts["field"], parts["time"])
        kind, raw = parts["kind"], parts["raw"]
    except (ValueError, TypeError, KeyError, RecursionError):
        parts = None
    if parts is None:
        raise Unusable("stored update is not ours")
    beside = tuple(parts.get("beside") or ())
    if kind == "message":
        return items.message(where, raw, parts.get("contact"), beside)
    if kind == "status":
        return items.status(where, raw, parts.get("contact"))
    if kind == "account":
        return items.account(where, raw)
    if kind == "errors":
        return items.errors(where, raw)
    if kind == "unusable":
        text = parts.get("text")
        return items.unusable(where, parts.get("reason"), raw, None if text is None else msgspec.convert(text, bytes))
    if kind == "unknown":
        return Other(where, "unknown", None, {}, (), None, raw, None)
    return items.other(kind, where, raw, beside)
