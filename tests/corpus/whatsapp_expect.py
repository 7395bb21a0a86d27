"""The corpus' `expect` (see `about` in shared/corpus/whatsapp/index.json) against the updates that a body became.

Used by the table test of the reader and by `make corpus`, which reads the stored rows of a running engine back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.inbound.providers.updates import Account, Message, Other, Status, Update

CORPUS = Path(os.environ.get("BRIDGE_CORPUS", Path(__file__).resolve().parents[3] / "shared" / "corpus")) / "whatsapp"

# Fields that `about` says are always there, null where the file has no such value; all others are given where present.
_ALWAYS = {
    "message": ("type", "id", "from", "from_user_id", "context_id", "errors"),
    "status": ("status", "id", "recipient", "errors", "callback_data"),
    "call": ("event", "id", "from", "to", "direction", "errors", "callback_data"),
    "smb_message_echoes": ("type", "id", "from", "to", "target_id"),
    "user_id_update": ("wa_id", "user_id", "parent_user_id"),
    "automatic_events": ("id", "event"),
    "errors": ("errors",),
    "account": ("field", "event"),
    "unknown": ("field",),
    "unusable": ("reason",),
}


def rows(corpus: Path = CORPUS) -> list[dict[str, Any]]:
    """The rows of the index whose file is posted to our webhook."""
    index = json.loads((corpus / "index.json").read_text(encoding="utf-8"))
    return [row for row in index["files"] if row["expect"]["door"] in ("meta", "meta-inner")]


def body_of(row: Mapping[str, Any], corpus: Path = CORPUS) -> bytes:
    """The bytes to post for a row: the file's own, the string that the row says stands inside it, or a fragment wrapped."""
    raw = (corpus / row["file"]).read_bytes()
    expect = row["expect"]
    if "body_at" in expect:
        return str(json.loads(raw)[expect["body_at"]]).encode()
    return _wrapped(expect, json.loads(raw)) if "wrap" in expect else raw


# How a fragment is put into Meta's envelope, by the innermost part that it lacks. No row of today says `wrap`.
_LEVELS = ("entry", "changes", "value", "messages", "statuses", "calls")


def _wrapped(expect: Mapping[str, Any], fragment: Any) -> bytes:
    level = expect["wrap"]
    if level not in _LEVELS:
        raise ValueError(f"wrap {level!r}: say here how, one of {', '.join(_LEVELS)} is known")
    number, account = (_first(expect.get(name)) for name in ("phone_number_id", "waba_id"))
    if level in ("messages", "statuses", "calls"):
        fragment = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
            level: fragment if isinstance(fragment, list) else [fragment],
        }
    if level not in ("entry", "changes"):
        fragment = {"field": "calls" if level == "calls" else "messages", "value": fragment}
    if level != "entry":
        fragment = {"id": account, "changes": fragment if isinstance(fragment, list) else [fragment]}
    entries = fragment if isinstance(fragment, list) else [fragment]
    return json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def described(update: Update) -> dict[str, Any]:
    """An update in the words of `expect`; extras only where they hold something."""
    if isinstance(update, Message):
        full = _message(update)
    elif isinstance(update, Status):
        full = _status(update)
    elif isinstance(update, Account):
        full = {
            "field": update.where.field,
            "event": update.event,
            "decision": update.decision,
            "template_id": update.template_id,
            "display_phone_number": update.display_phone_number,
        }
    else:
        full = _other(update)
    kind = update.kind
    always = _ALWAYS.get(kind, ("type", "group_id"))
    return {"kind": kind} | {
        name: value for name, value in full.items() if name in always or value not in (None, False, ())
    }


def _message(update: Message) -> dict[str, Any]:
    names = (
        "type id from_user_id context_id from_user_id_at errors_at contact_wa_id reply_id nfm_name flow_token payload "
        "media_id target_id identity_hash group_id forwarded frequently_forwarded referral origin"
    )
    full = {name: getattr(update, name) for name in names.split()}
    full |= {"from": update.from_, "errors": list(update.errors)}
    if update.type == "reaction":
        full["removed"] = [update.removed]  # False has to be seen here
    if update.type == "unsupported":
        full["unsupported_type"] = [update.unsupported_type]
    if (update.type or "").startswith("system"):
        full["new_wa_id"] = [update.new_wa_id]
    if update.type == "system.user_changed_number":
        full["old_wa_id"] = [update.old_wa_id]
    return full


def _status(update: Status) -> dict[str, Any]:
    names = "status id recipient callback_data recipient_user_id recipient_user_id_at recipient_type participant of"
    full = {name: getattr(update, name) for name in names.split()} | {"errors": list(update.errors)}
    if update.recipient_type == "group":
        full["participant_user_id"] = [update.participant_user_id]
    return full


def _other(update: Other) -> dict[str, Any]:
    full = {"id": update.id, "field": update.where.field, "reason": update.reason} | dict(update.facts)
    if update.kind == "smb_message_echoes":
        full["from"] = full.pop("sent_from")
    if update.kind == "call":
        full["errors_at"] = "value" if update.beside else None
        full.pop("status")
    if update.kind in ("call", "errors"):
        full["errors"] = list(update.errors)
    if update.kind != "unknown":
        full.pop("field")
    return full


def compare(
    expect: Mapping[str, Any], updates: Sequence[Update], accept: Sequence[Sequence[Mapping[str, Any]]] = ()
) -> list[str]:
    """What differs between a row's `expect` and what a body became, in words; empty when they agree.

    Args:
        expect: the row's `expect`.
        updates: as read or as stored; empty for a body kept whole as one unusable event.
        accept: other readings of an ambiguous row, any of which passes on the fields it names.
    """
    problems = _against(expect, updates)
    if problems and any(_names_only(reading, updates) for reading in accept):
        return []
    return problems


def _against(expect: Mapping[str, Any], updates: Sequence[Update]) -> list[str]:
    wanted = expect["updates"]
    if len(wanted) != len(updates):
        return [f"{len(wanted)} updates expected, got {len(updates)}: {[update.kind for update in updates]}"]
    problems = []
    for place, (want, update) in enumerate(zip(wanted, updates, strict=True)):
        got = {
            name: value[0] if isinstance(value, list) and name in _SHOWN else value
            for name, value in described(update).items()
        }
        if "phone_number_id" in want:
            got["phone_number_id"] = update.where.phone_number_id
        problems += [
            f"update {place}: {name}: expected {want.get(name, '(absent)')!r}, got {got.get(name, '(absent)')!r}"
            for name in sorted(want.keys() | got.keys())
            if want.get(name, _ABSENT) != got.get(name, _ABSENT)
        ]
    for name in ("waba_id", "phone_number_id"):
        found = list(dict.fromkeys(getattr(update.where, name) for update in updates))
        want_all = expect.get(name)
        want_list = want_all if isinstance(want_all, list) else [want_all]
        if updates and found != want_list:
            problems.append(f"{name}: expected {want_list}, got {found}")
    return problems


_SHOWN = (
    "removed",
    "unsupported_type",
    "new_wa_id",
    "old_wa_id",
    "participant_user_id",
)  # given for their kind even when false or null
_ABSENT = object()


def _names_only(reading: Sequence[Mapping[str, Any]], updates: Sequence[Update]) -> bool:
    if len(reading) != len(updates):
        return False
    got = [described(update) for update in updates]
    return all(
        all(have.get(name) == value for name, value in want.items()) for want, have in zip(reading, got, strict=True)
    )
