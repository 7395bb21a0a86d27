"""JSON that survives a round trip: what we change in a resource differs, nothing else.

A decimal keeps its literal (`1.10` is not `1.1`: FHIR makes its precision significant), keys keep their order, unknown
elements stay. Python's own `json` would rewrite `1.10` as `1.1` and `1e3` as `1000.0`, and a PUT would then say so to
the EHR. Whitespace and the choice between `é` and `\\u00e9` are not kept: they carry no meaning in JSON.

Source: https://hl7.org/fhir/R4/json.html#primitive (precision of decimals), RFC 8259.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_LONE = re.compile("[\ud800-\udfff]")  # JSON can escape what UTF-8 cannot hold
_INT_DIGITS: Final = 4000  # longer ones keep their literal: Python refuses to convert more than 4,300 digits


class Unfaithful(ValueError):
    """JSON of a sort that cannot be read and written back unchanged: waiting does not mend it."""


class Literal(float):
    """A number that remembers how it was written; as a float it compares and computes as usual."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Literal:
        """Keep `text` beside its value; a value beyond a double's range is infinite here and exact in `text`."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Literal], tuple[str]]:
        """Copy and pickle by the text."""
        return (Literal, (self.text,))


def loads(body: bytes) -> Any:
    """Read JSON text (UTF-8, a BOM tolerated).

    Raises:
        Unfaithful: NaN or Infinity, a key twice in one object (a later write would drop one of the two), nested too deep.
        ValueError: not JSON, not UTF-8. No message quotes the body.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=Literal,
            parse_int=_integer,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON at byte {exc.pos}") from None  # its own message is fine, its `doc` is the body
    except UnicodeDecodeError as exc:
        raise ValueError(f"not UTF-8 at byte {exc.start}") from None
    except RecursionError:
        raise Unfaithful("nested too deep") from None


def dumps(value: Any) -> bytes:
    """Write compact UTF-8 JSON; every `Literal` as it was read."""
    parts: list[str] = []
    _write(value, parts.append)
    text = "".join(parts)
    return _LONE.sub(lambda lone: f"\\u{ord(lone.group()):04x}", text).encode()


def _integer(text: str) -> int | Literal:
    return int(text) if len(text) <= _INT_DIGITS and text != "-0" else Literal(text)


def _constant(name: str) -> Any:
    raise Unfaithful(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unfaithful("a key stands twice in one object")
    return found


_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _write(value: Any, put: Any) -> None:
    if isinstance(value, dict):
        mark = "{"
        for key, inner in value.items():
            put(mark)
            put(_text(str(key)))
            put(":")
            _write(inner, put)
            mark = ","
        put("{}" if mark == "{" else "}")
    elif isinstance(value, list | tuple):
        mark = "["
        for inner in value:
            put(mark)
            _write(inner, put)
            mark = ","
        put("[]" if mark == "[" else "]")
    elif isinstance(value, Literal):
        put(value.text)
    else:
        put(_text(value))
