"""Problems as other programs read them: GitHub's annotations and SARIF 2.1.0. Pure.

Sources: https://docs.github.com/actions/reference/workflow-commands-for-github-actions ·
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridge import __version__
from bridge.cli.codes import CODES
from bridge.mappers.document import Problem

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def github(problems: Iterable[Problem], top: Path) -> str:
    """One annotation each, at its line of the changed file; `top` is the checkout, to which paths are told."""
    return "".join(f"{_annotation(problem, top)}\n" for problem in problems)


def _annotation(problem: Problem, top: Path) -> str:
    told = problem.message + (f"\n{problem.hint}" if problem.hint else "")
    properties = {
        "file": _below(problem.file, top),
        "line": str(problem.line),
        "col": str(problem.column),
        "title": f"{problem.code} (bridge explain {problem.code})",
    }
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{'error' if problem.severity == 'error' else 'warning'} {listed}::{_data(told)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif(problems: Sequence[Problem], top: Path) -> str:
    """One run of one tool; a rule for each code that occurs, with what `bridge explain` says of it."""
    codes = sorted({problem.code for problem in problems})
    rules = [_rule(code) for code in codes]
    results = [
        {
            "ruleId": problem.code,
            "ruleIndex": codes.index(problem.code),
            "level": "error" if problem.severity == "error" else "warning",
            "message": {"text": problem.message + (f"\n{problem.hint}" if problem.hint else "")},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(_below(problem.file, top)), "uriBaseId": "%SRCROOT%"},
                        "region": {"startLine": problem.line, "startColumn": problem.column},
                    }
                }
            ],
        }
        for problem in problems
    ]
    driver = {"name": "bridge check", "semanticVersion": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, ensure_ascii=False, indent=1) + "\n"


def _rule(code: str) -> dict[str, Any]:
    known = CODES[code]
    return {
        "id": code,
        "shortDescription": {"text": known.what},
        "fullDescription": {"text": known.why},
        "help": {"text": known.fix},
    }


def _below(file: str, top: Path) -> str:
    """As it is told from the top of the checkout; a file outside of it by its whole path."""
    path = Path(file).absolute()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else path.as_posix()
