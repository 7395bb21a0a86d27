"""The engine's own parts, wired as `bridge.app` wires them, and turned by hand: no thread runs, nothing sleeps.

`clerk`, `patient` and `status` go through the real doors' code into a real inbox; `settle` turns apply, pump, writer
and sender until nothing moves. `pass_` lets both clocks go on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, text

from bridge.engine.apply import Applier
from bridge.engine.content import load_content
from bridge.engine.pump import Pump
from bridge.engine.reads import Reader
from bridge.engine.recorded import Recorded
from bridge.engine.site import Content, Site
from bridge.engine.writes import Writer
from bridge.fhir.dialects import DIALECTS
from bridge.fhir.notification import Push, read, split
from bridge.fhir.routes import entries as ehr_entries
from bridge.inbound.providers import cloud_api as webhook
from bridge.inbound.routes import entries as whatsapp_entries
from bridge.ledger.clock import SECOND, Clock, Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.inbox import Entry, Inbox
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.ledger.tables import audit, inbox, outbox, resource, turn, write
from bridge.outbound.carrier import Answer, Unknown
from bridge.outbound.sender import Sender
from bridge.sandbox import people
from bridge.settings import Settings, load_settings
from bridge.verified import VerifiedBody
from tests.engine.fakes import Bubble, FakeEhr, FakeWhatsApp
from tests.stores import store_url

SECRET = "app-secret-of-the-tests"
WABA, PNID = "102290129340398", "106540352242922"
ENVIRON = {
    "BRIDGE_DATA_KEY": base64.b64encode(bytes(range(32))).decode(),
    "BRIDGE_INDEX_KEY": "index-key-of-32-characters-or-so",
    "BRIDGE_SESSION_KEY": "session-key-of-32-characters-or-",
    "EHR_DOOR_SECRET": "ehr-door-value",
    "META_APP_SECRET": SECRET,
    "META_VERIFY_TOKEN": "verify-token-value",
    "META_TOKEN": "meta-token-value",
}
TOGETHER = 500  # requests of one group commit
MORNING = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)  # a Tuesday, ten o'clock in Madrid


class Inline:
    """An executor that is done when it returns."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done

    def shutdown(self, **_: Any) -> None: ...


class PushedStore(Store):
    """A store whose machine clock tests may push, as time that has passed."""

    ahead = 0

    def now(self, connection: Connection | None = None) -> int:
        return super().now(connection) + self.ahead

    def hurry(self) -> None:
        """Nothing here outlives its test, so no commit waits for the disk."""
        if self.dialect == "sqlite":
            self._write_engine.raw_connection().driver_connection.execute("PRAGMA synchronous=OFF")  # type: ignore[union-attr]
            return
        with self.write() as connection:
            connection.execute(text(f"ALTER DATABASE {self.url.database} SET synchronous_commit TO off"))
        self._write_engine.dispose()


def settings_for(folder: Path, url: str, **changes: Any) -> Settings:
    """Settings as a site writes them; keyword arguments replace top-level keys, `site` and `ehr` are merged."""
    site = {
        "name": "Hospital Demo", "zone": "Europe/Madrid", "region": "ES", "languages": ["es", "en", "pt"],
        "quiet_hours": {"from": "21:00", "to": "08:00"}, "emergency_number": "112", "minor_under": 18,
        "own_voice_from": 16,
    } | changes.pop("site", {})  # fmt: skip
    ehr = {
        "base_url": "https://ehr.example/fhir", "fhir_version": "R4", "dialect": "generic", "auth": {"kind": "none"},
        "door": {"kind": "bearer", "secrets": ["${env:EHR_DOOR_SECRET}"]}, "prime": "none",
        "subscriptions": {
            "appointments": {"resource": "Appointment"}, "consents": {"resource": "Consent"},
            "patients": {"resource": "Patient"}, "results": {"resource": "DiagnosticReport"},
        },
        "writeback": {"appointment": "put", "communication": "create", "consent": "create"},
    } | changes.pop("ehr", {})  # fmt: skip
    config = {
        "version": 1, "site": site, "store": {"url": url},
        "listen": {"doors": "127.0.0.1:0", "console": "127.0.0.1:0"},
        "security": {
            "data_keys": {"k1": "${env:BRIDGE_DATA_KEY}"}, "index_key": "${env:BRIDGE_INDEX_KEY}",
            "session_key": "${env:BRIDGE_SESSION_KEY}",
        },
        "ehrs": {"main": {key: value for key, value in ehr.items() if value is not None}},
        "apps": {"hospital": {"app_secrets": ["${env:META_APP_SECRET}"], "verify_token": "${env:META_VERIFY_TOKEN}"}},
        "numbers": {
            "front_desk": {
                "provider": "cloud_api", "app": "hospital", "base_url": "https://graph.example",
                "api_version": "v23.0", "waba_id": WABA, "portfolio": "hospital", "phone_number_id": PNID,
                "access_token": "${env:META_TOKEN}", "rate": 1000,
            }
        },
        "consent": {
            "purposes": {
                "appointments": {"without_decision": "send", "basis": "care contract"},
                "results": {"without_decision": "block"},
            },
            "recognise": [{"category": "http://loinc.org|89057-4", "purposes": ["appointments", "results"]}],
        },
        "delivery": {"brake": 1000000, "doubt_wait": "30m"},
    } | changes  # fmt: skip
    path = folder / "config" / "bridge.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    return load_settings(path, ENVIRON)


_CONTENT: dict[object, Content] = {}


def content_of(settings: Settings) -> Content:
    """The shipped mappings and words, read once for all workbenches that speak the same languages."""
    key = (settings.site.languages, settings.fhir_versions, settings.part("mappings"))
    if key not in _CONTENT:
        _CONTENT[key] = load_content(settings)
    return replace(_CONTENT[key], version=settings.version)


class Bench:
    """One engine on the workbench."""

    def __init__(
        self, folder: Path, kind: str = "sqlite", *, at: datetime = MORNING, inline: bool = True, **changes: Any
    ) -> None:
        """`inline`: reads and writes happen on the caller's thread; without it in pools, as they really do."""
        url = store_url(kind, folder)
        self.settings = settings = settings_for(folder, url, **changes)
        self.store = PushedStore(url)
        if inline:
            self.store.hurry()
        migrate(self.store)
        self.crypto = Crypto(settings.security.data_keys, settings.security.index_key)
        self.ehr, self.whatsapp = FakeEhr(), FakeWhatsApp()
        clients: dict[str, Any] = {"main": self.ehr} if settings.ehrs["main"].base_url else {}
        self.site = Site(
            settings, self.store, self.crypto, Ids(), Clock(at), "node", content_of(settings), clients
        )  # fmt: skip
        self.inbox = Inbox(self.store, self.crypto, self.site.ids, settings.version, lambda: None)
        self.reader = Reader(clients, self.store.now, lambda: self.applier.answered())  # noqa: PLW0108
        if inline:
            self.reader._pools = dict.fromkeys(self.reader._pools, Inline())  # type: ignore[arg-type]
        self.applier = Applier(self.site, self.reader)
        self.pump = Pump(self.site, self.reader)
        self.writer = Writer(self.site, self.reader)
        if inline:
            self.writer._pools = dict.fromkeys(self.writer._pools, Inline())  # type: ignore[arg-type]
            self.pump.documents._pool = Inline()  # type: ignore[assignment]
        self.sender = Sender(
            settings,
            self.store,
            self.crypto,
            self.site.ids,
            self.site.clock,
            "node",
            self.site.quiet_until,
            Recorded(self.site),
        )
        self.patients = 0
        for one in people.everybody():
            self.ehr.put(one)

    def close(self) -> None:
        self.store.close()

    # --- the doors -------------------------------------------------------------------------------------------------

    def append(self, rows: Sequence[Entry]) -> None:
        """What the group commit does with one request."""
        self.append_together([rows])

    def append_together(self, requests: Sequence[Sequence[Entry]]) -> None:
        """Several requests in one group commit, as they come from a busy door."""
        for start in range(0, len(requests), TOGETHER):
            batch = [self.inbox._prepare(rows) for rows in requests[start : start + TOGETHER]]
            told: list[BaseException | None] = []
            for request in batch:
                request.done = told.append
            self.inbox._commit(batch)
            assert len(told) == len(batch)
            for error in told:
                if error is not None:
                    raise error

    def push(self, body: bytes, *, door: str = "appointments", method: str = "PUT", tail: str | None = None) -> None:
        """One notification, as the EHR's door takes it."""
        self.append(self._pushed(body, door=door, method=method, tail=tail))

    def _pushed(self, body: bytes, *, door: str, method: str, tail: str | None) -> list[Entry]:
        headers = {"content-type": "application/fhir+json"}
        pushed = Push(method, tail, headers["content-type"], headers, VerifiedBody(body))
        ehr = self.settings.ehrs["main"]
        return ehr_entries(ehr, door, split(read(pushed, DIALECTS[ehr.dialect]), ehr.subscriptions[door].resource))

    def notify(self, resource: Mapping[str, Any], *, door: str = "appointments") -> None:
        """R4 rest-hook: a PUT of the resource itself."""
        reference = f"{resource['resourceType']}/{resource['id']}"
        self.push(json.dumps(resource).encode(), door=door, tail=reference)

    def hint(self, reference: str, *, door: str = "appointments") -> None:
        """The server says that something of it changed, and not what."""
        bundle = {
            "resourceType": "Bundle", "type": "subscription-notification",
            "entry": [{"resource": {
                "resourceType": "SubscriptionStatus", "status": "active", "type": "event-notification",
                "subscription": {"reference": "Subscription/1"}, "topic": "http://ehr.example/topic",
                "notificationEvent": [{"eventNumber": "1", "focus": {"reference": reference}}],
            }}],
        }  # fmt: skip
        self.push(json.dumps(bundle).encode(), door=door, method="POST")

    def clerk(self, resource: Mapping[str, Any], *, door: str = "appointments") -> dict[str, Any]:
        """Somebody at the hospital saves it, and its notification arrives."""
        saved = self.ehr.put(resource)
        self.notify(saved, door=door)
        return saved

    def clerks(self, resources: Iterable[Mapping[str, Any]], *, door: str = "appointments") -> None:
        """Many at the hospital save at once; their notifications share a group commit."""
        self.notify_all([self.ehr.put(resource) for resource in resources], door=door)

    def notify_all(self, saved: Iterable[Mapping[str, Any]], *, door: str = "appointments") -> None:
        """Notifications of what was saved, in one group commit."""
        tails = [(one, f"{one['resourceType']}/{one['id']}") for one in saved]
        bodies = [(json.dumps(one).encode(), tail) for one, tail in tails]
        self.append_together([self._pushed(body, door=door, method="PUT", tail=tail) for body, tail in bodies])

    def webhook(self, value: Mapping[str, Any]) -> None:
        """One signed webhook of Meta's."""
        self.append(self.webhook_entries(value))

    def webhook_entries(self, value: Mapping[str, Any]) -> list[Entry]:
        metadata = {"display_phone_number": "34910000000", "phone_number_id": PNID}
        return self._entries("messages", {"messaging_product": "whatsapp", "metadata": metadata} | dict(value))

    def account(self, field: str, value: Mapping[str, Any]) -> None:
        """One signed webhook of Meta's about what is ours: its field and its value."""
        self.append(self._entries(field, value))

    def _entries(self, field: str, value: Mapping[str, Any]) -> list[Entry]:
        body = json.dumps(
            {"object": "whatsapp_business_account",
             "entry": [{"id": WABA, "changes": [{"field": field, "value": dict(value)}]}]}
        ).encode()  # fmt: skip
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        verified = webhook.verify(body, signature, (SECRET,))
        return whatsapp_entries(self.settings, "hospital", webhook.read(verified))

    def seconds(self) -> int:
        """Now, as Meta stamps it."""
        return int((datetime.now(UTC) + timedelta(microseconds=self.store.ahead)).timestamp())

    def says(self, who: str, words: str, *, user_id: str | None = None, wamid: str | None = None) -> str:
        """A patient writes; `who` empty: somebody with a username and no number."""
        return self._message(who, {"type": "text", "text": {"body": words}}, user_id=user_id, wamid=wamid)

    def sends(self, who: str, kind: str) -> str:
        return self._message(who, {"type": kind, kind: {"id": "media1", "mime_type": "audio/ogg"}})

    def tap(self, bubble: Bubble, index: int, *, who: str | None = None, user_id: str | None = None) -> str:
        """A patient taps a button of a bubble."""
        payload = bubble.buttons[index]
        if bubble.template is not None:
            content: dict[str, Any] = {"type": "button", "button": {"payload": payload, "text": "—"}}
        else:
            reply = {"type": "button_reply", "button_reply": {"id": payload, "title": "—"}}
            content = {"type": "interactive", "interactive": reply}
        return self._message(bubble.to if who is None else who, content, user_id=user_id)

    def _message(
        self, who: str, content: dict[str, Any], *, user_id: str | None = None, wamid: str | None = None
    ) -> str:
        self.patients += 1
        wamid = wamid or f"wamid.in{self.patients:06d}"
        message: dict[str, Any] = {"id": wamid, "timestamp": str(self.seconds())} | content
        contact: dict[str, Any] = {"profile": {"name": "—"}}
        if who:
            message["from"] = contact["wa_id"] = who
        if user_id:
            message["from_user_id"] = contact["user_id"] = user_id
        self.webhook({"contacts": [contact], "messages": [message]})
        return wamid

    def status(self, bubble: Bubble, status: str, **more: Any) -> None:
        self.webhook({"statuses": [self.status_of(bubble, status, **more)]})

    def status_of(self, bubble: Bubble, status: str, **more: Any) -> dict[str, Any]:
        return {
            "id": bubble.wamid, "status": status, "timestamp": str(self.seconds()), "recipient_id": bubble.to,
            "biz_opaque_callback_data": bubble.callback,
        } | more  # fmt: skip

    # --- turning the crank -----------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Until nothing is applied any more. A read is answered within the round that asks; the next one applies it."""
        idle = 0
        for _ in range(80):
            idle = 0 if self.applier.once() else idle + 1
            if idle == 6:  # reads of one resource come one after another: its patient, the place, the consents
                return
        raise AssertionError("apply does not come to rest")

    def fence(self) -> list[Any]:
        """One cycle of the sender: what may leave has left its fence, and no POST has begun."""
        return self.sender._cycle()

    def post(self, shot: Any) -> None:
        """One POST and its answer, as the carrier would bring it."""
        self.whatsapp.posts.append(json.loads(shot.body))
        outcome = self.whatsapp.answers.pop(0) if self.whatsapp.answers else None
        if outcome is None or outcome == "lost":
            bubble = self.whatsapp.take(shot.body)
            contact = {"input": bubble.to, "wa_id": bubble.to}
            if self.whatsapp.names_user_ids:
                contact["user_id"] = self.whatsapp.user_ids.get(bubble.to, f"ES.{bubble.to}")
            answer = {"messages": [{"id": bubble.wamid}], "contacts": [contact]}
            outcome = Unknown("ServerDisconnected") if outcome == "lost" else Answer(200, json.dumps(answer).encode())
        self.sender._done(shot.fenced, self.sender._result(shot.fenced, outcome))

    def send(self) -> int:
        """The sender until nothing is due; returns how many POSTs that were."""
        count = 0
        for _ in range(400):
            shots = self.fence()
            for shot in shots:
                self.post(shot)
            count += len(shots)
            if not shots and not self.sender._results:
                if not self.due():
                    return count
                self.store.ahead += 50_000  # the number's own rate: its next slot comes
        raise AssertionError("the sender does not come to rest")

    def send_once(self) -> None:
        """What may leave at this moment, and no more."""
        for shot in self.fence():
            self.post(shot)

    def due(self) -> bool:
        now = self.store.now()
        with self.store.read() as connection:
            due = (
                "SELECT 1 FROM lane WHERE kind = 'conversation' AND next_at <= :now AND lease_until <= :now AND NOT EXISTS "
                "(SELECT 1 FROM number n WHERE n.key = lane.number AND n.paused_until > :now) LIMIT 1"
            )
            return connection.execute(text(due), {"now": now}).first() is not None

    def write(self) -> None:
        for _ in range(60):
            if not self.writer.once():
                return
        raise AssertionError("the writer does not come to rest")

    def settle(self, *, patience: int = 8) -> None:
        """Everything runs until nothing moves. Rates of one recipient are passed over: their own tests hold them."""
        for _ in range(patience):
            before = self.trail()
            self.free_rates()
            for _ in range(3):  # a reminder is read again, what differs is applied, and it is looked at once more
                self.apply()
                self.pump.once()
            self.send()
            self.write()
            self.apply()
            if self.trail() == before:
                return
        raise AssertionError("the engine does not come to rest")

    def settle_replies(self) -> None:
        """What was just written has settled, and its consequences too."""
        self.pass_(seconds=3)
        self.settle()

    def free_rates(self) -> None:
        with self.store.write() as connection:
            connection.execute(
                text(
                    "UPDATE lane SET free_at = 0, next_at = 0 WHERE next_at IS NOT NULL AND lease_until = 0 AND cls < 9 "
                    "AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.lane_id = lane.id AND o.state IN ('doubt', 'sending'))"
                )
            )

    def trail(self) -> tuple[Any, ...]:
        with self.store.read() as connection:
            states = connection.execute(text("SELECT state, count(*) FROM outbox GROUP BY state ORDER BY state")).all()
            waiting = connection.execute(text("SELECT count(*) FROM inbox WHERE fate IS NULL")).scalar()
            writes = connection.execute(text("SELECT state, count(*) FROM write GROUP BY state ORDER BY state")).all()
        return (tuple(map(tuple, states)), waiting, tuple(map(tuple, writes)), len(self.whatsapp.posts))

    def pass_(self, **period: float) -> None:
        """Time goes on, on both clocks."""
        by = timedelta(**period)
        self.site.clock.push(by)
        self.store.ahead += int(by.total_seconds() * SECOND)
        self.reader._failures.clear()
        self.reader._answers = type(self.reader._answers)(
            (key, (at - by.total_seconds(), found)) for key, (at, found) in self.reader._answers.items()
        )

    # --- looking ---------------------------------------------------------------------------------------------------

    def rows(self, table: Any, *where: Any) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(table).where(*where).order_by(*table.primary_key.columns)))

    def messages(self, *where: Any) -> list[Any]:
        return self.rows(outbox, *where)

    def fates(self) -> list[tuple[str | None, str | None]]:
        return [(row.fate, row.reason) for row in self.rows(inbox)]

    def held(self, reference: str) -> Any:
        from bridge.ledger import keys

        return self.rows(resource, resource.c.key == self.crypto.index(keys.resource("main", reference)))[0]

    def alarms(self) -> list[str]:
        return [json.loads(row.detail)["why"] for row in self.rows(audit, audit.c.action == "alarm")]

    def writes(self) -> list[Any]:
        return self.rows(write)

    def open_turns(self) -> list[str]:
        return [row.reason for row in self.rows(turn, turn.c.open)]

    def told(self, who: str) -> list[str]:
        """What this phone shows, oldest first: the template's name, or the words."""
        return [bubble.template or bubble.text or "" for bubble in self.whatsapp.of(who)]
