"""JSON that may be hostile, read without losing the good parts and without ever being slow.

The quick way is one decode of the whole body and three checks that cost next to nothing. Only a body that fails them is
cut up by its brackets, so that one broken item (a lone surrogate, NaN, a doubled key, a thousand levels) stays one item.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.errors import Unusable

MAX_DEPTH = 32  # levels; the deepest real body has 13, and whoever reads a stored part later must not hit a limit
MAX_KEY = 256  # characters; the longest of Meta's has about 50
MAX_VALUES = 100_000  # in one part; 1,000 statuses have about 25,000
MAX_FRAME = 200_000  # bytes around the items of a body that has to be cut up; 1,000 entries have about 120,000
MAX_BRACKETS = 120_000  # more go through the cutter first; 1,000 statuses have about 8,000 opening ones
MAX_RUNS = 150_000  # of brackets in a body that has to be cut up: about 40 ms; 1,000 statuses have about 16,000
CHANGE_DEPTH = 4  # {entry: [{changes: [ CHANGE
ITEM_DEPTH = 3  # CHANGE {value: {messages: [ ITEM

# Everything up to the next run of opening or closing brackets, strings passed over; always matches, if only to the end, so
# that a missing quote or bracket costs one pass and not one per place.
_RUN = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+\\?(?:"|\Z)|[^"{}\[\]]++)*+([{\[]++|[}\]]++|\Z)', re.DOTALL)
_BROKEN_JSON = (ValueError, RecursionError)  # msgspec's errors and UnicodeDecodeError are ValueErrors


@dataclass(frozen=True, slots=True)
class Broken:
    """A part that cannot be used: why, and its own bytes."""

    reason: str
    text: bytes


class _Doubled(dict[str, Any]):
    """An object that names a key twice: readers disagree about which one counts, so nobody may act on it."""


def decode(body: bytes) -> Any:
    """The body as plain values, or raise Unusable. Parts that cannot be used stand in it as `Broken`."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    tree = _strict(body)
    if not isinstance(tree, Broken):
        return tree
    if not body.lstrip()[:1] == b"{":
        raise Unusable(f"body is not a JSON object: {tree.reason}")
    return _cut(body, CHANGE_DEPTH, _change)


def _misshapen(value: Any) -> str | None:
    """Why a decoded value is like nothing a webhook holds: too many levels or too many values. Level by level, no recursion."""
    total = 0
    level: list[Any] = [value] if type(value) in (dict, list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return None
        total += sum(map(len, level))
        if total > MAX_VALUES:
            return "far more values than any webhook has"
        if any(len(name) > MAX_KEY for part in level if type(part) is dict for name in part):
            return f"a key longer than {MAX_KEY} characters"
        inner = (part.values() if type(part) is dict else part for part in level)
        level = [part for parts in inner for part in parts if type(part) is dict or type(part) is list]
    return "nested too deep" if level else None


def _strict(text: bytes) -> Any:
    """Decode what every reader reads alike; anything else is Broken."""
    if text.count(b"[") + text.count(b"{") > MAX_BRACKETS:  # a million empty lists would take the decoder 100 ms
        return Broken("far more brackets than any webhook has", text)
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        return Broken("nested too deep", text)
    except _BROKEN_JSON:
        return Broken("not JSON", text)
    if reason := _misshapen(value):
        return Broken(reason, text)
    again = msgspec.json.encode(value)
    # Encoding writes each remaining key once and each colon of a string as it is: a doubled key leaves fewer colons.
    # An escaped colon would make up for a lost one, so such a text takes the slow count.
    if b"\\u003a" in text or b"\\u003A" in text:
        if _names_twice(text):
            return Broken("a key stands twice", text)
    elif again.count(b":") != text.count(b":"):
        return Broken("a key stands twice", text)
    if b"\\u0000" in text and b"\\u0000" in again.replace(b"\\\\", b""):
        return Broken("NUL character", text)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Doubled(found)


def _names_twice(text: bytes) -> bool:
    doubled = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal doubled
        doubled = doubled or len({name for name, _ in pairs}) != len(pairs)

    try:
        json.loads(text, object_pairs_hook=look)
    except _BROKEN_JSON:
        return True
    return doubled


def _change(text: bytes) -> Any:
    """One change: whole where it reads well, else item by item; Broken where its own frame is."""
    value = _strict(text)
    if not isinstance(value, Broken):
        return value
    try:
        found = _cut(text, ITEM_DEPTH, _strict)
    except Unusable:
        return value
    if not isinstance(found, dict):  # at the depth of a change, and none
        return value
    inner = found.get("value")
    for part in inner.values() if isinstance(inner, dict) else (inner,):
        # Only an item of a list may be broken by itself; what stands around the items holds for all of them.
        if not isinstance(part, list) and broken_in(part):
            return value
    return found


def broken_in(value: Any) -> Broken | None:
    """The first part of a decoded value that cannot be used."""
    if isinstance(value, Broken):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for part in inner if (found := broken_in(part))), None)


def _cut(text: bytes, depth: int, read: Callable[[bytes], Any]) -> Any:
    """Read the frame down to `depth` brackets with everything deeper taken out, then put each part back, read by `read`."""
    tag = hashlib.blake2b(text, digest_size=8).hexdigest()  # no text can hold its own hash
    frame: list[bytes] = []
    parts: list[bytes] = []
    level = copied = start = 0
    for count, token in enumerate(_RUN.finditer(text)):
        if count > MAX_RUNS:
            raise Unusable("far more brackets than any webhook has")
        first, last = token.span(1)
        before = level
        if first == last:  # the end
            break
        if text[first] in b"{[":
            level += last - first
            if before <= depth < level:
                start = first + depth - before
        else:
            level -= last - first
            if level <= depth < before:
                end = first + before - depth
                frame += (text[copied:start], f'"{tag}{len(parts)}"'.encode())
                parts.append(text[start:end])
                copied = end
            if level < 0:
                break
    if level:
        raise Unusable("brackets do not match")
    frame.append(text[copied:])
    if sum(map(len, frame)) > MAX_FRAME:
        raise Unusable("far more around the items than any webhook has")
    tree = _frame(b"".join(frame))
    if isinstance(tree, Broken):  # raised out here: json's error would carry the body along as its context
        raise Unusable(tree.reason)
    return _put_back(tree, tag, [read(part) for part in parts])


def _frame(text: bytes) -> Any:
    try:
        return json.loads(
            text.decode(), object_pairs_hook=_pairs, parse_constant=lambda name: Broken("not JSON", name.encode())
        )
    except _BROKEN_JSON:
        return Broken("not JSON", b"")


def _put_back(value: Any, tag: str, parts: Sequence[Any]) -> Any:
    if isinstance(value, _Doubled):
        raise Unusable("a key stands twice")
    if isinstance(value, dict):
        for name in value:
            _put_back(name, tag, parts)
        return {name: _put_back(part, tag, parts) for name, part in value.items()}
    if isinstance(value, list):
        return [_put_back(part, tag, parts) for part in value]
    if isinstance(value, str):
        if value.startswith(tag):
            return parts[int(value[len(tag) :])]
        if "\0" in value or (not value.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in value)):
            raise Unusable("NUL character or lone surrogate")
    return value
