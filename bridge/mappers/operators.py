"""What FHIRPath's operators and plain functions do to values: three-valued logic, equality, order, text.

Collections are lists of plain JSON values; dates are text until they meet another date.

Source: https://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from typing import Any

from bridge.errors import ExpressionFailed
from bridge.mappers.temporal import Moment, compare, parse, parse_time

Items = list[Any]
Run = Callable[["Scope", Items], Items]

YES, NO = [True], [False]


@dataclass(slots=True)
class Scope:
    """What an evaluation can see. One per rendering, never shared between threads."""

    root: Any
    variables: dict[str, Any]
    now: Moment
    today: Moment
    zone: tzinfo
    index: int = 0


def add(found: Items, value: Any) -> None:
    if type(value) is list:
        found.extend(each for each in value if each is not None)
    elif value is not None:
        found.append(value)


def fail(reason: str) -> Items:
    raise ExpressionFailed(reason)


def single(items: Items) -> Any:
    if len(items) > 1:
        raise ExpressionFailed("several values where one is wanted")
    return items[0] if items else None


def truth(items: Items) -> bool | None:
    """FHIRPath's three values. One thing that is not a boolean is refused, as the library does."""
    value = single(items)
    if value is None or type(value) is bool:
        return value
    raise ExpressionFailed("true or false is wanted here")


def moment_of(value: Any) -> Moment | None:
    return value if isinstance(value, Moment) else parse(value) or parse_time(value)


def _same(left: Any, right: Any, temporal: bool, zone: tzinfo) -> bool | None:
    if temporal or isinstance(left, Moment) or isinstance(right, Moment):
        mine, yours = moment_of(left), moment_of(right)
        if mine is not None and yours is not None:
            order = compare(mine, yours, zone)
            return None if order is None else order == 0
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if type(left) is float or type(right) is float:
        return (
            isinstance(left, int | float | Decimal)
            and isinstance(right, int | float | Decimal)
            and (Decimal(str(left)) == Decimal(str(right)))
        )
    return bool(left == right)


def equal(left: Run, right: Run, temporal: bool, wanted: bool) -> Run:
    def run(scope: Scope, focus: Items) -> Items:
        mine, yours = left(scope, focus), right(scope, focus)
        if not mine or not yours:
            return []
        if len(mine) != len(yours):
            return NO if wanted else YES
        answers = [_same(a, b, temporal, scope.zone) for a, b in zip(mine, yours, strict=True)]
        if False in answers:
            return NO if wanted else YES
        return [] if None in answers else YES if wanted else NO

    return run


def ordered(operator: str, left: Run, right: Run, temporal: bool) -> Run:
    def run(scope: Scope, focus: Items) -> Items:
        mine, yours = single(left(scope, focus)), single(right(scope, focus))
        if mine is None or yours is None:
            return []
        order = _order(mine, yours, temporal, scope.zone)
        if order is None:
            return []
        return [{"<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0}[operator]]

    return run


def _order(mine: Any, yours: Any, temporal: bool, zone: tzinfo) -> int | None:
    if temporal or isinstance(mine, Moment) or isinstance(yours, Moment):
        a, b = moment_of(mine), moment_of(yours)
        if a is None or b is None:
            raise ExpressionFailed("a date that cannot be read, or no date at all")
        return compare(a, b, zone)
    if isinstance(mine, str) and isinstance(yours, str):
        return (mine > yours) - (mine < yours)
    numbers = (int, float, Decimal)
    if isinstance(mine, numbers) and isinstance(yours, numbers) and bool not in (type(mine), type(yours)):
        x, y = Decimal(str(mine)), Decimal(str(yours))
        return (x > y) - (x < y)
    raise ExpressionFailed("two kinds that do not compare")


def within(item: Run, collection: Run, temporal: bool) -> Run:
    def run(scope: Scope, focus: Items) -> Items:
        value = single(item(scope, focus))
        if value is None:
            return []
        return YES if any(_same(value, each, temporal, scope.zone) for each in collection(scope, focus)) else NO

    return run


def logic(operator: str, left: Run, right: Run) -> Run:
    def run(scope: Scope, focus: Items) -> Items:
        a = truth(left(scope, focus))
        if operator == "and" and a is False:
            return NO
        if operator == "or" and a is True:
            return YES
        if operator == "implies" and a is False:
            return YES
        b = truth(right(scope, focus))
        answer: bool | None
        if operator == "and":
            answer = False if b is False else None if a is None or b is None else True
        elif operator in ("or", "implies"):
            answer = True if b is True else None if a is None or b is None else False
        else:
            answer = None if a is None or b is None else a is not b
        return [] if answer is None else YES if answer else NO

    return run


def joined(left: Run, right: Run) -> Run:
    def run(scope: Scope, focus: Items) -> Items:
        parts = [single(left(scope, focus)), single(right(scope, focus))]
        if not all(part is None or isinstance(part, str) for part in parts):
            return fail("& joins text")
        return ["".join(part or "" for part in parts)]

    return run


def distinct(items: Items) -> Items:
    kept: Items = []
    for item in items:
        if not any(type(item) is type(other) and item == other for other in kept):
            kept.append(item)
    return kept


def _not(items: Items) -> Items:
    value = truth(items)
    return [] if value is None else NO if value else YES


def _one(items: Items) -> Items:
    return items if len(items) <= 1 else fail("several values where one is wanted")


def _to_string(items: Items) -> Items:
    value = single(items)
    if value is None or isinstance(value, Mapping):
        return []
    return [("true" if value else "false") if type(value) is bool else str(value)]


PLAIN: dict[str, Callable[[Items], Items]] = {
    "first": lambda items: items[:1],
    "last": lambda items: items[-1:],
    "tail": lambda items: items[1:],
    "single": _one,
    "exists": lambda items: YES if items else NO,
    "empty": lambda items: NO if items else YES,
    "count": lambda items: [len(items)],
    "distinct": distinct,
    "not": _not,
    "toString": _to_string,
    "length": lambda items: [len(value)] if isinstance(value := single(items), str) else [],
}
STRINGS: dict[str, Callable[..., Any]] = {
    "upper": str.upper,
    "lower": str.lower,
    "trim": str.strip,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": lambda text, part: part in text,
}
