"""The site's calendar: at a time of the site's own wall, and a job that fails does not end it."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from bridge.engine import calendar
from bridge.engine.calendar import Calendar, sweep_bodies
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import audit
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench


def test_retention_is_due_at_half_past_three_in_madrid(bench: Bench) -> None:
    kept = Calendar(bench.site)
    kept.start()
    kept._thread.join(10)
    try:
        (job,) = kept._scheduler.get_jobs()
        due = job.next_run_time
        assert (due.hour, due.minute, str(due.tzinfo)) == (3, 30, "Europe/Madrid")
        assert job.args == (sweep_bodies,)
    finally:
        kept.stop()


def test_it_empties_what_the_config_says(workshop: Workshop) -> None:
    bench = workshop(retention={"bodies": "30d"})
    bench.clerk(people.appointment("a1", MORNING.replace(month=12, day=20)))
    bench.settle()
    assert sum(sweep_bodies(bench.site).values()) == 0
    bench.store.ahead += 31 * 86_400 * SECOND
    counts = sweep_bodies(bench.site)
    assert counts["inbox"] == 1
    assert len(bench.rows(audit, audit.c.action == "retention")) == 2


def test_a_job_that_fails_is_tried_the_next_night(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(calendar, "sweep_bodies", locked)
    Calendar(bench.site)._safely(calendar.sweep_bodies)
