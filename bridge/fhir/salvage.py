"""A Bundle of which one entry is poison: read the others. Pure; only looked at when the whole could not be read.

The body is cut at the commas of its lists by brackets and quotes alone, so that what stands inside an entry (a
duplicate key, NaN, a lone surrogate, ten thousand brackets) cannot spoil its neighbours. Every part is then read as
strictly as a whole body would be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import Unusable
from bridge.fhir import shapes
from bridge.fhir.strict_json import read_json

MAX_BRACKETS = 150_000  # about 40 ms of cutting; more is a flood and not a batch
MAX_PARTS = 5_000  # in all, about 0.1 s when each of them is broken; Aidbox batches up to 100, athenahealth up to 1,000
LISTS = ("entry", "notificationEvent", "parameter")  # outermost first; `entry` again inside a message

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
_OPENS_LIST = re.compile(rb"\s*:\s*\[")
_FULL_URL = re.compile(rb'"fullUrl"\s*:\s*"([^"\\]{1,512})"')
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,64})"')
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]{1,64})"')


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in a list where a part could not be read."""

    reason: str
    raw: bytes

    @property
    def name(self) -> str | None:
        """ "Type/id" if the part still shows it."""
        url = _FULL_URL.search(self.raw)
        if url and (name := shapes.reduce(url.group(1).decode(errors="replace"))):
            return name
        kind, ident = _TYPE.search(self.raw), _ID.search(self.raw)
        return (
            shapes.reduce(f"{kind.group(1).decode()}/{ident.group(1).decode(errors='replace')}")
            if kind and ident
            else None
        )


def salvage(body: bytes) -> Any:
    """The Bundle with an `Unreadable` for each part that is none; None when not even its frame can be read."""
    if body[:1] != b"{" or b'"entry"' not in body or body.count(b"{") + body.count(b"[") > MAX_BRACKETS:
        return None
    value = _Salvage().read(body, depth=0)
    return None if isinstance(value, Unreadable) else value


def broken_entries(bundle: Mapping[str, Any]) -> list[Unreadable]:
    """The entries of a salvaged Bundle that could not be read; none in one that was read as a whole."""
    entries = bundle.get("entry")
    return [entry for entry in entries if isinstance(entry, Unreadable)] if isinstance(entries, list) else []


class _Salvage:
    """One body's budget: parts within parts count too."""

    def __init__(self) -> None:
        self.left = MAX_PARTS

    def read(self, text: bytes, depth: int) -> Any:
        try:
            return read_json(text)
        except Unusable as exc:
            reason = str(exc)
        for key in LISTS if depth < 3 else ():  # Bundle, inner Bundle of a message, status
            cut = _cut(text, f'"{key}"'.encode())
            if cut is not None:
                return self._mend(key, *cut, depth) or Unreadable(reason, text)
        return Unreadable(reason, text)

    def _mend(self, key: str, frame: bytes, parts: Sequence[bytes], depth: int) -> Any:
        """The frame with its parts, each read for itself; None when the frame is broken or the budget spent."""
        self.left -= len(parts)
        if self.left < 0:
            return None
        try:
            value = read_json(frame)
        except Unusable:
            return None
        holder = value if isinstance(value, dict) and key in value else shapes.mapping(value).get("resource")
        if not isinstance(holder, dict) or holder.get(key) != []:
            return None
        holder[key] = [self.read(part.strip(), depth + 1) for part in parts]
        return value


def _cut(text: bytes, key: bytes) -> tuple[bytes, Sequence[bytes]] | None:
    """(the text with that list emptied, the list's parts), for the first list under `key`."""
    if key not in text:
        return None
    for token in _TOKEN.finditer(text):
        if token.end() - token.start() == len(key) and token.group() == key:
            opening = _OPENS_LIST.match(text, token.end())
            if opening is not None:
                return _parts(text, opening.end())
    return None


def _parts(text: bytes, begin: int) -> tuple[bytes, Sequence[bytes]] | None:
    parts: list[bytes] = []
    depth, start = 0, begin
    for token in _TOKEN.finditer(text, begin):
        at = token.start()
        sign = text[at : at + 1]
        if sign in {b"[", b"{"}:
            depth += 1
        elif sign in {b"]", b"}"}:
            if depth == 0:
                parts.append(text[start:at])
                return text[:begin] + text[at:], parts
            depth -= 1
        elif sign == b"," and depth == 0:
            if len(parts) >= MAX_PARTS:
                return None
            parts.append(text[start:at])
            start = at + 1
    return None
