"""The pretend Graph API: sends, media, templates and number info, with Meta's checks, answers and refusals."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from bridge.sandbox.journal import Journal, as_json
from bridge.sandbox.server import answer_json, hang_up
from bridge.sandbox.whatsapp import account, webhooks
from bridge.sandbox.whatsapp.catalogue import Catalogue
from bridge.sandbox.whatsapp.checks import Content, check
from bridge.sandbox.whatsapp.courier import Courier, Manners, polite
from bridge.sandbox.whatsapp.denials import Denied
from bridge.sandbox.whatsapp.faults import Faults, Rule
from bridge.sandbox.whatsapp.media import Media
from bridge.sandbox.whatsapp.phones import Bubble, Limits, Person, Phones
from bridge.sandbox.whatsapp.webhooks import Update

PROXY_PAGE = "<!DOCTYPE html><html><head><title>Error</title></head><body>Sorry, something went wrong.</body></html>"


@dataclass(slots=True)
class Options:
    webhook_url: str
    app_secret: str
    token: str = ""  # bearer of the sends; "" = any bearer
    verify_token: str = ""
    phone_number_ids: tuple[str, ...] = ("106540352242922",)
    waba_id: str = "102290129340398"
    display: str = "15550783881"
    version: str = "v23.0"
    templates: Path | None = None
    polite: bool = False
    seed: int = 1
    limits: Limits = field(default_factory=Limits)


class WhatsApp:
    """One pretend app with one account (WABA) and its numbers."""

    def __init__(self, journal: Journal, options: Options) -> None:
        self.journal, self.options = journal, options
        self.base = ""
        self.clock_offset = 0.0
        self.rng = random.Random(options.seed)  # noqa: S311 - repeatable mischief, no secret
        self.catalogue = Catalogue()
        if options.templates is not None:
            self.catalogue.load(options.templates)
        self.phones = Phones(random.Random(), options.limits)  # noqa: S311 - ids must differ between runs, nothing more
        self.faults = Faults(self.rng)
        self.media = Media()
        manners = polite() if options.polite else Manners()
        self.courier = Courier(
            journal, options.webhook_url, options.app_secret, manners=manners, rng=self.rng, now=self.now
        )
        self.accepted = 0

    def now(self) -> float:
        """The sandbox's clock: wall time, pushed by the demo; windows and timestamps follow it, rates never do."""
        return time.time() + self.clock_offset

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        segments = request.path.strip("/").split("/")
        if request.method == "POST" and len(segments) == 3 and segments[2] == "messages":
            return await self._messages(request, segments)
        body = await request.content.read()
        try:
            self._authenticate(request)
            status, answer = account.perform(self, request, segments, body)
        except Denied as denied:
            status, answer = denied.http, denied.body(self._trace())
        if isinstance(answer, bytes):
            self.journal.record("in", method=request.method, path=request.path, status=status)
            return web.Response(status=status, body=answer, content_type="application/octet-stream")
        self.journal.record(
            "in", now=request.method != "GET", method=request.method, path=request.path_qs, status=status, answer=answer
        )
        return answer_json(answer, status)

    async def _messages(self, request: web.BaseRequest, segments: list[str]) -> web.StreamResponse:
        rule = self.faults.early()
        if rule is not None:
            self.journal.record("in", now=True, method="POST", path=request.path, status=None, fault=rule.what)
            return hang_up(request)
        raw = await request.content.read()
        ids: dict[str, Any] = {}
        fault = effect = None
        try:
            self._authenticate(request)
            self.check_number(segments[1])
            message = _decode(raw)
            if "status" in message:
                answer: dict[str, Any] = self._mark_read(message)
            else:
                ids = {
                    "to": message.get("to") or message.get("recipient"),
                    "callback": message.get("biz_opaque_callback_data"),
                }
                rule = self.faults.next(message, segments[1])
                fault = rule.what if rule else None
                if rule is not None and rule.what in {"close", "refuse_body", "html500", "error", "storm"}:
                    return self._refuse(request, raw, rule, ids)
                answer, bubble = self._accept(message, segments, rule)
                effect, ids["wamid"] = "message", bubble.wamid
        except Denied as denied:
            ids["code"] = denied.code
            answer = denied.body(self._trace())
            self._line(request, raw, denied.http, answer, ids, fault=fault)
            headers = {"Retry-After": "1"} if denied.http == 429 else None
            return web.json_response(answer, status=denied.http, headers=headers)
        status = None if fault == "drop_answer" else 500 if fault == "html500_after" else 200
        self._line(request, raw, status, answer, ids, fault=fault, effect=effect)
        return await self._answer(request, answer, rule if effect else None)

    def _refuse(self, request: web.BaseRequest, raw: bytes, rule: Rule, ids: dict[str, Any]) -> web.StreamResponse:
        if rule.what in {"close", "refuse_body"}:
            self._line(request, raw, None, None, ids, fault=rule.what)
            return hang_up(request)
        if rule.what == "html500":
            self._line(request, raw, 500, None, ids, fault=rule.what)
            return web.Response(status=500, text=PROXY_PAGE, content_type="text/html")
        code = 130429 if rule.what == "storm" else rule.code
        denied = Denied(code, "injected", http=rule.http or (429 if rule.what == "storm" else None))
        self._line(request, raw, denied.http, denied.body(""), ids | {"code": code}, fault=rule.what)
        headers = {"Retry-After": str(int(rule.seconds))} if denied.http == 429 else None
        return web.json_response(denied.body(self._trace()), status=denied.http, headers=headers)

    async def _answer(self, request: web.BaseRequest, answer: dict[str, Any], rule: Rule | None) -> web.StreamResponse:
        what = rule.what if rule else ""
        body = msgspec.json.encode(answer)
        if what == "drop_answer":
            return hang_up(request)
        if what == "delay" and rule is not None:
            await asyncio.sleep(rule.seconds)
        elif what == "html500_after":
            return web.Response(status=500, text=PROXY_PAGE, content_type="text/html")
        elif what == "unreadable":
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type="application/json")

    def _accept(self, message: dict[str, Any], segments: list[str], rule: Rule | None) -> tuple[dict[str, Any], Bubble]:
        number = segments[1]
        content = check(message, self.catalogue, self.media.known)
        to = message.get("to")
        person = self.phones.person(to, message.get("recipient"))
        self.phones.admit(person, content, number, self.now(), time.monotonic())
        bubble = Bubble(
            self.phones.wamid(), person, False, self.now(), content.kind, content.body, number, content.buttons,
            content.template, content.language, content.category,
            shown=person.exists and not person.blocked and not (rule and rule.what == "fail_status"),
            callback=message.get("biz_opaque_callback_data"), context=(message.get("context") or {}).get("message_id"),
            header=str(content.details.get("header", "")) if content.kind == "template" else "",
        )  # fmt: skip
        self.phones.bubbles[bubble.wamid] = bubble
        person.bubbles.append(bubble)
        self.accepted += 1
        self._plan_statuses(bubble, segments[0], rule)
        contact = {"input": to, "wa_id": person.wa_id} if to else {"input": message.get("recipient")}
        answer = {
            "messaging_product": "whatsapp",
            "contacts": [contact | {"user_id": person.user_id}],
            "messages": [self._made(bubble, content)],
        }
        return answer, bubble

    def _made(self, bubble: Bubble, content: Content) -> dict[str, str]:
        return {"id": bubble.wamid} | ({"message_status": "accepted"} if content.kind == "template" else {})

    def _plan_statuses(self, bubble: Bubble, version: str, rule: Rule | None) -> None:
        manners = self.courier.manners
        if not bubble.shown:
            denied = Denied(rule.code if rule else 131026, "Message undeliverable")
            self.status(bubble, "failed", manners.delivered_after, version, denied.status_error())
            return
        self.status(bubble, "sent", manners.sent_after, version)
        self.status(bubble, "delivered", manners.delivered_after, version)
        if manners.read_after >= 0:
            self.status(bubble, "read", manners.read_after, version)

    def status(
        self, bubble: Bubble, name: str, delay: float, version: str = "", error: dict[str, Any] | None = None
    ) -> None:
        """Let a status of a message happen: the ticks change and a webhook says so."""
        item = webhooks.status(bubble, name, self.now() + delay, version=version or self.options.version, error=error)

        def happens() -> None:
            bubble.status = name

        self.courier.schedule(
            self.update("statuses", f"{bubble.wamid}|{name}", item, bubble.person, bubble.phone_number_id, happens),
            delay,
        )

    def update(
        self, kind: str, key: str, item: dict[str, Any], person: Person | None, number: str = "", happens: Any = None
    ) -> Update:
        contact = person.contact() if person is not None else None
        number = number or self.options.phone_number_ids[0]
        return Update(kind, key, item, self.options.waba_id, number, self.options.display, contact, happens=happens)

    def _mark_read(self, message: dict[str, Any]) -> dict[str, Any]:
        held = self.phones.bubbles.get(str(message.get("message_id")))
        if message.get("status") != "read" or held is None or not held.mine:
            raise Denied(131009, "message_id is not a message received")
        held.status = "read"
        return {"success": True}

    def _authenticate(self, request: web.BaseRequest) -> None:
        given = request.headers.get("Authorization", "")
        if not given.startswith("Bearer ") or (self.options.token and given != f"Bearer {self.options.token}"):
            raise Denied(190, "Invalid OAuth access token - Cannot parse access token")

    def check_number(self, number: str) -> None:
        if number not in self.options.phone_number_ids:
            raise Denied(100, f"Object with ID '{number}' does not exist", subcode=33)

    def _line(
        self, request: web.BaseRequest, raw: bytes, status: int | None, answer: Any, ids: dict[str, Any], **more: Any
    ) -> None:
        extra = {key: value for key, value in more.items() if value is not None}
        self.journal.record(
            "in",
            now=True,
            method="POST",
            path=request.path,
            status=status,
            body=as_json(raw),
            answer=answer,
            ids=ids,
            **extra,
        )

    def _trace(self) -> str:
        return "A" + hashlib.sha256(str(time.monotonic_ns()).encode()).hexdigest()[:22]


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Denied(100, "The request body is not JSON") from error
    if not isinstance(message, dict):
        raise Denied(100, "The request body is not an object")
    return message
