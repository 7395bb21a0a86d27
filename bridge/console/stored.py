"""A stored event beside a mapping: what is told of it to everybody, and what is shown of it once somebody asked to see it.

Without asking there are ids, times, fates and reasons, as `bridge show` has them. Asking decrypts what the EHR sent, is written
to `audit` as `bridge show --reveal` is, and lasts ten minutes in this process's memory, under a name that only that page knows.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from bridge.console import trace
from bridge.engine.compose import topics_text
from bridge.engine.glance import Glance, in_context, look
from bridge.engine.operations import reveal
from bridge.engine.recall import told_before
from bridge.engine.site import Site
from bridge.errors import BridgeError, UnreadableResource
from bridge.fhir.client import Resource
from bridge.fhir.pieces import parse_piece
from bridge.ledger.tables import inbox
from bridge.mappers.events import RESOURCES
from bridge.mappers.mapping import Mapping as Rule
from bridge.mappers.preview import Preview, preview
from bridge.mappers.render import Context

RECENT = 20  # events offered
LOOKED_THROUGH = 2000  # newest rows of the inbox, of which those are chosen
SHOWN_FOR = 600.0  # s
MOST = 8  # events that stay revealed at once


@dataclass(frozen=True, slots=True)
class Seen:
    """What was revealed, for the mapping it was revealed for."""

    event: str  # evt_…
    resource: Mapping[str, Any]
    included: Mapping[str, Mapping[str, Any]]
    previous: Mapping[str, Any] | None
    ehr: str
    until: float  # monotonic
    notes: tuple[str, ...] = ()
    glances: dict[str, Glance] = field(default_factory=dict)  # recipient.who -> what was read around it, once


class Stored:
    """The stored events of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def recent(self, kind: str) -> Sequence[Any]:
        """(evt_…, when, about, fate) of the newest events of EHRs about that kind of resource."""
        return [
            (each.id, each.received_at, each.about, each.fate)
            for each in self._newest()
            if (each.about or "").partition("/")[0] == kind
        ][:RECENT]

    def about(self, name: str) -> trace.Trace | None:
        """Ids, times, fates and reasons of one event; None if there is none of an EHR."""
        number = _number(name)
        if number is None:
            return None
        with self._site.store.read() as connection:
            found = trace.traces(connection, trace.events(connection, [number]))
        return next((each for each in found if each.event and each.event.source.startswith("ehr:")), None)

    def reveal(self, name: str) -> str:
        """Decrypt it, and record that somebody looked. Returns the name under which it is shown from now on.

        Raises: BridgeError, with the reason why there is nothing to show; that somebody asked is recorded all the same.
        """
        number, told = _number(name), self.about(name)
        if number is None or told is None or told.event is None:
            raise UnreadableResource(f"there is no {name} of an EHR")
        ehr = told.event.source.removeprefix("ehr:")
        body = reveal(self._site, name)["event"]
        try:
            piece = parse_piece(body.encode())
        except (ValueError, TypeError):
            raise UnreadableResource(f"{name} was emptied by retention") from None
        resource = piece.resource
        notes: tuple[str, ...] = ()
        if resource is None:
            resource = self._as_it_is(ehr, piece.reference)
            notes = (f"{name} carried no resource: this is as it is now",)
        if resource is None:
            raise UnreadableResource(f"{name} carried no resource, and the EHR cannot be read for it here")
        kind = str(resource.get("resourceType"))
        previous = None
        if kind in RESOURCES:
            with self._site.store.read() as connection:
                previous = told_before(connection, self._site.crypto, number, kind)
        seen = Seen(name, resource, piece.included, previous, ehr, time.monotonic() + SHOWN_FOR, notes)
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._seen[token] = seen
            while len(self._seen) > MOST:
                self._seen.popitem(last=False)
        return token

    def seen(self, token: str, event: str) -> Seen | None:
        """What that name still shows."""
        with self._lock:
            for key in [key for key, each in self._seen.items() if each.until < time.monotonic()]:
                del self._seen[key]
            found = self._seen.get(token)
        return found if found is not None and found.event == event else None

    def lay_open(self, rule: Rule, seen: Seen) -> tuple[Preview | str, tuple[str, ...]]:
        """The mapping on it in every language of the site, or why not; and what is to be said beside it."""
        site = self._site
        if seen.resource.get("resourceType") != rule.resource_type:
            return f"{rule.id} is about {rule.resource_type}, and this event about another kind of resource", ()
        glance = seen.glances.get(rule.recipient)
        if glance is None:
            try:
                client, now = site.clients.get(seen.ehr), site.now()
                glance = look(client, site.settings, seen.resource, who=rule.recipient, now=now, included=seen.included)
            except BridgeError as error:
                return f"what belongs to it could not be read: {type(error).__name__}", ()
            seen.glances[rule.recipient] = glance
        offset = rule.remind.before[-1] if rule.remind is not None else None
        context, refusal = in_context(
            glance, site.settings, ehr=seen.ehr, now=site.now(), previous=seen.previous, offset=offset
        )
        notes = (*seen.notes, *glance.notes, *((f"nobody is written to: {refusal}",) if refusal is not None else ()))
        first = context.language
        languages = [first, *(each for each in site.settings.site.languages if each != first[:2])]
        return preview(rule, [self._in(context, each) for each in languages]), notes

    # --- small things --------------------------------------------------------------------------------------------------

    def _newest(self) -> Sequence[trace.Event]:
        newest = select(inbox.c.id, inbox.c.kind).order_by(inbox.c.id.desc()).limit(LOOKED_THROUGH).subquery()
        with self._site.store.read() as connection:
            wanted = select(newest.c.id).where(newest.c.kind.in_(("notification", "hint")))
            ids = connection.execute(wanted.order_by(newest.c.id.desc()).limit(10 * RECENT)).scalars().all()
            return list(reversed(trace.events(connection, ids)))

    def _as_it_is(self, ehr: str, reference: str | None) -> Mapping[str, Any] | None:
        client = self._site.clients.get(ehr)
        answer = client.read(reference) if client is not None and reference is not None else None
        return answer.resource if isinstance(answer, Resource) else None

    def _in(self, context: Context, language: str) -> Context:
        told = replace(context, language=language)
        if context.resource.get("resourceType") != "Consent":
            return told
        try:
            recognise = self._site.settings.consent.recognise
            made = RESOURCES["Consent"].project(context.resource, context.fhir_version, recognise=recognise)
        except UnreadableResource:
            return told
        return replace(told, consent_topics=topics_text(tuple(made.purposes), language)) if made.purposes else told


def _number(name: str) -> int | None:
    prefix, _, digits = name.partition("_")
    return int(digits) if prefix == "evt" and digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
