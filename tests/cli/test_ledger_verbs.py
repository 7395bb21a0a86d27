"""The verbs that look into the ledger or decide about it, beside a store without an engine and beside a running one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from bridge.cli import main
from bridge.ledger import brake, states
from bridge.ledger.clock import from_us
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.ledger.tables import attempt, audit, mark, outbox
from bridge.sandbox import people
from bridge.sandbox.world import World
from tests.engine.harness import ENVIRON, settings_for
from tests.ledger.kit import Ledger
from tests.stores import KINDS, store_url

Bridge = Callable[..., str]


class Stopped(Exception):
    def __init__(self, code: int, out: str) -> None:
        self.code, self.out = code, out
        super().__init__(f"exit {code}\n{out}")


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A migrated store with a config that names it, and nobody running."""
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    url = store_url(str(request.param), tmp_path / "data")
    settings = settings_for(tmp_path, url)
    monkeypatch.setenv("BRIDGE_CONFIG", str(tmp_path / "config" / "bridge.yaml"))
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store(url)
    migrate(store)
    store.close()
    found = Ledger(url, tmp_path)
    yield found
    found.close()


@pytest.fixture
def bridge(capsys: pytest.CaptureFixture[str]) -> Bridge:
    """Run a verb in this process; what it prints, or Stopped with its exit code."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        code: Any = 0
        try:
            main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        if code:
            raise Stopped(int(code), shown.out + shown.err)
        return shown.out

    return run


def test_ledger_holds_and_exits_4_when_it_does_not(ledger: Ledger, bridge: Bridge) -> None:
    ledger.put()
    assert "messages: 1 planned = 1 ready" in bridge("ledger")
    assert json.loads(bridge("ledger", "--json"))["holds"] is True
    assert "messages: 0 planned = 0" in bridge("ledger", "--since", "2100-01-01")
    assert "messages: 1 planned = 1 ready" in bridge("ledger", "--since", "5m")
    with ledger.store.write() as connection:
        connection.execute(delete(outbox))
    with pytest.raises(Stopped) as stopped:
        bridge("ledger")
    assert stopped.value.code == 4
    assert "messages: 1 planned ≠ 0" in stopped.value.out
    with pytest.raises(Stopped) as stopped:
        bridge("ledger", "--json")
    assert stopped.value.code == 4


@pytest.mark.parametrize("since", ["yesterday", "5x", "", "2026-13-01"])
def test_ledger_since_what(ledger: Ledger, bridge: Bridge, since: str) -> None:
    if not since:
        bridge("ledger", "--since", since)
        return
    with pytest.raises(Stopped) as stopped:
        bridge("ledger", "--since", since)
    assert stopped.value.code == 2


def doubt(ledger: Ledger, state: str = "doubt", fenced_at: int = 1) -> int:
    message = ledger.put(state=state, lane=f"lane {fenced_at}", fields={"event": "appointment.booked"})
    with ledger.store.write() as connection:
        connection.execute(
            insert(attempt).values(message=message, n=1, node="n", epoch=1, fenced_at=fenced_at, outcome="doubt")
        )
        connection.execute(update(outbox).where(outbox.c.id == message).values(reason="the answer was lost"))
    return message


def test_doubts_are_listed_resent_and_closed(ledger: Ledger, bridge: Bridge) -> None:
    one, two = doubt(ledger, fenced_at=1_000_000), doubt(ledger, "held", fenced_at=2_000_000)
    ledger.put()
    shown = bridge("doubts")
    assert f"msg_{one}  doubt" in shown
    assert f"msg_{two}  held" in shown
    assert "2 to decide" in shown
    assert [row["id"] for row in json.loads(bridge("doubts", "--json"))] == [f"msg_{one}", f"msg_{two}"]
    assert bridge("doubts", "resend", f"msg_{one}") == "1 sent again\n"
    assert bridge("doubts", "close", str(two)) == "1 closed\n"
    assert (ledger.state(one), ledger.state(two)) == ("ready", "closed")
    assert bridge("doubts") == "nothing is in doubt\n"
    with ledger.store.read() as connection:
        said = connection.execute(select(audit.c.action).where(audit.c.subject == f"msg_{one}")).scalars().all()
    assert said == ["doubt resent"]
    with ledger.store.read() as connection:
        assert connection.execute(select(attempt.c.outcome).where(attempt.c.message == one)).scalar_one() == "doubt"


def test_doubts_in_bulk(ledger: Ledger, bridge: Bridge) -> None:
    old, new = doubt(ledger, fenced_at=1_000_000), doubt(ledger, fenced_at=5_000_000)
    assert bridge("doubts", "resend", "--fenced-before", from_us(3_000_000).isoformat()) == "1 sent again\n"
    assert (ledger.state(old), ledger.state(new)) == ("ready", "doubt")


def test_doubts_that_are_none(ledger: Ledger, bridge: Bridge) -> None:
    sent = ledger.put(state="read")
    for arguments in (("resend", f"msg_{sent}"), ("close", "msg_1")):
        with pytest.raises(Stopped) as stopped:
            bridge("doubts", *arguments)
        assert stopped.value.code == 4
    assert ledger.state(sent) == "read"
    for wrong in (("resend",), ("resend", "msg_1", "--fenced-before", "1h"), ("close", "evt_1"), ("close", "msg_x")):
        with pytest.raises(Stopped) as stopped:
            bridge("doubts", *wrong)
        assert stopped.value.code == 2


def test_reminders_and_the_brake(ledger: Ledger, bridge: Bridge) -> None:
    due = datetime(2026, 12, 9, 8, tzinfo=UTC)
    later, sooner = (
        ledger.put(
            state="planned",
            cls=states.REMINDER,
            fields={"event": "appointment.reminder", "offset": "24h", "not_before": int(at.timestamp()) * 1_000_000},
        )
        for at in (due + timedelta(days=1), due)
    )
    held = ledger.put(state="planned", cls=states.CAMPAIGN, fields={"event": "appointment.booked"})
    listed = json.loads(bridge("reminders", "list", "--json"))
    assert listed["brake"] is False
    assert [one["id"] for one in listed["planned"] if one["due"]] == [f"msg_{sooner}", f"msg_{later}"]
    with pytest.raises(Stopped):
        bridge("reminders", "release")
    with ledger.store.write() as connection:
        connection.execute(insert(mark).values(key=brake.MARK, value="", at=1))
    assert "the brake is on" in bridge("reminders", "list")
    assert bridge("reminders", "cancel") == "1 cancelled; the brake is off\n"
    assert (ledger.state(held), ledger.state(sooner)) == ("cancelled", "planned")


def test_show_without_and_with_reveal(ledger: Ledger, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    from bridge.ledger.crypto import Crypto

    ledger.crypto = Crypto({"k1": base64.b64decode(ENVIRON["BRIDGE_DATA_KEY"])}, ENVIRON["BRIDGE_INDEX_KEY"].encode())
    message = ledger.put(content=b'{"body": "Hola Ana"}', fields={"event": "appointment.booked", "language": "es"})
    shown = bridge("show", f"msg_{message}")
    assert "appointment.booked" in shown
    assert "Ana" not in shown
    assert "Hola Ana" in bridge("show", f"msg_{message}", "--reveal")
    assert json.loads(bridge("show", f"msg_{message}", "--reveal", "--json"))["revealed"] == {"message": "Hola Ana"}
    with ledger.store.read() as connection:
        looked = connection.execute(select(audit.c.subject).where(audit.c.action == "revealed")).scalars().all()
    assert looked == [f"msg_{message}"] * 2
    for nobody in ("msg_1", "evt_1", "nonsense", "msg_", "msg_99999999999999999999"):
        with pytest.raises(Stopped) as stopped:
            bridge("show", nobody)
        assert stopped.value.code == 2


def test_looking_changes_nothing(ledger: Ledger, bridge: Bridge) -> None:
    ledger.put(state="doubt")
    with ledger.store.read() as connection:
        before = connection.execute(select(audit)).all()
    for verb in (("ledger",), ("doubts",), ("reminders", "list"), ("tail", "--no-follow")):
        bridge(*verb)
    with ledger.store.read() as connection:
        assert connection.execute(select(audit)).all() == before


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    settings_for(tmp_path, f"sqlite:///{tmp_path / 'data' / 'bridge.db'}")
    monkeypatch.setenv("BRIDGE_CONFIG", str(tmp_path / "config" / "bridge.yaml"))
    for verb in (("ledger",), ("show", "msg_1"), ("doubts", "close", "msg_1"), ("tail",), ("prime", "main")):
        with pytest.raises(Stopped) as stopped:
            bridge(*verb)
        assert stopped.value.code == 4
    assert not (tmp_path / "data" / "bridge.db").exists()
    assert "none → 0001" in bridge("migrate")
    assert "at 0001" in bridge("migrate")
    assert "events: 0 acknowledged" in bridge("ledger")


def test_what_an_engine_holds_is_not_taken(ledger: Ledger, bridge: Bridge, tmp_path: Path) -> None:
    """An engine that is just starting has the lock and no socket yet."""
    message = doubt(ledger)
    if ledger.store.dialect != "sqlite":
        pytest.skip("with PostgreSQL these verbs may run anywhere")
    ledger.store.lock(tmp_path / "data")
    with pytest.raises(Stopped) as stopped:
        bridge("doubts", "close", f"msg_{message}")
    assert (stopped.value.code, ledger.state(message)) == (4, "doubt")


def test_beside_a_running_engine(tmp_path: Path) -> None:
    """The same verbs through its socket, on a site that goes live: primed, then told."""
    quiet = {"quiet_hours": {"from": "03:00", "to": "03:01"}}
    with World(tmp_path, polite=True, site=quiet, ehr_extra={"prime": "required"}) as world:
        visit = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=8)
        world.ehr.put("resources/Appointment/a1", people.appointment("a1", visit))
        world.start_engine()
        assert "1 read, 1 new, 2 reminders" in world.cli("prime", "main")
        assert "1 known" in world.cli("prime", "main")
        assert world.cli("prime", "elsewhere", expect=4) == ""
        assert world.cli("reminders", "list").count("Appointment/a1") == 2
        assert world.cli("doubts", "close", "msg_1", expect=4) == ""
        world.save(people.appointment("a1", visit + timedelta(days=1)))
        world.whatsapp.wait_for(lambda _: world.bubbles("34612000101"), 15)
        hops = [json.loads(line) for line in world.cli("tail", "--no-follow", "-n", "1", "--json").splitlines()]
        (trace,) = [hop for hop in hops if "event" in hop]
        (told,) = [one["id"] for one in trace["messages"] if one["event"] == "appointment.rescheduled"]
        assert "Ana" not in world.cli("show", told)
        assert "Ana" in world.cli("show", told, "--reveal")
        assert world.cli("ledger").count(" = ") == 3
        assert world.stop_engine() == 0
        assert world.cli("ledger").count(" = ") == 3
        assert "EngineNotRunning" not in world.cli("doubts")
        world.cli("prime", "main", expect=4)
