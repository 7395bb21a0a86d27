"""The control API of the pretend EHR (`/_sandbox/...`, JSON): what a test, the demo or a clerk's hand does to it.

- `GET  state`                       counts by type, pending and lost notifications, faults
- `GET  resources/<Type>[/<id>]`     what it holds now; one resource comes with `history` (every version, raw)
- `POST seed`            `{"resources": [...]}`: stored as they are, in order; Subscriptions start to notify
- `PUT  resources/<Type>/<id>`       a clerk saves the resource · `PATCH` (JSON Patch list) · `DELETE`
- `POST before-write`    `{"reference": "Appointment/a1", "patch": [...] | "resource": {...}}`: a second writer, once,
                         just before the next PUT or PATCH to it is applied
- `POST restore`         `{"reference", "version"}`: the EHR comes back from a backup with that version; tells nobody
- `POST faults`          sets the named ones (`faults.Faults`) · `DELETE faults` clears all
- `POST settings`        `{"dialect", "fhir_version", "logical_focus", "stale_status", "include": ["Patient"], "retry": {"base", "growth", "span"}}`
- `POST topics`          `{"<canonical>": "Appointment"}`
- `POST clock`           `{"offset_seconds": n}`: the EHR's `lastUpdated` runs that far ahead
- `POST subscriptions/<id>/heartbeat` · `POST subscriptions/<id>/resend` `{"reference", "version"}` (an old push again) · `POST subscriptions/restart-counters` (HAPI after a restart)
- `GET  idle?timeout=s`  waits until every notification is delivered or lost: `{"idle": true, "pending": 0}`
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import msgspec
from aiohttp import web

from bridge.sandbox.ehr.faults import Faults
from bridge.sandbox.ehr.server import Ehr
from bridge.sandbox.ehr.store import Change
from bridge.sandbox.server import ControlError, Listeners, answer_json


class Control:
    def __init__(self, ehr: Ehr) -> None:
        self.ehr = ehr
        self.listeners: Listeners | None = None  # set once they exist; "refused" shuts the public one

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = request.path.strip("/").split("/")[1:]
        body = await request.content.read()
        match request.method, segments:
            case "GET", ["state"]:
                return answer_json(self._state())
            case "GET", ["idle"]:
                return answer_json(await self._idle(float(request.query.get("timeout", "10"))))
            case "GET", ["resources", kind]:
                return answer_json([msgspec.Raw(version.raw) for version in self.ehr.store.all(kind)])
            case "GET", ["resources", kind, id]:
                return self._resource(kind, id)
            case "PUT", ["resources", kind, id]:
                return answer_json({"version": self.ehr.clerk(f"{kind}/{id}", body)})
            case "PATCH", ["resources", kind, id]:
                return answer_json({"version": self.ehr.clerk(f"{kind}/{id}", None, msgspec.json.decode(body))})
            case "DELETE", ["resources", kind, id]:
                return answer_json({"version": self.ehr.clerk(f"{kind}/{id}", None)})
            case "POST", ["seed"]:
                return answer_json({"seeded": self._seed(body)})
            case "DELETE", ["faults"]:
                return answer_json(await self._set_faults(asdict(Faults())))
            case "POST", ["faults"]:
                return answer_json(await self._set_faults(msgspec.json.decode(body)))
            case "POST", ["subscriptions", "restart-counters"]:
                for standing in self.ehr.delivery.standings.values():
                    standing.delivered = 0
                return answer_json({"ok": True})
            case "POST", ["subscriptions", id, "heartbeat"]:
                return answer_json({"delivered": await self.ehr.delivery.heartbeat(self.ehr.delivery.standings[id])})
            case "POST", ["subscriptions", id, "resend"]:
                return answer_json(self._resend(id, msgspec.json.decode(body)))
            case "POST", [name]:
                return answer_json(self._set(name, msgspec.json.decode(body)))
        raise ControlError(f"no such control: {request.method} {request.path}")

    def _state(self) -> dict[str, Any]:
        ehr = self.ehr
        return {
            "base": ehr.base,
            "dialect": ehr.dialect.name,
            "counts": {kind: sum(1 for _ in ehr.store.all(kind)) for kind in ehr.store.types()},
            "pending": ehr.delivery.pending,
            "lost": ehr.delivery.lost,
            "subscriptions": {
                name: {"status": held.status, "delivered": held.delivered}
                for name, held in ehr.delivery.standings.items()
            },
            "faults": asdict(ehr.faults),
        }

    def _resource(self, kind: str, id: str) -> web.Response:  # noqa: A002
        versions = self.ehr.store.history(kind, id)
        if not versions:
            return answer_json({"error": f"{kind}/{id} is not there"}, 404)
        current = versions[-1]
        history = [
            {"version": v.version, "updated": v.updated, "method": v.method, "raw": v.raw.decode()} for v in versions
        ]
        resource = None if current.deleted else msgspec.Raw(current.raw)
        return answer_json(
            {"reference": current.reference, "version": current.version, "resource": resource, "history": history}
        )

    def _seed(self, body: bytes) -> list[str]:
        class Seed(msgspec.Struct):
            resources: list[msgspec.Raw]

        seeded = []
        for raw in msgspec.json.decode(body, type=Seed).resources:
            resource = msgspec.json.decode(raw)
            kind = resource["resourceType"]
            reference = f"{kind}/{resource.get('id') or self.ehr.store.new_id(kind)}"
            self.ehr.clerk(reference, bytes(raw))
            seeded.append(reference)
        return seeded

    async def _set_faults(self, values: dict[str, Any]) -> dict[str, Any]:
        self.ehr.faults.update(values)
        if self.listeners is not None:
            await self.listeners.set_shut(self.ehr.faults.down == "refused")
        self.ehr.journal.record("note", event="faults", faults=asdict(self.ehr.faults))
        return asdict(self.ehr.faults)

    def _resend(self, id: str, values: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        kind, _, name = values["reference"].partition("/")
        history = self.ehr.store.history(kind, name)
        at = next(at for at, held in enumerate(history) if held.version == str(values["version"]))
        change = Change(history[at], history[at - 1] if at else None, "control")
        self.ehr.delivery.resend(self.ehr.delivery.standings[id], change)
        return {"ok": True}

    def _set(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        ehr = self.ehr
        if name == "before-write":
            ehr.second_writer[values["reference"]].append(values)
        elif name == "topics":
            ehr.topics.update(values)
        elif name == "restore":
            kind, _, id = values["reference"].partition("/")  # noqa: A001
            ehr.store.restore(kind, id, str(values["version"]))
            ehr.journal.record(
                "note", event="restored", ids={"reference": values["reference"], "version": values["version"]}
            )
        elif name == "clock":
            ehr.clock_offset = timedelta(seconds=float(values["offset_seconds"]))
        elif name == "settings":
            self._settings(values)
        else:
            raise ControlError(f"no such control: {name}")
        return {"ok": True}

    def _settings(self, values: dict[str, Any]) -> None:
        ehr = self.ehr
        for key, value in values.items():
            if key == "dialect":
                ehr.dialect = replace(ehr.dialect, name=value)
            elif key in {"fhir_version", "logical_focus"}:
                ehr.dialect = replace(ehr.dialect, **{key: value})
            elif key == "include":
                ehr.include = set(value)
            elif key == "stale_status":
                ehr.service.stale_status = int(value)
            elif key == "retry":
                for part, seconds in value.items():
                    setattr(ehr.delivery.retry, part, float(seconds))
            else:
                raise ControlError(f"no such setting: {key}")

    async def _idle(self, timeout: float) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + timeout
        while self.ehr.delivery.pending and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return {"idle": not self.ehr.delivery.pending, "pending": self.ehr.delivery.pending}
