"""What the pretend EHR holds: every version of every resource, in memory, with the indexes its searches need."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from bridge.sandbox.ehr import rawjson


class Refusal(Exception):
    """What a FHIR server says no with: HTTP status, OperationOutcome issue code, diagnostics."""

    def __init__(self, status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(diagnostics)
        self.status, self.code, self.diagnostics, self.headers = status, code, diagnostics, dict(headers or {})


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one resource; a deletion is a version without content."""

    reference: str  # "Appointment/a1"
    version: str  # "3"; a UUID where the dialect is Medplum's
    updated: str  # "2026-11-25T10:00:00.123+00:00"
    method: str  # POST, PUT, PATCH or DELETE: what made it
    raw: bytes  # empty when deleted
    data: dict[str, Any]

    @property
    def deleted(self) -> bool:
        return self.method == "DELETE"

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'


@dataclass(frozen=True, slots=True)
class Change:
    """A version that has just become the current one: what Subscriptions are told of."""

    now: Version
    before: Version | None
    origin: str  # "client" (over FHIR) or "control" (a clerk at the EHR's own screen)


class Store:
    """All versions by type and id. Not thread-safe: one event loop owns it, and no await stands inside a change."""

    def __init__(
        self,
        *,
        uuid_versions: bool = False,
        rewrites_source: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.uuid_versions, self.rewrites_source = uuid_versions, rewrites_source  # Medplum; HAPI
        self._now = now
        self._versions: dict[str, dict[str, list[Version]]] = defaultdict(dict)
        self._by_reference: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_identifier: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._next_id = 1000
        self._undo: list[tuple[str, str]] | None = None

    def current(self, resource_type: str, id: str) -> Version | None:  # noqa: A002
        versions = self._versions[resource_type].get(id)
        return versions[-1] if versions else None

    def history(self, resource_type: str, id: str) -> list[Version]:  # noqa: A002
        return list(self._versions[resource_type].get(id, ()))

    def all(self, resource_type: str) -> Iterator[Version]:
        """Current versions of one type, in the order they were first created; deleted ones left out."""
        return (versions[-1] for versions in list(self._versions[resource_type].values()) if not versions[-1].deleted)

    def types(self) -> list[str]:
        return sorted(name for name, held in self._versions.items() if held)

    def referring(self, resource_type: str, reference: str) -> list[Version]:
        return self._live(resource_type, self._by_reference.get((resource_type, reference), ()))

    def identified(self, resource_type: str, token: str) -> list[Version]:
        """Those with identifier `system|value`, `|value` or `value`."""
        return self._live(resource_type, self._by_identifier.get((resource_type, token), ()))

    def new_id(self, resource_type: str) -> str:
        while True:
            self._next_id += 1
            if str(self._next_id) not in self._versions[resource_type]:
                return str(self._next_id)

    def unchanged(self, resource_type: str, id: str, raw: bytes) -> Version | None:  # noqa: A002
        """The current version, if `raw` says nothing else: HAPI then makes no new one and tells nobody."""
        held = self.current(resource_type, id)
        same = held is not None and not held.deleted and _bare(held.data) == _bare(msgspec.json.decode(raw))
        return held if same else None

    def write(self, resource_type: str, id: str, raw: bytes, method: str) -> tuple[Version, Version | None]:  # noqa: A002
        """Make `raw` the next version (or delete, with empty bytes); returns it and the one before."""
        versions = self._versions[resource_type].setdefault(id, [])
        before = versions[-1] if versions else None
        number = str(uuid.uuid4()) if self.uuid_versions else str(len(versions) + 1)
        updated = self._now().isoformat(timespec="milliseconds")
        source = f"#{uuid.uuid4().hex[:16]}" if self.rewrites_source else ""
        data: dict[str, Any] = {}
        if method != "DELETE":
            raw = rawjson.stamp(raw, resource_type=resource_type, id=id, version=number, updated=updated, source=source)
            data = msgspec.json.decode(raw)
        version = Version(f"{resource_type}/{id}", number, updated, method, raw, data)
        versions.append(version)
        self._index(version)
        if self._undo is not None:
            self._undo.append((resource_type, id))
        return version, before

    def restore(self, resource_type: str, id: str, version: str) -> Version:  # noqa: A002
        """Go back to an older version, as an EHR restored from a backup does: the next write counts on from there.

        Raises:
            KeyError: it never had that version.
        """
        versions = self._versions[resource_type].get(id, [])
        at = next((at for at, held in enumerate(versions) if held.version == version), None)
        if at is None:
            raise KeyError(f"{resource_type}/{id}/_history/{version}")
        del versions[at + 1 :]
        return versions[-1]

    def begin(self) -> None:
        self._undo = []

    def commit(self) -> None:
        self._undo = None

    def rollback(self) -> None:
        """Take back every write since `begin`. Index entries stay: a look-up checks the current version anyway."""
        for resource_type, id in reversed(self._undo or []):  # noqa: A001
            versions = self._versions[resource_type][id]
            versions.pop()
            if not versions:
                del self._versions[resource_type][id]
        self._undo = None

    def _live(self, resource_type: str, ids: Any) -> list[Version]:
        found = (self.current(resource_type, id) for id in sorted(ids))  # noqa: A001
        return [version for version in found if version is not None and not version.deleted]

    def _index(self, version: Version) -> None:
        resource_type, id = version.reference.split("/")  # noqa: A001
        for reference in references(version.data):
            self._by_reference[resource_type, reference].add(id)
        for system, value in identifiers(version.data):
            for token in (value, f"|{value}", f"{system}|{value}"):
                self._by_identifier[resource_type, token].add(id)


def _bare(data: dict[str, Any]) -> dict[str, Any]:
    meta = {
        key: value for key, value in data.get("meta", {}).items() if key not in {"versionId", "lastUpdated", "source"}
    }
    return {key: value for key, value in data.items() if key not in {"meta", "id"}} | {"meta": meta}


def references(node: Any) -> Iterator[str]:
    """Every literal reference in a resource, as "Type/id"."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "reference" and isinstance(value, str):
                yield "/".join(value.split("/_history/")[0].split("/")[-2:])
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def identifiers(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The resource's own identifiers as (system, value)."""
    found = data.get("identifier") or []
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, dict) and isinstance(item.get("value"), str):
            yield str(item.get("system", "")), item["value"]
