"""`bridge trigger` beside a running engine: every event in every dialect, what stops it, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.cli import main
from bridge.cli.stories import EVENTS, Wishes, changed, retold, tell
from bridge.errors import SignatureMismatch
from bridge.fhir.dialects import DIALECTS as FAMILIES
from bridge.fhir.door import authenticate, split_tail
from bridge.fhir.notification import read
from bridge.fhir.push import DIALECTS, proven, push
from bridge.fhir.shapes import Push
from bridge.mappers.events import RESOURCES
from bridge.sandbox.world import World, free_port
from bridge.settings import Door
from bridge.verified import VerifiedBody

ROOT = Path(__file__).parents[2]
BOOKED = ROOT / "config/mappings/fixtures/appointment-booked.bundle.json"
Bridge = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Polite, without quiet hours, with results: what is not sent has a reason of its own."""
    site = {"quiet_hours": {"from": "03:00", "to": "03:01"}}
    with World(
        tmp_path_factory.mktemp("trigger"), polite=True, site=site, extra={"results": {"enabled": True}}
    ) as world:
        world.start_engine()
        yield world


@pytest.fixture
def bridge(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bridge:
    """`bridge trigger …` in this process: exit code, and all that was printed."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.folder)

    def run(*arguments: str, config: Path | None = None) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main(["trigger", *arguments, "--config", str(config or world.config)])
        shown = capsys.readouterr()
        printed = shown.out + shown.err
        assert [name for name, value in world.environment.items() if value in printed] == []
        return int(caught.value.code or 0), printed

    return run


SENT = {  # phones differ: one person gets a template in six seconds
    "appointment.booked": (("--phone", "+34612000301"), "Hola, Ana. Su cita quedó reservada."),
    "appointment.rescheduled": (("--phone", "+34612000302", "--dialect", "hapi-r4", "--lang", "en"), "Hello Ana."),
    "appointment.cancelled": (("--phone", "+34612000303", "--dialect", "r5", "--lang", "pt"), "Olá, Ana."),
    "diagnosticreport.final": (("--phone", "+34612000304", "--dialect", "medplum"), "Ana"),
    "consent.granted": (("--phone", "+34612000305", "--dialect", "r4b", "--set", "patient.name.given=Lucía"), "Lucía"),
}


@pytest.mark.parametrize("event", SENT)
def test_it_is_sent_and_seen_on_the_phone(event: str, bridge: Bridge) -> None:
    options, words = SENT[event]
    code, printed = bridge(event, *options)
    assert code == 0, printed
    assert f"{event} · mapping" in printed and "\nsent: msg_" in printed
    assert words in printed.partition("  | ")[2]


def test_a_child_s_father_reads(bridge: Bridge, world: World) -> None:
    code, printed = bridge("appointment.booked", "--minor", "--dialect", "r4b", "--phone", "+34612000306")
    assert code == 0, printed
    assert "template caregiver_booked" in printed
    assert "Mateo" in world.bubbles("34612000306")[-1]["body"]


def test_somebody_whom_the_ehr_holds(bridge: Bridge, world: World) -> None:
    code, printed = bridge("appointment.booked", "--patient", "Patient/beatriz", "--dialect", "athenahealth")
    assert code == 0, printed
    assert "Olá, Beatriz" in printed.partition("  | ")[2]
    assert "Olá, Beatriz" in world.bubbles("5511912345678")[-1]["body"]


def test_the_same_pushed_three_times_is_told_once(bridge: Bridge, world: World) -> None:
    options = ("--repeat", "3", "--same-id", "--dialect", "athenahealth", "--phone", "+34612000307")
    code, printed = bridge("appointment.booked", *options)
    assert code == 0, printed
    assert "again: merged" in printed
    assert len(world.bubbles("34612000307")) == 1


def test_an_ehr_that_is_no_pretend_one_is_not_written_to(
    bridge: Bridge, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its Bundle brings along is enough; a push of the visit alone finds nobody there."""
    monkeypatch.setattr("bridge.cli.trigger.Teller._sandbox", lambda _: None)
    before = held(world)
    code, printed = bridge("appointment.booked", "--dialect", "r5", "--phone", "+34612000311")
    assert code == 0, printed
    code, printed = bridge("appointment.booked", "--dialect", "r4", "--phone", "+34612000312")
    assert code == 3 and "the EHR does not show the patient" in printed
    assert held(world) == before


def test_a_file_of_one_s_own(bridge: Bridge, world: World, tmp_path: Path) -> None:
    bundle = json.loads(BOOKED.read_text("utf-8"))
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(bundle), "utf-8")
    start = "2026-12-20T09:15:00+01:00"
    options = (
        "--file",
        str(mine),
        "--set",
        f"appointment.start={start}",
        "--set",
        "patient.telecom.value=+34612000308",
    )
    code, printed = bridge("appointment.booked", *options, "--json")
    assert code == 0, printed
    told = json.loads(printed)
    assert told[0]["exit"] == 0 and "9:15" in told[0]["bubble"]
    assert told[0]["traces"][0]["event"]["about"].startswith("Appointment/bridge-trigger-")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("appointment.booked", "--no-consent"), "suppressed: the patient does not want messages about appointments"),
        (("appointment.noshow", "--phone", "+34612000309"), "suppressed: no mapping for appointment.noshow"),
        (("appointment.booked", "--set", "patient.deceasedBoolean=true"), "suppressed: the patient has died"),
        (("appointment.booked", "--set", "appointment.start=2020-01-01T10:00:00Z"), "past"),
    ],
    ids=["refused", "no mapping", "deceased", "past"],
)
def test_nothing_sent_says_why(arguments: tuple[str, ...], reason: str, bridge: Bridge) -> None:
    code, printed = bridge(*arguments)
    assert code == 3, printed
    assert "nothing sent: " in printed and reason in printed.rpartition("nothing sent: ")[2]


def test_a_message_that_whatsapp_refuses_is_a_failure(bridge: Bridge, world: World) -> None:
    world.whatsapp.post("faults", what="error", code=131008, times=1)
    code, printed = bridge("appointment.booked", "--phone", "+34612000310")
    world.whatsapp.delete("faults")
    assert code == 4, printed
    assert "failed: msg_" in printed


def other_config(world: World, tmp_path: Path, **changes: Any) -> Path:
    config = json.loads(world.config.read_text("utf-8"))
    for path, value in changes.items():
        *steps, last = path.split("__")
        held = config
        for step in steps:
            held = held[step]
        held[last] = value
    file = tmp_path / "bridge.yaml"
    file.write_text(json.dumps(config), "utf-8")
    return file


def test_another_secret_than_the_engine_s(bridge: Bridge, world: World, tmp_path: Path) -> None:
    config = other_config(world, tmp_path, ehrs__main__door={"kind": "bearer", "secrets": ["${env:BRIDGE_INDEX_KEY}"]})
    code, printed = bridge("appointment.booked", config=config)
    assert code == 4 and "the door answered 401" in printed and "restart it" in printed


def test_no_engine(bridge: Bridge, world: World, tmp_path: Path) -> None:
    listen = {"doors": f"127.0.0.1:{free_port()}", "console": f"127.0.0.1:{free_port()}"}
    code, printed = bridge("appointment.booked", config=other_config(world, tmp_path, listen=listen))
    assert code == 4 and "EngineNotRunning" in printed and "bridge serve" in printed


REFUSED = {
    "appointment.bookd": ((), "did you mean appointment.booked?"),
    "reminder": ((), "there are appointment.booked"),
    "appointment.booked": (("--dialect", "hl7v2"), "there are r4, hapi-r4"),
    "appointment.changed": (("--set", "patient.name.given"), "a path, =, and a value"),
    "appointment.cancelled": (("--set", "doctor.name=X"), "begin with one of appointment"),
    "appointment.fulfilled": (("--set", "appointment.participant.7.status=x"), "the list has 3"),
    "consent.revoked": (("--ehr", "other"), "there are main"),
    "diagnosticreport.final": (("--file", "nowhere.json"), "cannot be read"),
}


def held(world: World) -> dict[str, int]:
    """What the EHR holds, but for what the engine still writes of earlier messages."""
    counts: dict[str, int] = world.ehr.get("state")["counts"]
    return counts | {"Communication": 0}


@pytest.mark.parametrize("event", REFUSED)
def test_what_cannot_be_is_refused(event: str, bridge: Bridge, world: World) -> None:
    before = held(world)
    options, says = REFUSED[event]
    code, printed = bridge(event, *options)
    assert code == 2 and says in printed
    assert held(world) == before


@pytest.mark.parametrize("host", ["https://graph.facebook.com", "https://whatsapp-proxy.hospital.example"])
def test_a_real_number_is_not_written_to_by_accident(host: str, bridge: Bridge, world: World, tmp_path: Path) -> None:
    numbers = json.loads(world.config.read_text("utf-8"))["numbers"]
    numbers["front_desk"]["base_url"] = host
    config = other_config(world, tmp_path, numbers=numbers, clock={"adjustable": False})
    code, printed = bridge("appointment.booked", config=config)
    assert code == 2 and "real phone" in printed
    code, printed = bridge("appointment.booked", "--really", config=config)
    assert code == 2 and "--phone" in printed


def test_print_pushes_nothing(bridge: Bridge, world: World) -> None:
    before = held(world)
    code, printed = bridge("appointment.rescheduled", "--print", "--dialect", "r5")
    assert code == 0
    assert printed.count("POST http://127.0.0.1") == 2 and printed.count('"subscription-notification"') == 2
    assert held(world) == before


# --- the shapes --------------------------------------------------------------------------------------------------------


WISHES = Wishes(
    now=datetime(2026, 11, 22, 10, tzinfo=UTC).astimezone(ZoneInfo("Europe/Madrid")), phone="+34612000101",
    fhir_version="R4", category="http://loinc.org|89057-4",
)  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_each_story_leads_to_its_event(event: str) -> None:
    """As decide would see it: the last version against the one before it."""
    story = tell(event, "a1", WISHES)
    kind = RESOURCES[story.versions[-1]["resourceType"]]

    class Row:
        category, purposes = "http://loinc.org|89057-4", ("appointments",)

    projected = [kind.project(version, "R4", recognise=(Row(),), now=WISHES.now) for version in story.versions]
    assert event in kind.events(projected[-2] if len(projected) > 1 else None, projected[-1])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_our_door_reads_each_dialect(dialect: str) -> None:
    story = tell("appointment.booked", "a1", WISHES)
    resource = story.versions[0] | {"meta": {"versionId": "1", "lastUpdated": "2026-11-22T09:00:00Z"}}
    pushed = push(
        dialect,
        resource,
        base="https://ehr.example/fhir",
        created=True,
        at="2026-11-22T09:00:00Z",
        included=story.people,
    )
    headers = {name.lower(): value for name, value in pushed.headers.items()}
    tail = split_tail(pushed.tail)[1]
    family = FAMILIES.get(dialect.removesuffix("-r4"), FAMILIES["generic"])
    found = read(Push(pushed.method, tail, headers["content-type"], headers, VerifiedBody(pushed.body)), family)
    (event,) = found.events
    assert (event.focus, event.unusable) == ("Appointment/a1", None)
    assert (event.resource == resource) is (dialect != "athenahealth")
    assert bool(found.included) is (dialect in {"r4b", "r5"})


DOORS = {
    "bearer": Door("bearer", ("s3cret", "older")),
    "a header of its own": Door("bearer", ("s3cret",), header="X-Api-Key"),
    "hmac": Door("hmac", ("s3cret",)),
    "hmac in a named header": Door("hmac", ("s3cret",), header="X-Signature"),
    "basic": Door("basic", ("s3cret",), user="ehr"),
    "path": Door("path", ("s3cret",)),
    "a proxy's certificate": Door("mtls_header", header="X-Client", identities=("CN=ehr",)),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("dialect", ["r4", "hapi-r4"])
def test_each_door_lets_it_in(door: Door, dialect: str) -> None:
    pushed = push(dialect, {"resourceType": "Appointment", "id": "a1"}, base="", created=True, at="")
    sent = proven(pushed, door)
    headers = {name.lower(): value for name, value in sent.headers.items()}
    token, named = split_tail(sent.tail)
    authenticate(door, headers, token, sent.body)
    assert named == ("Appointment/a1" if dialect == "hapi-r4" else None)
    plain = {name.lower(): value for name, value in pushed.headers.items()}
    with pytest.raises(SignatureMismatch):
        authenticate(door, plain, split_tail(pushed.tail)[0], pushed.body)


def test_values_go_where_the_path_leads() -> None:
    story = changed(tell("appointment.booked", "a1", WISHES), {
        "patient.name.given": "Lucía", "patient.name.0.family": "Soto", "appointment.participant.0.status": "accepted",
        "location.address.city": "Toledo", "appointment.status": "pending",
    })  # fmt: skip
    assert story.patient is not None
    assert story.patient["name"] == [{"use": "official", "family": "Soto", "given": ["Lucía"]}]
    assert story.versions[0]["participant"][0]["status"] == "accepted" and story.versions[0]["status"] == "pending"
    assert [each["address"] for each in story.people if each["resourceType"] == "Location"] == [{"city": "Toledo"}]


def test_a_fixture_brings_its_previous_version() -> None:
    bundle = json.loads((BOOKED.parent / "appointment-rescheduled.bundle.json").read_text("utf-8"))
    story = retold(bundle, "new", {})
    assert [each["id"] for each in story.versions] == ["new", "new"]
    assert story.versions[0]["start"] < story.versions[1]["start"]
    with pytest.raises(ValueError, match="must begin with one of"):
        retold({"resourceType": "Patient", "id": "p1"}, None, {})
