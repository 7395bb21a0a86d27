"""What each part of an expression can be: element names against the FHIR model, names of variables and functions.

`None` as kinds means anything (the content of a contained resource, say): nothing is checked below it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from bridge.errors import BadExpression
from bridge.mappers.model import TEMPORAL, Model
from bridge.mappers.syntax import Node

Kinds = frozenset[str] | None

BOOLEAN: Kinds = frozenset({"boolean"})
INTEGER: Kinds = frozenset({"integer"})
NUMBER: Kinds = frozenset({"decimal"})
TEXT: Kinds = frozenset({"string"})
NOTHING: Kinds = frozenset()  # the literal {}
OPEN: Kinds = frozenset({"*"})  # plain data that is not FHIR: read as it is, unchecked

SYSTEM = {"Boolean": "boolean", "String": "string", "Integer": "integer", "Decimal": "decimal", "Date": "date",
          "DateTime": "dateTime", "Time": "time", "Quantity": "Quantity"}  # fmt: skip

SAME = {"where": 1, "first": 0, "last": 0, "tail": 0, "take": 1, "skip": 1, "single": 0, "distinct": 0, "intersect": 1,
        "exclude": 1}  # fmt: skip
FIXED: dict[str, tuple[tuple[int, ...], Kinds]] = {
    **dict.fromkeys(("empty", "not", "allTrue", "anyTrue", "allFalse", "anyFalse", "isDistinct"), ((0,), BOOLEAN)),
    **dict.fromkeys(("all", "subsetOf", "supersetOf", "startsWith", "endsWith", "contains", "matches"), ((1,), BOOLEAN)),
    **dict.fromkeys(
        ("toBoolean", *("convertsTo" + kind for kind in ("Boolean", "Integer", "Decimal", "String", "Date", "DateTime"))),
        ((0,), BOOLEAN),
    ),
    **dict.fromkeys(("convertsToTime", "convertsToQuantity"), ((0,), BOOLEAN)),
    "exists": ((0, 1), BOOLEAN), "is": ((1,), BOOLEAN),
    "count": ((0,), INTEGER), "length": ((0,), INTEGER), "toInteger": ((0,), INTEGER), "indexOf": ((1,), INTEGER),
    **dict.fromkeys(("upper", "lower", "trim", "toString", "toChars"), ((0,), TEXT)),
    **dict.fromkeys(("split", "encode", "decode"), ((1,), TEXT)), **dict.fromkeys(("replace", "replaceMatches"), ((2,), TEXT)),
    "substring": ((1, 2), TEXT), "join": ((0, 1), TEXT),
    "toDate": ((0,), frozenset({"date"})), "toDateTime": ((0,), frozenset({"dateTime"})),
    "toTime": ((0,), frozenset({"time"})), "toQuantity": ((0, 1), frozenset({"Quantity"})),
    **dict.fromkeys(("ceiling", "exp", "floor", "ln", "sqrt", "truncate", "toDecimal"), ((0,), NUMBER)),
    **dict.fromkeys(("log", "power", "round"), ((1,), NUMBER)),
    **dict.fromkeys(("abs", "avg", "sum", "min", "max", "children", "descendants", "type"), ((0,), None)),
    "repeat": ((1,), None), "aggregate": ((1, 2), None), "extension": ((1,), frozenset({"Extension"})),
}  # fmt: skip
EACH = {"where", "exists", "all", "select", "repeat", "aggregate", "iif", "coalesce"}  # arguments look at the items
OWN = {"select", "union", "combine", "coalesce", "iif", "ofType", "as", "now", "today"}
REFUSED = {
    "timeOfDay": "timeOfDay() reads the machine's clock; compare with now() or today()",
    "resolve": "resolve() is not available: the engine has resolved %patient, %practitioner, %location and their like",
    "trace": "trace() prints patient data; look at the values in `bridge preview`",
}
FUNCTIONS = {*SAME, *FIXED, *OWN}
BOOLEAN_OPERATORS = {"and", "or", "xor", "implies"}
COMPARISONS = {"=", "!=", "~", "!~", "<", ">", "<=", ">=", "in", "contains"}


def meant(word: str, known: Iterable[str]) -> str:
    """`; did you mean "start"?`, or nothing."""
    found = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


class Checker:
    """One pass over a tree. `kinds[node]` afterwards holds what each node can be."""

    def __init__(self, model: Model, root: Kinds, variables: Mapping[str, Kinds]) -> None:
        self.model = model
        self.root = root
        self.variables = variables
        self.kinds: dict[Node, Kinds] = {}

    def check(self, node: Node, focus: Kinds) -> Kinds:
        """What the node can be, standing where items of `focus` are looked at.

        Raises:
            BadExpression: BR021 unknown element, BR022 unknown %name, BR023 function, BR026 type, with the column.
        """
        found = self._check(node, focus)
        self.kinds[node] = found
        return found

    def _check(self, node: Node, focus: Kinds) -> Kinds:
        match node.kind:
            case "string":
                return TEXT
            case "number":
                return INTEGER if node.text.isdigit() else NUMBER
            case "boolean":
                return BOOLEAN
            case "null":
                return NOTHING
            case "datetime":
                return frozenset({"dateTime" if "T" in node.text else "date"})
            case "time":
                return frozenset({"time"})
            case "quantity":
                return frozenset({"Quantity"})
            case "constant":
                return self._constant(node)
            case "this":
                return focus
            case "index":
                return INTEGER
            case "total":
                return None
            case "member":
                return self._member(node, focus)
            case "function":
                return self._function(node, focus)
            case "indexer":
                assert node.base is not None
                self.check(node.args[0], focus)
                return self.check(node.base, focus)
            case "sign":
                return self.check(node.args[0], focus)
            case "typed":
                kinds = self.check(node.args[0], focus)
                wanted = self._type(node.args[1])
                return BOOLEAN if node.text == "is" else self._narrowed(kinds, wanted)
            case _:
                return self._operator(node, focus)

    def _constant(self, node: Node) -> Kinds:
        if node.text in ("context", "resource", "rootResource"):
            return self.root
        if node.text == "ucum":
            return TEXT
        if node.text not in self.variables:
            known = [*self.variables, "context", "resource"]
            raise BadExpression("BR022", node.column, f'there is no "%{node.text}" here{meant(node.text, known)}')
        return self.variables[node.text]

    def _member(self, node: Node, focus: Kinds) -> Kinds:
        if node.base is None and self.model.is_type(node.text) and node.text[0].isupper():
            if focus is None or any(node.text in self.model.lineage(kind) for kind in focus):
                return focus
            raise BadExpression(
                "BR021", node.column, f"this looks at {self._shown(focus)}, not at {node.text}",
                "what belongs to other resources is reached by %patient, %practitioner, %location …",
            )  # fmt: skip
        kinds = self.check(node.base, focus) if node.base is not None else focus
        if kinds is None or "Resource" in kinds or "Element" in kinds:
            return None
        if "*" in kinds:
            return OPEN
        found: set[str] = set()
        for kind in kinds:
            element = self.model.element(kind, node.text)
            if element is not None:
                found |= element.types
        if not found and kinds:
            names = {name for kind in kinds for name in self.model.names(kind)}
            raise BadExpression(
                "BR021", node.column, f'{self._shown(kinds)} has no element "{node.text}"{meant(node.text, names)}'
            )
        return None if found & {"Resource", "Element"} else frozenset(found)

    def _function(self, node: Node, focus: Kinds) -> Kinds:
        name = node.text
        if name in REFUSED:
            raise BadExpression("BR023", node.column, REFUSED[name])
        if name not in FUNCTIONS:
            raise BadExpression("BR023", node.column, f"there is no function {name}(){meant(name, FUNCTIONS)}")
        base = self.check(node.base, focus) if node.base is not None else focus
        if name in ("ofType", "as", "is"):
            self._arity(node, (1,))
            wanted = self._type(node.args[0])
            return BOOLEAN if name == "is" else self._narrowed(base, wanted)
        args = [self.check(arg, base if name in EACH else focus) for arg in node.args]
        if name in SAME:
            self._arity(node, (SAME[name],))
            if name == "where":
                self.condition(node.args[0], args[0])
            return base
        if name in ("now", "today"):
            self._arity(node, (0,))
            if node.base is not None:
                raise BadExpression("BR023", node.column, f"{name}() stands alone, not behind a path")
            return frozenset({"dateTime" if name == "now" else "date"})
        if name in ("union", "combine"):
            self._arity(node, (1,))
            return _either(base, args[0])
        if name == "select":
            self._arity(node, (1,))
            return args[0]
        if name in ("iif", "coalesce"):
            self._arity(node, (2, 3) if name == "iif" else tuple(range(1, 20)))
            chosen: Kinds = frozenset()
            for kinds in args[1:] if name == "iif" else args:
                chosen = _either(chosen, kinds)
            return chosen
        allowed, kinds = FIXED[name]
        self._arity(node, allowed)
        if name in ("exists", "all") and args:
            self.condition(node.args[0], args[0])
        elif name == "not":
            self.condition(node, base)
        return kinds

    def condition(self, node: Node, kinds: Kinds) -> None:
        """A place that wants true or false: `where(code)` or a `when:` that is a date is a mistake, not an answer."""
        if kinds and not kinds & {"boolean", "*"}:
            raise BadExpression("BR025", node.column, f"a condition is true or false; this gives {self._shown(kinds)}")

    def _operator(self, node: Node, focus: Kinds) -> Kinds:
        left, right = (self.check(arg, focus) for arg in node.args)
        if node.text in BOOLEAN_OPERATORS:
            for arg, kinds in zip(node.args, (left, right), strict=True):
                self.condition(arg, kinds)
            return BOOLEAN
        if node.text in COMPARISONS:
            self._comparable(node, left, right)
            return BOOLEAN
        if node.text == "|":
            return _either(left, right)
        if node.text == "&":
            return TEXT
        if left and left & (TEMPORAL | {"string", "Quantity"}):
            return left
        return NUMBER

    def _comparable(self, node: Node, left: Kinds, right: Kinds) -> None:
        """Two kinds that can never be equal or ordered: `start > true`."""
        if not left or not right or "*" in left | right:
            return
        if not {_group(kind) for kind in left} & {_group(kind) for kind in right}:
            message = f"{self._shown(left)} does not compare with {self._shown(right)}"
            raise BadExpression("BR025", node.column, message)

    def _type(self, node: Node) -> str:
        """`Period`, `FHIR.Period`, `System.String`."""
        text = node.text
        if node.kind == "member" and node.base is not None:
            text = f"{node.base.text}.{text}"
        space, _, name = text.rpartition(".")
        if space in ("", "System") and name in SYSTEM and (space or not self.model.is_type(name)):
            return SYSTEM[name]
        if space not in ("", "FHIR") or not self.model.is_type(name):
            known = [*self.model.raw["type2Parent"]]
            raise BadExpression(
                "BR026", node.column, f'FHIR {self.model.version} has no type "{text}"{meant(text, known)}'
            )
        return name

    def _narrowed(self, kinds: Kinds, wanted: str) -> Kinds:
        if kinds is None:
            return frozenset({wanted})
        kept = frozenset(kind for kind in kinds if wanted in self.model.lineage(kind))
        return kept or frozenset({wanted})

    def _arity(self, node: Node, allowed: tuple[int, ...]) -> None:
        if len(node.args) not in allowed:
            count = " or ".join(str(number) for number in allowed[:3])
            raise BadExpression("BR023", node.column, f"{node.text}() takes {count} argument(s), not {len(node.args)}")

    def _shown(self, kinds: frozenset[str]) -> str:
        names = sorted(kinds)
        if all(kind[0].islower() for kind in names):
            return " or ".join(names)
        return f"{' or '.join(names)} (FHIR {self.model.version})"


def _group(kind: str) -> str:
    """Kinds that compare with one another. Text stands with dates: EHRs and literals write dates as text."""
    if kind in TEMPORAL or kind in {"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown"}:
        return "text"
    if kind in {"integer", "decimal", "positiveInt", "unsignedInt", "integer64"}:
        return "number"
    if kind in {"Quantity", "Age", "Duration", "Count", "Distance", "SimpleQuantity", "MoneyQuantity"}:
        return "quantity"
    return kind


def _either(left: Kinds, right: Kinds) -> Kinds:
    return None if left is None or right is None else left | right
