"""Wiring: settings in, a running engine out. `bridge serve` and `bridge demo` start the same one."""

from __future__ import annotations

import json
import logging
import secrets
from functools import partial

from flask import Flask, Response
from sqlalchemy import update

from bridge.console.app import console_app
from bridge.control import Control
from bridge.engine.apply import Applier
from bridge.engine.calendar import Calendar
from bridge.engine.content import load_content
from bridge.engine.prime import Primer
from bridge.engine.pump import Pump
from bridge.engine.reads import Reader
from bridge.engine.recorded import Recorded
from bridge.engine.reload import Reloader
from bridge.engine.site import Site
from bridge.engine.writes import Writer
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
from bridge.settings import Settings
from bridge.straight import Straight

log = logging.getLogger(__name__)

DOOR_THREADS = 8  # for what does not go straight to the group commit: large bodies, odd paths
CONSOLE_THREADS = 4


class Engine:
    """One engine process: doors, loops, console."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        """Takes the store's lock and brings its schema up to date; starts nothing.

        Raises: Refused, StoreLocked.
        """
        self.settings = settings
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = Store(settings.store.url)
        store.lock(settings.data_dir)  # PostgreSQL too: the node's name lies there, and a name has one life at a time
        migrate(store)
        self.site = make_site(settings, store, clock=clock)
        site = self.site
        self.inbox = Inbox(store, site.crypto, site.ids, site.content.version, site.wake_apply.set)
        self.reader = Reader(site.clients, store.now, lambda: self.applier.answered())  # noqa: PLW0108  it is made below
        self.applier = Applier(site, self.reader)
        self.writer = Writer(site, self.reader)
        self.pump = Pump(site, self.reader)
        self.sender = Sender(
            settings, store, site.crypto, site.ids, site.clock, site.node, site.quiet_until, Recorded(site)
        )
        site.wake_sender = self.sender.wake
        self.doors = Listener(
            doors_app(settings, self.inbox),
            settings.listen.doors.host,
            settings.listen.doors.port,
            DOOR_THREADS,
            "doors",
            body_limit,
            Straight(self.inbox, partial(pushed, settings), partial(posted, settings)),
        )
        self.console = Listener(
            console_app(site), settings.listen.console.host, settings.listen.console.port, CONSOLE_THREADS, "console"
        )
        self.calendar = Calendar(site)
        self.reloader = Reloader(site, self.inbox.say_version)
        self.primer = Primer(site, self.reader, self.applier)
        self.control = Control(
            site,
            settings.data_dir / "engine.sock",
            {"prime.start": self.primer.start, "prime.status": self.primer.status},
        )

    def start(self) -> None:
        """Everything runs when this returns; the doors last."""
        self._take_over()
        self.inbox.start()
        self.sender.start()
        self.applier.start()
        self.writer.start()
        self.pump.start()
        self.control.start()
        self.console.start()
        self.doors.start()
        self.primer.resume()
        self.calendar.start()
        self.reloader.start()
        log.info("engine started", extra={"node": self.site.node})

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
        site = self.site
        self.doors.stop()
        self.inbox.stop()
        self.sender.stop()
        site.stopping.set()
        for loop in (self.reloader, self.calendar, self.primer, self.applier, self.pump, self.writer):
            loop.stop()
        self.reader.stop()
        self.console.stop()
        self.control.stop()
        with site.store.write() as connection:
            lanes.forget_node(connection, site.node)
        site.store.close()
        log.info("engine stopped", extra={"node": site.node})


def make_site(settings: Settings, store: Store, *, clock: Clock | None = None) -> Site:
    """What loops and operations share, around an open store. Raises: Refused."""
    return Site(
        settings=settings,
        store=store,
        crypto=Crypto(settings.security.data_keys, settings.security.index_key),
        ids=Ids(),
        clock=clock or Clock(),
        node=_node(settings),
        content=load_content(settings),
        clients={key: EhrClient(ehr) for key, ehr in settings.ehrs.items() if ehr.base_url},
    )


def _node(settings: Settings) -> str:
    """This node's name, kept in the data folder so that its next life can end its last one's leases."""
    path = settings.data_dir / "node"
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
