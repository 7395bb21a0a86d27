"""Every sentence that the code can put into a `reason` column, found in its syntax trees.

A hole of an f-string is `{}`. What the EHR, WhatsApp or a mapping's author words is not a sentence of ours and is not here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "bridge"
OTHERS = {  # what looks like one and is not: an element's name, a zone's rule, a record's name, a language
    *("cancellationReason", "cancelationReason", "of the place", "of the patient: the visit has no place"),
    *("another record", "{}_{}"),
}
FILES = (
    *sorted((ROOT / "engine").glob("*.py")),
    *sorted((ROOT / "outbound").glob("*.py")),
    *(ROOT / name for name in ("fhir/pieces.py", "fhir/decisions.py", "mappers/recipient.py", "mappers/reminders.py")),
    *(ROOT / name for name in ("mappers/person.py", "mappers/render.py", "ledger/brake.py", "inbound/routes.py")),
)
ELSEWHERE = {"lint.py", "standing.py", "glance.py", "replay.py"}  # what they say is shown at once and never stored
MAKERS = {  # what is built with a reason, and which of its arguments that is
    "Fate": 2, "Outcome": 1, "Never": 1, "Later": 0, "Refusal": 0, "Skip": 0, "Covered": 0, "Waiting": 0, "Postponed": 2,
    "Failed": 0, "_fate": 3, "_end": 2, "_give_up": 1, "_again": 3, "pause": 3, "_hold": 3,
    "_permanent": 0, "_stop": 0, "_unsure": 0,
}  # fmt: skip
ANSWER = re.compile(r"\bstr \||\| str\b|tuple\[str, str\]")  # a function that may answer with a reason against it


def sentences() -> dict[str, str]:
    """Sentence -> "file:line" of where it is made."""
    found: dict[str, str] = {}
    for path in FILES:
        if path.name in ELSEWHERE:
            continue
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for node, text in _of(tree):
            if text in OTHERS:
                continue
            found.setdefault(text, f"{path.relative_to(ROOT.parent)}:{node.lineno}")
    return found


def _of(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MAKERS and len(node.args) > MAKERS[name]:
                yield from _texts(node.args[MAKERS[name]])
            if name == "Reaction" and len(node.args) > 3:
                yield from _texts(node.args[3])
            if name == "append" and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "reasons":
                yield from _texts(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "reason":
                    yield from _texts(keyword.value)
        elif isinstance(node, ast.Assign):
            yield from _assigned(node)
        elif isinstance(node, ast.FunctionDef) and node.returns and ANSWER.search(ast.unparse(node.returns)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    values = inner.value.elts if isinstance(inner.value, ast.Tuple) else [inner.value]
                    yield from _texts(values[-1])


def _assigned(node: ast.Assign) -> Iterator[tuple[ast.expr, str]]:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for name, value in zip(target.elts, node.value.elts, strict=True):
                if getattr(name, "id", "") == "reason":
                    yield from _texts(value)
        elif getattr(target, "id", "") in {"reason", "REASON", "what", "FOREIGN", "_NOTHING_TO_DO", "_WORDS"}:
            values = node.value.values if isinstance(node.value, ast.Dict) else [node.value]
            for value in values if not isinstance(node.value, ast.Set) else node.value.elts:
                yield from _texts(value)


def _texts(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    """The sentences that an expression may become."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node, node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [each.value if isinstance(each, ast.Constant) else "{}" for each in node.values]
        text = "".join(str(part) for part in parts)
        if text.replace("{}", "").strip(" :;|"):
            yield node, text
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for each in node.values:
            yield from _texts(each)
