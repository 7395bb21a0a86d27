"""What follows once the outcomes of POSTs are recorded: user ids that WhatsApp named, and news that rests on what never left.

News is computed against what the patient was told, and a message whose POST has begun counts as told. Where it turns
out that it did not leave (not connected, refused), what was computed against it is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from bridge.engine import persons
from bridge.engine.pokes import hint_row
from bridge.engine.site import Site
from bridge.engine.truth import AGAIN
from bridge.ledger import audit
from bridge.ledger.tables import inbox, outbox, resource
from bridge.ledger.words import Words
from bridge.outbound.record import Result

_PERSON_OF = Words(
    "SELECT outbox.id, outbox.person_id FROM outbox JOIN identity ON identity.id = outbox.identity_id "
    'AND identity."until" IS NULL WHERE outbox.id IN :messages'
)
KNOWN = 50_000  # links kept in memory so that they are written once
UNSAID = frozenset({"taken_back", "refused"})


class Recorded:
    """Called by the sender after each commit of results, before the next fence."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[tuple[int, str], str] = {}  # links that are written already
        self._ended = site.links_ended

    def __call__(self, results: Sequence[Result]) -> None:
        decide_again(self._site, [r.message for r in results if r.outcome in UNSAID])
        self._learn({r.message: r.user_id for r in results if r.user_id is not None})

    def _learn(self, named: dict[int, str]) -> None:
        """User ids that WhatsApp's answers named belong to whom we wrote to."""
        if not named:
            return
        site = self._site
        if site.links_ended != self._ended:
            self._ended = site.links_ended
            self._known.clear()
        with site.store.read() as connection:
            # a number that was taken from this person while the POST was under way says nothing of them any more
            rows = _PERSON_OF.rows(connection, messages=list(named))
        links = {(row.person_id, named[row.id]): "send" for row in rows if row.person_id is not None}
        fresh = {link: proof for link, proof in links.items() if link not in self._known}
        if not fresh:
            return
        with site.store.write() as connection:
            persons.learn(connection, site, fresh)
        self._known.update(fresh)
        while len(self._known) > KNOWN:
            self._known.pop(next(iter(self._known)))


def decide_again(site: Site, messages: Sequence[int]) -> None:
    """Resources that have gone on since one of these was computed: a hint each, which holds their news back."""
    if not messages:
        return
    overtaken = (
        select(outbox.c.ehr, outbox.c.resource_ref)
        .join(resource, resource.c.key == outbox.c.resource_key)
        .where(
            outbox.c.id.in_(sorted(messages)),
            outbox.c.answers.is_(None),
            outbox.c.resource_ref.is_not(None),
            outbox.c.state.in_(("ready", "planned", "failed", "superseded")),
            outbox.c.revision < resource.c.revision,
        )
        .distinct()
    )
    with site.store.read() as connection:
        found = connection.execute(overtaken).all()
    if not found:
        return
    with site.store.write() as connection:
        now = site.store.now(connection)
        rows = [hint_row(site, row.ehr, AGAIN, row.resource_ref, now) for row in found]
        connection.execute(inbox.insert(), rows)
        audit.record(connection, row=site.ids(), at=now, action=audit.FOUND, count=len(rows))
    site.wake_apply.set()
