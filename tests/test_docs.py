"""What the documentation says is so: commands and options exist, config keys too, snippets load, links lead somewhere."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from bridge import __version__
from bridge.cli import VERBS, program
from bridge.mappers.document import load_document
from bridge.mappers.examples import context_of
from bridge.mappers.mapping import load_mappings
from bridge.mappers.render import TemplateMessage, render
from bridge.mappers.templates import Catalogue, load_templates
from bridge.settings import load_settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECORDS = sorted((ROOT / "docs/decisions").glob("*.md"))
CONFIG = (ROOT / "config/bridge.yaml").read_text("utf-8")
SCHEMAS = [
    json.loads((ROOT / f"config/schemas/{name}.schema.json").read_text("utf-8")) for name in ("bridge", "mapping")
]
HEADINGS = ["Context", "Choice", "Consequences", "Alternatives"]
WHOLE = {"door", "auth", "subscriptions", "writeback", "data_keys", "purposes", "recognise"}  # replaced, never merged
SHELLS = {"", "sh", "bash", "console"}

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # "yaml part" is not "yaml"
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
KEY = re.compile(r"[a-z_]+(\.[A-Za-z_<>-]+)+")
OWN_PATH = re.compile(r"(?:bridge|config|docs|tests|bench|\.ci)/[\w./*-]*")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text) if language in languages]


def inline(text: str) -> list[str]:
    return INLINE.findall(FENCE.sub("", text))


def each_page(test: Any) -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=name_of)(test)


# --- commands ------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[str]:
    """Lines of shell blocks and code in running text that call `bridge` or `make`."""
    lines = [line for block in blocks(text, *SHELLS) for line in block.splitlines()]
    for line in [*lines, *inline(text)]:
        said = line.removeprefix("$ ").removeprefix("uv run ").split("   ")[0].strip()
        if said.split(" ")[0] in {"bridge", "make"} and " " in said:
            yield said


def command_of(verb: str) -> Any:  # typer brings a click of its own
    where = next((each.where for each in VERBS if each.name == verb), None)
    assert where is not None, f"there is no `bridge {verb}`"
    module, _, name = where.partition(":")
    found = getattr(import_module(module), name)
    if not isinstance(found, typer.Typer):
        function = found
        found = typer.Typer()
        found.command()(function)
    return typer.main.get_command(found)


def check_bridge(words: list[str]) -> None:
    """Every word is a verb, a verb below it, an option that it has, or an argument where it takes one."""
    if words[0].startswith("--"):
        assert words[0] in options_of(typer.main.get_command(program())), f"bridge has no {words[0]}"
        return
    command, path = command_of(words[0]), f"bridge {words[0]}"
    while hasattr(command, "commands"):
        rest = [word for word in words[1:] if not word.startswith("-")]
        if not rest:
            break
        assert rest[0] in command.commands, f"`{path}` has no {rest[0]}"
        command, path, words = command.commands[rest[0]], f"{path} {rest[0]}", words[words.index(rest[0]) :]
    given = [word.partition("=")[0] for word in words[1:] if word.startswith("-")]
    assert set(given) <= options_of(command), f"`{path}` has no {set(given) - options_of(command)}"


def options_of(command: Any) -> set[str]:
    named = {name for each in command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}
    return named | {"--help"}


@each_page
def test_every_command_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for said in commands(page.read_text("utf-8")):
        words = shlex.split(said, comments=True)
        if words[0] == "make":
            assert set(words[1:]) <= targets, f"{name_of(page)}: {said}"
        else:
            check_bridge(words[1:])


def test_the_readme_lists_every_verb() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("## Commands")[2].partition("\n## ")[0]
    named = {found.split(" ")[1] for found in inline(table) if found.startswith("bridge ")}
    assert named == {verb.name for verb in VERBS}


@pytest.mark.parametrize(
    "said", ["bridge nothing", "bridge doubts nothing", "bridge ledger --nothing", "bridge --nothing"]
)
def test_a_command_that_is_not_there_is_noticed(said: str) -> None:
    with pytest.raises(AssertionError):
        check_bridge(said.split()[1:])


# --- configuration -------------------------------------------------------------------------------------------------


def resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found: Any = schema
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def knows(schema: Mapping[str, Any], path: list[str]) -> bool:
    node: Any = schema
    for step in path:
        node = resolved(schema, node)
        if step in node.get("properties", {}):
            node = node["properties"][step]
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        elif step not in node.get("propertyNames", {}).get("enum", ()):
            return False
    return True


@each_page
def test_every_config_key_exists(page: Path) -> None:
    first = {key for schema in SCHEMAS for key in schema["properties"]}
    mapping = SCHEMAS[1]["properties"]  # consent.granted is no key of consent, results.show none of results
    values = [*mapping["event"]["enum"], *mapping["send"]["properties"]["buttons"]["items"]["properties"]["do"]["enum"]]
    for said in inline(page.read_text("utf-8")):
        if KEY.fullmatch(said) and said.split(".")[0] in first and said not in values:
            assert any(knows(schema, said.split(".")) for schema in SCHEMAS), f"{name_of(page)}: no key {said}"


def merged(base: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in part.items():
        both = isinstance(base.get(key), dict) and isinstance(value, Mapping) and key not in WHOLE
        base[key] = merged(dict(base[key]), value) if both else value
    return base


def catalogue() -> Catalogue:
    files = sorted((ROOT / "config/templates").glob("*.yaml"))
    return load_templates([load_document(file.read_text("utf-8"), str(file)) for file in files])


@each_page
def test_every_snippet_loads(page: Path, tmp_path: Path) -> None:
    """A part of bridge.yaml is laid over the one we ship, a mapping is loaded with the templates we ship."""
    for number, block in enumerate(blocks(page.read_text("utf-8"), "yaml")):
        document = load_document(block, name_of(page))
        if "event" in document.data:
            assert load_mappings([document], catalogue(), ("es", "en", "pt")).warnings == ()
            continue
        whole = merged(load_document(CONFIG, "bridge.yaml").data, document.data)
        secret = base64.b64encode(bytes(32)).decode()
        environ = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", json.dumps(whole)), secret)
        folder = tmp_path / str(number)
        for file in re.findall(r"\$\{file:([^}]+)\}", json.dumps(whole)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(secret, "utf-8")
        folder.mkdir(exist_ok=True)
        (folder / "bridge.yaml").write_text(json.dumps(whole), "utf-8")
        load_settings(folder / "bridge.yaml", environ)  # Refused: every problem at its line


@each_page
def test_json_in_the_pages_is_json(page: Path) -> None:
    for block in blocks(page.read_text("utf-8"), "json"):
        json.loads(block)


def test_the_readme_shows_the_bubble_that_its_mapping_makes() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    mapping = next(block for block in blocks(text, "yaml") if "event:" in block)
    (bubble,) = blocks(text, "text")
    (rule,) = load_mappings([load_document(mapping, "README.md")], catalogue(), ("es", "en", "pt")).mappings
    fixture = json.loads((ROOT / "config/mappings/fixtures/appointment-booked.bundle.json").read_text("utf-8"))
    made = render(
        rule, context_of(fixture, at="2026-11-22T10:00:00+01:00", lang="es", site_languages=("es", "en", "pt"))
    )
    assert isinstance(made, TemplateMessage)
    assert bubble.splitlines() == [*made.body.splitlines(), " ".join(f"[{each.title}]" for each in made.buttons)]


# --- links and files -----------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{name_of(page)}: {target}"


@each_page
def test_every_file_of_ours_that_is_named_is_there(page: Path) -> None:
    for said in inline(page.read_text("utf-8")):
        if OWN_PATH.fullmatch(said) and "*" not in said:
            assert (ROOT / said).exists(), f"{name_of(page)}: {said}"


# --- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_record_has_its_four_parts(record: Path) -> None:
    text = record.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert text.startswith(f"# {record.name[:4]}. ")
    assert re.search(r"^(Accepted|Superseded by \d{4}), \d{4}-\d{2}-\d{2}\.$", text, re.MULTILINE)
    assert 300 <= len(text.split()) <= 520, "about 400 words"


def test_records_are_numbered_and_listed() -> None:
    assert [record.name[:4] for record in RECORDS] == [f"{number:04}" for number in range(1, len(RECORDS) + 1)]
    listed = (ROOT / "docs/architecture.md").read_text("utf-8")
    assert [record.name for record in RECORDS if f"(decisions/{record.name})" not in listed] == []
    titles = {record.name: record.read_text("utf-8").splitlines()[0].partition(". ")[2] for record in RECORDS}
    assert [name for name, title in titles.items() if title not in listed] == []


def test_the_map_names_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "bridge").glob("*/__init__.py")}
    map_ = (ROOT / "docs/architecture.md").read_text("utf-8")
    assert {room for room in rooms if f"| `bridge/{room}/` |" not in map_} == set()


def test_the_changelog_says_what_this_version_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", text, re.MULTILINE)
    assert __version__ in (released[0] if released else text.partition("## [Unreleased]")[2])
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= allowed


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 11_000
