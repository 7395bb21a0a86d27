"""A migrated store of either kind, and short ways to put rows into it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.engine import make_url

from bridge.ledger import lanes, outbox, states
from bridge.ledger.clock import Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.outbox import NewMessage
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.ledger.tables import attempt
from bridge.ledger.tables import lane as lane_table
from bridge.ledger.tables import outbox as outbox_table
from tests.stores import postgres_url, store_url

NUMBER = "front_desk"
ROOM = {NUMBER: 100}
_count = itertools.count()


@dataclass(slots=True)
class Ledger:
    """A store with its keys."""

    url: str
    folder: Path
    store: Store = field(init=False)
    crypto: Crypto = field(default_factory=lambda: Crypto({"k1": b"1" * 32}, b"index-key"))
    ids: Ids = field(default_factory=Ids)
    _opened: list[Store] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = self.open()

    def open(self, *, readonly: bool = False) -> Store:
        """One more store on the same database: another node (PostgreSQL), or a reader."""
        store = Store(self.url, readonly=readonly)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def message(self, **changes: Any) -> NewMessage:
        """A message to be; `lane` names its conversation."""
        lane = str(changes.pop("lane", "lane-1"))
        values: dict[str, Any] = {
            "effect_key": f"effect {next(_count)}", "cls": states.NEWS, "state": "ready", "kind": "template",
            "lane_key": lane, "number": NUMBER, "planned_at": 1, "config_version": "c", "content": b"words",
        }  # fmt: skip
        return NewMessage(**(values | changes))

    def put(self, *, now: int | None = None, **changes: Any) -> int:
        """Add one message in any state; returns its id."""
        state = changes.pop("state", "ready")
        message = self.message(state=state if state in ("planned", "ready") else "ready", **changes)
        with self.store.write() as connection:
            at = self.store.now(connection) if now is None else now
            outbox.add(connection, self.crypto, self.ids, [message], at)
            if state != message.state:
                connection.execute(
                    update(outbox_table).where(outbox_table.c.id == message.id).values(state=state, changed_at=at)
                )
                lanes.wake(connection, outbox.lanes_of(connection, [message.id]), at)
        return message.id

    def attempt(self, message: int, n: int, *, node: str = "n1", fenced_at: int = 1) -> None:
        with self.store.write() as connection:
            connection.execute(insert(attempt).values(message=message, n=n, node=node, epoch=1, fenced_at=fenced_at))

    def row(self, message: int) -> Any:
        with self.store.read() as connection:
            return connection.execute(select(outbox_table).where(outbox_table.c.id == message)).one()

    def state(self, message: int) -> str:
        return str(self.row(message).state)

    def lane(self, key: str = "lane-1") -> Any:
        with self.store.read() as connection:
            return connection.execute(select(lane_table).where(lane_table.c.key == key)).one()

    def set_lane(self, key: str = "lane-1", **values: Any) -> None:
        with self.store.write() as connection:
            connection.execute(update(lane_table).where(lane_table.c.key == key).values(**values))

    def claim(self, node: str = "n1", *, now: int | None = None, room: Mapping[str, int] = ROOM) -> list[lanes.Claimed]:
        with self.store.write() as connection:
            return lanes.claim(connection, node, self.store.now(connection) if now is None else now, room)

    def wake(self, connection: Connection, key: str = "lane-1", *, now: int) -> None:
        wanted = connection.execute(select(lane_table.c.id).where(lane_table.c.key == key)).scalar_one()
        lanes.wake(connection, [wanted], now)


@lru_cache(maxsize=2)
def _template(kind: str, folder: Path) -> str:
    """A migrated, empty store that others are copied from."""
    url = store_url(kind, folder)
    store = Store(url)
    migrate(store)
    store.close()
    return url


def ledger(kind: str, folder: Path, session: Path) -> Ledger:
    """A new one."""
    template = _template(kind, session)
    if kind == "sqlite":
        shutil.copy(str(make_url(template).database), folder / "bridge.db")
        return Ledger(f"sqlite:///{folder / 'bridge.db'}", folder)
    return Ledger(postgres_url(template=str(make_url(template).database)), folder)


def until_somebody_waits_for_a_lock(ledger: Ledger) -> None:
    """PostgreSQL: another transaction has come to a row that is locked."""
    for _ in range(1000):
        with ledger.store.read() as connection:
            waiting = connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            ).scalar_one()
        if waiting:
            return
    raise AssertionError("nobody waits for a lock: the statements do not lock the lane's row")
