"""Wiring: settings in, a running engine out. `bridge serve` and `bridge demo` start the same one."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from functools import partial

from flask import Flask, Response
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from bridge.console.app import console_app
from bridge.console.readiness import health_app
from bridge.control import Control
from bridge.engine.apply import Applier
from bridge.engine.calendar import Calendar
from bridge.engine.content import load_content
from bridge.engine.presence import Presence
from bridge.engine.prime import Primer
from bridge.engine.pump import Pump
from bridge.engine.reads import Reader
from bridge.engine.recorded import Recorded
from bridge.engine.reload import Reloader
from bridge.engine.replies import HANDS
from bridge.engine.site import Site
from bridge.engine.writes import WORKERS as WRITE_WORKERS
from bridge.engine.writes import Writer
from bridge.errors import RolesRefused, StoreLocked
from bridge.fhir.client import EhrClient
from bridge.fhir.routes import MAX_BODY as EHR_BODY
from bridge.fhir.routes import ehr_door, pushed
from bridge.fhir.smart import jwk, signing_key
from bridge.http import Listener, one_slash
from bridge.inbound.routes import MAX_BODY as WEBHOOK_BODY
from bridge.inbound.routes import posted, whatsapp_door
from bridge.ledger import lanes
from bridge.ledger.clock import Clock, Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.inbox import Inbox
from bridge.ledger.schema import migrate
from bridge.ledger.store import Store
from bridge.ledger.tables import write
from bridge.outbound.record import take_over
from bridge.outbound.sender import Sender
from bridge.roles import ALL, READS_EHR, ordered
from bridge.settings import HostPort, Settings
from bridge.straight import Straight

log = logging.getLogger(__name__)

DOOR_THREADS = 8  # for what does not go straight to the group commit: large bodies, odd paths
CONSOLE_THREADS = 4
HEALTH_THREADS = 2
ENGINE = "engine"  # lock and socket in the data folder; with roles: engine-doors, engine-apply-pump, engine-send-2 …
PROCESSES = 64  # of one data folder and one set of roles
# PostgreSQL connections that a role's threads may hold at once; `write` has its pool of threads for each EHR beside
POOL = {"doors": 1, "apply": 1 + HANDS, "pump": 2, "send": 1, "write": 1, "console": CONSOLE_THREADS}
POOL_ALWAYS = 3  # sign of life, control socket, health


class Engine:
    """One engine process: doors, loops, console, or those of its roles."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        roles: frozenset[str] = ALL,
        health: HostPort | None = None,
    ) -> None:
        """Takes a lock in the data folder and brings the schema up to date; starts nothing.

        Args:
            roles: what this process does; fewer than all only on PostgreSQL.
            health: where a process that has no console answers `/healthz`, `/readyz` and `/metrics`.

        Raises: Refused, RolesRefused, StoreLocked.
        """
        if roles != ALL and settings.store.sqlite:
            raise RolesRefused("SQLite has one engine process, with all roles: leave --roles out, or use PostgreSQL")
        self.settings = settings
        self.roles = roles
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = Store(settings.store.url, pool=connections(settings, roles))
        name = _lock(store, settings, roles)  # PostgreSQL too: a node's name lies there, and has one life at a time
        migrate(store)
        self.site = make_site(settings, store, clock=clock, roles=roles, node=_node(settings, name))
        site = self.site
        self.presence = Presence(store, site.ids, site.node, roles, site.vitals.sick)
        site.share, site.nodes = self.presence.share, self.presence.nodes
        self.inbox = Inbox(store, site.crypto, site.ids, site.content.version, site.wake_apply.set)
        self.reader = Reader(site.clients, store.now, lambda: self.applier.answered())  # noqa: PLW0108  it is made below
        self.applier = Applier(site, self.reader)
        self.writer = Writer(site, self.reader)
        self.pump = Pump(site, self.reader)
        self.sender = Sender(
            settings, store, site.crypto, site.ids, site.clock, site.node, site.quiet_until, Recorded(site)
        )
        if "send" in roles:
            site.wake_sender = self.sender.wake
        self.sender.beat = partial(site.vitals.beat, "sender")
        self.doors, self.console = self._doors(), self._console(health)
        self.calendar = Calendar(site)
        self.reloader = Reloader(site, self.inbox.say_version)
        self.primer = Primer(site, self.reader, self.applier)
        self.control = Control(
            site,
            settings.data_dir / f"{name}.sock",
            {"prime.start": self.primer.start, "prime.status": self.primer.status} if "apply" in roles else None,
        )

    def _doors(self) -> Listener | None:
        if "doors" not in self.roles:
            return None
        settings, place = self.settings, self.settings.listen.doors
        return Listener(
            doors_app(settings, self.inbox),
            place.host,
            place.port,
            DOOR_THREADS,
            "doors",
            body_limit,
            Straight(self.inbox, partial(pushed, settings), partial(posted, settings)),
        )

    def _console(self, health: HostPort | None) -> Listener | None:
        if "console" in self.roles:
            place = self.settings.listen.console
            return Listener(console_app(self.site), place.host, place.port, CONSOLE_THREADS, "console")
        if health is not None:
            return Listener(health_app(self.site), health.host, health.port, HEALTH_THREADS, "health")
        return None

    def start(self) -> None:
        """Everything runs when this returns; the doors last."""
        watch, roles = self.site.vitals.watch, self.roles
        self._take_over()
        self.presence.start()
        if self.presence.shared:
            watch("presence", "", rounds=False)
        if "doors" in roles:
            self.inbox.start()
            watch("inbox-writer", "doors", rounds=False)
        for name, role, loop in (
            ("sender", "send", self.sender),
            ("apply", "apply", self.applier),
            ("writes", "write", self.writer),
            ("pump", "pump", self.pump),
        ):
            if role in roles:
                loop.start()
                watch(name, role)
        self.control.start()
        if self.console is not None:
            self.console.start()
        if self.doors is not None:
            self.doors.start()
            watch("doors", "doors", rounds=False)
        if "apply" in roles:
            self.primer.resume()
        if "pump" in roles:
            self.calendar.start()
        self.reloader.start()
        log.info("engine started", extra={"node": self.site.node, "roles": ",".join(ordered(roles))})

    def _take_over(self) -> None:
        """What an earlier life of this node held is free at once: it is dead, we have its name."""
        site = self.site
        with site.store.write() as connection:
            lost = take_over(connection, site.node, site.store.now(connection))
            connection.execute(
                update(write).where(write.c.owner == site.node, write.c.state == "sending").values(lease_until=0)
            )
        for message in sorted(lost):
            log.warning("the outcome of a message is unknown", extra={"message_id": f"msg_{message}"})

    def stop(self) -> None:
        """SIGTERM: doors close, sends in flight end or are taken back, leases are freed."""
        site, roles = self.site, self.roles
        if self.doors is not None:
            self.doors.stop()
            self.inbox.stop()
        if "send" in roles:
            self.sender.stop()
        site.stopping.set()
        for role, loop in (
            ("", self.reloader),
            ("pump", self.calendar),
            ("apply", self.primer),
            ("apply", self.applier),
            ("pump", self.pump),
            ("write", self.writer),
        ):
            if not role or role in roles:
                loop.stop()
        self.reader.stop()
        self.presence.stop()
        if self.console is not None:
            self.console.stop()
        self.control.stop()
        try:
            with site.store.write() as connection:
                lanes.forget_node(connection, site.node)
        except SQLAlchemyError as error:  # they end by themselves, or with this node's next life
            log.warning("leases could not be freed", extra={"error": type(error).__name__})
        site.store.close()
        log.info("engine stopped", extra={"node": site.node})


def connections(settings: Settings, roles: frozenset[str]) -> int:
    """How many connections to PostgreSQL a process with these roles keeps when all its threads are at work."""
    ehrs = WRITE_WORKERS * len(settings.ehrs) if "write" in roles else 0
    return sum(POOL[role] for role in roles) + ehrs + POOL_ALWAYS


def make_site(
    settings: Settings,
    store: Store,
    *,
    clock: Clock | None = None,
    roles: frozenset[str] = ALL,
    node: str | None = None,
) -> Site:
    """What loops and operations share, around an open store. Raises: Refused."""
    readable = settings.ehrs if roles & READS_EHR else {}
    return Site(
        settings=settings,
        store=store,
        crypto=Crypto(settings.security.data_keys, settings.security.index_key),
        ids=Ids(),
        clock=clock or Clock(),
        node=node or _node(settings, ENGINE),
        content=load_content(settings),
        clients={key: EhrClient(ehr) for key, ehr in readable.items() if ehr.base_url},
        roles=roles,
    )


def _lock(store: Store, settings: Settings, roles: frozenset[str]) -> str:
    """What this process's lock, name and socket are called. Several processes with the same roles may run from one folder:
    each takes the first name whose last life is over.

    Raises: StoreLocked.
    """
    if roles == ALL:
        store.lock(settings.data_dir, ENGINE)
        return ENGINE
    base = f"{ENGINE}-{'-'.join(ordered(roles))}"
    for n in range(1, PROCESSES + 1):
        name = base if n == 1 else f"{base}-{n}"
        with contextlib.suppress(StoreLocked):
            store.lock(settings.data_dir, name)
            return name
    raise StoreLocked(f"{PROCESSES} processes with these roles run from {settings.data_dir}")


def _node(settings: Settings, name: str) -> str:
    """This node's name, kept in the data folder so that its next life can end its last one's leases."""
    path = settings.data_dir / ("node" if name == ENGINE else f"{name}.node")
    if not path.exists():
        path.write_text(secrets.token_hex(6), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def body_limit(path: str) -> int:
    """The most bytes that a request to this path of the doors may carry."""
    return WEBHOOK_BODY if path.startswith("/whatsapp/") else EHR_BODY


def doors_app(settings: Settings, inbox: Inbox) -> Flask:
    """The application of `listen.doors`."""
    app = Flask("bridge.doors", static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.redirect_defaults = False  # no sender follows a redirect: HAPI takes it for a failure and tries again
    app.wsgi_app = one_slash(app.wsgi_app)  # type: ignore[method-assign]
    app.register_blueprint(ehr_door(settings, inbox))
    app.register_blueprint(whatsapp_door(settings, inbox))

    @app.get("/.well-known/jwks.json")
    def jwks() -> Response:
        """Our public keys, for EHRs that we prove ourselves to by SMART Backend Services."""
        keys = [
            jwk(signing_key(ehr.auth.private_key), ehr.auth.key_id)
            for ehr in settings.ehrs.values()
            if ehr.auth.kind == "smart_backend"
        ]
        return Response(
            json.dumps({"keys": keys}), content_type="application/json", headers={"Cache-Control": "max-age=300"}
        )

    return app
