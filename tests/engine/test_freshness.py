"""What is newer, the same, or only a hint: TI2, TI3, TI6, restored backups, and servers that number oddly or not at all."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from bridge.ledger.tables import outbox
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)
BOOKED, MOVED, CANCELLED = "appointment_booked", "appointment_rescheduled", "appointment_cancelled"


def visit(days: int = 0, **more: Any) -> dict[str, Any]:
    return people.appointment("a1", START + timedelta(days=days), **more)


def told(bench: Bench) -> list[str]:
    return bench.told(people.ANA_PHONE)


def bundle(number: int, focus: str, *, event_id: str | None = None, resource: dict[str, Any] | None = None) -> bytes:
    """R5: one event of a topic-based subscription."""
    event: dict[str, Any] = {"eventNumber": str(number), "focus": {"reference": focus}}
    if event_id is not None:
        event["id"] = event_id
    status = {
        "resourceType": "SubscriptionStatus",
        "status": "active",
        "type": "event-notification",
        "subscription": {"reference": "Subscription/s1"},
        "topic": "http://ehr.example/topic",
        "eventsSinceSubscriptionStart": str(number),
        "notificationEvent": [event],
    }
    entries: list[dict[str, Any]] = [{"resource": status}]
    if resource is not None:
        url = f"https://ehr.example/fhir/{focus}"
        entries.append({"fullUrl": url, "resource": resource, "request": {"method": "PUT", "url": focus}})
    return json.dumps({"resourceType": "Bundle", "type": "subscription-notification", "entry": entries}).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_event_19_times_at_once_and_again_later(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    saved = bench.ehr.put(visit())
    for _ in range(19):
        bench.notify(saved)
    bench.settle()
    bench.pass_(hours=20)
    bench.notify(saved)
    bench.settle()
    assert told(bench) == [BOOKED]
    assert len(bench.fates()) == 20
    assert sorted({fate or "" for fate, _ in bench.fates()}) == ["merged", "planned"]


def test_the_counter_starts_again(bench: Bench) -> None:
    """HAPI's subscription was re-activated: numbers run from 0 again, and every event counts."""
    for number, resource in [(7, visit()), (0, visit(1)), (1, visit(status="cancelled")), (0, visit(2))]:
        saved = bench.ehr.put(resource)
        bench.push(bundle(number, "Appointment/a1", resource=saved), method="POST")
        bench.settle()
    assert told(bench) == [BOOKED, MOVED, CANCELLED, BOOKED]


def test_numbers_per_bundle_and_ids_of_the_sender(workshop: Workshop) -> None:
    """athenahealth: every Bundle's event is number 1; the event's own id is what makes it a duplicate."""
    bench = workshop(ehr={"dialect": "athenahealth"})
    for event_id, resource in [("ev-1", visit()), ("ev-2", visit(1)), ("ev-3", visit(2))]:
        saved = bench.ehr.put(resource)
        for _ in range(3):
            bench.push(bundle(1, "Appointment/a1", event_id=event_id, resource=saved), method="POST")
        bench.settle()
    assert told(bench) == [BOOKED, MOVED, MOVED]
    assert len(bench.fates()) == 3  # what the sender has sent before is answered, and is no row


def test_versions_that_were_stripped_are_hints(bench: Bench) -> None:
    """Without meta nobody knows which is newer: a read decides, whatever the push says."""
    bench.clerk(visit())
    bench.settle()
    bench.ehr.put(visit(2))
    bench.notify(visit(1))  # on its way since yesterday
    bench.settle()
    assert told(bench) == [BOOKED, MOVED]
    assert f"{(START + timedelta(days=2)).day} de" in bench.whatsapp.bubbles[-1].params["day"]


def test_restored_from_a_backup(bench: Bench) -> None:
    """v9 → v5 → v6: a read is the truth although its version is lower; one alarm for the EHR, not one a visit."""
    first, second = visit(), people.appointment("a2", START, patient="Patient/lucia")
    for resource in (first, second):
        bench.notify(bench.ehr.put(resource, version=9))
    bench.settle()
    bench.ehr.at -= timedelta(hours=3)
    for resource in (visit(1), second | {"status": "cancelled"}):
        bench.notify(bench.ehr.put(resource, version=5))
    bench.settle()
    assert told(bench) == [BOOKED, MOVED]
    assert bench.told(people.LUCIA_PHONE) == [BOOKED, CANCELLED]
    bench.notify(bench.ehr.put(visit(2), version=6))
    bench.settle()
    assert told(bench) == [BOOKED, MOVED, MOVED]
    assert [bench.held(f"Appointment/{name}").generation for name in ("a1", "a2")] == [1, 1]
    assert len([why for why in bench.alarms() if "backup" in why]) == 1


def test_an_old_push_redelivered_without_a_version(bench: Bench) -> None:
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(status="cancelled"))
    bench.settle()
    bench.notify(visit())  # booked, byte for byte as it was, and no meta
    bench.settle()
    assert told(bench) == [BOOKED, CANCELLED]


def test_booked_again_byte_for_byte(bench: Bench) -> None:
    """The same bytes twice are two events when a cancellation lies between them."""
    for resource in (visit(), visit(status="cancelled"), visit()):
        bench.ehr.put(resource)
        bench.notify(resource)
        bench.settle()
    assert told(bench) == [BOOKED, CANCELLED, BOOKED]


@pytest.mark.parametrize("apart", [False, True], ids=["one batch", "one by one"])
def test_out_of_order(bench: Bench, apart: bool) -> None:
    """v3 before v2, the cancellation before the booking."""
    versions = [bench.ehr.put(visit()), bench.ehr.put(visit(1)), bench.ehr.put(visit(status="cancelled"))]
    for saved in reversed(versions):
        bench.notify(saved)
        if apart:
            bench.settle()
    bench.settle()
    assert told(bench) == []
    versions = [bench.ehr.put(visit(3)), bench.ehr.put(visit(4))]
    for saved in reversed(versions):
        bench.notify(saved)
        if apart:
            bench.settle()
    bench.settle()
    assert told(bench) == [BOOKED]
    assert f"{(START + timedelta(days=4)).day} de" in bench.whatsapp.bubbles[-1].params["day"]


def test_a_push_during_a_read(bench: Bench) -> None:
    """The read's answer was fixed before the change: only a read begun after the push may answer it."""
    bench.clerk(visit())
    bench.settle()

    def moved_meanwhile(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.ehr.during_read = lambda _: None
            bench.ehr.put(visit(2))
            bench.notify(visit(2))

    bench.ehr.put(visit(1))
    bench.ehr.during_read = moved_meanwhile
    bench.hint("Appointment/a1")
    bench.settle()
    assert bench.held("Appointment/a1").version == "3"
    assert f"{(START + timedelta(days=2)).day} de" in bench.whatsapp.bubbles[-1].params["day"]


def test_a_slow_read_never_hides_a_quick_one(bench: Bench) -> None:
    """Two reads of one resource cross: the answer that was begun later stays."""
    from bridge.engine.reads import Found

    bench.reader.put("main", "Patient/ana", Found(200, {"id": "new"}, "found"))
    bench.reader.put("main", "Patient/ana", Found(100, {"id": "old"}, "found"))
    held = bench.reader.get("main", "Patient/ana", begun_after=1)
    assert isinstance(held, Found)
    assert held.value == {"id": "new"}


def test_no_read_access(workshop: Workshop) -> None:
    bench = workshop(ehr={"base_url": None, "writeback": None, "auth": None})
    patient = people.ana()

    def push(resource: dict[str, Any]) -> None:
        status = {"resourceType": "SubscriptionStatus", "status": "active", "type": "event-notification",
                  "subscription": {"reference": "Subscription/s1"}, "topic": "http://ehr.example/topic",
                  "notificationEvent": [{"eventNumber": "1", "focus": {"reference": "Appointment/a1"},
                                         "additionalContext": [{"reference": "Patient/ana"}]}]}  # fmt: skip
        entries = [{"resource": status}] + [
            {"fullUrl": f"https://ehr.example/fhir/{one['resourceType']}/{one['id']}", "resource": one}
            for one in (resource, patient)
        ]
        body = {"resourceType": "Bundle", "type": "subscription-notification", "entry": entries}
        bench.push(json.dumps(body).encode(), method="POST")
        bench.settle()

    first, second = bench.ehr.put(visit()), bench.ehr.put(visit(1))
    push(second)
    push(first)
    assert bench.fates()[-1] == ("ignored", "stale, no read access")
    push(bench.ehr.put(visit(status="cancelled")))
    assert told(bench) == [BOOKED, CANCELLED]


@pytest.mark.parametrize("gone", ["410", "404"])
def test_deleted(bench: Bench, gone: str) -> None:
    bench.clerk(visit())
    bench.settle()
    if gone == "410":
        bench.ehr.held["Appointment/a1"] = None
    else:
        del bench.ehr.held["Appointment/a1"]
    bench.push(b"", method="DELETE", tail="Appointment/a1")
    for _ in range(4):
        bench.settle()
        bench.pass_(seconds=10)
    assert told(bench) == [BOOKED, CANCELLED]
    assert all(fate for fate, _ in bench.fates())


def test_a_404_right_after_a_hint_is_a_replica_behind(bench: Bench) -> None:
    bench.hint("Appointment/a1")
    bench.settle()
    assert bench.fates() == [(None, "the EHR does not have it yet (404)")]
    bench.ehr.put(visit())
    bench.pass_(seconds=3)
    bench.settle()
    assert told(bench) == [BOOKED]


def test_an_empty_push_is_answered_by_a_search(bench: Bench) -> None:
    bench.ehr.at = bench.site.now()
    bench.ehr.put(visit())
    bench.push(b"", method="POST")
    bench.settle()
    assert told(bench) == [BOOKED]


def test_the_fates_say_what_became_of_each(bench: Bench) -> None:
    """Moved and moved back before anything left: nothing, and its fate says so."""
    bench.clerk(visit())
    bench.settle()
    bench.clerk(visit(1))
    bench.apply()
    bench.clerk(visit())
    bench.settle()
    assert told(bench) == [BOOKED]
    news = [row for row in bench.messages() if row.offset is None]
    assert [row.state for row in news] == ["accepted", "superseded"]
    assert len(bench.messages(outbox.c.offset.is_not(None), outbox.c.state == "planned")) == 2


def test_moved_back_when_no_reminder_can_be_armed_is_merged(bench: Bench) -> None:
    near = people.appointment("a1", MORNING + timedelta(hours=20))
    bench.clerk(near)
    bench.settle()
    bench.clerk(people.appointment("a1", MORNING + timedelta(hours=21)))
    bench.apply()
    bench.clerk(near)
    bench.settle()
    assert told(bench) == [BOOKED]
    assert bench.fates()[-1] == ("merged", "back to what the patient was told")


def test_a_resource_that_is_never_quiet(bench: Bench) -> None:
    """Each read meets the next push: what was pushed before the read began is applied all the same."""
    bench.ehr.put(visit())

    def another(reference: str) -> None:
        if reference == "Appointment/a1":
            bench.hint("Appointment/a1")

    bench.ehr.during_read = another
    bench.hint("Appointment/a1")
    for _ in range(12):
        bench.applier.once()
    assert bench.messages(outbox.c.mapping == "appointment-booked")
    bench.ehr.during_read = lambda _: None
    bench.settle()
    assert told(bench) == [BOOKED]


@pytest.mark.parametrize("door", ["appointments", "consents"])
def test_an_empty_push_holds_back_what_it_may_be_about(bench: Bench, door: str) -> None:
    """A Subscription without payload says nothing of what changed: until it is answered by a search, nothing leaves."""
    bench.ehr.at = bench.site.now() - timedelta(minutes=5)
    bench.clerk(visit())
    bench.apply()
    if door == "appointments":
        bench.ehr.put(visit(status="cancelled"))
    else:
        bench.ehr.put(people.consent("c1", "Patient/ana", bench.site.now() - timedelta(minutes=1), permit=False))
    bench.push(b"", method="POST", door=door)
    bench.send_once()
    bench.settle()
    assert told(bench) == []
