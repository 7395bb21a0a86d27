"""Counts what is planned and puts the brake on, in the transaction that planned one too many."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from bridge.engine.site import Site
from bridge.ledger import brake
from bridge.ledger.outbox import NewMessage
from bridge.ledger.states import CAMPAIGN


class Braking:
    """Held by the apply loop. The ledger is asked only when what was added since may have used up the room it showed: all
    of it for a node that is alone, else so little that all nodes together pass the limit by a hundredth at most."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._room = 0  # messages that may be planned before they must be counted again
        self._nodes = 0  # how many planned when that was said

    def lost(self) -> None:
        """The transaction did not commit: what it counted may not be so."""
        self._room = 0

    def before(self, connection: Connection, messages: Sequence[NewMessage]) -> None:
        """Campaign messages about to be added wait while the brake is on."""
        if any(m.cls == CAMPAIGN for m in messages):
            brake.gate(connection)
            if brake.is_on(connection):
                brake.hold(messages)

    def after(self, connection: Connection, messages: Sequence[NewMessage], now: int) -> None:
        """These were added; too many within the hour put the brake on, with one alarm."""
        counted = sum(1 for m in messages if m.cls in brake.COUNTED and m.fields.get("cause") is not None)
        nodes = self._site.share("apply").of
        self._room -= counted
        if not counted or (self._room >= 0 and nodes == self._nodes):
            return
        limit = self._site.settings.delivery.brake
        planned = brake.planned(connection, now, limit + 1)
        little = limit // (100 * nodes)  # near the limit: counted at every hundredth, not at every commit
        self._room, self._nodes = max(limit - planned, little) if nodes == 1 else little, nodes
        if planned <= limit or (held := brake.put_on(connection, now)) is None:
            return
        self._site.alarm(
            connection, "delivery", "the brake is on: more than delivery.brake messages planned within an hour",
            brake=limit, held=len(held),
        )  # fmt: skip
