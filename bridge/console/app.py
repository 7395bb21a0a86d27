"""The application of `listen.console`: health, metrics, pages. It reads the store; it never delays a door."""

from __future__ import annotations

from flask import Flask

from bridge.console.api import api
from bridge.console.mappings import mappings
from bridge.console.readiness import readiness
from bridge.engine.site import Site


def console_app(site: Site) -> Flask:
    """Build the application around a running engine's site."""
    app = Flask("bridge.console")
    app.register_blueprint(readiness(site))
    app.register_blueprint(api(site))
    app.register_blueprint(mappings(site))
    return app
