"""bridge.yaml and the environment: what the shipped example becomes, and how each mistake is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Refused
from bridge.mappers.document import Problem
from bridge.settings import HostPort, Settings, load_settings, shipped_config

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "config/bridge.yaml"
DATA_KEY = base64.b64encode(bytes(range(32))).decode()
ENVIRON = {
    "BRIDGE_DATA_KEY": DATA_KEY,
    "BRIDGE_INDEX_KEY": "index-key-of-32-characters-or-so",
    "BRIDGE_SESSION_KEY": "session-key-of-32-characters-or-",
    "EHR_TOKEN": "ehr-token-value",
    "EHR_DOOR_SECRET": "ehr-door-value",
    "META_APP_SECRET": "app-secret-value",
    "META_VERIFY_TOKEN": "verify-token-value",
    "META_TOKEN": "meta-token-value",
}


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The shipped example with some words replaced; each must be there, or the test would test nothing."""
    text = SHIPPED.read_text("utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / "bridge.yaml"
    path.write_text(text, "utf-8")
    return path


def problems(path: Path, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(Refused) as caught:
        load_settings(path, ENVIRON if environ is None else environ)
    return caught.value.problems


def test_the_shipped_example_is_what_the_design_says() -> None:
    settings = load_settings(SHIPPED, ENVIRON)
    assert settings.site.languages == ("es", "en", "pt")
    assert settings.site.quiet_hours is not None
    assert (settings.site.quiet_hours.from_, settings.site.quiet_hours.to) == (time(21), time(8))
    assert settings.listen.doors == HostPort("127.0.0.1", 8700)
    assert settings.security.data_keys == {"k1": bytes(range(32))}
    ehr = settings.ehrs["main"]
    assert (ehr.base_url, ehr.fhir_version, ehr.prime) == ("https://ehr.hospital.example/fhir", "R4", "required")
    assert (ehr.auth.kind, ehr.auth.token) == ("bearer", "ehr-token-value")
    assert (ehr.door.kind, ehr.door.secrets) == ("bearer", ("ehr-door-value",))
    assert {key: each.resource for key, each in ehr.subscriptions.items()} == {
        "appointments": "Appointment",
        "results": "DiagnosticReport",
        "consents": "Consent",
        "patients": "Patient",
    }
    assert (ehr.writeback.appointment, ehr.writeback.communication, ehr.writeback.consent) == (
        "put",
        "create",
        "create",
    )
    assert settings.apps["hospital"].app_secrets == ("app-secret-value",)
    number = settings.numbers["front_desk"]
    assert (number.app, number.access_token, number.rate) == ("hospital", "meta-token-value", 70.0)
    assert settings.consent.purposes["results"].without_decision == "block"
    assert settings.consent.recognise[0].purposes == ("appointments", "results")
    assert settings.delivery.doubt_wait == timedelta(minutes=30)
    assert settings.retention.bodies == timedelta(days=90)
    assert (settings.results.enabled, settings.pilot.enabled, settings.clock.adjustable) == (False, False, False)
    assert settings.config_dir == SHIPPED.parent
    assert settings.data_dir == Path("data")


def test_what_is_left_out_takes_the_default_that_its_description_names(tmp_path: Path) -> None:
    short = """
        version: 1
        site: {name: H, zone: America/Sao_Paulo, region: BR, languages: [pt_BR]}
        store: {url: "postgresql://bridge:${env:PG}@db/bridge"}
        listen: {doors: "[::1]:0", console: "localhost:0"}
        security: {data_keys: {k1: "${file:key}"}, index_key: "${env:IDX}", session_key: "${env:IDX}"}
        ehrs:
          main: {prime: none, door: {kind: path, secrets: ["${env:S}"]}, subscriptions: {a: {resource: Appointment}}}
        apps: {h: {app_secrets: ["${env:S}"], verify_token: "${env:S}"}}
        numbers: {n: {provider: cloud_api, app: h, waba_id: 12, phone_number_id: 34, access_token: "${env:S}"}}
        consent: {purposes: {appointments: {without_decision: block}}}
        delivery: {brake: 10}
    """
    (tmp_path / "key").write_text(DATA_KEY + "\n", "utf-8")
    path = tmp_path / "bridge.yaml"
    path.write_text(short, "utf-8")
    settings = load_settings(path, {"PG": "p@ss/word", "IDX": "i" * 32, "S": "s"})
    assert settings.store.url == "postgresql+psycopg://bridge:p%40ss%2Fword@db/bridge"
    assert settings.listen.doors == HostPort("::1", 0)
    assert str(settings.listen.doors) == "[::1]:0"
    assert settings.security.data_keys["k1"] == bytes(range(32))
    assert settings.site.quiet_hours is None
    assert (settings.site.minor_under, settings.site.own_voice_from, settings.site.emergency_number) == (18, 16, "112")
    ehr = settings.ehrs["main"]
    assert (ehr.base_url, ehr.fhir_version, ehr.dialect, ehr.auth.kind, ehr.zone) == (
        None,
        "R4",
        "generic",
        "none",
        None,
    )
    assert (ehr.writeback.appointment, ehr.writeback.communication, ehr.writeback.consent) == ("none", "none", "none")
    number = settings.numbers["n"]
    assert (number.waba_id, number.phone_number_id, number.portfolio) == ("12", "34", "default")
    assert (number.base_url, number.api_version, number.rate) == ("https://graph.facebook.com", "v23.0", 70.0)
    assert settings.data_dir == Path("data")


def test_every_missing_secret_is_named_together_with_every_other_problem(tmp_path: Path) -> None:
    path = changed(tmp_path, ("Europe/Madrid", "Europe/Madird"), ('"${env:META_TOKEN}"', '"${file:secrets/meta}"'))
    found = problems(path, {"EHR_TOKEN": ""})
    text = "\n".join(map(str, found))
    for name in ENVIRON.keys() - {"META_TOKEN", "EHR_TOKEN"}:
        assert f"the environment variable {name} is not set" in text
    assert "the environment variable EHR_TOKEN is empty" in text
    assert "the file secrets/meta cannot be read" in text
    assert 'did you mean "Europe/Madrid"?' in text
    assert len(found) == len(ENVIRON) + 1


BROKEN = [
    ("zone: Europe/Madrid", "zone: Madrid", '"Madrid" is no time zone'),
    ("region: ES", "region: EX", '"EX" is no ISO 3166 country'),
    ("region: ES", "region: es", '"es" has the wrong form; write it like ES or BR'),
    ("languages: [es, en, pt]", "languages: []", "this should be a list of at least 1"),
    ('from: "21:00"', "from: 9pm", '"9pm" has the wrong form; write it like 21:00'),
    ('to: "08:00"', 'to: "21:00"', "quiet hours that end when they begin"),
    ("own_voice_from: 16", "own_voice_from: 19", "own_voice_from is later than minor_under"),
    ("sqlite:///data/bridge.db", "mysql:///db", "a store is sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"),
    ("sqlite:///data/bridge.db", "sqlite:///:memory:", "a store is sqlite:///FILE"),
    ("sqlite:///data/bridge.db", "postgresql://u:hunter2@h/db", "a password is written as ${env:NAME}"),
    ("127.0.0.1:8700", "8700", '"8700" has the wrong form; write it like 127.0.0.1:8700'),
    ("127.0.0.1:8700", "127.0.0.1:87000", "87000 is no port: at most 65535"),
    ("127.0.0.1:8701", "127.0.0.1:8700", "doors and console need a port each"),
    ("https://bridge.hospital.example", "bridge.hospital.example", "must begin with https:// or http:// and a host"),
    ("https://ehr.hospital.example/fhir", "https://ehr.hospital.example/fhir?x=1", "no query and no fragment"),
    ("https://ehr.hospital.example/fhir", "https://u:hunter2@ehr.hospital.example", "must not hold a user or password"),
    ("https://ehr.hospital.example/fhir", "https://[ehr", "this is no URL"),
    ('"${env:BRIDGE_INDEX_KEY}"', "hunter2", "a secret is written as ${env:NAME} or ${file:path}, never as it is"),
    ('"${env:BRIDGE_INDEX_KEY}"', '"${vault:x}"', "a secret is written as ${env:NAME} or ${file:path}"),
    ('{k1: "${env:BRIDGE_DATA_KEY}"}', '{k1: "${env:EHR_TOKEN}"}', "EHR_TOKEN must hold 32 bytes in base64"),
    ('{k1: "${env:BRIDGE_DATA_KEY}"}', "{}", "this should be a mapping of at least 1"),
    ('"${env:BRIDGE_SESSION_KEY}"', '"${env:EHR_TOKEN}"', "EHR_TOKEN must hold at least 22 characters"),
    ("fhir_version: R4", "fhir_version: R3", '"R3" is not allowed here; allowed: R4, R4B, R5'),
    ("auth: {kind: bearer, token:", "auth: {kind: bearer, tokn:", 'unknown key "tokn" in ehrs.main.auth; did you mean "token"?'),
    ("auth: {kind: bearer,", "auth: {kind: basic,", 'missing key "password" in ehrs.main.auth'),
    ("auth: {kind: bearer,", "auth: {kind: smart_backend,", 'missing key "private_key" in ehrs.main.auth'),
    ("auth: {kind: bearer,", "auth: {kind: client_secret,", 'missing key "token_url" in ehrs.main.auth'),
    ("auth: {kind: bearer,", "auth: {kind: mtls,", 'missing key "certificate" in ehrs.main.auth'),
    ("auth: {kind: bearer,", "auth: {kind: header,", 'missing key "header" in ehrs.main.auth'),
    ("auth: {kind: bearer,", "auth: {kind: oauth,", '"oauth" is not allowed here'),
    ("door: {kind: bearer,", "door: {kind: basic,", 'missing key "user" in ehrs.main.door'),
    ("door: {kind: bearer,", "door: {kind: bearer, user: u,", '"user" only belongs to kind basic'),
    ("door: {kind: bearer,", "door: {kind: mtls_header,", 'missing key "identities" in ehrs.main.door'),
    ("door: {kind: bearer,", "door: {kind: open,", '"open" is not allowed here'),
    ("    door: {", "    dor: {", 'missing key "door" in ehrs.main'),
    ("{resource: Appointment}", "{resource: Apointment}", '"Apointment" is not allowed here; did you mean "Appointment"?'),
    ("base_url: https://ehr.hospital.example/fhir", "zone: UTC", "nothing can be written back without base_url"),
    ("base_url: https://ehr.hospital.example/fhir", "zone: UTC", "prime: required needs base_url"),
    ("writeback: {appointment: put", "writeback: {appointment: post", '"post" is not allowed here; allowed: put, patch, none'),
    ("app: hospital", "app: hosptial", 'no app "hosptial" in apps; did you mean "hospital"?'),
    ("provider: cloud_api", "provider: cloud", '"cloud" is not allowed here; did you mean "cloud_api"?'),
    ("api_version: v23.0", "api_version: 23.0", "this should be text, not a number"),
    ("rate: 70", "rate: 0", "this should be more than 0"),
    (", basis: care contract", "", 'missing key "basis": sending without a decision needs one'),
    ("without_decision: block", "without_decision: no", '"no" is not allowed here; allowed: send, block'),
    ("purposes: [appointments, results]", "purposes: [appointments, result]", 'no purpose "result" in consent.purposes; did you mean "results"?'),
    ("http://loinc.org|89057-4", "89057-4", "has the wrong form; write it like http://loinc.org|57016-8"),
    ("brake: 500", "brke: 500", 'missing key "brake" in delivery'),
    ("doubt_wait: 30m", "doubt_wait: 30 min", '"30 min" has the wrong form; write it like 30m or 90d'),
    ("unconfirmed: send", "unconfirmed: drop", '"drop" is not allowed here; allowed: send, suppress'),
    ("pilot:\n  enabled: false", "pilot:\n  enabled: true", "a pilot needs a cohort"),
    ("locations: []", "locations: [outpatients]", "has the wrong form; write it like Location/l1"),
    ("bodies: 90d", "bodies: forever", "has the wrong form"),
    ("adjustable: false", "adjustable: true", "front_desk is a real number"),
    ("edit: false", "edit: no", "this should be true or false, not text"),
    ("version: 1", "version: 2", "2 is not allowed here; allowed: 1"),
    ("delivery:", "delivry:", 'unknown key "delivry" in (root); did you mean "delivery"?'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[f"{old} -> {new}" for old, new, _ in BROKEN])
def test_a_mistake_is_refused_at_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    found = problems(changed(tmp_path, (old, new)))
    said = [problem for problem in found if message in problem.message]
    assert said, found
    assert said[0].line > 0
    assert said[0].source or "hunter2" in new or "${vault" in new


def test_a_second_number_with_the_same_id_is_refused(tmp_path: Path) -> None:
    twin = 'numbers:\n  other: {provider: cloud_api, app: hospital, waba_id: 1, phone_number_id: "200000000000001", access_token: "${env:META_TOKEN}"}\n'
    found = problems(changed(tmp_path, ("numbers:\n", twin)))
    assert [problem.message for problem in found] == ["other has this phone_number_id already"]


@pytest.mark.parametrize("misspelt", ["acces_token", "access_token", "whatever"])
def test_a_secret_written_out_is_shown_nowhere(tmp_path: Path, misspelt: str) -> None:
    found = problems(changed(tmp_path, ('access_token: "${env:META_TOKEN}"', f"{misspelt}: hunter2-in-clear")))
    assert found
    assert "hunter2" not in "".join(map(str, found))


def test_no_secret_shows_in_a_repr() -> None:
    text = repr(load_settings(SHIPPED, ENVIRON))
    assert not [value for value in ENVIRON.values() if value in text]
    assert repr(bytes(range(4)))[2:-1] not in text


def test_a_file_that_is_not_there_is_said_in_the_same_form(tmp_path: Path) -> None:
    assert str(problems(tmp_path / "no.yaml")[0]).endswith("no.yaml:1:1: error BR007 there is no such file")


def test_the_version_changes_with_any_file_of_the_configuration(tmp_path: Path) -> None:
    path = changed(tmp_path)
    first = load_settings(path, ENVIRON).version
    assert len(first) == 12
    assert load_settings(path, ENVIRON | {"META_TOKEN": "another"}).version == first
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings/a.yaml").write_text("version: 1\n", "utf-8")
    second = load_settings(path, ENVIRON).version
    (tmp_path / "mappings/a.yaml").write_text("version: 1 # other\n", "utf-8")
    third = load_settings(path, ENVIRON).version
    assert len({first, second, third}) == 3


def test_a_part_that_the_site_has_not_written_is_the_shipped_one(tmp_path: Path) -> None:
    path = changed(tmp_path)
    (tmp_path / "mappings").mkdir()
    settings: Settings = load_settings(path, ENVIRON)
    assert settings.part("mappings") == tmp_path / "mappings"
    assert settings.part("templates") == shipped_config() / "templates"


def test_the_published_schema_is_the_one_that_is_used() -> None:
    assert (ROOT / "config/schemas/bridge.schema.json").read_bytes() == (
        ROOT / "bridge/settings_schema.json"
    ).read_bytes()


def keys(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", each
        yield from keys(each, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from keys(schema[inner], f"{path}[]")


def test_every_key_is_documented_and_stands_in_the_shipped_example() -> None:
    schema = json.loads((ROOT / "bridge/settings_schema.json").read_text("utf-8"))
    every = [*keys(schema), *(found for name in ("ehr", "door", "auth") for found in keys(schema["$defs"][name], name))]
    assert len(every) > 60
    assert not [path for path, each in every if len(each.get("description", "")) < 10]
    text = SHIPPED.read_text("utf-8")
    optional = {
        "criteria",
        "user",
        "header",
        "identities",
        "password",
        "token_url",
        "client_id",
        "client_secret",
        "scope",
    }
    optional |= {"private_key", "key_id", "certificate"}
    assert not [
        path for path, _ in every if (name := path.rpartition(".")[2]) not in optional and f"{name}:" not in text
    ]


def test_the_schema_names_the_dialects_and_providers_that_exist() -> None:
    from bridge.fhir.dialects import DIALECTS
    from bridge.outbound.providers import PROVIDERS

    schema = json.loads((ROOT / "bridge/settings_schema.json").read_text("utf-8"))
    assert schema["$defs"]["ehr"]["properties"]["dialect"]["enum"] == list(DIALECTS)
    assert schema["properties"]["numbers"]["additionalProperties"]["properties"]["provider"]["enum"] == list(PROVIDERS)
