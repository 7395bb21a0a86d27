"""docs/cli.md and docs/config.md are what the code makes of them: `make docs` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tools.docs_pages import PAGES, ROOT, SCHEMA, config


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == PAGES[name](), "make docs"


def keys(node: Any) -> Iterator[str]:
    """Every name of a key, wherever the schema has one."""
    if isinstance(node, dict):
        named = node.get("properties")
        yield from named if isinstance(named, dict) else ()
        for inner in node.values():
            yield from keys(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from keys(inner)


def test_no_key_of_the_schema_is_left_out() -> None:
    page = config()
    schema = json.loads(SCHEMA.read_text("utf-8"))
    assert [key for key in keys(schema) if f".{key}`" not in page and f"## {key}\n" not in page] == []


def test_every_key_is_described() -> None:
    bare = [
        line.split("|")[1].strip()
        for line in config().splitlines()
        if line.startswith("| ") and line.split("|")[2].strip() == "" and "<name>`" not in line
    ]
    assert bare == []
