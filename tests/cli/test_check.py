"""`bridge check` over the shipped configuration, and over it with one thing broken."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import VERBS, main
from bridge.cli.check import SECRETS, look
from bridge.cli.codes import CODES

ROOT = Path(__file__).parents[2]
CASES = sorted((Path(__file__).parent / "testdata/broken").glob("*.json"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path / "config/bridge.yaml"


def break_it(config: Path, case: dict[str, Any]) -> None:
    file = config.parent / case["file"]
    text = file.read_text("utf-8")
    for old, new in case["replace"].items():
        assert old in text, f"{old!r} is no longer in {case['file']}: the case would test nothing"
        text = text.replace(old, new, 1)
    file.write_text(text, "utf-8")
    if "also" in case:
        break_it(config, case["also"])


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_what_we_ship_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--no-secrets", "--config", str(ROOT / "config/bridge.yaml")]) == 0
    assert "bridge.yaml: good (16 templates, 6 mappings, 3 replies)" in capsys.readouterr().out


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_broken(path: Path, config: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    break_it(config, case)
    problems = [each for each in look(config, {}).problems if each.code not in SECRETS]
    told = [f"{each.code} {each.source[each.column - 1 :]} · {each.message}" for each in problems]
    for expected in case["expect"]:
        assert [
            each
            for each in told
            if each.startswith(f"{expected['code']} {expected['at']}") and expected["says"] in each
        ], told
    assert len(problems) == len(case["expect"]), told


def test_what_we_ship_runs_on_an_r5_server_with_a_warning_for_what_r5_moved(config: Path) -> None:
    break_it(config, {"file": "bridge.yaml", "replace": {"fhir_version: R4 ": "fhir_version: R5 "}})
    problems = [each for each in look(config, {}).problems if each.code not in SECRETS]
    assert [(each.code, each.severity) for each in problems] == [("BR021", "warning")]


def test_json_has_what_a_person_reads(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_it(config, json.loads((CASES[0].parent / "event_misspelt.json").read_text("utf-8")))
    assert run(["check", "--json", "--no-secrets", "--config", str(config)]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"] is False
    assert [(each["code"], each["line"] > 1, each["severity"]) for each in shown["problems"]] == [
        ("BR012", True, "error")
    ]


def test_missing_secrets_are_named_and_end_with_2(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("META_TOKEN", raising=False)
    assert run(["check", "--config", str(config)]) == 2
    assert "error BR031 the environment variable META_TOKEN is not set" in capsys.readouterr().out


def test_a_refused_config_ends_any_verb_with_2_and_shows_its_places(tmp_path: Path) -> None:
    assert run(["check", "--config", str(tmp_path / "none.yaml")]) == 2


def test_every_code_in_the_source_is_explained_and_every_explained_code_exists() -> None:
    used: set[str] = set()
    for file in (ROOT / "bridge").rglob("*.py"):
        if file.name != "codes.py":
            used |= set(re.findall(r"\bBR[0-9]{3}\b", file.read_text("utf-8")))
    assert used == set(CODES)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("BR011", "A key that nothing reads."),
        ("br031", "bridge check --no-secrets"),
        ("wa:131047", "customer service window is closed"),
        ("WA:131056", "only this recipient waits"),
        ("wa:190", "the number stands still and keeps its queue until somebody acts"),
        ("StoreLocked", "Stop the other engine"),
        ("ehrunreachable", "same call may work later: yes"),
    ],
)
def test_explain(code: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", code]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("code", ["BR999", "wa:5", "Storelock"])
def test_explain_says_that_it_does_not_know(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", code]) == 2
    assert "there is no code" in capsys.readouterr().err


def test_every_reaction_of_whatsapp_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from bridge.outbound.reactions import BY_CODE

    for code in sorted(BY_CODE)[:80]:
        assert run(["explain", f"wa:{code}"]) == 0
    assert "{" not in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb.name, "--help"]) == 0
    assert f"Usage: bridge {verb.name}" in capsys.readouterr().out


def test_a_misspelt_verb_is_refused_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chek"]) == 2
    assert "check" in capsys.readouterr().err


def test_help_imports_no_engine() -> None:
    heavy = "sqlalchemy, flask, fhir, fhirpathpy, jsonschema, ruamel, aiohttp, requests, babel, phonenumbers"
    code = (
        "import sys\nfrom bridge.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"loaded = [name for name in '{heavy}'.split(', ') if name in sys.modules]\nassert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "check" in done.stdout
