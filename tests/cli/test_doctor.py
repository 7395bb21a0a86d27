"""`bridge doctor` beside a running engine and both pretend servers: all good, and then with one thing wrong at a time."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import responses

from bridge.cli import main
from bridge.cli.doctor import examine
from bridge.console.health import Finding, ehr, machine, whatsapp
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.sandbox.world import World, free_port
from bridge.settings import Settings, load_settings
from bridge.settings import Store as settings_store
from tests.stores import KINDS, store_url

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("doctor")) as world:
        config = json.loads(world.config.read_text("utf-8"))
        config["listen"]["public_url"] = world.doors
        world.config.write_text(json.dumps(config), "utf-8")
        world.start_engine()
        assert world.ehr.idle()
        yield world


@dataclass(slots=True)
class Bench:
    """The good world with a config of its own to break."""

    world: World
    folder: Path
    environ: dict[str, str]
    config: Config = field(default_factory=dict)

    def subscription(self, key: str, **changes: Any) -> None:
        """The EHR's Subscription, changed in the channel where the channel has that element."""
        resource = copy.deepcopy(self.world.held(f"Subscription/{key}"))
        for name, value in changes.items():
            (resource["channel"] if name in {"endpoint", "header"} else resource)[name] = value
        self.world.save(resource)

    def findings(self) -> list[Finding]:
        path = self.folder / "bridge.yaml"
        path.write_text(json.dumps(self.config), "utf-8")
        return list(examine(path, self.environ))


@pytest.fixture
def bench(world: World, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(world, tmp_path, dict(world.environment), json.loads(world.config.read_text("utf-8")))
    for order in world.standing_orders():
        world.save(order | {"status": "active"})
    assert world.ehr.idle()
    for template in ("appointment_booked",):
        world.whatsapp.post(f"templates/{template}", status="APPROVED", tell=False)


def test_a_good_site_is_good(bench: Bench, world: World) -> None:
    found = bench.findings()
    assert [each for each in found if each.state != "good"] == []
    assert {each.area for each in found} == {"configuration", "secrets", "clock", "store", "ehr", "whatsapp"}
    assert "all good" in world.cli("doctor")


# --- one thing wrong ---------------------------------------------------------------------------------------------------


def unknown_key(bench: Bench) -> None:
    bench.config["deliveries"] = {}


def secret_missing(bench: Bench) -> None:
    del bench.environ["META_APP_SECRET"]


def secret_file_missing(bench: Bench) -> None:
    bench.config["ehrs"]["main"]["auth"]["token"] = "${file:secrets/ehr.token}"


def store_missing(bench: Bench) -> None:
    bench.config["store"]["url"] = f"sqlite:///{bench.folder}/data/none.db"


def store_empty(bench: Bench) -> None:
    Store(f"sqlite:///{bench.folder}/old.db").close()
    (bench.folder / "old.db").touch()
    bench.config["store"]["url"] = f"sqlite:///{bench.folder}/old.db"


def database_down(bench: Bench) -> None:
    bench.config["store"]["url"] = f"postgresql+psycopg://bridge:${{env:META_TOKEN}}@127.0.0.1:{free_port()}/bridge"


def engine_down(bench: Bench) -> None:
    bench.config["listen"]["console"] = f"127.0.0.1:{free_port()}"


def public_address_wrong(bench: Bench) -> None:
    bench.config["listen"]["public_url"] = bench.world.ehr.url.removesuffix("/fhir")


def public_address_unset(bench: Bench) -> None:
    del bench.config["listen"]["public_url"]


def ehr_down(bench: Bench) -> None:
    bench.config["ehrs"]["main"]["base_url"] = f"http://127.0.0.1:{free_port()}/fhir"


def ehr_base_wrong(bench: Bench) -> None:
    bench.config["ehrs"]["main"]["base_url"] = bench.world.ehr.url.removesuffix("/fhir")


def ehr_token_wrong(bench: Bench) -> None:
    bench.environ["EHR_TOKEN"] = "another-token-than-the-ehr-knows"


def fhir_version_wrong(bench: Bench) -> None:
    bench.config["ehrs"]["main"]["fhir_version"] = "R4B"


def subscription_missing(bench: Bench) -> None:
    bench.config["ehrs"]["main"]["subscriptions"]["visits"] = {"resource": "Appointment"}


def subscription_elsewhere(bench: Bench) -> None:
    bench.subscription("appointments", endpoint="https://old.bridge.example/ehr/main/appointments")


def subscription_off(bench: Bench) -> None:
    bench.subscription("consents", status="off")


def subscription_filters(bench: Bench) -> None:
    bench.subscription("appointments", criteria="Appointment?status=booked")


def subscription_with_another_secret(bench: Bench) -> None:
    bench.subscription("patients", header=["Authorization: Bearer what-the-door-was-told-last-year"])


def whatsapp_down(bench: Bench) -> None:
    bench.config["numbers"]["front_desk"]["base_url"] = f"http://127.0.0.1:{free_port()}"


def whatsapp_token_wrong(bench: Bench) -> None:
    bench.environ["META_TOKEN"] = "EAAG-another-token"


def number_wrong(bench: Bench) -> None:
    bench.config["numbers"]["front_desk"]["phone_number_id"] = "34612000199"


def account_wrong(bench: Bench) -> None:
    bench.config["numbers"]["front_desk"]["waba_id"] = "1"


def template_paused(bench: Bench) -> None:
    bench.world.whatsapp.post("templates/appointment_booked", status="PAUSED", tell=False)


def template_missing(bench: Bench) -> None:
    own = bench.folder / "templates"
    own.mkdir()
    for file in (ROOT / "config/templates").glob("*.yaml"):
        text = file.read_text("utf-8")
        (own / file.name).write_text(text, "utf-8")
        if file.stem == "visit_followup":
            (own / "visit_followup_2.yaml").write_text(
                text.replace("name: visit_followup", "name: visit_followup_2"), "utf-8"
            )


def template_reworded(bench: Bench) -> None:
    template_missing(bench)
    (bench.folder / "templates/visit_followup_2.yaml").unlink()
    file = bench.folder / "templates/appointment_cancelled.yaml"
    text = file.read_text("utf-8")
    assert "Hello" in text
    file.write_text(text.replace("Hello", "Good day", 1), "utf-8")


def verify_token_changed(bench: Bench) -> None:
    bench.environ["META_VERIFY_TOKEN"] = "a-verify-token-the-engine-did-not-start-with"


WRONG: dict[Callable[[Bench], None], tuple[str, str, str]] = {  # what it is about, what is found, what mends it
    unknown_key: ("bridge.yaml", 'unknown key "deliveries"', "bridge check"),
    secret_missing: ("META_APP_SECRET", "is not set, and `apps.hospital.app_secrets.0` names it", "App secret"),
    secret_file_missing: ("secrets/ehr.token", "cannot be read, and `ehrs.main.auth.token`", "what the EHR issued"),
    store_missing: ("store", "there is no", "bridge migrate"),
    store_empty: ("schema", "not there, this version wants", "bridge migrate"),
    database_down: ("store", "cannot be read: OperationalError", "Is the database up"),
    engine_down: ("engine", "does not answer", "bridge serve"),
    public_address_wrong: ("our door", "answers 401 where bridge answers 200", "proxy must pass"),
    public_address_unset: ("public address", "is not set", "Set it to the address"),
    ehr_down: ("EHR main", "is not reached", "`ehrs.main.base_url`"),
    ehr_base_wrong: ("EHR main", "gives no CapabilityStatement", "the FHIR base"),
    ehr_token_wrong: ("EHR main: token", "is refused (401)", "`ehrs.main.auth`"),
    fhir_version_wrong: ("FHIR version", "speaks R4, the config says R4B", "Set `ehrs.main.fhir_version` to R4"),
    subscription_missing: ("Subscription visits", "none at the EHR points", "/ehr/main/visits"),
    subscription_elsewhere: ("Subscription appointments", "points to old.bridge.example", "Change its endpoint"),
    subscription_off: ("Subscription consents", 'is "off" at the EHR', "requested again"),
    subscription_filters: ("Subscription appointments", "filters by status", "without a status"),
    subscription_with_another_secret: ("Subscription patients", "another secret", "`ehrs.main.door`"),
    whatsapp_down: ("number front_desk", "is not reached", "`numbers.front_desk.base_url`"),
    whatsapp_token_wrong: ("number front_desk: token", "is refused (code 190)", "system user"),
    number_wrong: ("number front_desk: number", "no such phone_number_id", "it is not the number itself"),
    account_wrong: ("number front_desk: account", "cannot be read (code 100)", "waba_id"),
    template_paused: ("template appointment_booked es", "is PAUSED", "WhatsApp Manager"),
    template_missing: ("template visit_followup_2 pt_BR", "is not at Meta", "Create it"),
    template_reworded: ("template appointment_cancelled en", "another text", "Change the file or the template"),
    verify_token_changed: ("app hospital: webhook", "refuses the verify token", "restart it"),
}  # fmt: skip
WITH_IT = {  # what is bad as well, and rightly so
    public_address_wrong: {"Subscription", "webhook"},
    template_paused: {"template appointment_booked"},
    template_missing: {"template visit_followup_2"},
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_named_with_its_remedy(wrong: Callable[[Bench], None], bench: Bench) -> None:
    wrong(bench)
    what, told, remedy = WRONG[wrong]
    bad = [each for each in bench.findings() if each.state == "bad"]
    ours = [each for each in bad if what in each.what and told in each.told and remedy in each.remedy]
    assert len(ours) == 1, bad
    assert (ROOT / ours[0].page).exists()
    others = [
        each for each in bad if each is not ours[0] and not any(also in each.what for also in WITH_IT.get(wrong, ()))
    ]
    assert others == []


def test_fifteen_at_least() -> None:
    assert len(WRONG) >= 15


def test_no_secret_is_printed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong: in one round with nearly everything wrong, and in the lines of a good one."""
    for breaks in (
        lambda _: None,
        whatsapp_token_wrong,
        ehr_token_wrong,
        subscription_with_another_secret,
        database_down,
    ):
        breaks(bench)
        bench.findings()
        for name, value in bench.environ.items():
            monkeypatch.setenv(name, value)
        for form in ((), ("--json",)):
            with pytest.raises(SystemExit):
                main(["doctor", "--config", str(bench.folder / "bridge.yaml"), *form])
            shown = capsys.readouterr()
            printed = shown.out + shown.err
            hidden = {**bench.environ, "old": "what-the-door-was-told-last-year"}
            assert [name for name, value in hidden.items() if value in printed] == []
            assert bench.environ["META_VERIFY_TOKEN"] not in printed


def test_json_and_exit_code(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine_down(bench)
    bench.findings()
    for name, value in bench.environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--json", "--config", str(bench.folder / "bridge.yaml")])
    assert caught.value.code == 4
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [each["what"] for each in told["findings"] if each["state"] == "bad"] == ["engine"]


def test_a_new_folder_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["init", str(tmp_path / "site")])
    found = list(examine(tmp_path / "site/config/bridge.yaml", {}))
    assert [each.what for each in found if each.state == "bad"] == [
        "BRIDGE_DB_PASSWORD", "BRIDGE_DATA_KEY", "BRIDGE_INDEX_KEY", "BRIDGE_SESSION_KEY", "EHR_TOKEN", "EHR_DOOR_SECRET",
        "META_APP_SECRET", "META_VERIFY_TOKEN", "META_TOKEN",
    ]  # fmt: skip
    assert {each.area for each in found if each.state == "skipped"} == {"clock", "store", "ehr", "whatsapp"}


# --- what no server here does ------------------------------------------------------------------------------------------


@pytest.fixture
def settings(world: World) -> Settings:
    return load_settings(world.config, world.environment)


def one(found: Iterator[Finding]) -> Finding:
    (only,) = [each for each in found if each.state == "bad"]
    return only


@pytest.mark.parametrize(("hours", "way"), [(1, "ahead"), (-1, "behind")])
def test_a_clock_that_is_off(hours: int, way: str, settings: Settings) -> None:
    found = list(machine.clock(settings, lambda: datetime.now(UTC) + timedelta(hours=hours)))
    assert [each.state for each in found] == ["bad", "bad"]
    assert all(way in each.told and "NTP" in each.remedy for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_either_kind(kind: str, settings: Settings, tmp_path: Path) -> None:
    """Made by `bridge migrate`, and then good."""
    url = store_url(kind, tmp_path / "data")
    mine = replace(settings, store=settings_store(url))
    assert [each.what for each in machine.store(mine) if each.state == "bad"] == [
        "store" if kind == "sqlite" else "schema"
    ]
    store = Store(url)
    migrate(store)
    store.close()
    found = list(machine.store(mine))
    assert {each.state for each in found} == {"good"}, found


def test_a_disk_that_is_full(settings: Settings) -> None:
    finding = one(machine.store(settings, lambda _: 20 << 20))
    assert "20 MB free" in finding.told and "retention.bodies" in finding.remedy


def test_a_sqlite_that_is_old() -> None:
    finding = machine.sqlite_version((3, 45, 1))
    assert finding.state == "bad" and "pysqlite3" in finding.remedy
    assert machine.sqlite_version((3, 51, 3)).state == "good"


@pytest.mark.parametrize(
    ("info", "told"),
    [({"status": "FLAGGED"}, "not CONNECTED"), ({"status": "CONNECTED", "quality_rating": "RED"}, "RED")],
)
def test_a_number_in_trouble(info: dict[str, str], told: str, settings: Settings) -> None:
    finding = whatsapp.healthy(settings.numbers["front_desk"], info)
    assert finding.state == "bad" and told in finding.told and finding.remedy


def test_an_ehr_that_may_not_be_written_to(settings: Settings) -> None:
    readable = [
        {"type": kind, "interaction": [{"code": "read"}]}
        for kind in (
            "Appointment",
            "Patient",
            "RelatedPerson",
            "Practitioner",
            "Location",
            "Consent",
            "DiagnosticReport",
        )
    ]
    finding = one(ehr.capable(settings.ehrs["main"], {"rest": [{"resource": readable}]}))
    assert finding.told == "not Appointment update, Communication create, Consent create"


@pytest.mark.parametrize("status", [200, 500, 302])
@pytest.mark.parametrize(
    "body", ["<html>a proxy's page</html>", "[]", '{"data": "no list"}', '{"error": "text"}', "null"]
)
def test_any_answer_is_a_line(status: int, body: str, settings: Settings) -> None:
    """A gateway's page, a list, an object of another API: the round goes on."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as wire:
        for method in ("GET", "HEAD"):
            wire.add(method, re.compile(r"http://127\.0\.0\.1.*"), body=body, status=status)
        for look in (
            lambda: machine.clock(settings),
            lambda: machine.engine(settings),
            lambda: machine.public(settings),
            lambda: ehr.ehr(settings.ehrs["main"], settings.listen.public_url),
            lambda: whatsapp.whatsapp(settings.numbers["front_desk"], None),
            lambda: iter([whatsapp.webhook(settings.apps["hospital"], settings.listen.public_url)]),
        ):
            found = list(look())
            assert found
            assert all(each.remedy and each.page for each in found if each.state == "bad")
