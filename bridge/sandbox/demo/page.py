"""The demo's page: EHR, trace and phone side by side, refreshed by polling with an ETag. Everything also works without
script, one reload per press. No inline script or style, nothing from elsewhere: the Content-Security-Policy forbids both.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from flask import Flask, Response, abort, redirect, render_template, request, send_from_directory
from markupsafe import Markup
from werkzeug.serving import BaseWSGIServer, make_server

import bridge.console
from bridge.sandbox.demo import panes
from bridge.sandbox.demo.desk import CAST, SPEAKS, Desk
from bridge.sandbox.demo.expected import titles
from bridge.sandbox.demo.steps import STOP

CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
VENDOR = Path(bridge.console.__file__).parent / "static" / "vendor"
VIEWS: Mapping[str, Callable[[Desk, str], dict[str, Any]]] = {
    "clock": panes.clock,
    "ehr": panes.ehr,
    "trace": lambda desk, _: panes.trace(desk),
    "phone": panes.phone,
}


def page(desk: Desk) -> Flask:
    """The application."""
    app = Flask("bridge.sandbox.demo", root_path=str(Path(__file__).parent))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    def who() -> str:
        chosen = request.values.get("who", "ana")
        return chosen if chosen in CAST else abort(404)

    def action(name: str, label: str, css: str = "", **values: Any) -> Markup:
        return Markup(render_template("_action.html", name=name, label=label, css=css, values=values, who=who()))  # noqa: S704 - autoescaped

    app.jinja_env.globals["action"] = action

    def pane(name: str) -> tuple[str, str]:
        """A pane's HTML and its tag: equal tags, equal panes."""
        with desk.lock:
            view = VIEWS[name](desk, who())
        tag = hashlib.sha256(json.dumps([who(), view], default=str).encode()).hexdigest()[:16]
        return render_template(f"_{name}.html", who=who(), tag=tag, **view), tag

    def write_form(lang: str, *, focus: bool = False) -> Markup:
        name = CAST[who()].name
        return Markup(render_template("_write.html", who=who(), name=name, word=STOP[lang], focus=focus))  # noqa: S704

    def language() -> str:
        with desk.lock:
            return desk.language(who())

    @app.get("/")
    def whole() -> str:
        somebody, lang = CAST[who()], language()
        return render_template(
            "page.html",
            panes={name: Markup(pane(name)[0]) for name in VIEWS},  # noqa: S704 - rendered and escaped above
            cast=CAST.values(), who=somebody.key, label=somebody.label,
            languages=SPEAKS, lang=lang, write_form=write_form(lang), stop_word=STOP[lang], confirm=titles("appointment_booked", lang)[0],
        )  # fmt: skip

    @app.get("/pane/<name>")
    def one_pane(name: str) -> Response:
        if name not in VIEWS:
            abort(404)
        html, tag = pane(name)
        response = Response(html, content_type="text/html; charset=utf-8")
        response.set_etag(tag)
        response.make_conditional(request)
        return response

    @app.post("/do/<name>")
    def do(name: str) -> Any:
        act = ACTIONS.get(name) or abort(404)
        with desk.lock:
            act(desk, who(), request.form)
        if "HX-Request" in request.headers:
            if name == "say":  # an empty line to write the next one in
                return Response(write_form(language(), focus=True), headers={"HX-Trigger": "refresh"})
            again = {"HX-Refresh": "true"} if name == "speak" else {"HX-Trigger": "refresh"}
            return Response(status=204, headers=again)
        return redirect(f"/?who={who()}", 303)

    @app.get("/vendor/<name>")
    def vendor(name: str) -> Response:
        return send_from_directory(VENDOR, name)

    @app.before_request
    def ours() -> None:
        """Only this page's own forms act: another site's page in the same browser must not press these buttons."""
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and origin != request.host_url.rstrip("/"):
            abort(403)

    @app.after_request
    def guard(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CSP
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    @app.errorhandler(requests.RequestException)
    def unreachable(_: Exception) -> tuple[str, int]:
        return "a process of the demo does not answer", 503

    return app


Act = Callable[[Desk, str, Mapping[str, str]], Any]
ACTIONS: Mapping[str, Act] = {
    "book": lambda desk, who, _: desk.book(who),
    "move": lambda desk, who, _: desk.move(who),
    "cancel": lambda desk, who, _: desk.cancel(who),
    "consent": lambda desk, who, form: desk.consent(who, permit=form.get("permit") == "yes"),
    "speak": lambda desk, who, form: desk.speak(who, form.get("lang", "es")),
    "say": lambda desk, who, form: desk.say(who, form.get("text", "")),
    "tap": lambda desk, who, form: desk.tap(who, form.get("wamid", ""), int(form.get("index", "0"))),
    "push": lambda desk, who, form: push(desk, who, form.get("by", "hour")),
    "night": lambda desk, _who, _form: desk.push_to_night(),
    "duplicate": lambda desk, who, _: desk.duplicate(who),
    "down": lambda desk, _, form: desk.set_down(down=form.get("state") == "down"),
    "storm": lambda desk, _who, _form: desk.storm(),
}


def push(desk: Desk, who: str, by: str) -> None:
    if by == "due":
        desk.push_to_due(who)
    else:
        desk.push(timedelta(days=1) if by == "day" else timedelta(hours=1))


def serve(desk: Desk, host: str, port: int) -> BaseWSGIServer:
    """The page, answering in threads of its own; `shutdown` ends it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a poll would bury what is printed
    server = make_server(host, port, page(desk), threaded=True)
    threading.Thread(target=server.serve_forever, name="page", daemon=True).start()
    return server
