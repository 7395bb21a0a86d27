"""Counts what is planned and puts the brake on, in the transaction that planned one too many."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from bridge.engine.site import Site
from bridge.ledger import brake
from bridge.ledger.outbox import NewMessage
from bridge.ledger.states import CAMPAIGN


class Braking:
    """Held by the apply loop. The ledger is asked only when what was added since may have used up the room it showed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._room = 0  # messages that may be planned before it is worth counting again

    def before(self, connection: Connection, messages: Sequence[NewMessage]) -> None:
        """Campaign messages about to be added wait while the brake is on."""
        if any(m.cls == CAMPAIGN for m in messages) and brake.is_on(connection):
            brake.hold(messages)

    def after(self, connection: Connection, messages: Sequence[NewMessage], now: int) -> None:
        """These were added; too many within the hour put the brake on, with one alarm."""
        self._room -= sum(1 for m in messages if m.cls in brake.COUNTED and m.fields.get("cause") is not None)
        if self._room >= 0:
            return
        limit = self._site.settings.delivery.brake
        planned = brake.planned(connection, now, limit + 1)
        self._room = max(
            limit - planned, limit // 100
        )  # near the limit: counted at every hundredth, not at every commit
        if planned <= limit or (held := brake.put_on(connection, now)) is None:
            return
        self._site.alarm(
            connection, "delivery", "the brake is on: more than delivery.brake messages planned within an hour",
            brake=limit, held=len(held),
        )  # fmt: skip
