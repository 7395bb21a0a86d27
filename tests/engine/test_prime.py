"""`bridge prime`: what an EHR holds becomes what is known, without a message; then its changes are told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from bridge.engine.prime import Primer
from bridge.errors import CannotPrime, EhrRefused, EhrUnreachable
from bridge.fhir.answers import Resource
from bridge.ledger.tables import audit, consent, mark, outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

ANA = "34612000101"
VISIT = MORNING + timedelta(days=9)
UNPRIMED = ("suppressed", "not primed: run `bridge prime` first")


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, workshop: Workshop) -> Bench:
    return workshop(str(request.param), ehr={"prime": "required"})


def prime(bench: Bench, primer: Primer | None = None) -> Mapping[str, Any]:
    primer = primer or Primer(bench.site, bench.reader, bench.applier)
    primer.start("main")
    return wait(bench, primer)


def wait(bench: Bench, primer: Primer, seconds: float = 20) -> Mapping[str, Any]:
    until = time.monotonic() + seconds
    while (status := primer.status("main"))["state"] == "running":
        assert time.monotonic() < until, status
        bench.applier.once()
        time.sleep(0.002)
    bench.apply()
    return status


def reminders(bench: Bench) -> list[Any]:
    return bench.messages(outbox.c.offset.is_not(None), outbox.c.state == "planned")


def test_before_it_nothing_is_told(site: Bench) -> None:
    site.clerk(people.appointment("a1", VISIT))
    site.settle()
    assert site.fates() == [UNPRIMED]
    assert site.told(ANA) == []
    assert site.messages() == []


def test_it_tells_nothing_arms_reminders_and_then_changes_are_told(site: Bench) -> None:
    for i in range(3):
        site.ehr.put(people.appointment(f"a{i}", VISIT + timedelta(hours=i)))
    site.ehr.put(people.appointment("past", MORNING - timedelta(days=1)))
    site.ehr.put(people.appointment("gone", VISIT, status="cancelled"))
    done = prime(site)
    assert done["state"] == "done", done
    counts = {word: count for word, count in done["counts"].items() if count}
    assert counts == {"read": 5, "new": 3, "past or not promised": 2, "reminders": 6}
    site.settle()
    assert site.told(ANA) == []
    assert len(reminders(site)) == 6
    assert site.rows(audit, audit.c.action == "primed")[0].count == 3
    site.clerk(site.ehr.change("Appointment/a1", start=(VISIT + timedelta(days=1)).isoformat()))
    site.settle()
    assert site.told(ANA) == ["appointment_rescheduled"]
    site.clerk(people.appointment("fresh", VISIT))
    site.pass_(seconds=10)
    site.settle()
    assert site.told(ANA)[1:] == ["appointment_booked"]


def test_a_reminder_armed_by_it_is_sent_in_time(site: Bench) -> None:
    site.ehr.put(people.appointment("a1", VISIT))
    prime(site)
    site.pass_(days=6, minutes=1)
    site.settle()
    assert site.told(ANA) == ["appointment_reminder"]


def test_twice_is_harmless(site: Bench) -> None:
    site.ehr.put(people.appointment("a1", VISIT))
    prime(site)
    before = (len(site.messages()), site.held("Appointment/a1").revision)
    done = prime(site)
    assert done["counts"]["known"] == 1
    assert done["counts"]["new"] == 0
    assert (len(site.messages()), site.held("Appointment/a1").revision) == before
    site.settle()
    assert site.told(ANA) == []


def test_what_changed_unnoticed_between_two_primings_is_told(site: Bench) -> None:
    site.ehr.put(people.appointment("a1", VISIT))
    prime(site)
    site.ehr.change("Appointment/a1", start=(VISIT + timedelta(days=1)).isoformat())  # its push was lost
    done = prime(site)
    assert done["counts"]["changed"] == 1
    site.settle()
    assert site.told(ANA) == ["appointment_rescheduled"]


def test_consents_count_from_the_first_reminder_on(site: Bench) -> None:
    site.ehr.put(people.consent("c1", "Patient/ana", MORNING - timedelta(days=30), permit=False))
    site.ehr.put(people.appointment("a1", VISIT))
    done = prime(site)
    assert done["counts"]["consents"] > 0
    assert {row.decision for row in site.rows(consent)} == {"deny"}
    site.pass_(days=6, minutes=1)
    site.settle()
    assert site.told(ANA) == []
    assert "suppressed" in {row.state for row in site.messages()}


def test_a_server_that_cannot_search_consents_is_primed_all_the_same(
    site: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = site.ehr.search

    def picky(kind: str, params: Sequence[tuple[str, str]]) -> Iterator[Resource]:
        if any(name == "category" for name, _ in params):
            raise EhrRefused("Consent: unknown search parameter", status=400)
        yield from search(kind, params)

    monkeypatch.setattr(site.ehr, "search", picky)
    site.ehr.put(people.consent("c1", "Patient/ana", MORNING - timedelta(days=30), permit=False))
    site.ehr.put(people.appointment("a1", VISIT))
    assert prime(site)["state"] == "done"
    assert {row.decision for row in site.rows(consent)} == {"deny"}, "read when the person was first met"


def test_what_is_pushed_meanwhile_waits_and_is_told_afterwards(site: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The visit moves after the page was read and before it was written: the patient hears of it."""
    search = site.ehr.search

    def slow(kind: str, params: Sequence[tuple[str, str]]) -> Iterator[Resource]:
        yield from list(search(kind, params))
        if kind == "Appointment" and ("_count", "100") in params:
            site.clerk(site.ehr.change("Appointment/a1", start=(VISIT + timedelta(days=1)).isoformat()))

    site.ehr.put(people.appointment("a1", VISIT))
    monkeypatch.setattr(site.ehr, "search", slow)
    assert prime(site)["state"] == "done"
    assert site.fates() == [(None, "waits for `bridge prime` to end")] or site.fates()[0][0] == "planned"
    site.pass_(seconds=3)
    site.settle()
    assert site.told(ANA) == ["appointment_rescheduled"]


def test_an_ehr_that_goes_away_is_waited_for(site: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    search = site.ehr.search
    fails = iter([True])

    def flaky(kind: str, params: Sequence[tuple[str, str]]) -> Iterator[Resource]:
        for i, found in enumerate(search(kind, params)):
            if kind == "Appointment" and i == 2 and next(fails, False):
                raise EhrUnreachable("connection reset")
            yield found

    for i in range(4):
        site.ehr.put(people.appointment(f"a{i}", VISIT + timedelta(hours=i)))
    monkeypatch.setattr(site.ehr, "search", flaky)
    done = prime(site)
    assert (done["state"], done["counts"]["read"], done["counts"]["new"]) == ("done", 4, 4)
    assert next(fails, None) is None, "it did go away"


def test_a_new_life_goes_on_where_the_last_was_killed(site: Bench) -> None:
    site.ehr.put(people.appointment("a1", VISIT))
    with site.store.write() as connection:
        connection.execute(mark.insert().values(key="priming:main", value="", at=1))
    primer = Primer(site.site, site.reader, site.applier)
    primer.resume()
    assert wait(site, primer)["counts"]["new"] == 1
    assert {row.key for row in site.rows(mark)} == {"primed:main"}


def test_one_that_fails_leaves_nobody_waiting(site: Bench) -> None:
    site.ehr.search = lambda *_: (_ for _ in ()).throw(EhrRefused("forbidden", status=403))  # type: ignore[method-assign]
    done = prime(site)
    assert done["state"] == "failed"
    assert site.rows(mark) == []
    site.clerk(people.appointment("a1", VISIT))
    site.settle()
    assert site.fates() == [UNPRIMED]
    assert site.alarms() == ["priming failed"]


def test_what_cannot_be_primed(workshop: Workshop) -> None:
    bench = workshop(ehr={"prime": "none", "base_url": None, "writeback": {}})
    primer = Primer(bench.site, bench.reader, bench.applier)
    for name in ("main", "other"):
        with pytest.raises(CannotPrime):
            primer.start(name)
