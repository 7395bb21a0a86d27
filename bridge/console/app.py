"""The application of `listen.console`: health, metrics, pages. It reads the store; it never delays a door."""

from __future__ import annotations

from flask import Flask, Response, jsonify
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.console.api import api
from bridge.console.mappings import mappings
from bridge.engine.site import Site
from bridge.ledger.schema import HEAD, current
from bridge.ledger.store import MAX_DRIFT
from bridge.ledger.tables import inbox, outbox, write
from bridge.metrics import counters


def console_app(site: Site) -> Flask:
    """Build the application around a running engine's site."""
    app = Flask("bridge.console")
    app.register_blueprint(api(site))
    app.register_blueprint(mappings(site))

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        problems = []
        try:
            if current(site.store) != HEAD:
                problems.append("the store's schema is not up to date: run `bridge migrate`")
            if abs(site.store.drift()) > MAX_DRIFT:
                problems.append("this node's clock is more than 2 s off the database's")
        except SQLAlchemyError as error:
            problems.append(f"the store cannot be read: {type(error).__name__}")
        told = {"ready": not problems, "problems": problems, "notices": list(site.notices.values()), "node": site.node}
        return jsonify(told), 503 if problems else 200

    @app.get("/metrics")
    def metrics() -> Response:
        lines = [counters.text()]
        with site.store.read() as connection:
            for state, count in connection.execute(select(outbox.c.state, func.count()).group_by(outbox.c.state)):
                lines.append(f'bridge_messages{{state="{state}"}} {count}\n')
            waiting = select(inbox.c.kind, func.count()).where(inbox.c.fate.is_(None)).group_by(inbox.c.kind)
            for kind, count in connection.execute(waiting):
                lines.append(f'bridge_events_waiting{{kind="{kind}"}} {count}\n')
            for state, count in connection.execute(select(write.c.state, func.count()).group_by(write.c.state)):
                lines.append(f'bridge_writes{{state="{state}"}} {count}\n')
        return Response("".join(lines), content_type="text/plain; version=0.0.4")

    return app
