"""Messages that found no consent and do not end with that: `consent.if_missing: ask` asks the patient, once, `inbox` gives
it to a person. The message is held meanwhile; a yes, wherever it is said, lets it go while it is still of use, a no ends it.

The question is a template, for nobody has written and no window is open. It is asked of patients themselves: who consents
for a child is a person's to find out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from bridge.engine.compose import topics_text
from bridge.engine.site import Site
from bridge.engine.tasks import close_tasks, open_task
from bridge.errors import BridgeError
from bridge.inbound.intents.decide_consent import GRANT, REFUSE
from bridge.ledger import lanes, outbox, states
from bridge.ledger.clock import SECOND
from bridge.ledger.outbox import NewMessage
from bridge.ledger.tables import consent, lane
from bridge.ledger.tables import outbox as outbox_table
from bridge.ledger.tables import person as person_table
from bridge.mappers.templates import Template
from bridge.outbound.content import Button, Content
from bridge.outbound.facts import newest_decisions
from bridge.outbound.fence import ASKING

log = logging.getLogger(__name__)

LOOK = SECOND  # business time between two looks
BATCH = 200
REQUEST = "consent_request"  # the template that asks
DO = {"agree": GRANT, "decline": REFUSE}  # its buttons
WHY = "no consent to messages about"  # begins the reason of what is ours to look at; others are held for other reasons


class Consentless:
    """Looks at what is held for want of a consent; turned by the pump."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._last = -LOOK
        self._after = 0  # the id the last look ended with

    def once(self) -> int:
        """One look; returns how many messages it moved or asked for."""
        site = self._site
        business = site.clock.now_us()
        if abs(business - self._last) < LOOK:
            return 0
        self._last = business
        held = (outbox_table.c.state == "held", outbox_table.c.missing.is_not(None))
        mine = site.share("pump").mine(None, outbox_table.c.id)
        wanted = select(outbox_table).where(*held, *mine, outbox_table.c.id > self._after)
        with site.store.read() as connection:
            rows = connection.execute(wanted.order_by(outbox_table.c.id).limit(BATCH)).all()
            self._after = rows[-1].id if len(rows) == BATCH else 0
            rows = [row for row in rows if (row.reason or "").startswith(WHY)]
            if not rows:
                return 0
            said = (
                select(consent).where(consent.c.person_id.in_({row.patient_id for row in rows})).order_by(consent.c.id)
            )
            decided = newest_decisions(connection.execute(said), business)
        done = 0
        for row in rows:
            decision = decided.get((row.patient_id, row.purpose), (None, 0))[0]
            try:
                done += self._one(row, decision, business)
            except (BridgeError, ValueError):
                log.warning("a message without consent cannot be read", extra={"message_id": f"msg_{row.id}"})
        return done

    def _one(self, row: Any, decision: str | None, business: int) -> int:
        if row.not_after is not None and business >= row.not_after:
            return self._move(row, "closed", "too late to be useful: its expiry passed before it could leave")
        if decision == "permit":
            return self._move(row, "ready", None)
        if decision == "deny":
            return self._move(row, "closed", f"the patient does not want messages about {row.purpose}")
        template = self._site.content.catalogue.get(REQUEST)
        if row.missing == "ask" and row.person_id == row.patient_id and template is not None:
            return self._ask(row, template)
        site = self._site
        with site.store.write() as connection:
            open_task(connection, site, row, row.id, f"a consent to messages about {row.purpose} is to be asked for")
        return 0

    def _move(self, row: Any, state: str, reason: str | None) -> int:
        site = self._site
        with site.store.write() as connection:
            lanes.lock(connection, [row.lane_id])
            now = site.store.now(connection)
            if not outbox.move(connection, [row.id], state, now, reason=reason, only_from=("held",)):
                return 0
            close_tasks(connection, [row.id])
            if state == "ready":
                lanes.wake(connection, {row.lane_id}, now)
        if state == "ready":
            site.wake_sender()
        return 1

    def _ask(self, row: Any, template: Template) -> int:
        """Ask, unless this person has ever been asked for this."""
        site = self._site
        with site.store.read() as connection:
            asked = asked_for(site, row.purpose)
            key = f"ask|{row.ehr}|{row.patient_id}|{'+'.join(asked)}"
            if (
                connection.execute(select(outbox_table.c.id).where(outbox_table.c.effect_key == key)).first()
                is not None
            ):
                return 0
            who = connection.execute(select(person_table).where(person_table.c.id == row.person_id)).one()
            lane_key = connection.execute(select(lane.c.key).where(lane.c.id == row.lane_id)).scalar_one()
        held = Content.from_bytes(site.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id))
        content = _content(site, template, held, asked, site.language(who.language))
        message = NewMessage(
            effect_key=key,
            cls=states.NEWS,
            state="ready",
            kind="template",
            lane_key=lane_key,
            number=row.number,
            planned_at=site.clock.now_us(),
            config_version=site.content.version,
            content=content.to_bytes(),
            fields={
                "event": ASKING, "cause": row.cause, "ehr": row.ehr, "template": template.name,
                "language": content.language, "zone": row.zone, "purpose": row.purpose, "person_id": row.person_id,
                "patient_id": row.patient_id, "identity_id": row.identity_id, "not_after": row.not_after, "quiet": True,
                "cohort": row.cohort,
            },
        )  # fmt: skip
        with site.store.write() as connection:
            added = self._add(connection, [message], row.lane_id)
        site.wake_sender()
        return added

    def _add(self, connection: Connection, messages: Sequence[NewMessage], lane_id: int) -> int:
        lanes.lock(connection, [lane_id])
        site = self._site
        return len(outbox.add(connection, site.crypto, site.ids, messages, site.store.now(connection)))


def asked_for(site: Site, purpose: str) -> tuple[str, ...]:
    """What is asked for together with `purpose`: all that a Consent of its category says, for it is written as one."""
    rows = [tuple(sorted(each.purposes)) for each in site.settings.consent.recognise if purpose in each.purposes]
    return min(rows, key=len) if rows else (purpose,)


def _content(site: Site, template: Template, held: Content, asked: Sequence[str], language: str) -> Content:
    spoken = template.language(language, site.settings.site.languages) or next(iter(template.languages))
    values = {"site_name": site.settings.site.name, "topics": topics_text(asked, spoken)}
    titles = template.button_titles[spoken]
    return Content(
        wa_id=held.wa_id,
        user_id=held.user_id,
        kind="template",
        body=template.fill(spoken, values),
        template=template.name,
        language=template.whatsapp_language[spoken],
        params=tuple((name, values[name]) for name in template.params),
        named=template.parameter_format == "named",
        buttons=tuple(Button(n, name, titles[name], DO[name]) for n, name in enumerate(template.buttons)),
        asks=tuple(asked),
    )
