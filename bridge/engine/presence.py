"""A node's sign of life, and its share of what several nodes could take at once.

Two nodes that reach for the same events are never wrong (the one that commits first is first, the other decides again),
only slow. So the nodes that live share events out by the hash of their key: one conversation, and one resource, belong to
one node. A node that is not heard of loses its share within seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func
from sqlalchemy.exc import SQLAlchemyError

from bridge.ledger import nodes
from bridge.ledger.clock import Ids
from bridge.ledger.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """`index` of `of` equal parts."""

    index: int = 0
    of: int = 1

    def mine(self, key: Any, row_id: Any) -> tuple[ColumnElement[bool], ...]:
        """Conditions for a query on PostgreSQL: rows of this part, by `key`, or by id where that is NULL."""
        if self.of == 1:
            return ()
        text = func.coalesce(key, cast(row_id, Text)) if key is not None else cast(row_id, Text)
        part = func.mod(func.abs(cast(func.hashtext(text), BigInteger)), self.of)
        return (part == self.index,)


WHOLE = Share()


class Presence:
    """Beats while the process lives, and knows who else does. On SQLite there is one engine, and no thread."""

    def __init__(
        self, store: Store, ids: Ids, node: str, roles: Collection[str], sick: Callable[[], Collection[str]]
    ) -> None:
        """`sick`: roles of this process whose loop is dead, asked at each beat."""
        self._store = store
        self._ids = ids
        self._node = node
        self._roles = frozenset(roles)
        self._sick = sick
        self._nodes: list[nodes.Node] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    @property
    def shared(self) -> bool:
        return self._store.dialect != "sqlite"

    def start(self) -> None:
        """The first beat is made before the loops start."""
        if self.shared:
            self._beat(first=True)
            self._thread.start()

    def stop(self) -> None:
        """Others may take what was ours at once."""
        self._stopping.set()
        if not self.shared:
            return
        if self._thread.is_alive():
            self._thread.join(5)
        try:
            with self._store.write() as connection:
                nodes.forget(connection, self._node)
        except SQLAlchemyError as error:
            log.warning("the node could not say goodbye", extra={"error": type(error).__name__})

    def nodes(self) -> list[nodes.Node]:
        """Who lived at the last beat, this node included."""
        return list(self._nodes)

    def share(self, role: str) -> Share:
        """This node's part of a role's work; the whole when nobody else is heard of."""
        names = [node.name for node in self._nodes if role in node.roles]
        if self._node not in names or len(names) == 1:
            return WHOLE
        return Share(names.index(self._node), len(names))

    def _run(self) -> None:
        while not self._stopping.wait(nodes.BEAT):
            self._beat()

    def _beat(self, *, first: bool = False) -> None:
        try:
            with self._store.write() as connection:
                now = self._store.now(connection)
                nodes.beat(connection, self._ids, self._node, self._roles.difference(self._sick()), now)
                if first:
                    nodes.forget_old(connection, now)
                found = nodes.alive(connection, now)
        except SQLAlchemyError as error:
            log.warning("the node's sign of life was not taken", extra={"error": type(error).__name__})
            return
        except Exception:
            log.exception("the node's sign of life failed")
            return
        if [node.name for node in found] != [node.name for node in self._nodes]:
            log.info("nodes of this store", extra={"events": len(found)})
        self._nodes = found
