"""docs/cli.md and docs/config.md, made of the code: the verbs with their options, the schema with its descriptions.

python -m tools.docs_pages            write both
python -m tools.docs_pages --check    exit 1 unless both are current
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from bridge.cli import VERBS

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "bridge/settings_schema.json"
MADE = "<!-- Made by `make docs` from the code; a change here is lost. -->"

EXITS = """Exit codes: 0 done · 2 usage, or a configuration that is refused · 3 nothing is sent, and the reason is printed · 4 failed.

`--config FILE` may stand before the verb or behind it; without it `BRIDGE_CONFIG`, else `config/bridge.yaml`.
`bridge --version` prints the version; `--help` behind a verb prints what is told here.
"""

CONFIG = """One file, `config/bridge.yaml`, in YAML 1.2. Beside it lie `mappings/` ([how to write one](mapping.md)), `templates/`,
`replies/` and `words.yaml`. `bridge check` says what is wrong with any of them; `bridge explain BR031` more about a code.

A secret is written as `${env:NAME}` or `${file:path}`, never as it is, and has no default. Durations are a number and s, m,
h, d or w. Keys in **bold** must be there. `<name>` stands for a name that you choose.
"""


def cli() -> str:
    """The page of the verbs, in the order of `bridge --help`."""
    out = [MADE, "# The command `bridge`", "", EXITS]
    for verb in VERBS:
        module, _, name = verb.where.partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            function = found
            found = typer.Typer(add_completion=False)
            found.command(help=verb.help)(function)
        out += [f"## bridge {verb.name}", "", verb.help, ""]
        out += _command(typer.main.get_command(found), f"bridge {verb.name}")
    return "\n".join(out).rstrip() + "\n"


def _command(command: Any, path: str) -> Iterator[str]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from (f"### {path} {name}", "", *_paragraphs(inner.help), "")
        yield from _command(inner, f"{path} {name}")
    if getattr(command, "commands", None):
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and "--help" not in each.opts]
    usage = [_placed(each) for each in arguments] + (["[OPTIONS]"] if options else [])
    yield from (f"    {' '.join([path, *usage])}", "")
    rows = [(_placed(each).strip("[]"), each.help or "") for each in arguments]
    rows += [(_option(each), _told(each)) for each in options]
    if rows:
        yield from ("| | |", "| --- | --- |")
        yield from (f"| `{name}` | {_cell(told)} |" for name, told in rows)
        yield ""


def _placed(argument: Any) -> str:
    name = argument.metavar or str(argument.name).upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {option.metavar or option.opts[-1].lstrip('-').upper()}"


def _told(option: Any) -> str:
    told = str(option.help or "")
    if option.required:
        return f"{told} Required."
    if option.is_flag or option.default in (None, "", ()) or not isinstance(option.default, str | int | float | Path):
        return told
    return f"{told} Default: {option.default}."


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(part.split()) for part in (text or "").split("\n\n")]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def config() -> str:
    """The page of the settings, a section for each of the first level."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    out = [MADE, "# The configuration", "", CONFIG]
    for key, node in schema["properties"].items():
        node = _resolved(schema, node)  # noqa: PLW2901
        needed = key in schema.get("required", ())
        out += [f"## {key}", "", f"{node.get('description', '')} {'Must be there.' if needed else ''}".strip(), ""]
        rows = list(_keys(schema, node, key))
        if rows:
            out += ["| key | what it is | values | default |", "| --- | --- | --- | --- |", *rows, ""]
        elif "const" in node or "type" in node:
            out += [f"Values: {_values(schema, node)}.", ""]
    return "\n".join(out).rstrip() + "\n"


def _keys(schema: Mapping[str, Any], node: Mapping[str, Any], path: str) -> Iterator[str]:
    """A row for each key below, the branches of a key with several forms too."""
    named = dict(node.get("properties", {}))
    for branch in (*node.get("oneOf", ()), *node.get("anyOf", ()), *node.get("allOf", ())):
        for part in (branch, branch.get("then", {})):
            named = {**_resolved(schema, part).get("properties", {}), **named}
    every = node.get("additionalProperties")
    if isinstance(every, dict):
        named["<name>"] = every
    needed = set(node.get("required", ()))
    for key, inner in named.items():
        if inner is True or not isinstance(inner, dict):
            continue
        child = _resolved(schema, inner)
        at = f"{path}.{key}"
        shown = f"**`{at}`**" if key in needed else f"`{at}`"
        default = json.dumps(child["default"], ensure_ascii=False) if "default" in child else ""
        cells = (shown, child.get("description", ""), _values(schema, child), f"`{default}`" if default else "")
        yield f"| {' | '.join(_cell(str(each)) for each in cells)} |"
        yield from _keys(schema, child, at)
        if isinstance(child.get("items"), dict):
            yield from _keys(schema, _resolved(schema, child["items"]), f"{at}[]")


def _values(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if "enum" in node:
        return ", ".join(f"`{each}`" for each in node["enum"])
    examples = ", ".join(f"`{each}`" for each in node.get("examples", ()))
    kind = node.get("type", "")
    if kind == "array":
        inner = _values(schema, _resolved(schema, node.get("items", {})))
        return f"list of {inner}" if inner else "list"
    words = {"string": "text", "integer": "whole number", "boolean": "`true`, `false`", "object": ""}
    kinds = " or ".join(filter(None, (words.get(each, each) for each in ([kind] if isinstance(kind, str) else kind))))
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum")
    if low is not None or high is not None:
        kinds += f" {low if low is not None else ''}–{high if high is not None else ''}"
    return f"{kinds}, like {examples}" if examples and kinds else kinds or examples


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(node)
    while "$ref" in found:
        target: Any = schema
        for step in found.pop("$ref").removeprefix("#/").split("/"):
            target = target[step]
        found = {**target, **found}  # a description beside the reference speaks of this key
    return found


PAGES = {"docs/cli.md": cli, "docs/config.md": config}


def main(arguments: list[str]) -> int:
    """Write, or compare."""
    old = [name for name, make in PAGES.items() if not _is(ROOT / name, make())]
    if "--check" in arguments:
        sys.stdout.write("".join(f"{name} is not current: make docs\n" for name in old))
        return 1 if old else 0
    for name in old:
        (ROOT / name).write_text(PAGES[name](), "utf-8")
        sys.stdout.write(f"{name}\n")
    return 0


def _is(file: Path, text: str) -> bool:
    return file.exists() and file.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
