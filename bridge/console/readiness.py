"""`/healthz`, `/readyz`, `/metrics`: does this process live, does it do its work, and how much of it.

Every process answers them: beside the console, or by themselves where `--health` says.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, jsonify
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from bridge.engine.site import Site
from bridge.ledger.clock import SECOND, from_us
from bridge.ledger.schema import HEAD, current
from bridge.ledger.store import MAX_DRIFT
from bridge.ledger.tables import inbox, number, outbox, write
from bridge.metrics import counters
from bridge.roles import ordered

FAR_AHEAD = 600 * SECOND  # as the fence takes it: further ahead is what a broken clock wrote


def health_app(site: Site) -> Flask:
    """Nothing but health, for a process without the console."""
    app = Flask("bridge.console")
    app.register_blueprint(readiness(site))
    return app


def readiness(site: Site) -> Blueprint:
    """The routes, over a running engine's site."""
    routes = Blueprint("readiness", __name__)

    @routes.get("/healthz")
    def healthz() -> tuple[Response, int]:
        """503 only for what a restart mends: a loop that has ended."""
        ended = site.vitals.ended()
        return jsonify(status="a loop has ended" if ended else "ok", ended=ended), 503 if ended else 200

    @routes.get("/readyz")
    def readyz() -> tuple[Response, int]:
        told = ready(site)
        return jsonify(told), 200 if told["ready"] else 503

    @routes.get("/metrics")
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

    return routes


def ready(site: Site) -> dict[str, Any]:
    """Whether this process does all of its work, and what is to know about it."""
    problems = site.vitals.problems()
    numbers: list[dict[str, Any]] = []
    try:
        if current(site.store) != HEAD:
            problems.append("the store's schema is not up to date: run `bridge migrate`")
        if abs(site.store.drift()) > MAX_DRIFT:
            problems.append("this node's clock is more than 2 s off the database's")
        numbers = paused(site)
    except SQLAlchemyError as error:
        problems.append(f"the store cannot be read: {type(error).__name__}")
    told = [f"number {each['number']} is paused: {each['reason']}" for each in numbers]
    return {
        "ready": not problems,
        "problems": problems,
        "notices": [*site.notices.values(), *told],
        "node": site.node,
        "roles": ordered(site.roles),
        "nodes": [{"node": each.name, "roles": ordered(each.roles)} for each in site.nodes()],
        "numbers_paused": numbers,
    }


def paused(site: Site) -> list[dict[str, Any]]:
    """Our numbers that send nothing now, or one a second to see whether they may again. What WhatsApp does to a number
    makes no process unready: another one would meet the same."""
    with site.store.read() as connection:
        now = site.store.now(connection)
        rows = connection.execute(
            select(number).where(number.c.key.in_(list(site.settings.numbers))).order_by(number.c.key)
        ).all()
    return [
        {
            "number": row.key,
            "reason": row.reason or "paused",
            "until": from_us(row.paused_until).isoformat(timespec="seconds") if row.paused_until > now else None,
        }
        for row in rows
        if now < row.paused_until < now + FAR_AHEAD or row.reason is not None
    ]
