"""What policy would say now of a message that nobody has written: asked read-only, for a person who looks.

The same questions as the fence's (`outbound.facts`, `outbound.policy`), without its locks: an answer here binds nobody,
and the fence asks again when a message really leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from bridge.ledger import keys
from bridge.ledger.clock import SECOND, from_us
from bridge.ledger.crypto import Crypto
from bridge.ledger.states import NEWS
from bridge.ledger.tables import block, consent, conversation, identity, mark, number, person, template
from bridge.mappers.contact import canonical
from bridge.mappers.recipient import Recipient
from bridge.mappers.reminders import quiet_until
from bridge.outbound import facts as asked
from bridge.outbound.facts import World
from bridge.outbound.policy import Facts, Later, Never, may_leave
from bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict of this moment."""

    verdict: str  # leaves, waits, never
    reason: str | None
    until: str | None  # end of the quiet hours, ISO 8601
    known: bool  # whether the ledger has met this person; if not, their Consents are read before the first message
    consent: str  # permit, deny, or what stands for an absent decision


def standing(
    connection: Connection,
    settings: Settings,
    crypto: Crypto,
    chosen: Recipient,
    *,
    ehr: str,
    purpose: str,
    template_name: str,
    language: str,
    quiet: bool,
    place: str | None,
    business: int,
    machine: int,
) -> Standing:
    """Ask policy about a message to `chosen`, as if it were ready now.

    Args:
        connection: to read from.
        settings: the site's.
        crypto: for blind indexes only.
        chosen: whom it would go to.
        ehr: key of the EHR that holds them.
        purpose: of the mapping's consent.
        template_name: the template, and
        language: WhatsApp's code of it.
        quiet: whether the mapping respects quiet hours.
        place: "Location/l1", where a pilot is of places.
        business: now in the patient's world, microseconds.
        machine: now on machine time.
    """
    ours = next(iter(settings.numbers.values()))
    world = World()
    ids: dict[str, int] = {}
    for reference in {chosen.reference, chosen.patient.reference}:
        row = connection.execute(
            select(person).where(person.c.key == crypto.index(keys.person(ehr, reference)))
        ).first()
        if row is not None:
            ids[reference] = row.id
            world.persons[row.id] = row
    own = canonical(chosen.person.phones[0].wa_id) if chosen.person.phones else ""
    phone_key = crypto.index(keys.identity(own))
    columns = [c for c in identity.c if c.name != "value"]
    for row in connection.execute(select(*columns).where(identity.c.person_id.in_(list(world.persons)))):
        if row.until is None:
            world.keys_of[row.person_id].add(row.key)
    held = {phone_key} | {key for some in world.keys_of.values() for key in some}
    for row in connection.execute(
        select(block.c.key, block.c.since).where(block.c.key.in_(held), block.c.lifted_at.is_(None))
    ):
        world.blocked[row.key] = max(row.since, world.blocked.get(row.key, 0))
    said = select(consent).where(consent.c.person_id.in_(list(world.persons))).order_by(consent.c.id)
    world.consents = asked.newest_decisions(connection.execute(said), business)
    addressed, patient = ids.get(chosen.reference), ids.get(chosen.patient.reference)
    decision = world.consents.get((patient, purpose), (None, 0))[0] if patient is not None else None
    absent = settings.consent.purposes.get(purpose)
    number_row = connection.execute(select(number).where(number.c.key == ours.key)).first()
    conversation_key = crypto.index(keys.conversation(ours.key, own))
    window = connection.execute(
        select(conversation.c.window_until).where(conversation.c.key == conversation_key)
    ).scalar()
    status = select(template.c.status).where(
        template.c.waba == ours.waba_id, template.c.name == template_name, template.c.language == language
    )
    hours = settings.site.quiet_hours
    zone = chosen.patient.zone or settings.site.zone
    end = quiet_until(from_us(business), zone, (hours.from_, hours.to)) if hours is not None and quiet else None
    keys_held = {phone_key} | (world.keys_of[addressed] if addressed is not None else set())
    permitted_at = asked.permitted_at(world, patient, purpose) if addressed == patient else None
    row = world.persons.get(addressed) if addressed is not None else None
    verdict = may_leave(
        Facts(
            now=business,
            is_template=True,
            cls=NEWS,
            answers=False,
            blocked=asked.stopped(world, keys_held, permitted_at),
            refusal=None,  # `chosen` exists: the engine refuses nobody here
            link_ended=row is not None and row.link_ended_at is not None,
            identity_current=bool(own),
            purpose=purpose,
            consent=decision if decision in ("permit", "deny") else None,  # type: ignore[arg-type]
            without_decision=absent.without_decision if absent is not None else "block",
            revision=None,
            current_revision=None,
            not_after=None,
            quiet_until=1 if end is not None else None,
            window_until=window or 0,
            template_status=connection.execute(status).scalar(),
            in_pilot=_in_pilot(settings, chosen, place),
            number_paused=(number_row.reason or "paused")
            if number_row is not None and machine < min(number_row.paused_until, machine + 600 * SECOND)
            else None,
        )
    )
    without = f"no decision: the site says {absent.without_decision if absent is not None else 'block'}"
    stands = decision or without
    known = patient is not None
    if isinstance(verdict, Never):
        return Standing("never", verdict.reason, None, known, stands)
    if isinstance(verdict, Later):
        return Standing("waits", verdict.reason, end.isoformat() if end is not None else None, known, stands)
    return Standing("leaves", None, None, known, stands)


def _in_pilot(settings: Settings, chosen: Recipient, place: str | None) -> bool:
    pilot = settings.pilot
    return not pilot.enabled or chosen.patient.reference in pilot.patients or place in pilot.locations


def primed(connection: Connection, settings: Settings, ehr: str) -> bool:
    """Whether news of this EHR is told at all."""
    if settings.ehrs[ehr].prime == "none":
        return True
    return connection.execute(select(mark.c.key).where(mark.c.key == f"primed:{ehr}")).first() is not None
