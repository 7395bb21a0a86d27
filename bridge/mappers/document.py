"""YAML 1.2 with the place of every key and value, so that each problem names its file, line and column.

Used by settings, mappings, templates and replies. Plain scalars follow the YAML 1.2 core schema, numbers decimal only: `no`,
`on` and `21:00` are text, a date is text, a key is always text. What reads differently to YAML 1.1 tools or has no place
in a config (tags, merge keys, leading zeros, tabs) is refused rather than guessed.
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from bridge.errors import Refused

Path = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, both from 1

MAX_NODES = 100_000  # after aliases are spelt out: a page of nested aliases would otherwise fill the memory
MAX_DEPTH = 60  # deeper than any config; a thousand brackets would otherwise end in a RecursionError

CORE_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "value", "map", "seq"}
NULL = {"", "~", "null", "Null", "NULL"}
TRUE = {"true", "True", "TRUE"}
FALSE = {"false", "False", "FALSE"}
INTEGER = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place; `str()` is what a person reads, in the form of mapping-language.md D.3."""

    file: str
    line: int  # from 1
    column: int  # from 1
    code: str  # "BR012", see `bridge explain BR012`
    message: str
    source: str  # the whole line as written, secrets masked
    hint: str = ""
    severity: str = "error"  # or "warning": shown, and runs all the same

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.severity} {self.code} {self.message}"
        if self.source.strip():
            text += f"\n{self.line:>6} | {self.source.replace(chr(9), ' ')}\n       | {' ' * (self.column - 1)}^"
        return text + (f"\n       = {self.hint}" if self.hint else "")

    def as_json(self) -> dict[str, Any]:
        """What `bridge check --json` prints of it."""
        shown: dict[str, Any] = {"file": self.file, "line": self.line, "column": self.column, "code": self.code}
        shown |= {"severity": self.severity, "message": self.message}
        return shown | ({"hint": self.hint} if self.hint else {})


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain values, with the place of every key and value beside them."""

    path: str  # as it is shown in problems
    data: Any  # dict, list, str, int, float, bool, None
    text: str
    values: Mapping[Path, Place] = field(default_factory=dict, repr=False)
    keys: Mapping[Path, Place] = field(default_factory=dict, repr=False)

    def position(self, path: Sequence[str | int], key: bool = False) -> Place:
        """Line and column (from 1) of the value at `path`, or of its key; of the nearest parent for what is not there."""
        steps = tuple(path)
        if key and steps in self.keys:
            return self.keys[steps]
        while steps and steps not in self.values:
            steps = steps[:-1]
        return self.values.get(steps, (1, 1))

    def line(self, number: int) -> str:
        """The line as written, without its end."""
        lines = self.text.splitlines()
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def problem(
        self,
        path: Sequence[str | int],
        code: str,
        message: str,
        *,
        key: bool = False,
        hint: str = "",
        offset: int | None = None,
        secret: bool = False,
        severity: str = "error",
    ) -> Problem:
        """A problem at `path`. `offset`: letters into a value of one line or a `|` block, 0 its first. `secret`: the value is not printed."""
        line, column = self.position(path, key)
        source = self.line(line)
        if offset is not None and source[column - 1 : column] == "|":
            line, column = self._inside(path, line, offset)
            source = self.line(line)
        elif offset is not None:
            quoted = source[column - 1 : column] in {'"', "'"}  # escapes before the place cost a column or two
            column += offset + quoted
        if secret:
            source = source[: column - 1] + "…" if not key else source
        return Problem(self.path, line, column, code, message, source, hint, severity)

    def _inside(self, path: Sequence[str | int], line: int, offset: int) -> Place:
        """The place of a letter of a `|` block that begins below `line`."""
        value: Any = self.data
        for step in path:
            value = value[step]
        before = str(value)[:offset]
        at = line + 1 + before.count("\n")
        rows = (row for row in self.text.splitlines()[line:] if row.strip())
        first = next(rows, "")
        return at, len(first) - len(first.lstrip(" ")) + len(before) - before.rfind("\n")


def load_document(text: str, file: str) -> Document:
    """Read one YAML document.

    Raises:
        Refused: syntax (BR001), duplicate keys (BR002), tabs (BR003), tags, merge keys and what YAML 1.1 reads
            differently (BR004), a flow-map key without a value (BR005), more than one document or none (BR006).
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    bare = Document(file, None, text)
    directive = re.match(r"%YAML\s+1\.[01]", text)
    if directive:
        raise Refused([bare.problem((), "BR004", "this file says YAML 1.1; remove the line, bridge reads YAML 1.2")])
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, RecursionError) as exc:
        raise Refused([_syntax(bare, exc)]) from None
    if root is None:
        raise Refused([Problem(file, 1, 1, "BR006", "the file is empty", "")])
    walk = _Walk(bare)
    data = walk.plain(root, ())
    if walk.problems:
        raise Refused(sorted(walk.problems, key=lambda problem: (problem.line, problem.column)))
    return Document(file, data, text, walk.values, walk.keys)


def closest(word: str, known: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence: `; did you mean "when"?`, or nothing."""
    found = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


def shown_path(path: Sequence[str | int]) -> str:
    """`send.buttons[0].id`, or `(root)`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".") or "(root)"


def check_schema(doc: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """Everything JSON Schema finds, in reading order; see `bridge.mappers.findings` for how it is worded."""
    from bridge.mappers.findings import findings  # late: jsonschema takes 40 ms that `bridge --help` need not pay

    return findings(doc, schema)


def _syntax(bare: Document, exc: Exception) -> Problem:
    """The parser's complaint at the place it complained about."""
    if isinstance(exc, MarkedYAMLError) and exc.problem_mark is not None:
        line, column = exc.problem_mark.line + 1, exc.problem_mark.column + 1
        code, hint = "BR001", ""
        flow = exc.context_mark is not None and "flow" in str(exc.context)
        message = str(exc.problem or "not YAML")
        if "'\\t'" in message or bare.line(line)[:column].lstrip(" ").startswith("\t"):
            code, message, hint = "BR003", "a tab where YAML wants spaces", "indent with two spaces"
        elif "another document" in message:
            code, message = "BR006", "a second document begins here; one file holds one"
        elif "mapping values are not allowed" in message:
            hint = "a value that contains a colon and a space needs quotes"
        elif flow and exc.context_mark.line < exc.problem_mark.line:
            opened = exc.context_mark
            hint = f"or what stands in line {line}, column {column} does not belong into it"
            line, column = opened.line + 1, opened.column + 1
            message = f"the bracket that opens here is not closed: {message}"
        elif exc.context:
            message = f"{message} ({exc.context})"
        return Problem(bare.path, line, column, code, message, bare.line(line), hint)
    if isinstance(exc, ReaderError):
        before = bare.text[: exc.position]
        line = before.count("\n") + 1
        return Problem(bare.path, line, exc.position - before.rfind("\n"), "BR001", "a control character", "")
    return Problem(bare.path, 1, 1, "BR001", "nested too deeply" if isinstance(exc, RecursionError) else "not YAML", "")


class _Walk:
    """From nodes to plain values, keeping places and problems."""

    def __init__(self, bare: Document) -> None:
        self.bare = bare
        self.problems: list[Problem] = []
        self.values: dict[Path, Place] = {}
        self.keys: dict[Path, Place] = {}
        self.nodes = 0
        self.open: set[int] = set()

    def refuse(self, node: Node, code: str, message: str, hint: str = "") -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.problems.append(Problem(self.bare.path, line, column, code, message, self.bare.line(line), hint))

    def plain(self, node: Node, path: Path) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, ScalarNode) and node.style is None and node.value == "":
            place = self.keys.get(path, place)  # nothing was written: the parser stands where the next thing begins
        self.values[path] = place
        self.nodes += 1
        if self.nodes > MAX_NODES or len(path) > MAX_DEPTH or id(node) in self.open:
            if not any(problem.code == "BR004" for problem in self.problems):
                self.refuse(node, "BR004", "this holds itself, or is far larger or deeper than a config can be")
            return None
        tag = str(node.tag or "").removeprefix("tag:yaml.org,2002:")
        if tag not in CORE_TAGS:
            self.refuse(node, "BR004", f'the tag "{node.tag}" has no meaning here; write the plain value')
            return None
        if isinstance(node, ScalarNode):
            return self.scalar(node)
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, MappingNode)
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.refuse(key_node, "BR004", "a key must be one word of text")
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                self.refuse(key_node, "BR004", "merge keys are YAML 1.1; write the values where they are used")
                continue
            if key in found:
                first = self.keys[(*path, key)][0]
                self.refuse(key_node, "BR002", f'the key "{key}" is already set in line {first}')
                continue
            self.keys[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if node.flow_style and self.has_no_colon(key_node, value_node):
                self.refuse(
                    key_node, "BR005", f'"{key}" has no value here', "a value that contains a comma needs quotes"
                )
            found[key] = self.plain(value_node, (*path, key))
        return found

    @staticmethod
    def has_no_colon(key: ScalarNode, value: Node) -> bool:
        """`{es: No, gracias}`: `gracias` became a key with nothing behind it."""
        empty = isinstance(value, ScalarNode) and value.value == "" and value.style is None
        return empty and value.start_mark.index == key.end_mark.index

    def scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        if node.style is not None:  # quoted or a block: text, whatever it looks like
            return text
        if text in NULL:
            return None
        if text in TRUE or text in FALSE:
            return text in TRUE
        if LEADING_ZERO.fullmatch(text):
            self.refuse(node, "BR004", f"{text} loses its zero as a number", "write it in quotes if it is text")
            return text
        if INTEGER.fullmatch(text):
            return int(text) if len(text) < 400 else text
        if FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        return text


def renamed(problems: Iterable[Problem], file: str) -> list[Problem]:
    """The same problems under another file name, for text that is shown before it is saved."""
    return [replace(problem, file=file) for problem in problems]
