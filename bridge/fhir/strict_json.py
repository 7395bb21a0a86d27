"""Bytes of an authenticated sender -> JSON values, or a named reason why not. Pure; never another exception.

msgspec parses ten times faster than the standard library, but keeps the last of two equal keys and lets `\\u0000`
through; both are caught here without a second parser. Measured on two busy cores, 5.3 MB of FHIR with 115,000 objects:
parse 40 ms, depth and keys 20 ms, duplicates 29 ms (an `object_pairs_hook` would take 90); a push of 2 KB: 15 µs.

Source: RFC 8259; https://hl7.org/fhir/R4/json.html (UTF-8, no duplicate keys, no NaN).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from bridge.errors import Unusable

MAX_DEPTH = 200  # FHIR of real senders stays under 30; a walk without a limit invites a stack overflow further in
MAX_KEY = 256  # characters; the longest element name of R5 has 37
MAX_CONTAINERS = 150_000  # objects and lists; 5 MB of dense FHIR has 120,000, and only a flood has more
DIAGNOSED = 64 * 1024  # bytes: up to here a duplicate key is named; above, it is only refused
# What a duplicate may be called by in a clear column; any other key could be somebody's name.
_ELEMENTS = (
    "resourceType id meta versionId lastUpdated status start end created participant actor reference subject patient "
    "type entry resource fullUrl request response method url link code coding system value display text identifier "
    "extension name family given telecom use rank period birthDate active contact communication language category "
    "dateTime provision policyRule scope issued conclusion result performer basedOn focus notificationEvent "
    "subscription topic parameter part eventNumber timestamp additionalContext"
)
_NAMED = frozenset(_ELEMENTS.split())
BOM = b"\xef\xbb\xbf"


def read_json(body: bytes) -> Any:
    """The JSON value, or Unusable: its message names the trouble and never quotes the body."""
    body = body.removeprefix(BOM)
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise Unusable(f"more than {MAX_CONTAINERS:,} objects and lists")
    try:
        value = msgspec.json.decode(body)
        _check_depth_and_keys(value)
        _check_strings(body, value)
    except RecursionError:  # msgspec counts its own depth against the interpreter's limit
        raise Unusable(f"nested deeper than {MAX_DEPTH}") from None
    except (msgspec.DecodeError, UnicodeError, ValueError, OverflowError) as exc:
        raise Unusable(_diagnose(body, exc)) from None
    return value


def _check_depth_and_keys(value: Any) -> None:
    """Level by level and without recursion: depth is the number of levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    keys: set[str] = set()
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Unusable(f"nested deeper than {MAX_DEPTH}")
        below: list[Any] = []
        add = below.append
        for container in level:
            if type(container) is dict:
                keys.update(container)
                values: Iterable[Any] = container.values()
            else:
                values = container
            for item in values:
                if type(item) is dict or type(item) is list:
                    add(item)
        level = below
    if keys and max(map(len, keys)) > MAX_KEY:
        raise Unusable(f"a key longer than {MAX_KEY} characters")


def _check_strings(body: bytes, value: Any) -> None:
    """Every key is a string: when writing the value out again gives fewer strings than came, a key stood twice.

    This holds at any size and costs one fast re-encoding; depth is known to be harmless by now.
    """
    bare = body.replace(b"\\\\", b"__")  # runs of backslashes pair off from the left, so what is left escapes
    if b"\\u0000" in bare:
        raise Unusable("a NUL character (\\u0000) in a string: no FHIR string has one and no database keeps it")
    again = msgspec.json.encode(value).replace(b"\\\\", b"__")
    if bare.count(b'"') - bare.count(b'\\"') != again.count(b'"') - again.count(b'\\"'):
        raise Unusable(_name_duplicate(body))


def _name_duplicate(body: bytes) -> str:
    duplicates: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                duplicates.append(key)
            seen.add(key)

    if len(body) <= DIAGNOSED:
        json.loads(body, object_pairs_hook=note)
    named = next((key for key in duplicates if key in _NAMED or re.fullmatch(r"[a-z]{1,2}", key)), "a key")
    return f"duplicate key: {named} stands twice in one object"


def _diagnose(body: bytes, exc: Exception) -> str:
    """Why it is not JSON, in words an interface engineer can act on; offsets only, no content."""
    if body[:2] == b"\x1f\x8b":
        return "compressed (gzip) without being asked to be"
    if body[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\x00" in body[:4]:
        return "UTF-16 or UTF-32: FHIR JSON is UTF-8"
    if body.lstrip()[:1] == b"<":
        return "XML or HTML, not JSON: set the Subscription's payload to application/fhir+json"
    if isinstance(exc, UnicodeError):
        return "not UTF-8"
    if re.search(rb"[:\[,\s]-?(?:NaN|Infinity)\b", body[: 1 << 20]):
        return "NaN or Infinity: JSON has neither"
    if re.search(rb"\\u[dD][89a-fA-F]", body[: 1 << 20]) and "haracter" not in str(exc):
        return "a lone surrogate (\\ud800-\\udfff without its other half)"
    if "out of range" in str(exc):
        return "a number too large to keep"
    return "not JSON" if not isinstance(exc, msgspec.DecodeError) else f"not JSON: {_place(exc)}"


def _place(exc: msgspec.DecodeError) -> str:
    found = re.search(r"\(byte \d+\)", str(exc))
    return f"malformed {found.group()}" if found else "cut short or malformed"
