"""FHIRPath text -> a tree with columns, or a refusal that names the column.

fhirpathpy installs a no-op error listener: `start..end` and `a.b)` compile, and `Appointment start` compiles to the
whole Appointment. Here the same generated lexer and parser run with a listener that collects, and the end of the text
must be reached.

Source: https://hl7.org/fhirpath/N1/#formal-specifications
"""

# mypy: allow-untyped-calls
# (the generated parser has no annotations)

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from antlr4 import CommonTokenStream, InputStream, Token
from antlr4.error.ErrorListener import ErrorListener
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser as P

from bridge.errors import BadExpression

LONGEST = 2000  # characters: the parser recurses, and no line of a mapping that a person reviews is longer

_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "f": "\f"}


@dataclass(eq=False, slots=True)
class Node:
    """One construct. `base` is what stands before the dot; `text` the name, operator or literal."""

    kind: str  # member function this index total constant string number boolean null datetime time quantity
    #            operator sign indexer typed
    column: int  # 0-based, of the name or operator itself, where a caret helps
    text: str = ""
    base: Node | None = None
    args: tuple[Node, ...] = ()
    stop: int = 0  # 0-based, one past the construct's last character


class _Listener(ErrorListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.errors: list[tuple[int, str]] = []
        self.text = ""

    def syntaxError(self, recognizer: Any, symbol: Any, line: int, column: int, msg: str, e: Any) -> None:  # noqa: N802
        at = symbol.start if symbol is not None else _offset(self.text, line, column)
        if symbol is not None and symbol.type == Token.EOF:
            self.errors.append((len(self.text), "the expression ends too early"))
        else:
            word = symbol.text if symbol is not None else self.text[at : at + 1]
            self.errors.append((at, f"unexpected '{word}'"))


@lru_cache(maxsize=2048)
def parse(text: str) -> Node:
    """Parse strictly.

    Raises:
        BadExpression: BR020, with the column of the first thing that is wrong.
        RecursionError: a few hundred parentheses deep.
    """
    if len(text) > LONGEST:
        raise BadExpression("BR020", LONGEST, f"FHIRPath syntax: longer than {LONGEST} characters")
    listener = _Listener()
    listener.text = text
    lexer = FHIRPathLexer(InputStream(text))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    tokens = CommonTokenStream(lexer)
    parser = P(tokens)
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    tree = parser.expression()
    rest = tokens.LT(1)
    if not listener.errors and rest.type != Token.EOF:
        listener.errors.append((rest.start, f"unexpected '{rest.text}' after a complete expression"))
    if listener.errors:
        column, what = min(listener.errors)
        raise BadExpression("BR020", column, f"FHIRPath syntax: {what}")
    return _expression(tree)


def _offset(text: str, line: int, column: int) -> int:
    return sum(len(row) for row in text.splitlines(keepends=True)[: line - 1]) + column


def _expression(tree: Any) -> Node:
    stop = tree.stop.stop + 1
    match tree:
        case P.TermExpressionContext():
            return _term(tree.term())
        case P.InvocationExpressionContext():
            return _invocation(tree.invocation(), _expression(tree.expression()))
        case P.IndexerExpressionContext():
            base, index = (_expression(part) for part in tree.expression())
            return Node("indexer", index.column, base=base, args=(index,), stop=stop)
        case P.PolarityExpressionContext():
            sign = tree.getChild(0).symbol
            return Node("sign", sign.start, sign.text, args=(_expression(tree.expression()),), stop=stop)
        case P.TypeExpressionContext():
            operator = tree.getChild(1).symbol
            name = tree.typeSpecifier()
            return Node(
                "typed", name.start.start, operator.text, args=(_expression(tree.expression()), _name(name)), stop=stop
            )
        case _:
            left, right = (_expression(part) for part in tree.expression())
            operator = tree.getChild(1).symbol
            return Node("operator", operator.start, operator.text, args=(left, right), stop=stop)


def _term(tree: Any) -> Node:
    start, stop = tree.start.start, tree.stop.stop + 1
    match tree:
        case P.InvocationTermContext():
            return _invocation(tree.invocation(), None)
        case P.ParenthesizedTermContext():
            return _expression(tree.expression())
        case P.ExternalConstantTermContext():
            return Node("constant", start, _bare(tree.externalConstant().getChild(1).getText()), stop=stop)
    literal = tree.literal()
    text = literal.getText()
    match literal:
        case P.NullLiteralContext():
            return Node("null", start, stop=stop)
        case P.BooleanLiteralContext():
            return Node("boolean", start, text, stop=stop)
        case P.StringLiteralContext():
            return Node("string", start, _bare(text), stop=stop)
        case P.NumberLiteralContext():
            return Node("number", start, text, stop=stop)
        case P.DateTimeLiteralContext():
            return Node("datetime", start, text[1:], stop=stop)
        case P.TimeLiteralContext():
            return Node("time", start, text[2:], stop=stop)
    quantity = literal.quantity()
    unit = quantity.unit()
    word = _bare(unit.getText()) if unit is not None else "1"
    return Node("quantity", start, quantity.getChild(0).getText(), args=(Node("string", start, word),), stop=stop)


def _invocation(tree: Any, base: Node | None) -> Node:
    start, stop = tree.start.start, tree.stop.stop + 1
    match tree:
        case P.MemberInvocationContext():
            return Node("member", start, _bare(tree.getText()), base, stop=stop)
        case P.FunctionInvocationContext():
            call = tree.functn()
            given = call.paramList()
            args = tuple(_expression(part) for part in given.expression()) if given is not None else ()
            return Node("function", start, _bare(call.identifier().getText()), base, args, stop=stop)
        case P.ThisInvocationContext():
            return Node("this", start, base=base, stop=stop)
        case P.IndexInvocationContext():
            return Node("index", start, base=base, stop=stop)
        case _:
            return Node("total", start, base=base, stop=stop)


def _name(tree: Any) -> Node:
    text = ".".join(_bare(part) for part in tree.getText().split("."))
    return Node("name", tree.start.start, text, stop=tree.stop.stop + 1)


def _bare(text: str) -> str:
    """Without quotes or back-ticks, escapes resolved."""
    if text[:1] not in ("'", "`"):
        return text
    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", _unescape, text[1:-1])


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2])
