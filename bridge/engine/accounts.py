"""What Meta says of what is ours: templates, numbers, accounts, limits. Everything else is kept and shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from bridge.engine.fates import Fate, settle
from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.inbound.providers.cloud_api import update_from_stored
from bridge.inbound.providers.updates import Account, Update
from bridge.ledger import keys, lanes, optouts
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import inbox, number, portfolio, template
from bridge.mappers.contact import canonical
from bridge.outbound import record

TIERS = {"TIER_250": 250, "TIER_2K": 2_000, "TIER_10K": 10_000, "TIER_100K": 100_000}
# How Meta spells its fields and its events; anything else stays in the encrypted body.
_WORD = re.compile(r"[a-z0-9_]{1,60}|[A-Z0-9_]{1,60}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
STOPS = frozenset({"ACCOUNT_RESTRICTION", "DISABLED_UPDATE", "ACCOUNT_VIOLATION"})
# How long the numbers stand still after such news. Then one message a second is tried until WhatsApp accepts one, as after
# a refusal of the account: nothing stays on hold because a webhook that lifts it got lost.
HOLD = 300 * SECOND
RECATEGORISED = "RECATEGORISED"  # a status of ours: Meta still sends it, at another price and under other consent


def meta_word(value: str | None) -> str:
    """A field or event as it may stand in a clear column or a log line."""
    return value if value is not None and _WORD.fullmatch(value) else "unknown"


class Accounts:
    """Applies waiting `account` events."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def run(self, limit: int = 100) -> int:
        site = self._site
        with site.store.read() as connection:
            rows = connection.execute(
                select(inbox.c.id, inbox.c.body, inbox.c.key_id)
                .where(inbox.c.fate.is_(None), inbox.c.kind == "account")
                .where(*site.share("apply").mine(None, inbox.c.id))
                .order_by(inbox.c.id)
                .limit(limit)
            ).all()
        if not rows:
            return 0
        read: list[tuple[int, Update]] = []
        fates: list[Fate] = []
        for row in rows:
            try:
                plain = site.crypto.decrypt(row.body, row.key_id, "inbox", "body", row.id)
                read.append((row.id, update_from_stored(plain)))
            except (BridgeError, ValueError, KeyError, TypeError) as error:
                fates.append(Fate(row.id, "failed", f"its row cannot be read: {type(error).__name__}"))
        with site.store.write() as connection:
            now = site.store.now(connection)
            for event, update in read:
                fates.append(Fate(event, *self._apply(connection, update, now)))
            return settle(connection, fates, now)

    def _apply(self, connection: Connection, update: Update, now: int) -> tuple[str, str]:
        if not isinstance(update, Account):
            return "ignored", f"{meta_word(update.kind)}: kept, nothing here acts on it"
        field = meta_word(update.where.field)
        update = replace(update, event=meta_word(update.event) if update.event else None)
        value: Mapping[str, Any] = update.raw if isinstance(update.raw, dict) else {}
        if field == "message_template_status_update" and update.event:
            self._template(connection, update, value, now)
            return "applied", f"template {update.event}"
        if field == "phone_number_quality_update" and update.event:
            self._quality(connection, update, value, now)
            return "applied", f"number {update.event}"
        if field == "template_category_update":
            return self._category(connection, update, value, now)
        if field == "business_capability_update":
            self._tier(connection, update, value)
            return "applied", "messaging limit"
        if field == "account_update" and update.event in STOPS:
            return self._account(connection, update, value, now)
        if field == "user_preferences":
            return self._preferences(connection, value)
        return "ignored", f"{field}: kept, nothing here acts on it"

    def _preferences(self, connection: Connection, value: Mapping[str, Any]) -> tuple[str, str]:
        """Marketing wanted again: what was refused for that reason (131050) may be tried again. That it is not wanted any
        more needs no note: nothing of ours is marketing, and Meta says so of what it counts as such."""
        site, wanted = self._site, value.get("user_preferences")
        again: set[str] = set()
        for one in wanted if isinstance(wanted, list) else []:
            if isinstance(one, Mapping) and one.get("value") == "resume":
                names = [str(one[name]) for name in ("wa_id", "user_id") if one.get(name)]
                again |= {site.crypto.index(keys.identity(canonical(name))) for name in names}
        if not again:
            return "ignored", "user_preferences: nothing of ours is marketing"
        optouts.lift(connection, again, site.clock.now_us())
        return "applied", "marketing messages are wanted again"

    def _template(self, connection: Connection, update: Account, value: Mapping[str, Any], now: int) -> None:
        ours = self._ours(value)
        if ours is None:
            return
        self._set_template(connection, update, ours, str(update.event), now)
        if update.event in {"PAUSED", "DISABLED", "REJECTED"}:
            self._site.alarm(connection, f"template {ours[0]}", f"Meta set it to {update.event}: its messages are held")

    def _category(self, connection: Connection, update: Account, value: Mapping[str, Any], now: int) -> tuple[str, str]:
        """A template that Meta counts as marketing is held: patients did not agree to that, and it costs more.

        The first of the two webhooks is a notice (`correct_category`), a day before; the second tells what is so now.
        """
        ours = self._ours(value)
        if ours is None:
            return "ignored", "template category: of a template that is not ours"
        current, coming = (meta_word(str(value.get(key, ""))) for key in ("new_category", "correct_category"))
        subject = f"template {ours[0]}"
        if current == "UTILITY":
            self._set_template(connection, update, ours, "APPROVED", now)
        elif current != "unknown":
            self._set_template(connection, update, ours, RECATEGORISED, now)
            self._site.alarm(connection, subject, f"Meta counts it as {current} now: its messages are held")
        elif coming not in ("unknown", "UTILITY"):
            self._site.alarm(connection, subject, f"Meta will count it as {coming}: appeal, or reword it, within a day")
        return "applied", f"template category {current if current != 'unknown' else coming}"

    def _ours(self, value: Mapping[str, Any]) -> tuple[str, str] | None:
        """(name, language) of a template of ours; nothing of somebody else's in the same account is stored."""
        name = value.get("message_template_name")
        language = value.get("message_template_language")
        if not isinstance(name, str) or not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
            return None
        return (name, language.replace("-", "_")) if name in self._site.content.catalogue.templates else None

    @staticmethod
    def _set_template(connection: Connection, update: Account, ours: tuple[str, str], status: str, now: int) -> None:
        name, language = ours
        statement = lanes.upsert(connection.dialect.name)(template).values(
            waba=update.where.waba_id or "", name=name, language=language, status=status, at=now
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["waba", "name", "language"],
                set_={"status": statement.excluded.status, "at": statement.excluded.at},
            )
        )

    def _account(self, connection: Connection, update: Account, value: Mapping[str, Any], now: int) -> tuple[str, str]:
        """A restriction, a ban or a violation holds every number of the account; its reinstatement frees them."""
        ban = value.get("ban_info")
        if isinstance(ban, Mapping) and ban.get("waba_ban_state") == "REINSTATE":
            self._hold(connection, update, 0, None)
            return "applied", "the account is reinstated"
        why = f"Meta reports {update.event}"
        self._hold(connection, update, now + HOLD, why)
        self._site.alarm(connection, "waba account_update", f"{why}: its numbers are on hold, look at the account")
        return "applied", str(update.event)

    def _hold(self, connection: Connection, update: Account, until: int, reason: str | None) -> None:
        for known in self._site.settings.numbers.values():
            if known.waba_id == update.where.waba_id:
                record.pause(connection, known.key, until, reason)

    def _numbers(self, update: Account, value: Mapping[str, Any]) -> list[str]:
        wanted = "".join(c for c in str(value.get("display_phone_number", "")) if c.isdigit())
        ours = [n for n in self._site.settings.numbers.values() if n.waba_id == update.where.waba_id]
        return [n.key for n in ours] if wanted or ours else []

    def _quality(self, connection: Connection, update: Account, value: Mapping[str, Any], now: int) -> None:
        for key in self._numbers(update, value):
            statement = lanes.upsert(connection.dialect.name)(number).values(key=key, quality=update.event)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["key"], set_={"quality": statement.excluded.quality})
            )
            if update.event == "FLAGGED":
                record.pause(connection, key, now + HOLD, "Meta flagged its quality")
                self._site.alarm(connection, f"number {key}", "Meta flagged its quality: it is on hold, look at it")
            elif update.event == "UNFLAGGED":
                record.pause(connection, key, 0, None)

    def _tier(self, connection: Connection, update: Account, value: Mapping[str, Any]) -> None:
        limit = value.get("max_daily_conversations_per_business", value.get("max_daily_conversation_per_phone"))
        tier = TIERS.get(limit) if isinstance(limit, str) else limit if isinstance(limit, int) else None
        for known in self._site.settings.numbers.values():
            if known.waba_id == update.where.waba_id:
                statement = lanes.upsert(connection.dialect.name)(portfolio).values(
                    key=known.portfolio, tier=tier if tier is not None and tier > 0 else None
                )
                connection.execute(
                    statement.on_conflict_do_update(index_elements=["key"], set_={"tier": statement.excluded.tier})
                )
