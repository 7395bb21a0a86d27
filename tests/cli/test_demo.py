"""`bridge demo --script` as a user runs it: a process of its own, its exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest

from bridge.mappers import formatters
from bridge.sandbox.demo import expected

DEMO = [sys.executable, "-m", "bridge", "demo"]
UNSHARE = ("unshare", "-r", "-n")


def run(*arguments: str, before: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *DEMO, *arguments], env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


def alone() -> tuple[str, ...]:
    """A network namespace with loopback only, where this machine lets us make one: then any other address is unreachable."""
    if shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0:
        return (*UNSHARE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    return ()


def test_plays_offline_and_keeps_what_it_saw(tmp_path: Path) -> None:
    done = run("--script", "--keep", str(tmp_path / "kept"), "--lang", "en", "7,12,13", before=alone())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "DEMO – no real data" in done.stdout
    assert "│ Olá, Beatriz." in done.stdout
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"ehr.jsonl", "whatsapp.jsonl", "engine.log", "config", "data"} <= kept


def test_a_tick_that_must_fail_fails() -> None:
    """BRIDGE_DEMO_BREAK names a step whose first expectation is altered; the others must hold all the same."""
    done = run("--script", "3", "--json", BRIDGE_DEMO_BREAK="2")
    assert done.returncode == 4, done.stdout + done.stderr
    steps = {step["step"]: step for step in json.loads(done.stdout)}
    assert [number for number, step in steps.items() if not step["ok"]] == [2]
    assert [check["ok"] for check in steps[2]["checks"]].count(False) == 1
    assert set(steps) == {0, 1, 2, 3}  # 3 needs 2, which needs 1


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_ends_every_process_it_started(signalled: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--script", "14", "--keep", str(tmp_path / "kept")], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        too_long = threading.Timer(60, demo.kill)
        too_long.start()
        for line in demo.stdout:
            if "Start" in line:
                break
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= 3  # EHR, WhatsApp, engine
        demo.send_signal(signalled)
        assert demo.wait(30) != 0
        too_long.cancel()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert len(gone) == len(children)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--script", "0,99"), "no step 99"),
        (("--script", "one"), "one"),
        (("--lang", "fr", "--script"), "es, en, pt"),
        (("--script", "--keep", "."), "new or empty"),
    ],
)
def test_refuses(arguments: tuple[str, ...], said: str) -> None:
    begun = time.monotonic()
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert time.monotonic() - begun < 20  # nothing was started


@pytest.mark.parametrize("lang", ["es", "en", "pt"])
def test_the_words_written_out_by_hand_are_those_of_the_calendar(lang: str) -> None:
    """`expected` is independent of CLDR; here, once, both are held against each other over a year."""
    zone = "Europe/Madrid"
    for month in range(1, 13):
        for day in (1, 9, 17, 28):
            at = datetime(2027, month, day, month, 5 * month % 60, tzinfo=ZoneInfo(zone))
            assert expected.day(at, lang) == formatters.day(at, lang, zone)
            assert expected.short_day(at, lang) == formatters.day_short(at, lang, zone)
            assert expected.time(at, lang) == formatters.time(at, lang, zone)
            today = date.fromordinal(at.toordinal() - day % 5)
            said = formatters.words("relative.day", [at.isoformat()], lang, ZoneInfo(zone), today)
            assert expected.away(at.date(), today, lang) == said


def test_keys_in_a_terminal(tmp_path: Path) -> None:
    """b books, r goes on to the reminder, q ends it; the terminal is left as it was."""
    ours, theirs = os.openpty()
    command = [*DEMO, "--no-browser", "--keep", str(tmp_path / "kept")]
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        too_long = threading.Timer(100, demo.kill)
        too_long.start()
        assert "http://127.0.0.1:" in demo.stdout.readline()
        assert "Press b to book" in demo.stdout.readline()
        handed_out = tmp_path / "kept" / ".env"  # for `bridge trigger` from a second terminal
        assert handed_out.stat().st_mode & 0o777 == 0o600
        assert "EHR_DOOR_SECRET=" in handed_out.read_text("utf-8")
        os.write(ours, b"b")
        assert "booked a visit for Ana" in demo.stdout.readline()
        journal = tmp_path / "kept" / "whatsapp.jsonl"
        deadline = time.monotonic() + 20
        while "appointment_booked" not in journal.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.write(ours, b"r")
        assert "it is" in demo.stdout.readline()
        while "appointment_reminder" not in journal.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline + 20
            time.sleep(0.1)
        os.write(ours, b"q")
        assert demo.wait(30) == 0
        too_long.cancel()
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
