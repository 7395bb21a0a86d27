"""What a webhook tells us, one value per thing that becomes a stored event. Adapters make them, everybody else reads them.

`raw` is the item's own JSON, whole, so that a field we do not read today is not lost; `to_stored` and the adapter's
`update_from_stored` carry an update through the inbox and back without a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec


@dataclass(frozen=True, slots=True)
class Where:
    """Where an item stood: routing is by `phone_number_id`, else by `waba_id`."""

    waba_id: str | None  # entry[].id
    phone_number_id: str | None  # value.metadata.phone_number_id; some fields have none
    field: str | None  # changes[].field: "messages", "account_update", …
    time: int | None  # entry[].time, seconds; the messages field has none


class _Quiet:
    """A repr without words, numbers or names: updates end up in tracebacks, patients' data must not."""

    __slots__ = ()
    where: Where

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, 'kind', '')}>"

    @property
    def waba_id(self) -> str | None:
        """The business account it came through."""
        return self.where.waba_id

    @property
    def phone_number_id(self) -> str | None:
        """The number of ours it is for, where the update says one."""
        return self.where.phone_number_id


@dataclass(frozen=True, slots=True, repr=False)
class Message(_Quiet):
    """Something a person sent. `type` is Meta's, with its inner kind: "interactive.button_reply", "system.user_changed_number"."""

    where: Where
    type: str | None
    id: str | None  # wamid; "wacid.…" for a voicemail
    from_: str | None  # wa_id, and nothing else; left out for people with a username
    from_user_id: str | None  # business-scoped user id
    from_user_id_at: str | None  # "message" or "contacts": who says so
    timestamp: int | None  # seconds
    context_id: str | None  # wamid this answers; may be missing even for a tap
    errors: tuple[int, ...]
    errors_at: str | None  # "value": they stood beside the only item, not in it
    contact_wa_id: str | None  # another number of the same person, only where it differs from `from_`
    parent_user_id: str | None
    profile_name: str | None
    username: str | None
    text: str | None  # text.body, caption, or the words on the tapped button
    payload: str | None  # template quick reply
    reply_id: str | None  # interactive button_reply, list_reply
    nfm_name: str | None
    flow_token: str | None
    media_id: str | None
    target_id: str | None  # reaction.message_id
    removed: bool | None  # a reaction taken back
    unsupported_type: str | None
    new_wa_id: str | None
    old_wa_id: str | None
    identity_hash: str | None
    origin: str | None  # of a shared contact: "contact_request" says that the number is the sender's own
    group_id: str | None
    forwarded: bool
    frequently_forwarded: bool
    referral: bool
    raw: dict[str, Any]
    contact: dict[str, Any] | None  # the contacts[] entry that is the sender
    beside: tuple[Any, ...]  # value.errors, where they belong to this item

    kind = "message"


@dataclass(frozen=True, slots=True, repr=False)
class Status(_Quiet):
    """What became of a message of ours (or, with `of` = "call", of a call: that moves no message)."""

    where: Where
    status: str | None  # sent, delivered, read, played, failed; others are kept as spelt
    id: str | None  # wamid
    recipient: str | None  # wa_id, or the group's id; left out for people with a username
    recipient_user_id: str | None
    recipient_user_id_at: str | None  # "status" or "contacts"
    recipient_type: str | None  # "group"
    participant: str | None  # who in the group
    participant_user_id: str | None
    timestamp: int | None
    callback_data: str | None  # what we gave as biz_opaque_callback_data
    errors: tuple[int, ...]
    of: str | None
    template_id: str | None
    pricing: dict[str, Any] | None
    raw: dict[str, Any]
    contact: dict[str, Any] | None

    kind = "status"


@dataclass(frozen=True, slots=True, repr=False)
class Account(_Quiet):
    """A change of what is ours at Meta: account, number, template, preferences. One per change; `raw` is its value."""

    where: Where
    event: str | None
    decision: str | None
    template_id: int | str | None
    display_phone_number: str | None
    raw: dict[str, Any]

    kind = "account"


@dataclass(frozen=True, slots=True, repr=False)
class Other(_Quiet):
    """Everything else: calls, echoes, groups, automatic events, errors; and what cannot be used, with the reason.

    kind: call, smb_message_echoes, user_id_update, group_…, automatic_events, errors, unknown, unusable.
    """

    where: Where
    kind: str
    id: str | None
    facts: Mapping[str, Any]  # the named fields of its kind
    errors: tuple[int, ...]
    reason: str | None  # of an unusable one
    raw: Any  # the item's JSON; None where it is not JSON
    text: bytes | None  # the item's own bytes, where they are not JSON
    beside: tuple[Any, ...] = ()


Update: TypeAlias = Message | Status | Account | Other


def subject(update: Update) -> str | None:
    """Whom the update is about, as the sender wrote it: a wa_id where there is one, else a business-scoped user id.

    For a message or a call its author, for a status the recipient (a group's member before the group). None: nobody.
    """
    if isinstance(update, Message):
        return update.from_ or update.from_user_id
    if isinstance(update, Status):
        return update.participant or update.participant_user_id or update.recipient or update.recipient_user_id
    if isinstance(update, Other):
        who = update.facts.get("from") or update.facts.get("wa_id")
        return who if isinstance(who, str) else None
    return None


def seen_key(update: Update) -> str | None:
    """What makes a redelivery recognisable, where the sender guarantees it; None: it has to be recognised by its content.

    Source: whatsapp.md §7 (dedup keys). A template event counts only with its time: APPROVED may come twice for real.
    """
    if isinstance(update, Message):
        return update.id
    if isinstance(update, Status):
        return f"{update.id}|{update.status}|{subject(update) or ''}" if update.id and update.status else None
    if isinstance(update, Account) and update.template_id is not None and update.event and update.where.time:
        where = update.where
        return f"{where.waba_id}|{where.field}|{update.template_id}|{update.event}|{where.time}"
    return None


def to_stored(update: Update) -> bytes:
    """The update as the inbox keeps it: where it stood and its raw parts; reading is left to the code of the day it is read."""
    where = update.where
    parts: dict[str, Any] = {
        "kind": update.kind,
        "waba_id": where.waba_id,
        "phone_number_id": where.phone_number_id,
        "field": where.field,
        "time": where.time,
        "raw": update.raw,
    }
    if isinstance(update, Message | Status):
        parts["contact"] = update.contact
    if isinstance(update, Message | Other):
        parts["beside"] = update.beside
    if isinstance(update, Other) and update.kind == "unusable":
        parts |= {"reason": update.reason, "text": update.text}
    return msgspec.json.encode(parts)
