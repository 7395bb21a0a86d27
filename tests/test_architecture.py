"""Promises that break unnoticed: who imports whom, what is pure, what never appears in the code."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "bridge").rglob("*.py"))
ROOMS = ("cli", "console", "engine", "fhir", "inbound", "ledger", "mappers", "outbound", "sandbox")
SANDBOX_FOR = {"bridge/cli/demo.py"}
WORLD = {  # what a pure file may not touch: the network, files, processes, the machine's clock and its dice
    *("aiohttp", "flask", "http", "os", "random", "requests", "secrets", "socket", "sqlalchemy", "sqlite3"),
    *("subprocess", "tempfile", "time", "urllib3"),
}
PURE = (
    *(
        "bridge/mappers/**/*.py",
        "bridge/inbound/intents/*.py",
        "bridge/inbound/flows/*.py",
        "bridge/fhir/dialects/*.py",
    ),
    *(
        "bridge/fhir/notification.py",
        "bridge/fhir/versions.py",
        "bridge/outbound/message.py",
        "bridge/outbound/reactions.py",
    ),
    *("bridge/outbound/providers/*.py", "bridge/inbound/providers/*.py", "bridge/ledger/states.py"),
)
NAMES = {"eval", "exec", "__import__", "breakpoint"}
CALLS = {("os", "system"), ("datetime", "utcnow"), ("tempfile", "mktemp")}
IMPORTS = {"pickle", "shelve", "marshal", "yaml", "telnetlib"}  # yaml: PyYAML reads 1.1 and runs tags
LOG = {"debug", "info", "warning", "error", "exception", "critical"}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of everything a file imports, in functions too; what only type checkers see is left out."""
    tree = parsed(path)
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for each in node.body
        for inner in ast.walk(each)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room they come from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_import_contracts_hold() -> None:
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert tool is not None
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_demo_and_tests_know_the_sandbox() -> None:
    inside = [
        path for path in MODULES if "sandbox" not in path.relative_to(ROOT).parts and name_of(path) not in SANDBOX_FOR
    ]
    assert len(inside) > 40
    assert [name_of(path) for path in inside if any(each.startswith("bridge.sandbox") for each in imports(path))] == []


def test_mappers_import_nothing_of_ours_but_errors() -> None:
    own = ("bridge.errors", "bridge.mappers")
    for path in (ROOT / "bridge/mappers").rglob("*.py"):
        assert [each for each in imports(path) if each.startswith("bridge") and not each.startswith(own)] == [], path


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_knows_who_wires_it(room: str) -> None:
    above = {
        "engine": ("bridge.app", "bridge.cli", "bridge.console"),
        "console": ("bridge.app", "bridge.cli"),
        "cli": (),
        "sandbox": ("bridge.app", "bridge.engine", "bridge.ledger", "bridge.cli"),
    }.get(room, ("bridge.app", "bridge.engine", "bridge.cli", "bridge.console"))
    for path in (ROOT / "bridge" / room).rglob("*.py"):
        assert [each for each in imports(path) if each.startswith(above)] == [] or not above, name_of(path)


@pytest.mark.parametrize("pattern", PURE)
def test_pure_files_touch_nothing_of_the_world(pattern: str) -> None:
    files = list(ROOT.glob(pattern))
    assert files, f"nothing matches {pattern}"
    for path in files:
        touched = {each.partition(".")[0] for each in imports(path)} & WORLD
        assert touched == set(), name_of(path)
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "open", f"{name_of(path)}:{node.lineno} opens a file"
                assert not re.fullmatch(r"(datetime|date)\.(now|today|utcnow)", called), (
                    f"{name_of(path)}:{node.lineno} {called}"
                )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_says_what_it_is_for_and_runs_no_text(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree) or not tree.body, "a module without a docstring"
    assert {each.partition(".")[0] for each in imports(path)} & IMPORTS == set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in NAMES, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            assert (owner, node.func.attr) not in CALLS, f"line {node.lineno}"
            if owner in {"log", "logger"} and node.func.attr in LOG and node.args:
                fixed = isinstance(node.args[0], ast.Constant)
                assert fixed, f"line {node.lineno}: a log line is a fixed phrase, what varies goes into extra"


def test_every_room_says_its_one_thing() -> None:
    for room in ROOMS:
        files = list((ROOT / "bridge" / room).rglob("*.py"))
        assert ast.get_docstring(parsed(ROOT / "bridge" / room / "__init__.py")) or len(files) == 1, room


def test_every_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    wanted = tomllib.loads(text)["project"]["dependencies"]
    assert 0 < len(wanted) <= 25
    block = text.partition("\ndependencies = [\n")[2].partition("\n]\n")[0].splitlines()
    assert [line for line in block if not re.search(r'",\s+# \S.{5,}', line)] == []


def test_the_published_schemas_are_the_ones_that_are_used() -> None:
    used = {path.name: path for path in (ROOT / "bridge/mappers/schema").glob("*.json")}
    used["bridge.schema.json"] = ROOT / "bridge/settings_schema.json"
    published = {path.name: path for path in (ROOT / "config/schemas").glob("*.json")}
    assert set(published) == set(used)
    assert [name for name in used if used[name].read_bytes() != published[name].read_bytes()] == []
