"""Strict FHIRPath: checked when a mapping is loaded, bound to business time, never changing what it reads.

A closure (`closures.py`) answers where it can. For the rest there is fhirpathpy, on deep copies and behind a lock: it
keeps the machine's clock and its current model in module globals, and may modify its input.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import fhirpathpy
from fhirpathpy.engine.nodes import FP_Type, TypeInfo

from bridge.errors import BadExpression, BridgeError, ExpressionFailed
from bridge.mappers.closures import Compiler, Uncovered
from bridge.mappers.kinds import Checker, Kinds
from bridge.mappers.model import Model, model
from bridge.mappers.operators import Items, Run, Scope
from bridge.mappers.syntax import Node, parse
from bridge.mappers.temporal import Moment, from_datetime

_LIBRARY = threading.Lock()


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled path. `kinds`: what it can give, None where anything."""

    text: str
    kinds: Kinds
    run: Run
    by_library: bool

    def evaluate(self, scope: Scope) -> Items:
        """The values found, plain: text, numbers (Decimal for fractions), booleans, objects of the resource as they are.

        Raises:
            ExpressionFailed: several values where one is wanted, or kinds that do not compare.
        """
        return [_plain(item) for item in self.run(scope, [scope.root])]


def compile(  # noqa: A001
    text: str, *, resource_type: str, fhir_version: str, variables: Mapping[str, Kinds], library: bool = False
) -> Expression:
    """Check and compile.

    Args:
        text: FHIRPath, written in the context of the event's resource.
        resource_type: "Appointment".
        fhir_version: "R4", "R4B" or "R5".
        variables: the names that may stand behind %, each with what it can be (see `kinds`).
        library: leave the closures out; the tests hold one against the other.

    Raises:
        BadExpression: with the column and what was meant.
    """
    known = model(fhir_version)
    root: Kinds = frozenset({resource_type})
    checker = Checker(known, root, variables)
    try:
        tree = parse(text)
        kinds = checker.check(tree, root)
        if not library:
            try:
                return Expression(text, kinds, Compiler(known, checker.kinds).inside(tree, root), False)
            except Uncovered:
                pass
        return Expression(text, kinds, _by_library(_rewritten(text, tree), known), True)
    except RecursionError:
        raise BadExpression("BR020", 0, "FHIRPath syntax: nested too deeply") from None


def scope(root: Any, variables: Mapping[str, Any], *, now: datetime, zone: str) -> Scope:
    """What one evaluation sees. `now` is business time and aware; `zone` is the appointment's."""
    place = _zone(zone)
    local = now.astimezone(place)
    return Scope(root, dict(variables), from_datetime(local), Moment((local.year, local.month, local.day)), place)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _rewritten(text: str, tree: Node) -> str:
    """`now()` -> `%now.toDateTime()`: the library reads the machine's clock, and a plain %now would compare as text."""
    spots: list[tuple[int, int, str]] = []

    def visit(node: Node, behind: Node | None) -> None:
        clock = node.text if node.text in ("now", "today") else ""
        if clock and (node.kind == "constant" or (node.kind == "function" and node.base is None)):
            convert = "toDateTime" if clock == "now" else "toDate"
            done = behind is not None and behind.kind == "function" and behind.text == convert
            spots.append((node.column, node.stop, f"%{clock}" + ("" if done else f".{convert}()")))
        if node.base is not None:
            visit(node.base, node)
        for arg in node.args:
            visit(arg, None)

    visit(tree, None)
    for start, stop, new in sorted(spots, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _by_library(text: str, known: Model) -> Run:
    path = fhirpathpy.compile(text, known.raw)

    def run(scope: Scope, focus: Items) -> Items:
        variables = {name: _copy(value) for name, value in scope.variables.items()}
        variables |= {"now": str(scope.now), "today": str(scope.today), "resource": _copy(scope.root)}
        variables["rootResource"] = variables["resource"]
        with _LIBRARY:
            TypeInfo.model = known.raw  # type: ignore[assignment]  # its own "is" sets it so
            try:
                found = path(_copy(scope.root), variables)
            except BridgeError:
                raise
            except Exception as exc:  # the library raises bare Exceptions that quote the values
                raise ExpressionFailed(f"the expression cannot be evaluated ({type(exc).__name__})") from None
        items = found if isinstance(found, list) else [found]
        if any(isinstance(item, dict) and "$status" in item for item in items):
            raise ExpressionFailed("several values where one is wanted")
        return items

    return run


def _copy(value: Any) -> Any:
    """A deep copy as plain dicts and lists, without the nulls that FHIR pads lists with."""
    if isinstance(value, Mapping):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(each) for each in value if each is not None]
    return str(value) if isinstance(value, Moment) else value


def _plain(item: Any) -> Any:
    if isinstance(item, Moment | FP_Type):
        return str(item)
    return Decimal(str(item)) if type(item) is float else item
