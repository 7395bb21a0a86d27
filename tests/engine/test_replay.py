"""An event decided again: the difference, and nothing sent unless a person asks; then once more, under its own key."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from bridge.engine.replay import replay
from bridge.errors import EhrUnreachable, NothingToDo
from bridge.ledger.balance import balance
from bridge.ledger.tables import audit, inbox, outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
BOOKED = "appointment_booked"


def visit(days: int = 0, **more: Any) -> dict[str, Any]:
    return people.appointment("a1", START + timedelta(days=days), **more)


def events(bench: Bench) -> list[int]:
    return [row.id for row in bench.rows(inbox, inbox.c.kind.in_(("notification", "hint")))]


def with_mapping(bench: Bench, name: str, **changes: Any) -> None:
    """A mapping as somebody has just changed it."""
    content = bench.site.content
    mappings = tuple(
        replace(each, version="changed00000", **changes) if each.id == name else each
        for each in content.mappings.mappings
    )
    bench.site.content = replace(content, mappings=replace(content.mappings, mappings=mappings))


def holds(bench: Bench) -> bool:
    return all(line.holds for line in balance(bench.store))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_then_and_nothing_is_sent(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    bench.clerk(visit())
    bench.settle()
    before = [(row.id, row.state) for row in bench.messages()]
    found = replay(bench.site, events(bench)[0])
    assert found["same"] is True, found
    assert found["decided"] == "as it came"
    assert [each["mapping"] for each in found["now"]["messages"]] == [
        each["mapping"] for each in found["then"]["messages"]
    ]
    bench.settle()
    assert [(row.id, row.state) for row in bench.messages()] == before
    assert bench.rows(audit, audit.c.action == "replayed") == []


def test_a_mapping_that_says_no_today(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    with_mapping(bench, "appointment-booked", enabled=False)
    found = replay(bench.site, events(bench)[0])
    assert found["same"] is False
    assert any(
        each.startswith("appointment-booked: then accepted") and each.endswith("now nothing")
        for each in found["differences"]
    )


def test_a_mapping_that_says_yes_today(workshop: Workshop) -> None:
    bench = workshop()
    whole = bench.site.content
    with_mapping(bench, "appointment-booked", enabled=False)
    with_mapping(bench, "appointment-reminder", enabled=False)
    bench.clerk(visit())
    bench.settle()
    assert bench.messages() == []
    bench.site.content = whole
    found = replay(bench.site, events(bench)[0])
    assert (found["then"]["fate"], found["now"]["fate"]) == ("suppressed", "planned")
    assert "appointment-booked: then nothing, now ready" in found["differences"]
    sent = replay(bench.site, events(bench)[0], really_send=True)
    assert len(sent["sent"]) == 3  # the booking, and both reminders that never were armed
    bench.settle()
    assert bench.told(people.ANA_PHONE) == [BOOKED]


def test_a_visit_that_is_over_with_the_clock_of_then(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    bench.pass_(days=20)
    today = replay(bench.site, events(bench)[0])
    assert today["same"] is False
    assert "appointment is in the past" in today["now"]["reason"]
    then = replay(bench.site, events(bench)[0], as_then=True)
    assert then["same"] is True, then
    with pytest.raises(NothingToDo, match="today's clock"):
        replay(bench.site, events(bench)[0], as_then=True, really_send=True)


def test_other_words(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    mapping = next(m for m in bench.site.content.mappings.mappings if m.id == "appointment-booked")
    patient = mapping.send.patient
    params = tuple(
        replace(p, path=None, text={"": "en la planta baja"}) if p.name == "place" else p for p in patient.params
    )
    with_mapping(bench, "appointment-booked", send=replace(mapping.send, patient=replace(patient, params=params)))
    found = replay(bench.site, events(bench)[0])
    assert found["same"] is False
    assert any("other words, by a changed mapping" in each for each in found["differences"])


@pytest.mark.parametrize("kind", KINDS)
def test_really_send_once_more_and_again(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    bench.clerk(visit())
    bench.settle()
    event = events(bench)[0]
    first = replay(bench.site, event, really_send=True)
    assert len(first["sent"]) == 1
    assert any("not over yet" in each for each in first["not_sent"])  # its reminders stand
    waiting = replay(bench.site, event, really_send=True)
    assert waiting["sent"] == []
    assert any("is ready and not over yet" in each for each in waiting["not_sent"])
    bench.settle()
    replay(bench.site, event, really_send=True)
    bench.settle()
    assert bench.told(people.ANA_PHONE) == [BOOKED] * 3
    keys = [row.effect_key for row in bench.messages(outbox.c.offset.is_(None))]
    assert keys[1:] == [f"{keys[0]}#2", f"{keys[0]}#3"]
    noted = bench.rows(audit, audit.c.action == "replayed")
    assert [(row.subject, row.count) for row in noted] == [(f"evt_{event}", 1)] * 2
    assert holds(bench)


def test_the_buttons_of_what_was_sent_again_work(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    replay(bench.site, events(bench)[0], really_send=True)
    bench.settle()
    bench.tap(bench.whatsapp.of(people.ANA_PHONE)[-1], 0)
    bench.settle_replies()
    assert [row.verb for row in bench.writes() if row.kind == "command"] == ["confirm"]
    assert bench.ehr.get("Appointment/a1")["participant"][0]["status"] == "accepted"


def test_what_holds_no_longer_is_not_sent(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(1))
    bench.settle()
    first, second = events(bench)
    old = replay(bench.site, first, really_send=True)
    assert old["sent"] == []
    assert old["not_sent"] == ["Appointment/a1 has changed since: what this event says holds no longer"]
    found = replay(bench.site, second)
    assert found["same"] is True, found
    assert found["now"]["messages"][0]["mapping"] == "appointment-rescheduled"
    sent = replay(bench.site, second, really_send=True)
    assert len(sent["sent"]) == 1
    bench.settle()
    assert bench.told(people.ANA_PHONE) == [BOOKED, "appointment_rescheduled", "appointment_rescheduled"]


def test_stop_is_asked_of_what_is_sent_again_too(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    bench.says(people.ANA_PHONE, "STOP")
    bench.settle_replies()
    told = len(bench.told(people.ANA_PHONE))
    (name,) = replay(bench.site, events(bench)[0], really_send=True)["sent"]
    bench.settle()
    assert len(bench.told(people.ANA_PHONE)) == told
    (row,) = bench.messages(outbox.c.id == int(name[4:]))
    assert (row.state, row.reason) == ("suppressed", "the patient stopped messages on this phone")


def test_quiet_hours_of_today_count(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    bench.pass_(hours=13)
    found = replay(bench.site, events(bench)[0])
    (booked,) = [each for each in found["now"]["messages"] if each["offset"] is None]
    assert (booked["state"], booked["reason"]) == ("planned", "quiet hours")


def test_an_emptied_event_is_decided_on_what_the_ehr_has_now(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    bench.settle()
    with bench.store.write() as connection:
        connection.execute(update(inbox).values(body=None))
    found = replay(bench.site, events(bench)[0])
    assert found["decided"] == "as the EHR has it now"
    assert found["same"] is True, found
    bench.ehr.down = True
    bench.pass_(minutes=5)
    with pytest.raises(EhrUnreachable):
        replay(bench.site, events(bench)[0])


def test_a_hint_and_our_own_write(workshop: Workshop) -> None:
    bench = workshop()
    bench.ehr.put(visit())
    bench.hint("Appointment/a1")
    bench.settle()
    assert replay(bench.site, events(bench)[0])["same"] is True
    bench.tap(bench.whatsapp.of(people.ANA_PHONE)[0], 0)
    bench.settle_replies()
    bench.notify(bench.ehr.get("Appointment/a1"))
    bench.settle()
    echo = next(row.id for row in bench.rows(inbox) if row.reason in ("our own write", "says what we hold already"))
    with bench.store.write() as connection:
        connection.execute(update(inbox).where(inbox.c.id == echo).values(fate="applied", reason="our own write"))
    found = replay(bench.site, echo, really_send=True)
    assert found["same"] is True
    assert found["not_sent"] == ["it was bridge's own write: nobody is told of it"]


def test_a_push_twice_is_the_same_twice(workshop: Workshop) -> None:
    bench = workshop()
    saved = bench.clerk(visit())
    bench.settle()
    bench.notify(saved)
    bench.settle()
    second = replay(bench.site, events(bench)[1])
    assert second["then"]["fate"] == "merged"
    assert second["same"] is True, second


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_that_never_was_applied_is_applied(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    saved = bench.ehr.put(visit())
    bench.notify(saved)
    with bench.store.write() as connection:
        connection.execute(update(inbox).values(fate="failed", reason="deciding failed: KeyError"))
    found = replay(bench.site, events(bench)[0])
    assert found["now"]["fate"] == "planned"
    sent = replay(bench.site, events(bench)[0], really_send=True)
    assert sent["sent"] == []
    assert sent["applied_as"] == f"evt_{events(bench)[1]}"
    bench.settle()
    assert bench.told(people.ANA_PHONE) == [BOOKED]
    assert all("#" not in row.effect_key for row in bench.messages())


def test_what_cannot_be_decided_again_is_said(workshop: Workshop) -> None:
    bench = workshop()
    bench.clerk(visit())
    with pytest.raises(NothingToDo, match="has not been applied yet"):
        replay(bench.site, events(bench)[0])
    bench.settle()
    bench.says(people.ANA_PHONE, "hola")
    bench.settle_replies()
    said = next(row.id for row in bench.rows(inbox) if row.kind == "message")
    for event, why in ((1, "there is no evt_1"), (said, "did not come from an EHR")):
        with pytest.raises(NothingToDo, match=why):
            replay(bench.site, event)
    bench.clerk(people.ana(), door="patients")
    bench.settle()
    with pytest.raises(NothingToDo, match="is about Patient"):
        replay(bench.site, events(bench)[-1])
