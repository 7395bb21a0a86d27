"""README.es.md and README.pt.md say what README.md says: the same headings, blocks, code, links and tables, in its order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH = (ROOT / "README.md").read_text("utf-8")
TRANSLATIONS = ("README.es.md", "README.pt.md")
FENCE = re.compile(r"^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)


def sections(text: str) -> list[str]:
    """What stands under each heading, the words before the first one too."""
    return re.split(r"^#+ .*$", FENCE.sub("", text), flags=re.MULTILINE)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)]


def links(text: str) -> list[str]:
    return sorted(re.findall(r"\]\((?!README)([^)]+)\)", text))


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_translation_has_the_same_parts(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert headings(text) == headings(ENGLISH)
    assert FENCE.findall(text) == FENCE.findall(ENGLISH)
    for own, other in zip(sections(text), sections(ENGLISH), strict=True):
        about = other.strip()[:60]
        assert sorted(re.findall(r"`[^`\n]+`", own)) == sorted(re.findall(r"`[^`\n]+`", other)), about
        assert links(own) == links(other), about
        for mark in (r"^- ", r"^\|"):
            assert len(re.findall(mark, own, re.MULTILINE)) == len(re.findall(mark, other, re.MULTILINE)), about


def commands(text: str) -> list[str]:
    return re.findall(r"^\| (`bridge [^|]+) \|", text, re.MULTILINE)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_the_verbs_stand_in_the_same_order(name: str) -> None:
    assert commands((ROOT / name).read_text("utf-8")) == commands(ENGLISH)


@pytest.mark.parametrize("name", ["README.md", *TRANSLATIONS])
def test_each_names_the_others(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert all(f"]({other})" in text for other in {"README.md", *TRANSLATIONS} - {name})
