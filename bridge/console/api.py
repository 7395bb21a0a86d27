"""`/api/v1`: what happened, for pages and for machines. Ids, states, reasons and times; no patient's data.

Every answer carries an ETag, so that a page that polls gets 304 while nothing changes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, request
from sqlalchemy import func, select

from bridge.console import trace
from bridge.console.plain_words import steps
from bridge.engine.site import Site
from bridge.ledger.clock import from_us
from bridge.ledger.tables import outbox

MOST = 200  # events of one answer


def api(site: Site) -> Blueprint:
    """The routes, over a running engine's site."""
    routes = Blueprint("api", __name__, url_prefix="/api/v1")

    @routes.get("/events")
    def events() -> Response:
        limit = max(1, min(request.args.get("limit", 20, int), MOST))
        kinds = tuple(request.args["kind"].split(",")) if "kind" in request.args else trace.LOUD
        before, after = (trace.number(request.args.get(name)) for name in ("before", "after"))
        with site.store.read() as connection:
            found = trace.latest(connection, limit=limit, kinds=kinds, before=before or None, after=after)
            if request.args.get("expand") == "trace":
                return _answer({"events": [_whole(one) for one in trace.traces(connection, found)]})
        return _answer({"events": [asdict(one) for one in found]})

    @routes.get("/trace/<name>")
    def one_trace(name: str) -> Response:
        with site.store.read() as connection:
            found = trace.find(connection, name)
        if found is None:
            return _answer({"error": "there is no such event, message, turn or write"}, 404)
        return _answer(_whole(found))

    @routes.get("/clock")
    def clock() -> Response:
        due = select(func.min(outbox.c.not_before)).where(outbox.c.state == "planned")
        if "about" in request.args:  # references, comma between: only what is said of these
            due = due.where(outbox.c.resource_ref.in_(request.args["about"].split(",")[:MOST]))
        with site.store.read() as connection:
            first = connection.execute(due).scalar()
        return _answer(
            {
                "now": site.now().isoformat(timespec="seconds"),
                "pushed_seconds": site.clock.offset.total_seconds(),
                "next_due": from_us(first).isoformat() if first else None,
            }
        )

    return routes


def _whole(one: trace.Trace) -> dict[str, Any]:
    return one.to_json() | {"steps": [asdict(step) for step in steps(one)]}


def _answer(value: Any, status: int = 200) -> Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    response = Response(body, status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(hashlib.sha256(body).hexdigest()[:16])
    response.make_conditional(request)
    return response
