"""What a tail sees: each change once, in order, through its filters, and without a patient in it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.cli.tail import text
from bridge.console.stream import Hop, Stream, Wanted
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, workshop: Workshop) -> Bench:
    return workshop(str(request.param))


def begin(bench: Bench, stream: Stream, last: int = 0, since: int | None = None) -> list[Hop]:
    with bench.store.read() as connection:
        return list(stream.begin(connection, bench.store.now(connection), last=last, since=since))


def look(bench: Bench, stream: Stream) -> list[str]:
    with bench.store.read() as connection:
        return [text(hop.of) for hop in stream.look(connection, bench.store.now(connection))]


def book(bench: Bench, name: str = "a1", days: int = 9) -> None:
    bench.clerk(people.appointment(name, MORNING + timedelta(days=days)))


def test_a_visit_as_it_happens(bench: Bench) -> None:
    stream = Stream()
    assert begin(bench, stream) == []
    book(bench)
    assert look(bench, stream) == ["ehr:main notification  waiting"]
    bench.settle()
    seen = look(bench, stream)
    assert seen[0].startswith("ehr:main notification Appointment/a1  planned(3)")
    assert "appointment-booked Appointment/a1  accepted" in seen
    assert len([line for line in seen if "before" in line and "planned" in line]) == 2
    assert look(bench, stream) == []
    (bubble,) = bench.whatsapp.of("34612000101")
    bench.status(bubble, "delivered")
    bench.settle()
    assert "appointment-booked Appointment/a1  delivered" in look(bench, stream)
    bench.tap(bubble, 0)
    bench.settle_replies()
    seen = look(bench, stream)
    assert any(line.startswith("reply: ") and " on msg_" in line for line in seen), seen
    assert any(line.startswith("command confirm to main  done") for line in seen)
    assert look(bench, stream) == []


def test_a_reminder_planned_days_ago_is_seen_when_it_leaves(bench: Bench) -> None:
    book(bench)
    bench.settle()
    stream = Stream()
    begin(bench, stream)
    bench.pass_(days=6, minutes=1)
    bench.settle()
    assert [line for line in look(bench, stream) if "3d before" in line] == [
        "appointment-reminder 3d before Appointment/a1  accepted"
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(references=frozenset({"Appointment/a2"})), {"Appointment/a2"}),
        (Wanted(references=frozenset({"Patient/ana"})), {"Appointment/a1", "Appointment/a2"}),
        (Wanted(references=frozenset({"Patient/nobody"})), set()),
        (Wanted(mappings=frozenset({"appointment-booked"})), {"Appointment/a1", "Appointment/a2"}),
        (Wanted(mappings=frozenset({"appointment-cancelled"})), set()),
        (Wanted(events=frozenset({"appointment.booked"})), {"Appointment/a1", "Appointment/a2"}),
        (Wanted(states=frozenset({"failed"})), set()),
    ],
)
def test_filters(bench: Bench, wanted: Wanted, expected: set[str]) -> None:
    stream = Stream(wanted)
    begin(bench, stream)
    book(bench)
    book(bench, "a2", 12)
    bench.settle()
    lines = look(bench, stream)
    assert {name for name in ("Appointment/a1", "Appointment/a2") if any(name in line for line in lines)} == expected
    if not expected:
        assert lines == []


def test_by_state_only_what_is_in_it(bench: Bench) -> None:
    stream = Stream(Wanted(states=frozenset({"accepted"})))
    begin(bench, stream)
    book(bench)
    bench.settle()
    assert look(bench, stream) == ["appointment-booked Appointment/a1  accepted"]


def test_it_begins_where_one_says(bench: Bench) -> None:
    before = bench.store.now() - 60_000_000
    book(bench)
    bench.settle()
    assert [hop.of for hop in begin(bench, Stream(), since=before)] != []
    assert begin(bench, Stream(), since=bench.store.now() + 60_000_000) == []
    assert len([hop for hop in begin(bench, Stream(), last=10) if hop.trace is not None]) == 1
