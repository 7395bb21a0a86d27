"""A changed file takes effect whole or not at all; what is refused is said, and nothing is lost meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.engine import reload
from bridge.engine.content import load_content
from bridge.engine.reload import Reloader
from bridge.ledger.tables import audit, outbox
from bridge.sandbox import people
from bridge.sandbox.world import World
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench

ROOT = Path(__file__).parents[2]
RELOADS = 1000 if os.environ.get("BRIDGE_FAULTS") == "long" else 200
KEPT = {"appointment_booked.yaml", "caregiver_booked.yaml", "buttons.yaml"}  # what the one mapping here needs


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "SETTLED", 0.001)


class Desk:
    """A bench whose site writes its own content: one mapping and what it needs."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.folder = bench, bench.settings.config_dir
        for part in ("mappings", "templates", "replies"):
            shutil.copytree(ROOT / "config" / part, self.folder / part)
        shutil.copy(ROOT / "config/words.yaml", self.folder)
        for file in (self.folder / "templates").iterdir():
            if file.name not in KEPT:
                file.unlink()
        self.mapping = self.folder / "mappings/appointment-booked.yaml"
        for file in (self.folder / "mappings").glob("*.yaml"):
            if file != self.mapping:
                file.unlink()
        self.good = self.mapping.read_text("utf-8")
        bench.site.content = load_content(bench.settings)
        self.versions: list[str] = []
        self.reloader = Reloader(bench.site, self.versions.append)
        self.visits = 0

    def write(self, text: str, file: Path | None = None) -> str:
        """Save, as an editor does; the mapping's version."""
        (file or self.mapping).write_text(text, "utf-8")
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def book(self) -> None:
        self.visits += 1
        visit = people.appointment(f"r{self.visits}", MORNING + timedelta(days=7, minutes=self.visits))
        self.bench.clerk(visit)

    @property
    def alarms(self) -> int:
        return len(self.bench.rows(audit, audit.c.action == "alarm", audit.c.subject == "config"))


@pytest.fixture
def desk(workshop: Workshop) -> Desk:
    return Desk(workshop())


def made(bench: Bench) -> list[str]:
    return [row.mapping_version for row in bench.rows(outbox, outbox.c.mapping == "appointment-booked")]


def test_a_changed_mapping_makes_the_next_message_and_each_shows_its_version(desk: Desk) -> None:
    bench = desk.bench
    desk.book()
    bench.settle()
    assert not desk.reloader.look()  # nothing has changed
    new = desk.write(desk.good.replace("su equipo médico", "su médico"))
    assert desk.reloader.look()
    desk.book()
    bench.settle()
    assert made(bench) == [hashlib.sha256(desk.good.encode()).hexdigest()[:12], new]
    assert bench.site.content.version == desk.versions[-1] != bench.settings.version
    assert [row.config_version for row in bench.rows(outbox)][-1] == desk.versions[-1]


def test_what_was_planned_before_shows_the_version_that_wrote_its_words(workshop: Workshop) -> None:
    desk = Desk(workshop(at=MORNING.replace(hour=22)))  # quiet hours: the message waits for the morning
    desk.book()
    desk.bench.settle()
    new = desk.write(desk.good.replace("su equipo médico", "su médico"))
    assert desk.reloader.look()
    desk.bench.pass_(hours=10)
    desk.bench.settle()
    assert made(desk.bench) == [new]
    assert [row.state for row in desk.bench.rows(outbox)] == ["accepted"]


BROKEN = [
    ("YAML", lambda good: good.replace("id: appointment-booked", "id: [appointment-booked"), "BR001"),
    ("key", lambda good: good.replace("\nwhen:", "\nwen:"), "BR011"),
    ("path", lambda good: good.replace("status = 'booked'", "statsu = 'booked'"), "BR021"),
    ("template", lambda good: good.replace("template: appointment_booked", "template: nothing"), "BR040"),
    ("example", lambda good: good.replace('time: "15:30", doctor', 'time: "16:30", doctor'), "BR047"),
    ("half", lambda good: good[: len(good) // 2], "BR"),
]


@pytest.mark.parametrize(("what", "broken", "code"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_file_changes_nothing_and_is_told_once(desk: Desk, what: str, broken: Any, code: str) -> None:
    bench, before = desk.bench, desk.bench.site.content
    desk.write(broken(desk.good))
    assert not desk.reloader.look()
    assert not desk.reloader.look()
    assert bench.site.content is before and desk.versions == []
    (told,) = bench.site.notices.values()
    assert f"{desk.mapping}:" in told and code in told, told
    assert desk.alarms == 1
    desk.book()
    bench.settle()
    assert [row.state for row in bench.rows(outbox)] == ["accepted"]
    desk.write(desk.good)
    assert desk.reloader.look()
    assert bench.site.notices == {} and bench.site.content.version == bench.settings.version


def test_a_part_that_is_moved_away_or_emptied_is_no_change(desk: Desk) -> None:
    folder = desk.folder / "mappings"
    folder.rename(desk.folder / "mappings.old")
    assert not desk.reloader.look()
    assert "is not there any more" in desk.bench.site.notices["content"]
    folder.mkdir()
    desk.reloader.look()
    assert desk.bench.site.content.mappings.get("appointment-booked") is not None
    shutil.rmtree(folder)
    (desk.folder / "mappings.old").rename(folder)
    desk.write(desk.good + "\n")
    assert desk.reloader.look()
    assert desk.bench.site.notices == {}


def test_a_changed_bridge_yaml_is_said_and_left_alone(desk: Desk) -> None:
    file = desk.folder / "bridge.yaml"
    file.write_text(file.read_text("utf-8") + "\n", "utf-8")
    assert not desk.reloader.look()
    assert "restart bridge" in desk.bench.site.notices["settings"]


def test_reloads_under_load_lose_nothing(desk: Desk) -> None:
    """Visits are booked while the mapping changes all the time: one message each, none of a version that was not there."""
    bench = desk.bench
    texts = [desk.good, desk.good.replace("su equipo médico", "su médico")]
    versions = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]
    broken = desk.good.replace("\nwhen:", "\nwen:")
    swaps: Counter[bool] = Counter()
    failed: list[BaseException] = []

    def rewrite() -> None:
        try:
            for number in range(RELOADS):
                if number % 20 == 10:
                    desk.write(broken)
                    swaps[desk.reloader.look()] += 1
                desk.write(texts[number % 2] + "\n" * (number // 2 % 2))
                swaps[desk.reloader.look()] += 1
        except BaseException as exc:
            failed.append(exc)
            raise

    thread = threading.Thread(target=rewrite)
    thread.start()
    while thread.is_alive():
        desk.book()
        bench.settle()
        time.sleep(0.01)
    thread.join()
    desk.book()
    bench.settle()
    assert failed == []
    assert swaps[True] >= RELOADS * 0.95 and swaps[False] >= RELOADS // 20
    assert len(made(bench)) == desk.visits > 5
    assert Counter((row.state, row.reason) for row in bench.rows(outbox)) == {("accepted", None): desk.visits}
    versions += [hashlib.sha256(f"{text}\n".encode()).hexdigest()[:12] for text in texts]
    assert set(made(bench)) <= set(versions) and len(set(made(bench))) > 1
    assert {fate for fate, _ in bench.fates()} == {"planned"}


def test_the_running_engine_takes_a_change_and_survives_a_broken_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config/mappings/appointment-booked.yaml"
    good = file.read_text("utf-8")
    with World(tmp_path) as world:
        world.start_engine()

        def told() -> list[str]:
            answer = requests.get(f"{world.console}/readyz", timeout=5)
            assert answer.status_code == 200
            notices: list[str] = answer.json()["notices"]
            return notices

        def until(wanted: Any) -> None:
            end = time.monotonic() + 30
            while not wanted():
                assert time.monotonic() < end, world.log_tail()
                time.sleep(0.2)

        assert told() == []
        file.write_text(good.replace("\nwhen:", "\nwen:"), "utf-8")
        until(lambda: any("BR011" in each for each in told()))
        file.write_text(good + "\n", "utf-8")
        until(lambda: told() == [])
        assert "configuration swapped in" in (tmp_path / "engine.log").read_text("utf-8")
