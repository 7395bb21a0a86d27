"""Statuses of no message of ours: given a minute, and looked up less and less often in it."""

from __future__ import annotations

import pytest

from bridge.ledger.clock import SECOND
from bridge.ledger.tables import inbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.stores import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_looked_up_after_2_4_8_seconds(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    stranger = {
        "id": "wamid.of-another-app",
        "status": "sent",
        "timestamp": "1795000000",
        "recipient_id": people.ANA_PHONE,
    }
    bench.webhook({"statuses": [stranger]})
    waits = []
    for _ in range(20):
        bench.apply()
        (row,) = bench.rows(inbox)
        if row.fate is not None:
            break
        waits.append(round((row.next_try - bench.store.now()) / SECOND))
        bench.store.ahead += row.next_try - bench.store.now() + 1
    assert waits == [2, 4, 8, 16, 32]
    assert (row.fate, row.reason) == ("ignored", "names no message of ours")
