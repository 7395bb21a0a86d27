"""What holds when somebody writes: who it may be, what was tapped, which visits are ahead, what we asked last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, func, select

from bridge.engine import gates
from bridge.engine.answers import Thread
from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.inbound import identity as identities
from bridge.inbound.providers.updates import Message
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Action, Bubble, Linked, Question, Situation, Visit
from bridge.ledger import keys
from bridge.ledger.clock import SECOND, from_us
from bridge.ledger.tables import block, conversation, identity, lane, outbox, person, question, resource, turn
from bridge.mappers import formatters
from bridge.mappers.contact import canonical
from bridge.mappers.events import appointment
from bridge.outbound.content import Content, button_of


@dataclass(slots=True)
class Loaded:
    """A situation and the rows behind it."""

    situation: Situation
    thread: Thread
    conversation_id: int | None  # None: they write for the first time
    identity_keys: tuple[str, ...]  # of the writer: phone and user id; without a number, those of whom it is linked to
    persons: dict[int, Any]  # linked persons by id
    learned: tuple[int, ...]  # persons to whom the user id is to be linked
    bubble_row: Any
    zone: str


def writer_keys(site: Site, message: Message) -> tuple[str, ...]:
    """Blind indexes of every form of the writer's identity, surest first."""
    forms = identities.keys(message.from_, message.from_user_id, message.parent_user_id)
    values = [canonical(form.value) if form.kind == "phone" else form.value for form in forms]
    return tuple(dict.fromkeys(site.crypto.index(keys.identity(value)) for value in values))


def load_situation(site: Site, number: str, key: str, message: Message, reply: Reply) -> Loaded:
    """Everything `respond` asks, from one snapshot."""
    mine = writer_keys(site, message)
    with site.store.read() as connection:
        links = connection.execute(select(identity).where(identity.c.key.in_(mine), identity.c.until.is_(None))).all()
        people = {
            row.id: row
            for row in connection.execute(select(person).where(person.c.id.in_({row.person_id for row in links})))
        }
        patients = {
            row.id: row
            for row in connection.execute(
                select(person).where(person.c.id.in_({p.patient_id for p in people.values() if p.patient_id}))
            )
        }
        linked = tuple(link for row in people.values() if (link := _linked(row, patients)) is not None)
        talk = connection.execute(select(conversation).where(conversation.c.key == key)).first()
        blocked = connection.execute(
            select(block.c.id).where(block.c.key.in_(mine), block.c.lifted_at.is_(None)).limit(1)
        ).first()
        words = site.content.words
        language, _ = identities.choose_language(
            chosen=None,
            preferred=next((p.language for p in people.values() if p.language), None),
            inbound=words.language_of(message.text) or (talk.language if talk is not None else None),
            languages=site.settings.site.languages,
        )
        bubble, bubble_row = _bubble(connection, site, reply, mine, people, language)
        visits = _visits(connection, site, linked, patients, people, language)
        zone = (bubble_row.zone if bubble_row is not None else None) or site.settings.site.zone
        waiting = (
            talk is not None
            and connection.execute(
                select(func.count()).where(turn.c.conversation_id == talk.id, turn.c.open)
            ).scalar_one()
            > 0
        )
        asked = _question(connection, site, talk, reply, language)
        named = mine if message.from_ else (*mine, *_phones(connection, people))
        action = bubble.action if bubble is not None else None
        checked = gates.check(connection, site, talk, reply, mine, action, language)
        free_text = _free_text(connection, site, key, reply)
    situation = Situation(
        now=site.now(),
        language=language,
        languages=site.settings.site.languages,
        words=words,
        linked=linked,
        blocked=blocked is not None,
        bubble=bubble,
        question=asked,
        visits=visits,
        owner="person" if talk is not None and talk.owner == "person" else "bot",
        waiting_for_staff=bool(waiting),
        available=_available(site),
        emergency=site.settings.site.emergency_number,
        check=checked,
        free_text=free_text,
    )
    value = canonical(message.from_) if message.from_ and message.from_.isdigit() else None
    thread = Thread(number, key, message.from_ if value else None, message.from_user_id, language)
    known = {row.person_id for row in links if row.kind == "user_id"}
    learned = tuple(i for i in people if i not in known) if message.from_user_id and message.from_ else ()
    return Loaded(situation, thread, talk.id if talk is not None else None, named, people, learned, bubble_row, zone)


def _phones(connection: Connection, people: dict[int, Any]) -> Sequence[str]:
    """Where a STOP of somebody who shows only a user id would be missed: others may be written to on the same phone."""
    phones = select(identity.c.key).where(
        identity.c.person_id.in_(people), identity.c.kind == "phone", identity.c.until.is_(None)
    )
    return connection.execute(phones.order_by(identity.c.key)).scalars().all() if people else ()


def _linked(row: Any, patients: dict[int, Any]) -> Linked | None:
    if row.ref is None or row.link_ended_at is not None:
        return None
    if row.kind == "related" and row.refusal is not None:
        return None  # was a guardian once
    if row.kind == "patient":
        return Linked(row.id, row.ref, row.ehr, "self", row.ref)
    patient = patients.get(row.patient_id)
    if patient is None or patient.ref is None:
        return None
    return Linked(row.id, row.ref, row.ehr, "guardian", patient.ref)


def _available(site: Site) -> frozenset[str]:
    """Actions that work at this site."""
    always = {"consent.revoke", "consent.grant"}
    if site.settings.results.enabled and any(ehr.base_url for ehr in site.settings.ehrs.values()):
        always.add("results.show")
    if any(ehr.base_url and ehr.writeback.appointment != "none" for ehr in site.settings.ehrs.values()):
        always |= {"appointment.confirm", "appointment.cancel"}
    return frozenset(always)


def visit_of(site: Site, row: Any, ref_patient: str, language: str, zone: str) -> Visit | None:
    """An Appointment row in words, as far as it is this patient's; None for one without a start."""
    try:
        plain = site.crypto.decrypt(row.projection, row.key_id, "resource", "projection", row.key)
    except BridgeError:
        return None
    held = appointment.seen_by(appointment.from_json(msgspec.json.decode(plain)), ref_patient)
    if held is None or held.start is None:
        return None
    return Visit(
        ehr=row.ehr,
        reference=held.reference,
        status=held.status,
        start=held.start,
        day=formatters.day(held.start, language, zone),
        time=formatters.time(held.start, language, zone),
        patient=ref_patient,
        revision=row.revision,
    )


def _bubble(
    connection: Connection, site: Site, reply: Reply, mine: tuple[str, ...], people: dict[int, Any], language: str
) -> tuple[Bubble | None, Any]:
    if reply.tap is None:
        return None, None
    row = connection.execute(select(outbox).where(outbox.c.id == reply.tap.message_id)).first()
    if row is None or row.person_id is None:
        return None, None
    went_to = connection.execute(
        select(identity.c.key, identity.c.until).where(identity.c.id == row.identity_id)
    ).first()
    own = (
        connection.execute(
            select(identity.c.key).where(
                identity.c.person_id == row.person_id, identity.c.kind == "user_id", identity.c.until.is_(None)
            )
        )
        .scalars()
        .all()
    )
    # a user id stands for the phone it was learned through: for a number that was theirs once it says nothing
    same = went_to is not None and (went_to.key in mine or (went_to.until is None and bool(set(own) & set(mine))))
    action: Action | None = None
    asks: tuple[str, ...] = ()
    try:
        content = Content.from_bytes(site.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id))
        button, asks = button_of(content.buttons, reply.tap.button), content.asks
    except (BridgeError, ValueError):
        button = None
    if button is not None:
        from_ = row.accepted_at or row.planned_at
        expires = from_us(from_ + int(button.expires * SECOND)) if button.expires is not None else None
        action = Action(button.do, button.confirm, expires)
    held = connection.execute(select(resource).where(resource.c.key == row.resource_key)).first()
    patient = connection.execute(select(person.c.ref).where(person.c.id == row.patient_id)).scalar()
    visit = None
    if held is not None and held.type == "Appointment" and patient is not None:
        visit = visit_of(site, held, patient, language, row.zone or site.settings.site.zone)
    addressed = people.get(row.person_id)
    role = "guardian" if addressed is not None and addressed.kind == "related" else "self"
    return (
        Bubble(
            row.id,
            reply.tap.revision,
            same,
            action,
            visit,
            row.person_id,
            role,  # type: ignore[arg-type]
            asks or _purposes(site, row.purpose),
            row.patient_id,
        ),
        row,
    )


def _purposes(site: Site, purpose: str | None) -> tuple[str, ...]:
    """What a consent button of a mapping speaks of: the mapping's own purpose, if it is one of the site's."""
    return (purpose,) if purpose is not None and purpose in site.settings.consent.purposes else ()


def _free_text(
    connection: Connection, site: Site, key: str, reply: Reply
) -> Literal["always", "unrecognised", "never"]:
    """Who reads words, as the mapping says that spoke last in this conversation."""
    policies = {each.id: each.free_text for each in site.content.mappings.mappings if each.free_text != "unrecognised"}
    if reply.kind != "text" or not policies:
        return "unrecognised"
    spoke = (
        select(outbox.c.mapping)
        .join(lane, lane.c.id == outbox.c.lane_id)
        .where(lane.c.kind == "conversation", lane.c.key == key, outbox.c.mapping.is_not(None))
        .where(outbox.c.state.in_(("accepted", "sent", "delivered", "read", "played")))
        .order_by(outbox.c.accepted_at.desc())
        .limit(1)
    )
    last = connection.execute(spoke).scalar()
    return policies.get(last or "", "unrecognised")  # type: ignore[return-value]


def _visits(
    connection: Connection,
    site: Site,
    linked: tuple[Linked, ...],
    patients: dict[int, Any],
    people: dict[int, Any],
    language: str,
) -> tuple[Visit, ...]:
    """Promised visits ahead of whom the writer speaks for, as far as we wrote about them."""
    ids = {p.id: p.ref for p in [*people.values(), *patients.values()] if p.kind == "patient"}
    wanted = {link.patient for link in linked}
    ids = {i: ref for i, ref in ids.items() if ref in wanted}
    if not ids:
        return ()
    about = connection.execute(
        select(outbox.c.resource_key, outbox.c.patient_id, func.max(outbox.c.zone))
        .where(outbox.c.patient_id.in_(ids), outbox.c.resource_key.is_not(None))
        .group_by(outbox.c.resource_key, outbox.c.patient_id)
    ).all()
    found: list[Visit] = []
    now: datetime = site.now()
    for key, patient_id, zone in about:
        row = connection.execute(
            select(resource).where(resource.c.key == key, resource.c.type == "Appointment")
        ).first()
        if row is None:
            continue
        visit = visit_of(site, row, ids[patient_id], language, zone or site.settings.site.zone)
        if visit is not None and visit.status in appointment.PROMISED and visit.start > now:
            found.append(visit)
    return tuple(sorted(found, key=lambda visit: (visit.start, visit.reference)))


def _question(connection: Connection, site: Site, talk: Any, reply: Reply, language: str) -> Question | None:
    if talk is None:
        return None
    wanted = select(question).where(question.c.conversation_id == talk.id)
    if reply.answer is not None:
        row = connection.execute(wanted.where(question.c.id == reply.answer.question_id)).first()
    else:
        row = connection.execute(
            wanted.where(question.c.choice.is_(None)).order_by(question.c.id.desc()).limit(1)
        ).first()
    if row is None:
        return None
    try:
        body = msgspec.json.decode(site.crypto.decrypt(row.body, row.key_id, "question", "body", row.id))
    except BridgeError:
        return None
    visit = None
    if row.resource_key is not None:
        held = connection.execute(select(resource).where(resource.c.key == row.resource_key)).first()
        if held is not None:
            visit = visit_of(site, held, body["patient"], language, body["zone"])
    return Question(
        id=row.id,
        kind=row.kind,
        visit=visit,
        message_id=row.message_id,
        asked_at=from_us(row.asked_at),
        until=from_us(row.until),
        last_said=talk.last_said == f"question:{row.id}",
        answered=row.choice is not None,
        revision=row.revision,
        choice=row.choice,
        person_id=body.get("person_id"),
        role=body.get("role"),
    )
