"""`bridge check --format`: the same problems for people, machines, GitHub's annotations and code scanning."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.cli.codes import CODES
from bridge.cli.formats import github, sarif
from bridge.mappers.document import Problem

ROOT = Path(__file__).parents[2]
Check = Callable[..., tuple[int, str]]
ODD = Problem("/repo/con fig/m,1.yaml", 7, 3, "BR012", '100% "a: b", or\nnot', "x", hint="second: line")
SOFT = Problem("/else/where.yaml", 1, 1, "BR045", "no text in pt", "", severity="warning")


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`bridge check` in a checkout whose mapping of bookings may be broken first."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)

    def run(*options: str, broken: bool = True) -> tuple[int, str]:
        file = tmp_path / "config/mappings/appointment-booked.yaml"
        text = file.read_text("utf-8")
        if broken:
            assert "event: appointment.booked" in text
            file.write_text(text.replace("event: appointment.booked", "event: appointment.boked"), "utf-8")
        with pytest.raises(SystemExit) as caught:
            main(["check", "--no-secrets", *options])
        return int(caught.value.code or 0), capsys.readouterr().out

    return run


def test_github_annotates_the_line(check: Check) -> None:
    code, printed = check("--format", "github")
    assert code == 2
    assert printed.splitlines()[0] == (
        "::error file=config/mappings/appointment-booked.yaml,line=6,col=8,title=BR012 (bridge explain BR012)"
        '::"appointment.boked" is not allowed here; did you mean "appointment.booked"?'
    )


def test_github_s_own_characters_are_escaped() -> None:
    assert github([ODD, SOFT], Path("/repo")).splitlines() == [
        "::error file=con fig/m%2C1.yaml,line=7,col=3,title=BR012 (bridge explain BR012)"
        '::100%25 "a: b", or%0Anot%0Asecond: line',
        "::warning file=/else/where.yaml,line=1,col=1,title=BR045 (bridge explain BR045)::no text in pt",
    ]


def test_sarif_names_rule_and_place(check: Check) -> None:
    code, printed = check("--format", "sarif")
    assert code == 2
    found = json.loads(printed)
    (run,) = found["runs"]
    (result,) = run["results"]
    assert found["version"] == "2.1.0" and result["level"] == "error"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "BR012"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "config/mappings/appointment-booked.yaml"
    assert place["region"] == {"startLine": 6, "startColumn": 8}


def test_sarif_of_every_code() -> None:
    problems = [Problem("a b.yaml", 1, 1, code, "x", "") for code in CODES]
    (run,) = json.loads(sarif(problems, Path.cwd()))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == sorted(CODES)
    assert all(rule[part]["text"] for rule in run["tool"]["driver"]["rules"] for part in ("shortDescription", "help"))
    assert {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]} == {
        "a%20b.yaml"
    }


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
def test_a_good_configuration_is_good_in_every_format(form: str, check: Check) -> None:
    code, printed = check("--format", form, broken=False)
    assert code == 0
    if form in {"json", "sarif"}:
        json.loads(printed)
    else:
        assert re.fullmatch(r"config/bridge.yaml: good \(.*\)\n", printed)


def test_json_has_two_names(check: Check) -> None:
    assert check("--format", "json")[1] == check("--json", broken=False)[1]


def test_there_is_no_other_format(check: Check) -> None:
    assert check("--format", "xml")[0] == 2
