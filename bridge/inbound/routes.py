"""WhatsApp's door: size, signature over the raw bytes, split, commit, answer 200. One URL per app; updates are routed by
phone_number_id, else by account; what is not ours is kept as ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flask import Blueprint, Response, request

from bridge.errors import SignatureMismatch, Unusable
from bridge.http import read_body
from bridge.inbound.providers.cloud_api import challenge, read, verify
from bridge.inbound.providers.updates import Message, Other, Status, Update, seen_key, to_stored
from bridge.ledger import keys
from bridge.ledger.inbox import Entry, Inbox
from bridge.mappers.contact import canonical
from bridge.metrics import counters
from bridge.settings import Number, Settings
from bridge.straight import Asked, Keep, Said, asked_of, response
from bridge.verified import VerifiedBody

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
FOREIGN = "foreign number"
TRIPPED = "our reader broke on it: report it with this event's id"


def whatsapp_door(settings: Settings, inbox: Inbox) -> Blueprint:
    """The routes of `listen.doors` that Meta calls."""
    door = Blueprint("whatsapp", __name__)

    @door.get("/whatsapp/<app>/webhook")
    def handshake(app: str) -> Response:
        configured = settings.apps.get(app)
        if configured is None:
            return Response(status=404)
        try:
            return Response(challenge(request.args, configured.verify_token), content_type="text/plain")
        except SignatureMismatch:
            counters.refused("whatsapp", app)
            return Response(status=403)

    @door.post("/whatsapp/<app>/webhook")
    def webhook(app: str) -> Response:
        return response(inbox, posted(settings, asked_of(request, read_body), app))

    return door


def posted(settings: Settings, asked: Asked, app: str) -> Said | Keep:
    """The answer to one webhook, and what must be committed before it."""
    configured = settings.apps.get(app)
    if configured is None:
        return Said(404)
    body = asked.body(MAX_BODY)
    if body is None:
        return Said(413)
    try:
        verified = verify(body, asked.headers.get("x-hub-signature-256"), configured.app_secrets)
    except SignatureMismatch:
        counters.refused("whatsapp", app)
        return Said(401)
    try:
        rows = entries(settings, app, read(verified))
    except Unusable as error:
        rows = [unread(app, verified, str(error)[:200])]
    except Exception:  # a body that trips us would come again for days: it is kept, and shown
        log.exception("a webhook tripped the reader")
        rows = [unread(app, verified, TRIPPED)]
    return Keep(rows, Said(200), Said(503))


def unread(app: str, body: VerifiedBody, reason: str) -> Entry:
    """A webhook kept whole."""
    return Entry(f"app:{app}", "", "account", bytes(body), fate="unusable", reason=reason)


def entries(settings: Settings, app: str, updates: Sequence[Update]) -> list[Entry]:
    """Rows of one webhook."""
    ours = [number for number in settings.numbers.values() if number.app == app]
    by_id = {number.phone_number_id: number for number in ours}
    by_account: dict[str, Number] = {}
    for number in ours:
        by_account.setdefault(number.waba_id, number)
    return [_entry(app, update, by_id, by_account) for update in updates]


def _entry(app: str, update: Update, by_id: dict[str, Number], by_account: dict[str, Number]) -> Entry:
    where = update.where
    if where.phone_number_id is not None:
        number = by_id.get(where.phone_number_id)
    else:
        number = by_account.get(where.waba_id or "")
    unusable = isinstance(update, Other) and update.kind == "unusable"
    kind = "account"
    key = subject = None
    if isinstance(update, Message) and number is not None:
        kind = "message"
        who = _who(update)
        if who is not None:
            key = keys.conversation(number.key, who)
            subject = keys.identity(update.from_user_id or who)
    elif isinstance(update, Status) and update.of is None:
        kind = "status"
    fate, reason = None, None
    if unusable:
        fate, reason = "unusable", (getattr(update, "reason", None) or "cannot be read")[:200]
    elif number is None:
        fate, reason = "ignored", FOREIGN
    elif kind == "message" and key is None:
        fate, reason = "unusable", "a message from nobody: neither number nor user id"
    elif isinstance(update, Status) and update.of is not None:
        fate, reason = "ignored", "the status of a call" if update.of == "call" else "not the status of a message"
    return Entry(
        source=f"app:{app}",
        door=number.key if number is not None else "",
        kind=kind,
        body=to_stored(update),
        key=key,
        subject=subject,
        sender_key=seen_key(update),
        fate=fate,
        reason=reason,
    )


def _who(message: Message) -> str | None:
    """What the conversation is keyed by: the number in its one spelling, else the user id."""
    if message.from_ and message.from_.isascii() and message.from_.isdigit():
        return canonical(message.from_)
    return message.from_ or message.from_user_id
