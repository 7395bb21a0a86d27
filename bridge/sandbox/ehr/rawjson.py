"""Changing a resource without touching the bytes around the change.

A server that parses and re-serialises turns `1.50` into `1.5` and loses what its model does not know; then nobody can
tell whether the *engine* kept an Appointment intact. Every value here stays the bytes that came, except along the path
that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

_encode = msgspec.json.encode
Container = dict[str, Raw] | list[Raw]


class BadPatch(Exception):
    """An operation that cannot be applied; a failed `test` too."""


def members(raw: bytes) -> dict[str, Raw]:
    """The members of a JSON object, each value as the bytes that came."""
    return msgspec.json.decode(raw, type=dict[str, Raw])


def stamp(
    raw: bytes,
    *,
    resource_type: str,
    id: str,  # noqa: A002 - FHIR's name
    version: str,
    updated: str,
    source: str = "",
) -> bytes:
    """The resource as the server stores it: its id, `meta.versionId` and `meta.lastUpdated` set, all else unchanged."""
    all_members = members(raw)
    meta = members(bytes(all_members.pop("meta"))) if "meta" in all_members else {}
    meta = {"versionId": Raw(_encode(version)), "lastUpdated": Raw(_encode(updated))} | {
        key: value for key, value in meta.items() if key not in {"versionId", "lastUpdated"}
    }
    if source:  # HAPI rewrites it with every write: no mark of ours survives there
        meta["source"] = Raw(_encode(source))
    head = {"resourceType": Raw(_encode(resource_type)), "id": Raw(_encode(id)), "meta": Raw(_encode(meta))}
    return _encode(head | {key: value for key, value in all_members.items() if key not in head})


def strip_version(raw: bytes) -> bytes:
    """Without `meta.versionId`, as HAPI sends it with its strip-version extension."""
    all_members = members(raw)
    if "meta" in all_members:
        meta = members(bytes(all_members["meta"]))
        meta.pop("versionId", None)
        all_members["meta"] = Raw(_encode(meta))
    return _encode(all_members)


def patch(raw: bytes, operations: Sequence[dict[str, Any]]) -> bytes:
    """Apply a JSON Patch (RFC 6902) in order.

    Raises:
        BadPatch: a path that is not there, an unknown operation, a `test` that fails; nothing of the patch holds then.
    """
    for operation in operations:
        try:
            raw = _apply(raw, operation)
        except (KeyError, IndexError, ValueError, TypeError, msgspec.DecodeError) as error:
            raise BadPatch(f"{operation.get('op')} {operation.get('path')}: {type(error).__name__}") from error
    return raw


def _apply(raw: bytes, operation: dict[str, Any]) -> bytes:
    kind, path = operation["op"], _tokens(operation["path"])
    if kind == "test":
        if msgspec.json.decode(_get(raw, path)) != operation["value"]:
            raise BadPatch(f"test {operation['path']}: holds another value")
        return raw
    if kind in {"move", "copy"}:
        source = _tokens(operation["from"])
        value = Raw(_get(raw, source))
        if kind == "move":
            raw = _edit(raw, source, _remove)
        return _edit(raw, path, lambda container, key: _add(container, key, value))
    if kind == "remove":
        return _edit(raw, path, _remove)
    value = Raw(_encode(operation["value"]))
    if kind == "add":
        return _edit(raw, path, lambda container, key: _add(container, key, value))
    if kind == "replace":
        return _edit(raw, path, lambda container, key: _replace(container, key, value))
    raise BadPatch(f"unknown operation {kind}")


def _tokens(path: str) -> list[str]:
    if not path.startswith("/"):
        raise BadPatch(f"not a JSON Pointer to a member: {path}")
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def _open(raw: bytes) -> Container:
    if raw.lstrip()[:1] == b"[":
        return msgspec.json.decode(raw, type=list[Raw])
    return members(raw)


def _get(raw: bytes, tokens: Sequence[str]) -> bytes:
    for token in tokens:
        container = _open(raw)
        raw = bytes(container[int(token)] if isinstance(container, list) else container[token])
    return raw


def _edit(raw: bytes, tokens: Sequence[str], change: Callable[[Container, str], None]) -> bytes:
    container = _open(raw)
    key = tokens[0]
    if len(tokens) == 1:
        change(container, key)
    elif isinstance(container, list):
        container[int(key)] = Raw(_edit(bytes(container[int(key)]), tokens[1:], change))
    else:
        container[key] = Raw(_edit(bytes(container[key]), tokens[1:], change))
    return _encode(container)


def _add(container: Container, key: str, value: Raw) -> None:
    if isinstance(container, list):
        container.insert(len(container) if key == "-" else int(key), value)
    else:
        container[key] = value


def _replace(container: Container, key: str, value: Raw) -> None:
    if isinstance(container, list):
        container[int(key)] = value
    else:
        _ = container[key]  # replace wants it there, add does not
        container[key] = value


def _remove(container: Container, key: str) -> None:
    if isinstance(container, list):
        del container[int(key)]
    else:
        del container[key]
