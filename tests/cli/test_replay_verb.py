"""`bridge replay` without a running engine: the difference as a person reads it, and what it exits with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.ledger.tables import audit, inbox
from bridge.sandbox import people
from bridge.sandbox.world import World
from tests.cli.looking import Verbs
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

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


@pytest.mark.parametrize("kind", KINDS)
def test_replay_shows_the_difference_and_sends_when_told_to(made: Make, kind: str) -> None:
    bench, verbs = made(kind)
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    event = f"evt_{bench.rows(inbox)[0].id}"
    code, text = verbs("replay", event, "--then")
    assert code == 0
    assert f"{event} · Appointment/a1, as it came, with today's mappings and the clock of then" in text
    assert "then  planned appointment-booked" in text
    assert "same as then" in text
    assert "nothing was sent; --really-send sends it" in text
    assert people.ANA_PHONE not in text
    code, found = verbs.json("replay", event, "--really-send")
    assert code == 0
    assert len(found["sent"]) == 1
    assert [row.subject for row in bench.rows(audit, audit.c.action == "replayed")] == [event]
    code, text = verbs("replay", event, "--really-send")  # the first is still on its way
    assert code == 3
    assert "nothing was sent" in text
    assert "not over yet" in text


def test_a_changed_mapping(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    event = f"evt_{bench.rows(inbox)[0].id}"
    shipped = Path(__file__).parents[2] / "config" / "mappings"
    own = bench.settings.config_dir / "mappings"
    own.mkdir()
    for file in shipped.glob("*.yaml"):
        text = file.read_text("utf-8")
        if file.stem == "appointment-booked":
            text = text.replace("start > now()", "start > now() + 30 days").replace("is in the past", "is too near")
        (own / file.name).write_text(text, "utf-8")
    code, text = verbs("replay", event, "--then")
    assert code == 0
    assert "not as then:" in text
    assert "appointment-booked: then accepted" in text
    assert "now nothing" in text
    assert "appointment is too near" in text


@pytest.mark.parametrize(
    ("event", "said"), [("evt_1", "there is no evt_1"), ("msg_1", "evt_… expected"), ("x", "evt_… expected")]
)
def test_what_is_no_event(made: Make, event: str, said: str) -> None:
    _, verbs = made()
    code, text = verbs("replay", event)
    assert code == 2
    assert said in text


def test_json_holds_no_words_of_a_message(made: Make) -> None:
    bench, verbs = made()
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    _, found = verbs.json("replay", f"evt_{bench.rows(inbox)[0].id}")
    shown = json.dumps(found, ensure_ascii=False)
    assert "Ana" not in shown
    assert people.ANA_PHONE not in shown


def test_a_running_engine_decides_again_and_sends(tmp_path: Path) -> None:
    with World(tmp_path, polite=True, site={"quiet_hours": {"from": "03:00", "to": "03:01"}}) as world:
        world.start_engine()
        world.save(people.appointment("a1", datetime.now(UTC) + timedelta(days=7)))
        world.whatsapp.wait_for(lambda _: world.bubbles(people.ANA_PHONE), 15)
        (answer,) = json.loads(world.cli("why", "Patient/ana", "--json"))
        event = answer["chapters"][0]["event"]
        assert json.loads(world.cli("replay", event, "--json"))["same"] is True
        (sent,) = json.loads(world.cli("replay", event, "--really-send", "--json"))["sent"]
        world.whatsapp.wait_for(lambda _: len(world.bubbles(people.ANA_PHONE)) == 2, 15)
        assert "appointment_booked" in world.cli("show", sent)
        assert world.cli("replay", "evt_1", expect=2) == ""
        world.cli("ledger")
