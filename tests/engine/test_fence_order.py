"""What the fence reads in which order: a decision that is applied while a fence looks for what is unapplied is seen as the
decision it became. A STOP to another number of ours locks another conversation's lane, and a block is an insert, which no
row lock holds back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger.clock import to_us
from bridge.ledger.tables import block, identity, outbox
from bridge.outbound import facts
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING


def test_a_stop_applied_while_the_fence_looks_for_what_waits(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = workshop("postgresql")  # on SQLite no other transaction writes while a fence is open
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=7)))
    bench.apply()
    (ready,) = [row for row in bench.messages() if row.state == "ready"]
    (phone,) = bench.rows(identity, identity.c.person_id == ready.person_id)
    look, done = facts.unapplied, []

    def meanwhile(connection: Any, keys: set[str]) -> Any:
        if not done:  # another transaction commits at the worst moment: nothing waits any more, and it is decided
            with bench.store.write() as other:
                other.execute(block.insert().values(id=1, key=phone.key, since=to_us(MORNING)))
            done.append(True)
        return look(connection, keys)

    monkeypatch.setattr(facts, "unapplied", meanwhile)
    assert bench.fence() == []
    assert done
    (row,) = bench.messages(outbox.c.id == ready.id)
    assert (row.state, row.reason) == ("suppressed", "the patient stopped messages on this phone")
