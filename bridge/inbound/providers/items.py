"""One item of a Cloud API webhook and where it stood -> one update. Tolerant: what is missing or odd is None, never an error.

Source: whatsapp.md §7 and §8; https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from bridge.inbound.providers.salvage import Broken, broken_in
from bridge.inbound.providers.updates import Account, Message, Other, Status, Update, Where

MAX_ID = 256  # characters; a wamid has at most 128, a business-scoped user id 135
MAX_SECONDS = 9_999_999_999  # year 2286; more is milliseconds, and those are no time stamp of Meta's

_NOTHING: dict[str, Any] = {}
_MEDIA = ("image", "video", "document", "sticker", "audio", "voice")


def word(value: Any) -> str | None:
    """A string, or a number that some samples send in its place (media ids, template ids)."""
    if type(value) is str:
        return value
    return str(value) if type(value) is int else None


def node(value: Any) -> dict[str, Any]:
    """The object that ought to stand here, empty if something else does."""
    return value if type(value) is dict else _NOTHING


def seconds(value: Any) -> int | None:
    """Seconds since 1970, a string of digits normally and a number in some events."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_SECONDS else None


def codes(errors: Any) -> tuple[int, ...]:
    """Error codes of an errors[] list; an error may carry nothing else."""
    if type(errors) is not list and type(errors) is not tuple:
        return ()
    found = (node(error).get("code") for error in errors)
    return tuple(
        int(code)
        for code in found
        if type(code) is int or (type(code) is str and code.isascii() and code.isdigit() and len(code) < 10)
    )


def unusable(where: Where, reason: str, raw: Any = None, text: bytes | None = None) -> Other:
    """Kept, shown and never acted on."""
    return Other(where, "unusable", None, {}, (), reason, raw, text)


def flaw(raw: Any) -> str | None:
    """Why an item must not be acted on, though its neighbours may."""
    if type(raw) is not dict:
        return "item is not an object"
    for name in (
        "id",
        "from",
        "from_user_id",
        "recipient_id",
        "recipient_user_id",
        "recipient_participant_id",
        "status",
        "type",
        "group_id",
    ):
        value = raw.get(name)
        if type(value) is str and len(value) > MAX_ID:
            return f"{name} is longer than {MAX_ID} characters"
    return None


def message(where: Where, raw: dict[str, Any], contact: dict[str, Any] | None, beside: tuple[Any, ...]) -> Message:
    """An item of value.messages."""
    kind = word(raw.get("type"))
    context = node(raw.get("context"))
    interactive = node(raw.get("interactive"))
    system = node(raw.get("system"))
    button = node(raw.get("button"))
    reaction = node(raw.get("reaction"))
    who = contact or _NOTHING
    profile = node(who.get("profile"))
    sender, own_user = word(raw.get("from")), word(raw.get("from_user_id"))
    user = own_user or word(who.get("user_id"))
    reply: dict[str, Any] = _NOTHING
    form: dict[str, Any] = _NOTHING
    full = kind
    if kind == "interactive" and (inner := word(interactive.get("type"))):
        full = f"interactive.{inner}"
        reply = node(interactive.get(inner)) if inner in ("button_reply", "list_reply") else _NOTHING
        form = node(interactive.get("nfm_reply"))
    elif kind == "system" and (inner := word(system.get("type"))):
        full = f"system.{inner}"
    media = node(raw.get(kind)) if kind in _MEDIA else _NOTHING
    own_errors = codes(raw.get("errors"))
    near = codes(beside)
    alias = word(who.get("wa_id"))
    return Message(
        where=where,
        type=full,
        id=word(raw.get("id")),
        from_=sender,
        from_user_id=user,
        from_user_id_at=None if user is None else "message" if own_user else "contacts",
        timestamp=seconds(raw.get("timestamp")),
        context_id=word(context.get("id")),
        errors=own_errors + near,
        errors_at="value" if near else None,
        contact_wa_id=alias if sender is not None and alias != sender else None,
        parent_user_id=word(raw.get("from_parent_user_id")) or word(who.get("parent_user_id")),
        profile_name=word(profile.get("name")),
        username=word(profile.get("username")),
        text=word(node(raw.get("text")).get("body"))
        or word(media.get("caption"))
        or word(button.get("text"))
        or word(reply.get("title")),
        payload=word(button.get("payload")) if kind == "button" else None,
        reply_id=word(reply.get("id")),
        nfm_name=word(form.get("name")),
        flow_token=_flow_token(form),
        media_id=word(media.get("id")),
        target_id=word(reaction.get("message_id")) if kind == "reaction" else None,
        removed=not reaction.get("emoji") if kind == "reaction" else None,
        unsupported_type=word(node(raw.get("unsupported")).get("type")),
        new_wa_id=(word(system.get("wa_id")) or word(system.get("new_wa_id"))) if kind == "system" else None,
        old_wa_id=word(system.get("customer")) if kind == "system" else None,
        identity_hash=word(node(raw.get("identity")).get("hash")),
        origin=_origin(raw.get("contacts")),
        group_id=word(raw.get("group_id")),
        forwarded=context.get("forwarded") is True,
        frequently_forwarded=context.get("frequently_forwarded") is True,
        referral=bool(raw.get("referral")),
        raw=raw,
        contact=contact,
        beside=beside,
    )


def _flow_token(form: Mapping[str, Any]) -> str | None:
    """The token inside response_json, which is JSON in a string; a JSON array and no token at all have been seen."""
    answer = form.get("response_json")
    if type(answer) is not str:
        return None
    try:
        return word(node(msgspec.json.decode(answer)).get("flow_token"))
    except (ValueError, RecursionError):
        return None


def _origin(shared: Any) -> str | None:
    found = (word(node(card).get("origin")) for card in shared) if type(shared) is list else ()
    return next((origin for origin in found if origin), None)


def status(where: Where, raw: dict[str, Any], contact: dict[str, Any] | None) -> Status:
    """An item of value.statuses."""
    own_user = word(raw.get("recipient_user_id"))
    user = own_user or word((contact or _NOTHING).get("user_id"))
    conversation = node(raw.get("conversation"))
    price = node(raw.get("pricing")) or node(conversation.get("pricing"))  # some samples put it inside
    return Status(
        where=where,
        status=word(raw.get("status")),
        id=word(raw.get("id")),
        recipient=word(raw.get("recipient_id")),
        recipient_user_id=user,
        recipient_user_id_at=None if user is None else "status" if own_user else "contacts",
        recipient_type=word(raw.get("recipient_type")),
        participant=word(raw.get("recipient_participant_id")) or word(raw.get("participant_recipient_id")),
        participant_user_id=word(raw.get("recipient_participant_user_id"))
        or word(raw.get("participant_recipient_user_id")),
        timestamp=seconds(raw.get("timestamp")),
        callback_data=word(raw.get("biz_opaque_callback_data")),
        errors=codes(raw.get("errors")),
        of=None if raw.get("type") == "message" else word(raw.get("type")),
        template_id=word(raw.get("template_id")),
        pricing=price or None,
        raw=raw,
        contact=contact,
    )


def account(where: Where, raw: dict[str, Any]) -> Account | Other:
    """A change that is no list of items: one event, its value whole."""
    if broken := broken_in(raw):
        return unusable(where, broken.reason, text=broken.text)
    template = raw.get("message_template_id")
    return Account(
        where=where,
        event=word(raw.get("event")),
        decision=word(raw.get("decision")),
        template_id=template if type(template) in (int, str) else None,
        display_phone_number=word(raw.get("display_phone_number")),
        raw=raw,
    )


def errors(where: Where, raw: list[Any]) -> Other:
    """value.errors of no particular item: the app's or the account's."""
    if broken := broken_in(raw):
        return unusable(where, broken.reason, text=broken.text)
    return Other(where, "errors", None, {}, codes(raw), None, raw, None)


def _call(raw: dict[str, Any]) -> dict[str, Any]:
    names = ("event", "from", "to", "direction", "status")
    return {name: word(raw.get(name)) for name in names} | {"callback_data": word(raw.get("biz_opaque_callback_data"))}


def _echo(raw: dict[str, Any]) -> dict[str, Any]:
    """What the business itself wrote in its phone app: never an inbound message."""
    named = {name: word(raw.get(name)) for name in ("type", "to")}
    return named | {
        "sent_from": word(raw.get("from")),
        "target_id": word(node(raw.get("revoke")).get("original_message_id")),
    }


def _user_id(raw: dict[str, Any]) -> dict[str, Any]:
    change = {
        name: {when: word(node(raw.get(name)).get(when)) for when in ("previous", "current")}
        for name in ("user_id", "parent_user_id")
    }
    return {"wa_id": word(raw.get("wa_id")), **change}


def _group(raw: dict[str, Any]) -> dict[str, Any]:
    removed = raw.get("removed_participants")
    people = [word(node(person).get("input")) for person in removed] if type(removed) is list else None
    return {name: word(raw.get(name)) for name in ("type", "group_id", "request_id")} | {"participants": people}


def _automatic(raw: dict[str, Any]) -> dict[str, Any]:
    return {"event": word(raw.get("event_name"))}


FACTS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "call": _call,
    "smb_message_echoes": _echo,
    "user_id_update": _user_id,
    "group": _group,
    "automatic_events": _automatic,
}


def other(kind: str, where: Where, raw: dict[str, Any], beside: tuple[Any, ...]) -> Other:
    """An item of a kind that is kept and shown, and moves no message."""
    facts = FACTS["group" if kind.startswith("group_") else kind](raw)
    return Other(
        where, kind, word(raw.get("id")), facts, codes(raw.get("errors")) + codes(beside), None, raw, None, beside
    )


def broken_item(where: Where, item: Any) -> Update | None:
    """The unusable update that stands for this item, None if the item is sound."""
    if isinstance(item, Broken):
        return unusable(where, item.reason, text=item.text)
    reason = flaw(item)
    return unusable(where, reason, item) if reason else None
