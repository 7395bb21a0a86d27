"""`bridge preview` on files, on what an EHR holds, and on stored events; it never sends and never writes a message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.ledger.tables import audit, inbox, outbox
from bridge.sandbox import people
from tests.cli.looking import Verbs
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

SHIPPED = Path(__file__).parents[2] / "config"
FIXTURES = SHIPPED / "mappings" / "fixtures"
START = MORNING + timedelta(days=9)
AT = MORNING.isoformat()
Make = Callable[..., tuple[Bench, Verbs]]


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    benches: list[Bench] = []

    def make(kind: str = "sqlite", **changes: Any) -> tuple[Bench, Verbs]:
        bench = Bench(tmp_path / str(len(benches)), kind, **changes)
        benches.append(bench)
        return bench, Verbs(capsys, monkeypatch, bench)

    yield make
    for bench in benches:
        bench.close()


def test_a_file_in_every_language(made: Make) -> None:
    _, verbs = made()
    code, shown = verbs.json("preview", "appointment-booked", str(FIXTURES / "appointment-booked.bundle.json"))
    assert code == 0
    assert shown["sends"] is True
    assert [bubble["language"] for bubble in shown["bubbles"]] == ["es", "en", "pt"]
    assert "Hola, Ana" in shown["bubbles"][0]["body"]
    code, text = verbs(
        "preview", "appointment-booked", str(FIXTURES / "appointment-booked.bundle.json"), "--lang", "en"
    )
    assert code == 0
    assert "date.long" in text
    assert "✓ start > now()  →  true" in text
    assert "Hola" not in text


def test_a_mapping_by_its_file_and_by_an_example(made: Make, tmp_path: Path) -> None:
    _, verbs = made()
    code, shown = verbs.json(
        "preview", str(SHIPPED / "mappings" / "appointment-booked.yaml"), "--example", "Portuguese"
    )
    assert code == 0
    assert shown["bubbles"][2]["blanks"][1]["words"] == "quarta-feira, 25 de novembro de 2026"
    code, text = verbs("preview", "appointment-booked", "--example", "cancelled before we looked")
    assert code == 3
    assert "✗ status = 'booked'  →  false  so: appointment is not booked" in text
    assert "nothing is sent: appointment is not booked" in text


def test_a_plain_resource_without_anybody_beside_it(made: Make, tmp_path: Path) -> None:
    _, verbs = made()
    file = tmp_path / "visit.json"
    file.write_text(json.dumps(people.appointment("a1", START)), "utf-8")
    code, shown = verbs.json("preview", "appointment-booked", str(file), "--at", AT)
    assert code == 0
    assert shown["bubbles"][0]["blanks"][0]["words"] == "paciente"
    assert shown["policy"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_ehr_holds_and_what_policy_says_now(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    saved = bench.clerk(people.appointment("a1", START))
    bench.settle()
    before = len(bench.messages())
    code, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--ehr", "main", "--at", AT)
    assert code == 0
    assert shown["policy"] == {
        "verdict": "leaves", "reason": None, "until": None, "known": True, "consent": "no decision: the site says send",
    }  # fmt: skip
    night = (MORNING + timedelta(hours=13)).isoformat()
    _, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", night)
    assert shown["policy"]["verdict"] == "waits"
    assert shown["policy"]["until"].startswith("2026-12-02T07:00")
    bench.says(people.ANA_PHONE, "STOP")
    bench.settle_replies()
    code, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", AT)
    assert code == 3
    assert shown["policy"]["verdict"] == "never"
    assert "stopped messages" in shown["policy"]["reason"]
    bench.ehr.change(saved["resourceType"] + "/a1", status="cancelled")
    code, text = verbs("preview", "appointment-booked", "Appointment/a1", "--at", AT)
    assert code == 3
    assert "so: appointment is not booked" in text
    assert len([row for row in bench.messages() if row.answers is None]) == before
    assert bench.rows(outbox, outbox.c.state == "ready") == []


def test_somebody_bridge_has_not_met_and_somebody_nobody_may_write_to(made: Make) -> None:
    bench, verbs = made()
    bench.ehr.put(people.appointment("a1", START))
    _, text = verbs("preview", "appointment-booked", "Appointment/a1", "--at", AT, "--lang", "es")
    assert "policy now: would leave now" in text
    assert "has not met this person yet" in text
    bench.ehr.change("Patient/ana", deceasedBoolean=True)
    code, text = verbs("preview", "appointment-booked", "Appointment/a1", "--at", AT)
    assert code == 3
    assert "nobody is written to: the patient has died" in text


def test_what_holds_for_all_of_an_ehr_is_noted(made: Make) -> None:
    bench, verbs = made(ehr={"prime": "required"})
    bench.ehr.put(people.appointment("a1", START))
    _, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", AT)
    assert shown["notes"] == ["main is not primed: its events come to no message until `bridge prime` has run"]
    _, text = verbs("preview", "result-ready")
    assert "note: messages about results are off at this site" in text


def test_a_childs_guardian(made: Make) -> None:
    bench, verbs = made()
    bench.ehr.put(people.appointment("a1", START, patient="Patient/mateo"))
    code, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", AT)
    assert (code, shown["role"]) == (0, "guardian")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_event_is_recorded_as_looked_at(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    bench.clerk(people.appointment("a1", START + timedelta(days=1)))
    bench.settle()
    first, second = (f"evt_{row.id}" for row in bench.rows(inbox, inbox.c.kind == "notification"))
    code, shown = verbs.json("preview", "appointment-booked", first, "--at", AT)
    assert (code, shown["resource"]) == (0, "Appointment/a1")
    bench.ehr.change("Appointment/a1", status="cancelled")  # the event is shown as it came
    code, shown = verbs.json("preview", "appointment-rescheduled", second, "--at", AT, "--lang", "es")
    assert code == 0, shown
    assert shown["bubbles"][0]["body"] is not None
    looked = bench.rows(audit, audit.c.action == "revealed")
    assert [row.subject for row in looked] == [first, second]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-mapping",), "there is no mapping no-such-mapping"),
        (("appointment-booked", "no-such-file.json"), "cannot be read"),
        (("appointment-booked", "--example", "nobody"), "no such example"),
        (("appointment-booked", "Appointment/a1", "--ehr", "other"), "--ehr: one of main"),
        (("appointment-booked", "Appointment/none"), "does not have Appointment/none"),
        (("appointment-booked", "Patient/ana"), "is about Appointment"),
        (("appointment-booked", "evt_1"), "there is no evt_1"),
        (("appointment-booked", "evt_x"), "evt_… expected"),
        (("appointment-booked", "--at", "tomorrow"), "--at: give a time"),
    ],
)
def test_what_cannot_be_previewed_is_said(made: Make, arguments: tuple[str, ...], said: str) -> None:
    _, verbs = made()
    code, text = verbs("preview", *arguments)
    assert code == 2
    assert said in text


@pytest.mark.parametrize("text", ["{}", "[]", "{", '"x"', '{"resourceType":"Bundle","entry":[]}', '{"entry":[{}]}'])
def test_a_file_that_is_no_resource(made: Make, tmp_path: Path, text: str) -> None:
    _, verbs = made()
    (tmp_path / "odd.json").write_text(text, "utf-8")
    code, shown = verbs("preview", "appointment-booked", str(tmp_path / "odd.json"))
    assert code == 2
    assert "Traceback" not in shown


def test_files_are_previewed_beside_a_config_without_its_secrets(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _, verbs = made()
    monkeypatch.delenv("META_TOKEN")
    code, _ = verbs("preview", "appointment-booked")
    assert code == 0
    code, text = verbs("preview", "appointment-booked", "Appointment/a1")
    assert code == 2
    assert "META_TOKEN" in text


def test_what_meta_would_be_sent_and_what_each_tap_would_write(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", START))
    bench.settle()
    code, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", AT, "--lang", "es")
    assert code == 0
    (one,) = shown["payloads"]
    really = bench.whatsapp.of(people.ANA_PHONE)[0].body
    for part in one["post"]["template"]["components"][1:]:
        assert part["parameters"][0]["payload"].startswith("b1.…")
        part["parameters"][0]["payload"] = ""
    for part in really["template"]["components"][1:]:
        part["parameters"][0]["payload"] = ""
    assert one["post"]["to"] == "+…101" and people.ANA_PHONE not in json.dumps(shown)
    same = {"to": "", "biz_opaque_callback_data": ""}
    assert one["post"] | same == really | same, "the same as was really posted"
    taps = {tap["id"]: tap for tap in one["taps"]}
    assert taps["confirm"]["writes"].startswith("PUT Appointment/a1, If-Match its version")
    assert taps["confirm"]["changes"] == [{"op": "replace", "path": "/participant/0/status", "value": "accepted"}]
    assert taps["cancel"]["writes"].startswith("after “sure?”: PUT Appointment/a1")
    assert [each["path"] for each in taps["cancel"]["changes"]] == [
        "/participant/0/status",
        "/status",
        "/cancelationReason",
    ]
    assert (
        taps["reschedule"] == taps["reschedule"] | {"changes": []}
        and "a task for a person" in taps["reschedule"]["writes"]
    )
    bench.tap(bench.whatsapp.of(people.ANA_PHONE)[0], 0)
    bench.settle_replies()
    assert bench.ehr.get("Appointment/a1")["participant"][0]["status"] == "accepted", "what it said is what a tap did"
    code, text = verbs("preview", "appointment-booked", "Appointment/a1", "--at", AT, "--lang", "es", "--payload")
    assert '"messaging_product": "whatsapp"' in text and "says so already" in text
    assert people.ANA_PHONE not in text


@pytest.mark.parametrize(
    ("writeback", "says"),
    [
        (
            {"appointment": "patch", "communication": "none", "consent": "none"},
            "PATCH Appointment/a1, If-Match its version, with",
        ),
        ({"appointment": "none", "communication": "create", "consent": "create"}, "writeback.appointment is off"),
    ],
)
def test_a_tap_writes_as_the_ehr_takes_it(made: Make, writeback: dict[str, str], says: str) -> None:
    bench, verbs = made(ehr={"writeback": writeback})
    bench.ehr.put(people.appointment("a1", START))
    _, shown = verbs.json("preview", "appointment-booked", "Appointment/a1", "--at", AT, "--lang", "es")
    tap = shown["payloads"][0]["taps"][0]
    assert says in tap["writes"]
    assert ("POST Communication" in tap["writes"]) == (writeback["communication"] == "create")


def test_a_consent_s_button(made: Make) -> None:
    _, verbs = made()
    _, shown = verbs.json("preview", "consent-granted", "--lang", "es")
    (tap,) = shown["payloads"][0]["taps"]
    assert tap["writes"].startswith("after “sure?”: POST Consent, decision deny, of Patient/")
