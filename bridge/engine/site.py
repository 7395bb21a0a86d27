"""What every loop of one engine process shares: settings, store, clocks, content, clients, and the bells that wake loops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time

from sqlalchemy import Connection

from bridge.engine.presence import WHOLE, Share
from bridge.engine.vitals import Vitals
from bridge.fhir.client import EhrClient
from bridge.inbound.replies import Replies
from bridge.inbound.words import Words
from bridge.ledger import audit
from bridge.ledger.clock import Clock, Ids, from_us, to_us
from bridge.ledger.crypto import Crypto
from bridge.ledger.nodes import Node
from bridge.ledger.store import Store
from bridge.mappers.mapping import MappingSet
from bridge.mappers.reminders import quiet_until
from bridge.mappers.templates import Catalogue
from bridge.roles import ALL
from bridge.settings import Number, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a site writes beside its bridge.yaml; swapped whole, so that a reader never sees half of a change."""

    mappings: MappingSet
    catalogue: Catalogue
    replies: Replies
    words: Words
    version: str


@dataclass(slots=True)
class Site:
    """One engine process."""

    settings: Settings
    store: Store
    crypto: Crypto
    ids: Ids
    clock: Clock
    node: str
    content: Content
    clients: Mapping[str, EhrClient]
    stopping: threading.Event = field(default_factory=threading.Event)
    wake_apply: threading.Event = field(default_factory=threading.Event)
    wake_writes: threading.Event = field(default_factory=threading.Event)
    wake_pump: threading.Event = field(default_factory=threading.Event)
    wake_sender: Callable[[], None] = lambda: None
    links_ended: int = 0  # how often numbers were taken from persons: what is remembered of links is looked up anew
    notices: dict[str, str] = field(default_factory=dict)  # what `/readyz` tells beside problems: the engine runs on
    roles: frozenset[str] = ALL  # of this process
    vitals: Vitals = field(default_factory=Vitals)
    share: Callable[[str], Share] = lambda role: WHOLE  # this node's part of a role's work
    nodes: Callable[[], list[Node]] = list  # who else lives; empty on SQLite

    # --- time ------------------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> tuple[time, time] | None:
        hours = self.settings.site.quiet_hours
        return (hours.from_, hours.to) if hours is not None else None

    def quiet_until(self, business: int, zone: str | None) -> int | None:
        """End of the quiet hours that hold now on that wall, both in microseconds; None when it is no quiet time."""
        end = quiet_until(from_us(business), zone or self.settings.site.zone, self.quiet)
        return to_us(end) if end is not None else None

    def now(self) -> datetime:
        return self.clock.now()

    # --- choices ---------------------------------------------------------------------------------------------------

    def number(self) -> Number:
        """The number that speaks for the site; the first of the config."""
        return next(iter(self.settings.numbers.values()))

    def language(self, *wishes: str | None) -> str:
        """The first wish that the site speaks, else its default."""
        spoken = self.settings.site.languages
        for wish in wishes:
            if wish is None:
                continue
            if wish in spoken:
                return wish
            base = wish.split("_")[0]
            if base in spoken:
                return wish
        return spoken[0]

    def alarm(self, connection: Connection, subject: str, why: str, **figures: object) -> None:
        """Something a person must look at: in the audit, in the log, on the console. Ids and figures only."""
        audit.record(
            connection,
            row=self.ids(),
            at=self.store.now(),
            action=audit.ALARM,
            subject=subject,
            detail={"why": why} | figures,
        )
        log.error("alarm: %s", why, extra={"subject": subject})
