"""New Communications go as one batch where the EHR takes one: each is there once, whatever becomes of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir.answers import Entry
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

COUNT = 5


def told(bench: Bench) -> None:
    """Five visits of one patient, and every message of them delivered at once."""
    for n in range(COUNT):
        bench.clerk(people.appointment(f"v{n}", MORNING + timedelta(days=9, hours=n)))
    bench.apply()
    for _ in range(COUNT):
        bench.send()
        bench.pass_(seconds=7)  # one template in six seconds to one person
    assert len(bench.whatsapp.bubbles) == COUNT
    bench.webhook({"statuses": [bench.status_of(bubble, "delivered") for bubble in bench.whatsapp.bubbles]})
    bench.apply()


def takes_batches(bench: Bench, spoil: Callable[[int], Entry | None] = lambda place: None) -> list[int]:
    """The sizes of the batch Bundles that the pretend EHR will have got. `spoil`: another answer to one."""
    sizes: list[int] = []
    takes = bench.ehr.batch

    def batch(entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
        sizes.append(len(entries))
        return tuple(spoil(place) or takes([entry])[0] for place, entry in enumerate(entries))

    bench.ehr.batch = batch  # type: ignore[method-assign]
    return sizes


def states(bench: Bench) -> list[tuple[str, str | None]]:
    return [(row.state, row.reason) for row in bench.writes()]


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_for_all(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    told(bench)
    sizes = takes_batches(bench)
    bench.write()
    assert sizes == [COUNT]
    assert states(bench) == [("done", None)] * COUNT
    assert len(bench.ehr.of("Communication")) == COUNT


def test_read_later_changes_the_one_that_is_there(workshop: Workshop) -> None:
    """Where each is kept was remembered: the next state of a message is an update, not a second Communication."""
    bench = workshop()
    told(bench)
    takes_batches(bench)
    bench.write()
    kept = {row["identifier"][0]["value"]: row["id"] for row in bench.ehr.of("Communication")}
    from bridge.engine import projections
    from bridge.ledger.tables import outbox

    with bench.store.write() as connection:
        now = bench.store.now()
        projections.ask(connection, bench.site, [connection.execute(outbox.select()).first()], now)
    bench.write()
    assert {row["identifier"][0]["value"]: row["id"] for row in bench.ehr.of("Communication")} == kept
    assert states(bench) == [("done", None)] * COUNT


def test_an_ehr_that_takes_no_batch(workshop: Workshop) -> None:
    bench = workshop()
    told(bench)
    asked = []

    def batch(entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
        asked.append(len(entries))
        raise EhrRefused("batch: 405", status=405)

    bench.ehr.batch = batch  # type: ignore[attr-defined]
    bench.write()
    assert len(bench.ehr.of("Communication")) == COUNT
    assert states(bench) == [("done", None)] * COUNT
    assert asked == [COUNT]
    assert bench.writer._no_batch == {"main"}


def test_the_answer_of_a_batch_is_lost(workshop: Workshop) -> None:
    """All stand in the EHR and nobody told us: the next try looks first, and makes none twice."""
    bench = workshop()
    told(bench)
    takes_batches(bench)
    whole = bench.ehr.batch  # type: ignore[attr-defined]

    def batch(entries: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
        whole(entries)
        raise EhrUnreachable("no answer", unknown=True)

    bench.ehr.batch = batch  # type: ignore[attr-defined]
    bench.write()
    assert {state for state, _ in states(bench)} == {"asked"}
    bench.pass_(minutes=10)
    bench.write()
    assert states(bench) == [("done", None)] * COUNT
    assert len(bench.ehr.of("Communication")) == COUNT


@pytest.mark.parametrize(
    "answer",
    [
        Entry(200, "Communication/other", None, ()),  # ifNoneExist found an earlier one, perhaps in an earlier state
        Entry(412, None, None, ("multiple-matches",)),
        Entry(500, None, None, ()),
        Entry(201, None, None, ()),  # made, and it does not say where
    ],
)
def test_one_answer_that_is_no_plain_yes(workshop: Workshop, answer: Entry) -> None:
    """That one is carried by itself; the others are done."""
    bench = workshop()
    told(bench)
    takes_batches(bench, spoil=lambda place: answer if place == 2 else None)
    bench.write()
    assert states(bench) == [("done", None)] * COUNT
    assert len(bench.ehr.of("Communication")) == COUNT
