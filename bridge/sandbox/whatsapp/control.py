"""The control API of the pretend WhatsApp (`/_sandbox/...`, JSON): what patients do, what breaks, what the phones show.

`who` is a wa_id, a phone number or a business-scoped user id; a number never seen becomes somebody.

- `POST people`    `{"wa_id", "user_id", "name", "shows_number", "exists", "blocked"}`: make or change somebody
- `POST say`       `{"who", "text", "context"?, "at"?, "phone_number_id"?}`
- `POST tap`       `{"who", "wamid"?, one of "index" | "payload" | "id" | "title", "with_context"?}`
- `POST send`      `{"who", "kind": image|video|audio|voice|document|sticker|location|contacts|reaction|unsupported, …}`
- `POST block`     `{"who", "blocked": true}` · `POST read` `{"who"}` · `POST change-number` `{"who", "new_number"}`
- `POST status`    `{"wamid", "status", "code"?, "after"?}`: any status of any message, now or later
- `POST account`   `{"field", "value"}`: any other webhook · `POST preference` `{"who", "value": "stop"|"resume"}`
- `POST templates` a template as in a file (`titles` may bring button titles) · `POST templates/<name>` `{"status": "PAUSED", "tell": true}`
- `GET  phone/<who>`  the screen: `{"bubbles": [{"wamid", "from", "body", "buttons", "status", …}], "window_open", …}`
- `GET  phones` · `GET message?wamid=` · `GET state` · `GET verify` (Meta's subscription handshake against the webhook)
- `POST faults`    one rule or a list (`faults.Rule`) · `GET faults` · `DELETE faults`
- `POST settings`  any of `courier.Manners`, `phones.Limits`, `webhook_url` · `POST clock` `{"offset_seconds"}`
- `POST down`      `{"down": true}`: connections are refused until `false` comes by the control port
- `GET  idle?timeout=s`  waits until every webhook is delivered · `POST retry-now`  no more waiting for the back-off
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, fields
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from bridge.sandbox.server import ControlError, Listeners, answer_json
from bridge.sandbox.whatsapp.denials import Denied
from bridge.sandbox.whatsapp.faults import Rule
from bridge.sandbox.whatsapp.patients import Patients
from bridge.sandbox.whatsapp.phones import Person, canonical, issue_user_id
from bridge.sandbox.whatsapp.server import WhatsApp
from bridge.sandbox.whatsapp.webhooks import Update


class Control:
    def __init__(self, whatsapp: WhatsApp) -> None:
        self.whatsapp = whatsapp
        self.patients = Patients(whatsapp)
        self.listeners: Listeners | None = None  # set once they exist; `POST down` shuts the public one

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = request.path.strip("/").split("/")[1:]
        raw = await request.content.read()
        values = msgspec.json.decode(raw) if raw else {}
        try:
            if segments == ["down"] and self.listeners is not None:
                await self.listeners.set_shut(bool(values["down"]))
                self.whatsapp.journal.record("note", event="down", down=bool(values["down"]))
                return answer_json({"down": self.listeners.shut})
            if request.method == "POST":
                answer = self._do(segments, values)
                self.whatsapp.journal.record(
                    "note", event="control", action="/".join(segments), body=values, answer=answer
                )
                return answer_json(answer)
            if request.method == "DELETE" and segments == ["faults"]:
                self.whatsapp.faults.rules.clear()
                return answer_json([])
            return answer_json(await self._show(segments, request))
        except Denied as denied:
            raise ControlError(str(denied)) from denied

    async def _show(self, segments: list[str], request: web.BaseRequest) -> Any:
        whatsapp = self.whatsapp
        match segments:
            case ["state"]:
                return {"accepted": whatsapp.accepted, "webhooks": whatsapp.courier.counts(), "people": len(whatsapp.phones.by_user_id),
                        "templates": {name: held.status for name, held in whatsapp.catalogue.templates.items()}}  # fmt: skip
            case ["phone", who]:
                return whatsapp.phones.show(whatsapp.phones.find(who), whatsapp.now())
            case ["phones"]:
                return [whatsapp.phones.show(person, whatsapp.now()) for person in whatsapp.phones.by_user_id.values()]
            case ["message"]:
                return whatsapp.phones.bubbles[request.query["wamid"]].show()
            case ["faults"]:
                return [asdict(rule) for rule in whatsapp.faults.rules]
            case ["idle"]:
                return await self._idle(float(request.query.get("timeout", "10")))
            case ["verify"]:
                return await self._verify()
        raise ControlError(f"no such control: {request.method} {request.path}")

    def _do(self, segments: list[str], values: Any) -> Any:
        whatsapp, patients = self.whatsapp, self.patients
        match segments:
            case ["people"]:
                return self._somebody(values)
            case ["say"]:
                number = values.get("phone_number_id", "")
                wamid = patients.say(
                    values["who"], values["text"], context=values.get("context"), number=number, at=values.get("at")
                )
                return {"wamid": wamid}
            case ["tap"]:
                choice = {name: values[name] for name in ("index", "payload", "id", "title") if name in values}
                wamid = patients.tap(
                    values["who"],
                    wamid=values.get("wamid", ""),
                    choice=choice,
                    with_context=values.get("with_context", True),
                )
                return {"wamid": wamid}
            case ["send"]:
                return {"wamid": patients.send(values["who"], values["kind"], values)}
            case ["block"]:
                whatsapp.phones.find(values["who"]).blocked = bool(values.get("blocked", True))
                return {"ok": True}
            case ["read"]:
                return {"read": patients.read_all(values["who"])}
            case ["change-number"]:
                return {"wamid": patients.change_number(values["who"], values["new_number"])}
            case ["status"]:
                return self._status(values)
            case ["preference"]:
                return self._preference(values)
            case ["account"]:
                self._account(values["field"], values["value"])
                return {"ok": True}
            case ["templates"]:
                whatsapp.catalogue.add_json(values, values.get("titles"))
                return {"ok": True}
            case ["templates", name]:
                return self._template_status(name, str(values["status"]), tell=bool(values.get("tell", True)))
            case ["faults"]:
                rules = [Rule(**item) for item in (values if isinstance(values, list) else [values])]
                whatsapp.faults.rules += rules
                return [asdict(rule) for rule in rules]
            case ["settings"]:
                return self._settings(values)
            case ["clock"]:
                whatsapp.clock_offset = float(values["offset_seconds"])
                return {"now": whatsapp.now()}
            case ["retry-now"]:
                return {"hurried": whatsapp.courier.retry_now()}
        raise ControlError(f"no such control: POST {'/'.join(segments)}")

    def _somebody(self, values: dict[str, Any]) -> dict[str, Any]:
        phones = self.whatsapp.phones
        wa_id = canonical(values.get("wa_id", ""))
        user_id = values.get("user_id") or issue_user_id(wa_id)
        person = phones.by_number.get(wa_id) or phones.by_user_id.get(user_id) or Person(wa_id, user_id)
        phones.by_user_id.pop(person.user_id, None)
        person.user_id = values.get("user_id") or person.user_id
        for name in ("name", "shows_number", "exists", "blocked"):
            if name in values:
                setattr(person, name, values[name])
        phones.add(person)
        return {"wa_id": person.wa_id, "user_id": person.user_id}

    def _status(self, values: dict[str, Any]) -> dict[str, Any]:
        bubble = self.whatsapp.phones.bubbles[values["wamid"]]
        error = Denied(int(values["code"])).status_error() if "code" in values else None
        self.whatsapp.status(bubble, values["status"], float(values.get("after", 0.0)), error=error)
        return {"ok": True}

    def _preference(self, values: dict[str, Any]) -> dict[str, Any]:
        person = self.whatsapp.phones.find(values["who"])
        options = self.whatsapp.options
        number = {"wa_id": person.wa_id} if person.shows_number else {}
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": options.display, "phone_number_id": options.phone_number_ids[0]},
            "contacts": [person.contact()],
            "user_preferences": [number | {"user_id": person.user_id, "detail": "User preference for marketing messages",
                                           "category": "marketing_messages", "value": values["value"],
                                           "timestamp": int(self.whatsapp.now())}],
        }  # fmt: skip
        self._account("user_preferences", value)
        return {"ok": True}

    def _account(self, field: str, value: dict[str, Any]) -> None:
        update = Update("account", field, value, self.whatsapp.options.waba_id, field=field)
        self.whatsapp.courier.schedule(update)

    def _template_status(self, name: str, status: str, *, tell: bool) -> dict[str, Any]:
        template = self.whatsapp.catalogue.templates[name]
        template.status = status
        if tell:
            for at, language in enumerate(template.bodies, 1):
                self._account("message_template_status_update", {
                    "event": status, "message_template_id": 900000000000000 + at, "message_template_name": name,
                    "message_template_language": language, "reason": "NONE", "message_template_category": template.category,
                })  # fmt: skip
        return {"name": name, "status": status}

    def _settings(self, values: dict[str, Any]) -> dict[str, Any]:
        manners, limits, courier = self.whatsapp.courier.manners, self.whatsapp.phones.limits, self.whatsapp.courier
        for name, value in values.items():
            if name == "webhook_url":
                courier.url = value
                continue
            target = next((held for held in (manners, limits) if name in {item.name for item in fields(held)}), None)
            if target is None:
                raise ControlError(f"no such setting: {name}")
            setattr(target, name, value)
        courier.wake()
        return asdict(manners) | asdict(limits) | {"webhook_url": courier.url}

    async def _idle(self, timeout: float) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + timeout
        courier = self.whatsapp.courier
        while not courier.idle and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        return {"idle": courier.idle} | courier.counts()

    async def _verify(self) -> dict[str, Any]:
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": "1158201444",
            "hub.verify_token": self.whatsapp.options.verify_token,
        }
        async with aiohttp.ClientSession() as session, session.get(self.whatsapp.courier.url, params=query) as response:
            text = await response.text()
            return {"verified": response.status == 200 and text == query["hub.challenge"], "status": response.status}
