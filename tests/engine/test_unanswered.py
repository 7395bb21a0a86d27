"""`then.no_reply` and `then.handoff_if_text`: who has not answered is called by a person, and who reads what is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

ANA = people.ANA_PHONE
START = MORNING + timedelta(days=9)
CONFIRM = 0
SILENT = "no answer within 12 h to appointment-booked"


def bench_with(workshop: Workshop, kind: str = "sqlite", **changes: Any) -> Bench:
    """A bench whose booking mapping is changed."""
    bench = workshop(kind)
    content = bench.site.content
    mappings = tuple(
        replace(each, **changes) if each.id == "appointment-booked" else each for each in content.mappings.mappings
    )
    bench.site.content = replace(content, mappings=replace(content.mappings, mappings=mappings))
    return bench


def book(bench: Bench) -> None:
    bench.clerk(people.appointment("a1", START))
    bench.settle()


def hours(bench: Bench, count: float) -> None:
    bench.site.clock.push(timedelta(hours=count))
    bench.settle()


@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_answer_is_a_persons_once(workshop: Workshop, kind: str) -> None:
    bench = bench_with(workshop, kind, no_reply=timedelta(hours=12))
    book(bench)
    hours(bench, 11)
    assert bench.open_turns() == []
    hours(bench, 2)
    hours(bench, 20)
    assert bench.open_turns() == [SILENT]


def test_who_answers_is_left_in_peace(workshop: Workshop) -> None:
    for said in ("tap", "words"):
        bench = bench_with(workshop, no_reply=timedelta(hours=12))
        book(bench)
        hours(bench, 1)
        if said == "tap":
            bench.tap(bench.whatsapp.of(ANA)[0], CONFIRM)
        else:
            bench.says(ANA, "Allí estaré")
        bench.settle_replies()
        hours(bench, 13)
        assert SILENT not in bench.open_turns()


def test_what_has_moved_on_or_never_arrived_asks_for_no_call(workshop: Workshop) -> None:
    bench = bench_with(workshop, no_reply=timedelta(hours=12))
    book(bench)
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    hours(bench, 13)
    assert bench.open_turns() == []
    other = bench_with(workshop, no_reply=timedelta(hours=12))
    book(other)
    other.status(other.whatsapp.of(ANA)[0], "failed", errors=[{"code": 131026, "title": "undeliverable"}])
    other.settle()
    hours(other, 13)
    assert other.open_turns() == []


def test_no_reply_do_nothing_costs_no_row(workshop: Workshop) -> None:
    bench = workshop()
    book(bench)
    assert {row.reply_within for row in bench.messages()} <= {None, 12 * 3600 * 1_000_000}  # the reminders' own


def test_words_that_nobody_reads_say_so(workshop: Workshop) -> None:
    bench = bench_with(workshop, free_text="never")
    book(bench)
    bench.says(ANA, "¿Puedo llevar a mi hermana?")
    bench.settle_replies()
    assert bench.told(ANA)[-1].startswith("En este chat no leemos mensajes escritos.")
    assert bench.open_turns() == []
    bench.sends(ANA, "audio")
    bench.settle_replies()
    assert bench.open_turns() == ["sent something we cannot read (voice)"]


def test_every_text_is_a_persons_and_stop_is_still_stop(workshop: Workshop) -> None:
    bench = bench_with(workshop, free_text="always")
    book(bench)
    bench.says(ANA, "cancelar")
    bench.settle_replies()
    assert "¿Quiere cancelar una cita" in bench.told(ANA)[-1]
    assert bench.open_turns() == ["wrote, and every text is a person's to read after that message"]
    bench.says(ANA, "BAJA")
    bench.settle_replies()
    assert "no le enviaremos más mensajes" in bench.told(ANA)[-1]
    assert len(bench.open_turns()) == 1
