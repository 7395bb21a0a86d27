"""Rows of years put into a store: both stores take them, and the plots are drawn of what is measured."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from bench.scale import plot
from bench.scale.fill import Size, bytes_of, fill
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.ledger.tables import attempt, inbox, lane, mark, outbox, write
from tests.stores import KINDS, store_url


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_grows(kind: str, tmp_path: Path) -> None:
    store = Store(store_url(kind, tmp_path))
    migrate(store)
    empty = bytes_of(store)
    fill(store, Size(0, 0, 0), Size(20, 30, 100))
    fill(store, Size(20, 30, 100), Size(40, 50, 300))
    with store.read() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (lane, inbox, outbox, attempt, write, mark)
        }
        states = dict(connection.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state)).all())
        newest = connection.execute(select(func.max(outbox.c.id))).scalar_one()
    assert counts == {"lane": 40, "inbox": 300, "outbox": 350, "attempt": 300, "write": 300, "mark": 300}
    assert states == {"planned": 50, "read": 300}
    assert 0 < newest < 2**63
    assert bytes_of(store) > empty
    store.close()


def test_plots(tmp_path: Path) -> None:
    one: dict[str, Any] = {"store": "sqlite", "nodes": 1, "whole_cpu_ms": 3.0, "whole_store_cpu_ms": 1.0}
    found = [one | {"old": old, "mb": 12} for old in (0, 1_000_000)] + [
        one | {"old": 0, "mb": 0, "nodes": n} for n in (1, 2)
    ]
    written = plot.write(found, tmp_path)
    assert [path.name for path in written] == ["cost-by-rows.svg", "cost-by-nodes.svg"]
    for path in written:
        root = xml.etree.ElementTree.parse(path).getroot()
        assert len(root.findall(".//{*}circle")) in (2, 4)
    assert "1 M" in written[0].read_text("utf-8")
