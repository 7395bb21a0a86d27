"""docs/mapping.md is followed to the letter: its files are written, its snippets loaded, its examples run, its commands typed.

What stands behind a fence says what its block is: a file to write, `yaml mapping` a whole mapping, `yaml part` keys that
replace those of the first mapping, `console` commands with what they print, `text problem` one report of `bridge check`. A
line `…` stands for any lines.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.cli.check import SECRETS, look
from bridge.mappers.document import load_document
from bridge.mappers.examples import run_examples
from bridge.mappers.formatters import ACCEPTS
from bridge.mappers.mapping import VARIABLES, MappingSet, load_mappings
from bridge.mappers.templates import Catalogue, load_templates

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/mapping.md").read_text("utf-8")
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
FILES = {name.removeprefix("yaml "): body for name, body in BLOCKS if name.startswith("yaml config/")}
BRIDGE = [sys.executable, "-m", "bridge"]
LANGUAGES = ("es", "en", "pt")
SCHEMA = json.loads((ROOT / "config/schemas/mapping.schema.json").read_text("utf-8"))


def blocks(kind: str) -> list[str]:
    return [body for name, body in BLOCKS if name == kind]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the guide has been followed."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for name, body in FILES.items():
        (tmp_path / name).write_text(body, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_CONFIG", raising=False)
    return tmp_path


@cache
def catalogue() -> Catalogue:
    files = sorted((ROOT / "config/templates").glob("*.yaml"))
    docs = [load_document(file.read_text("utf-8"), str(file)) for file in files]
    docs += [load_document(body, name) for name, body in FILES.items() if "/templates/" in name]
    return load_templates(docs)


def loaded(text: str) -> MappingSet:
    return load_mappings([load_document(text, "docs/mapping.md")], catalogue(), LANGUAGES)


def test_the_guide_has_what_this_test_runs() -> None:
    kinds = {name for name, _ in BLOCKS} - {f"yaml {name}" for name in FILES}
    assert kinds == {"yaml mapping", "yaml part", "console", "console demo", "console trigger", "text problem"}
    assert len(FILES) == 2


@pytest.mark.parametrize("number", range(len(blocks("yaml mapping"))))
def test_a_whole_mapping_loads_and_its_examples_hold(number: int) -> None:
    found = loaded(blocks("yaml mapping")[number])
    read = lambda name: json.loads((ROOT / "config/mappings" / name).read_text("utf-8"))  # noqa: E731
    assert found.warnings == ()
    assert found.mappings[0].document.data["examples"]
    assert run_examples(found, read, zone="Europe/Madrid") == []


@pytest.mark.parametrize("number", range(len(blocks("yaml part"))))
def test_a_part_fits_into_the_first_mapping(number: int) -> None:
    base = load_document(FILES["config/mappings/appointment-changed.yaml"], "base").data
    part = load_document(blocks("yaml part")[number], "part").data
    assert set(part) <= set(SCHEMA["properties"])
    assert loaded(json.dumps(base | part, ensure_ascii=False)).warnings == ()


def matches(printed: str, promised: str) -> bool:
    parts = [re.escape(part) for part in re.split(r"^…\n", promised, flags=re.MULTILINE)]
    return re.fullmatch("(?:.*\n)*?".join(parts), printed) is not None


def commands() -> Iterator[tuple[str, str]]:
    for block in blocks("console"):
        for said in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, promised = said.partition("\n")
            yield command, promised


@pytest.mark.parametrize(("command", "promised"), list(commands()), ids=[command for command, _ in commands()])
def test_a_command_prints_what_the_guide_shows(
    command: str, promised: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command)[1:])
    printed = capsys.readouterr()
    assert end.value.code in (0, None), printed.err
    assert matches(printed.out, promised), printed.out


def test_the_mistake_reads_as_shown(site: Path) -> None:
    (promised,) = blocks("text problem")
    file = site / "config/mappings/appointment-changed.yaml"
    file.write_text(file.read_text("utf-8").replace("%practitioner", "%practicioner"), "utf-8")
    told = [each for each in look(Path("config/bridge.yaml"), {}).problems if each.code not in SECRETS]
    assert [f"{each}\n" for each in told] == [promised]


def table(heading: str) -> set[str]:
    """What stands in backquotes in the first column of the table under a heading."""
    under = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in under.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_tables_name_all_there_is() -> None:
    assert table("The head") == set(SCHEMA["properties"]["event"]["enum"])
    assert table("Values into words") - {"as"} == set(ACCEPTS)
    assert table("Guardians") == set(SCHEMA["properties"]["recipient"]["properties"]["who"]["enum"])
    named = {name.removeprefix("%") for name in table("Paths") if name.startswith("%")}
    assert named == set(VARIABLES) | {"previous", "patient_participant"}
    actions: list[str] = SCHEMA["properties"]["send"]["properties"]["buttons"]["items"]["properties"]["do"]["enum"]
    assert [action for action in actions if f"`{action}`" not in GUIDE] == []
    assert [key for key in SCHEMA["properties"] if not re.search(rf"`{key}\b|^{key}:", GUIDE, re.MULTILINE)] == []


def test_the_new_mapping_reaches_the_phone(site: Path) -> None:
    """The whole way, as a user goes it: the demo in one terminal, the event from another, and Ana's phone shows the words."""
    (started,), (typed,) = blocks("console demo"), blocks("console trigger")
    command = shlex.split(started.removeprefix("$ "))
    sourced, triggered = re.split(r"^\$ ", typed, flags=re.MULTILINE)[1:]
    said, _, promised = triggered.partition("\n")
    log = (site / "demo.log").open("w", encoding="utf-8")
    demo = subprocess.Popen([*BRIDGE, *command[1:], "--no-browser"], cwd=site, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while "DEMO" not in (site / "demo.log").read_text("utf-8") or not (site / "try/.env").exists():
            assert demo.poll() is None and time.monotonic() < end, (site / "demo.log").read_text("utf-8")
            time.sleep(0.2)
        line = f"{sourced.strip()}; {shlex.join(BRIDGE)} {said.removeprefix('bridge ')}"
        done = subprocess.run(["bash", "-c", line], cwd=site, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert matches(done.stdout, promised), done.stdout
    finally:
        demo.terminate()
        demo.wait(30)
        log.close()
