"""Roles: their names, and which secrets each needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge import roles
from bridge.app import Engine, connections
from bridge.errors import Refused, RolesRefused
from bridge.settings import load_settings
from tests.engine.harness import ENVIRON, settings_for

AUTH = {"kind": "bearer", "token": "${env:EHR_TOKEN}"}
SECRETS = ENVIRON | {"EHR_TOKEN": "ehr-token-value"}
ALWAYS = {"BRIDGE_DATA_KEY", "BRIDGE_INDEX_KEY"}
NEEDS = {
    "doors": {"EHR_DOOR_SECRET", "META_APP_SECRET", "META_VERIFY_TOKEN"},
    "apply": {"EHR_TOKEN"},
    "pump": {"EHR_TOKEN", "META_TOKEN"},
    "write": {"EHR_TOKEN"},
    "send": {"META_TOKEN"},
    "console": {"BRIDGE_SESSION_KEY"},
}


def test_unknown_and_empty_roles_are_refused() -> None:
    assert roles.parse("send, doors") == {"doors", "send"}
    for text in ("sender", "", " , ", "doors,brain"):
        with pytest.raises(ValueError, match="doors, apply, pump, send, write, console"):
            roles.parse(text)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    settings_for(tmp_path, "postgresql+psycopg://nobody@nowhere/x")
    path = tmp_path / "config/bridge.yaml"
    data = json.loads(path.read_text("utf-8"))
    data["ehrs"]["main"]["auth"] = AUTH
    path.write_text(json.dumps(data), "utf-8")
    return path


@pytest.mark.parametrize("role", sorted(roles.ALL))
def test_a_process_needs_the_secrets_of_its_roles_and_says_which_is_missing(config: Path, role: str) -> None:
    needed = ALWAYS | NEEDS[role]

    def load(names: set[str]) -> None:
        load_settings(config, {name: SECRETS[name] for name in names}, lambda path: roles.needed(path, {role}))

    load(needed)
    for name in needed:
        with pytest.raises(Refused, match=f"{name} is not set"):
            load(needed - {name})


def test_all_roles_need_all_of_them(config: Path) -> None:
    everything = set().union(ALWAYS, *NEEDS.values())
    for name in everything:
        with pytest.raises(Refused, match=f"{name} is not set"):
            load_settings(config, {other: SECRETS[other] for other in everything - {name}})


def test_sqlite_has_one_engine_process(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'bridge.db'}")
    with pytest.raises(RolesRefused, match="SQLite"):
        Engine(settings, roles=frozenset({"doors"}))


def test_a_process_keeps_as_many_connections_as_its_roles_need(config: Path) -> None:
    settings = load_settings(config, SECRETS)
    assert connections(settings, frozenset({"doors"})) < connections(settings, frozenset({"write"}))
    assert connections(settings, roles.ALL) <= 20
