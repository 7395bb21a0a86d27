"""`/console/mappings`: every mapping with its state; its source, checked as one types, and what it would say beside it.

Nothing is written unless `console.edit` is on. A POST is taken from this page alone: another site's page in the same
browser can neither save nor ask. No inline script or style, nothing from elsewhere: the Content-Security-Policy forbids both.
"""

from __future__ import annotations

import logging
import threading
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for

from bridge.console.drafts import Draft, Drafts
from bridge.console.stored import Stored
from bridge.engine.reload import CONTENT_NOTICE
from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.ledger import audit
from bridge.mappers.preview import Preview

log = logging.getLogger(__name__)

CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
LONGEST = 100_000  # characters of a mapping
HERE = {"localhost", "127.0.0.1", "::1"}


def mappings(site: Site) -> Blueprint:
    """The routes, over a running engine's site."""
    routes = Blueprint("mappings", __name__, url_prefix="/console/mappings")
    drafts, stored = Drafts(site), Stored(site)
    one_at_a_time = threading.Lock()  # a page that checks at every key must not take the doors' processor

    def found(name: str) -> Any:
        return drafts.files().get(name) or abort(404)

    def typed() -> str:
        text = request.form.get("source", "").replace("\r\n", "\n")
        return text if len(text) <= LONGEST else abort(413)

    def told(draft: Draft, token: str = "", trouble: str = "") -> dict[str, Any]:
        """What stands around the source."""
        event, token = request.values.get("event", "").strip()[:40], token or request.values.get("revealed", "")
        common = {"draft": draft, "event": event, "recent": (), "of_event": None, "token": "", "notes": ()}
        kind = draft.rule.resource_type if draft.rule is not None else None
        if kind is not None:
            common["recent"] = stored.recent(kind)
        if event:
            return common | _of_event(draft, event, token, trouble)
        return common | _of_example(draft)

    def _of_event(draft: Draft, event: str, token: str, trouble: str) -> dict[str, Any]:
        """A stored event: what everybody may know of it, and once it was revealed what the mapping makes of it."""
        found, seen = stored.about(event), stored.seen(token, event)
        made: dict[str, Any] = {"chosen": request.values.get("example", 0, int), "shown": None, "of_event": found}
        if found is None:
            return made | {"why_not": f"there is no {event} of an EHR here" if event.startswith("evt_") else "evt_…"}
        if seen is None or draft.rule is None:
            refused = "The preview comes back when the errors are mended." if draft.rule is None else None
            return made | {"why_not": trouble or refused, "token": token if seen is not None else ""}
        shown, notes = stored.lay_open(draft.rule, seen)
        made |= {"token": token, "notes": notes, "why_not": shown if isinstance(shown, str) else None}
        return made | {"shown": shown if isinstance(shown, Preview) else None}

    def _of_example(draft: Draft) -> dict[str, Any]:
        chosen = request.values.get("example", 0, int)
        if draft.rule is not None and not 0 <= chosen < len(draft.examples):
            chosen = 0  # of a text that is refused for a moment, the choice is kept
        shown: Preview | str = "The preview comes back when the errors are mended."
        if draft.rule is not None:
            shown = "This mapping has no examples: give it one, and it is shown here."
            if draft.examples:
                shown = drafts.lay_open(draft.rule, draft.examples[chosen])
        return {
            "chosen": chosen, "shown": shown if isinstance(shown, Preview) else None,
            "why_not": shown if isinstance(shown, str) else None,
        }  # fmt: skip

    def whole(name: str, draft: Draft, base: str, refused: str = "") -> str:
        return render_template(
            "mapping.html", name=name, base=base, editable=drafts.editable, refused=refused,
            saved="saved" in request.args, **told(draft),
        )  # fmt: skip

    def written(action: str, draft: Draft, base: str) -> None:
        """Who may save is who reaches this page; what was saved over what is kept."""
        assert draft.rule is not None
        detail = {"version": draft.version, "before": base}
        with site.store.write() as connection:
            now, subject = site.store.now(connection), f"mapping {draft.rule.id}"
            audit.record(connection, row=site.ids(), at=now, action=action, subject=subject, detail=detail)

    @routes.get("")
    def every() -> str:
        with one_at_a_time:
            rows = [(name, path.name, drafts.read(path)) for name, path in drafts.files().items()]
        return render_template(
            "mappings.html", rows=rows, folder=drafts.folder, editable=drafts.editable,
            notice=site.notices.get(CONTENT_NOTICE), version=site.content.version,
        )  # fmt: skip

    @routes.get("/<name>")
    def one(name: str) -> str:
        path = found(name)
        with one_at_a_time:
            draft = drafts.read(path)
            return whole(name, draft, draft.version)

    @routes.post("/<name>/check")
    def check(name: str) -> str:
        path, text = found(name), typed()
        with one_at_a_time:
            return render_template("_checked.html", name=name, **told(drafts.check(path, text)))

    @routes.post("/<name>/reveal")
    def reveal(name: str) -> str:
        path, text = found(name), typed()
        token = trouble = ""
        try:
            token = stored.reveal(request.form.get("event", "").strip()[:40])
        except BridgeError as error:
            trouble = str(error)
        with one_at_a_time:
            return render_template("_checked.html", name=name, **told(drafts.check(path, text), token, trouble))

    @routes.post("/<name>/save")
    def save(name: str) -> Any:
        path, text, base = found(name), typed(), request.form.get("base", "")
        with one_at_a_time:
            draft = drafts.check(path, text)
            if not drafts.editable:
                return whole(name, draft, base, "Nothing was saved: console.edit is off at this site."), 403
            if draft.rule is None or draft.errors:
                return whole(name, draft, base, "Nothing was saved: mend the errors first."), 422
            if path.is_symlink() or drafts.read(path).version != base:
                why = "Nothing was saved: the file has changed since this page was opened, or is a link."
                return whole(name, draft, base, why), 409
            written("mapping saved", draft, base)  # before it is: what cannot be recorded is not done
            try:
                drafts.save(path, text)
            except OSError as error:
                written("mapping not saved", draft, base)
                return whole(name, draft, base, f"Nothing was saved: {type(error).__name__}."), 500
        log.info("a mapping was saved from the console", extra={"mapping": draft.rule.id, "version": draft.version})
        return redirect(url_for(".one", name=draft.rule.id, saved=1), 303)

    @routes.before_request
    def ours() -> None:
        if request.method == "POST" and not _own_page(site.settings.listen.console.host):
            abort(403)

    @routes.after_request
    def guard(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CSP
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"  # no-referrer would make a form's Origin "null"
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def _own_page(host: str) -> bool:
    """Whether a browser says that a page of this very address asks. What says nothing of the kind is not let in."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is None:
        return False
    named = urlsplit(request.host_url).hostname or ""
    if named not in HERE and named != host:
        return False  # a name that somebody else made lead here
    return site in {None, "same-origin"} and origin in {None, request.host_url.rstrip("/")}
