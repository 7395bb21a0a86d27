"""What patients write: each message with what holds at that moment goes to `inbound.respond`, and its effects are applied
in one transaction with the event's fate. Replies of one conversation apply in WhatsApp's order; a tap waits two seconds
for what may have been written before it, a STOP waits for nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from bridge.engine.answers import lock_lane
from bridge.engine.fates import Fate, settle, unsettled
from bridge.engine.reads import Reader
from bridge.engine.reply_effects import apply_effects, block_identities
from bridge.engine.site import Site
from bridge.engine.situations import load_situation, writer_keys
from bridge.errors import BridgeError
from bridge.inbound.providers.cloud_api import update_from_stored
from bridge.inbound.providers.updates import Message
from bridge.inbound.reply import Answer, Reply, Tap
from bridge.inbound.respond import respond
from bridge.ledger import faults, tokens
from bridge.ledger.clock import SECOND, from_us, to_us
from bridge.ledger.store import passing
from bridge.ledger.tables import inbox

log = logging.getLogger(__name__)

SETTLING = 2 * SECOND  # a command waits this long for what was written before it
BATCH = 200
HANDS = 3  # conversations at once on PostgreSQL: a reply is some thirty round trips, and EHR events wait behind them
SAME_CLOCK = 60 * SECOND  # two clocks of the same time differ less

KINDS = {
    "text": "text",
    "button": "tap",
    "interactive.button_reply": "tap",
    "interactive.list_reply": "tap",
    "image": "media",
    "video": "media",
    "document": "media",
    "audio": "voice",
    "sticker": "sticker",
    "reaction": "reaction",
    "location": "location",
    "contacts": "contacts",
}


@dataclass(slots=True)
class Incoming:
    """An unapplied message."""

    event: int
    number: str
    key: str  # conversation key
    received_at: int
    message: Message
    reply: Reply
    tries: int


class Replies:
    """Applies waiting messages."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader
        self._hands = ThreadPoolExecutor(HANDS, "reply") if site.store.dialect != "sqlite" else None

    def run(self) -> int:
        """One round; returns how many messages got their fate."""
        site = self._site
        now = site.store.now()
        with site.store.read() as connection:
            due = or_(inbox.c.next_try.is_(None), inbox.c.next_try <= now)
            rows = connection.execute(
                select(inbox)
                .where(inbox.c.fate.is_(None), inbox.c.kind == "message", due)
                .where(*site.share("apply").mine(inbox.c.key, inbox.c.id))
                .order_by(inbox.c.id)
                .limit(BATCH)
            ).all()
        if not rows:
            return 0
        incoming, broken = self._read(rows)
        conversations: dict[str, list[Incoming]] = defaultdict(list)
        for one in incoming:
            conversations[one.key].append(one)
        done = self._fail(broken)
        if self._hands is None:
            return done + sum(self._talk(waiting, now) for waiting in conversations.values())
        parts = [self._hands.submit(self._talk, waiting, now) for waiting in conversations.values()]
        wait(parts)  # all of them, also when one raises: the next round must not begin beside this one
        return done + sum(part.result() for part in parts)

    def _talk(self, waiting: Sequence[Incoming], now: int) -> int:
        """One conversation's messages, one after the other."""
        return sum(self._apply(one) for one in self._order(waiting, now))

    def _order(self, waiting: Sequence[Incoming], now: int) -> list[Incoming]:
        """STOP first, at once; the rest by WhatsApp's time, and not before a command among them has settled."""
        words = self._site.content.words
        languages = self._site.settings.site.languages
        stops = [one for one in waiting if self._stops(one)]
        rest = [one for one in waiting if one not in stops]
        commands = any(
            one.reply.kind in ("tap", "answer") or any(words.starts(one.reply.text, lang) for lang in languages)
            for one in rest
        )
        if commands and max(one.received_at for one in rest) > now - SETTLING:
            rest = []
        return [*stops, *sorted(rest, key=lambda one: (one.reply.at, one.event))]

    def _read(self, rows: Sequence[Any]) -> tuple[list[Incoming], list[Fate]]:
        incoming: list[Incoming] = []
        broken: list[Fate] = []
        for row in rows:
            try:
                update = update_from_stored(self._site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id))
            except (BridgeError, ValueError, KeyError, TypeError) as error:
                broken.append(Fate(row.id, "failed", f"its row cannot be read: {type(error).__name__}"))
                continue
            if not isinstance(update, Message) or row.door not in self._site.settings.numbers or row.key is None:
                broken.append(Fate(row.id, "ignored", "its number is no longer in the config"))
                continue
            reply = self._reply(update, row.received_at)
            incoming.append(Incoming(row.id, row.door, row.key, row.received_at, update, reply, row.tries))
        return incoming, broken

    def _reply(self, message: Message, received_at: int) -> Reply:
        """On business time, like everything a reply is compared with: WhatsApp's timestamp plus what was pushed, unless
        its clock is ahead of the machine's already because it was pushed with ours."""
        at = message.timestamp * SECOND if message.timestamp else received_at
        kind = KINDS.get(message.type or "", "system" if (message.type or "").startswith("system") else "unsupported")
        token = tokens.read(self._site.crypto, message.payload or message.reply_id or "")
        tap = Tap(token.message, token.revision, token.button) if isinstance(token, tokens.ButtonToken) else None
        answer = Answer(token.question, token.choice) if isinstance(token, tokens.QuestionToken) else None
        if answer is not None:
            kind = "answer"
        ahead = at > received_at + SAME_CLOCK
        moment: datetime = from_us(at) if ahead else from_us(at) + self._site.clock.offset
        return Reply(
            wamid=message.id or "",
            kind=kind,  # type: ignore[arg-type]
            text=message.text,
            tap=tap,
            answer=answer,
            at=moment,
            context_message=None,
        )

    def _apply(self, one: Incoming) -> int:
        site = self._site
        try:
            loaded = load_situation(site, one.number, one.key, one.message, one.reply)
            effects = respond(loaded.situation, one.reply)
        except Exception as error:  # a message must end in a fate or a person's hands, never in a loop
            if passing(error):
                raise
            log.exception("answering failed", extra={"event": f"evt_{one.event}"})
            return self._give_up(one, f"answering failed: {type(error).__name__}")
        try:
            with site.store.write() as connection:
                lock_lane(connection, site, loaded.thread)
                now = site.store.now(connection)  # drawn behind the lock, as everything that says who came first
                if not unsettled(connection, [one.event]):
                    return 0
                apply_effects(connection, site, one.event, one.message, one.reply, loaded, effects, now)
                done = settle(connection, [Fate(one.event, "applied", "reply")], now)
                faults.point("reply_before_commit")
        except Exception as error:
            if passing(error):
                raise
            log.exception("applying a reply failed", extra={"event": f"evt_{one.event}"})
            return self._give_up(one, f"applying failed: {type(error).__name__}")
        faults.point("reply_after_commit")
        site.wake_sender()
        site.wake_writes.set()
        return done

    def _give_up(self, one: Incoming, reason: str) -> int:
        """It cannot be answered, and a person is told. A STOP is honoured whatever else went wrong."""
        site = self._site
        if self._stops(one):
            with site.store.write() as connection:
                block_identities(connection, site, writer_keys(site, one.message), to_us(one.reply.at), None)
        return self._fail([Fate(one.event, "failed", reason)])

    def _stops(self, one: Incoming) -> bool:
        words = self._site.content.words
        return any(words.stops(one.reply.text, language) for language in self._site.settings.site.languages)

    def _fail(self, fates: Sequence[Fate]) -> int:
        if not fates:
            return 0
        with self._site.store.write() as connection:
            for fate in fates:
                if fate.fate == "failed":
                    self._site.alarm(connection, f"evt_{fate.event}", "a patient's message could not be applied")
            return settle(connection, fates, self._site.store.now(connection))
