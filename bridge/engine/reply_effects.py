"""Effects of a reply as rows, in the order in which `respond` gave them, inside the transaction that settles the event.

Rows are locked as everywhere: lane, then identity, person and consent, block, outbox, write. STOP writes the rows the
fence reads, so a message either left before this commit or does not leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from bridge.engine import gates, persons, projections
from bridge.engine.answers import answer
from bridge.engine.documents import Wish, wished
from bridge.engine.site import Site
from bridge.engine.situations import Loaded
from bridge.inbound.effects import (
    Ask,
    Attempt,
    Block,
    Close,
    Command,
    Effect,
    EndGuardianLink,
    ForPerson,
    Ignore,
    RecordDecision,
    Say,
    ShowDocument,
    Unblock,
)
from bridge.inbound.providers.updates import Message
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Linked
from bridge.ledger import audit, keys, lanes, outbox, writes
from bridge.ledger.clock import SECOND, to_us
from bridge.ledger.outbox import NewMessage
from bridge.ledger.tables import block, consent, conversation, inbox, person, question, turn
from bridge.ledger.tables import outbox as outbox_table

WINDOW = 24 * 3600 * SECOND
QUESTION_OPEN = 24 * 3600 * SECOND  # its buttons; typed words count for ten minutes only (inbound.standing)


def apply_effects(
    connection: Connection,
    site: Site,
    event: int,
    message: Message,
    reply: Reply,
    loaded: Loaded,
    effects: Sequence[Effect],
    now: int,
) -> None:
    """Write everything one reply causes. The caller holds the lane of its conversation."""
    at = to_us(reply.at)
    talk = _conversation(connection, site, loaded, at)
    said = site.ids()
    messages: list[NewMessage] = []
    open_turn, last_said, private = None, None, False
    if any(isinstance(effect, Unblock) for effect in effects) and _stopped_since(connection, loaded, at):
        effects = ()  # a START that comes after a STOP written later: WhatsApp delivers late and out of order
    for i, effect in enumerate(effects):
        match effect:
            case Say():
                messages.append(_say(site, loaded, effect, said, i))
                last_said = f"reply:{effect.reply_id}"
            case Ask():
                asked, row = _ask(connection, site, loaded, effect, talk, said, i)
                messages.append(asked)
                last_said = f"question:{row}"
            case Close():
                connection.execute(
                    update(question)
                    .where(question.c.id == effect.question_id, question.c.choice.is_(None))
                    .values(choice=effect.choice, answered_by=said)
                )
            case Command():
                _command(connection, site, loaded, effect, talk, said, now)
            case Block():
                block_identities(connection, site, loaded.identity_keys, at, said)
            case Unblock():
                connection.execute(
                    update(block)
                    .where(block.c.key.in_(loaded.identity_keys), block.c.lifted_at.is_(None))
                    .values(lifted_at=at)
                )
                # START gives back what a STOP took: a guardian's own links too, or a child's messages would stay off for good
                connection.execute(
                    update(person)
                    .where(person.c.id.in_(list(loaded.persons)), person.c.link_ended_at.is_not(None))
                    .values(link_ended_at=None)
                )
            case Attempt():
                private = True
                subject = f"msg_{effect.message_id}" if effect.message_id is not None else None
                audit.record(connection, row=site.ids(), at=now, action=f"gate {effect.outcome}", subject=subject)
            case ShowDocument():
                messages.append(_document(connection, site, loaded, effect, said))
                last_said = "document"
            case RecordDecision():
                _decision(connection, site, loaded, effect, at, said, talk, now)
            case EndGuardianLink():
                connection.execute(
                    update(person).where(person.c.id == effect.person_id).values(link_ended_at=site.clock.now_us())
                )
            case ForPerson():
                open_turn = effect.reason
            case Ignore():
                pass
    body = {"type": message.type, "text": None if private else reply.text, "raw": {} if private else message.raw}
    connection.execute(
        lanes.upsert(connection.dialect.name)(turn).on_conflict_do_nothing(index_elements=["wamid"]),
        {
            "id": said,
            "conversation_id": talk,
            "wamid": site.crypto.index(keys.wamid(reply.wamid)) if reply.wamid else None,
            "direction": "in",
            "kind": reply.kind,
            "cause": event,
            "message_id": reply.tap.message_id if reply.tap is not None else None,
            "at": at,
            "open": open_turn is not None,
            "reason": open_turn,
            "key_id": site.crypto.key_id,
            "body": site.crypto.encrypt(msgspec.json.encode(body), "turn", "body", said),
        },
    )
    if loaded.learned and message.from_user_id:
        persons.learn(connection, site, {(i, message.from_user_id): "webhook" for i in loaded.learned})
    outbox.add(connection, site.crypto, site.ids, messages, now)
    values: dict[str, object] = {"last_turn": said}
    if last_said is not None:
        values["last_said"] = last_said
    connection.execute(update(conversation).where(conversation.c.id == talk).values(**values))
    if private:  # a birth date proves who somebody is once, and is kept nowhere
        connection.execute(update(inbox).where(inbox.c.id == event).values(body=None))
    else:
        _communication(connection, site, loaded, reply, message, said, talk, now)


def _conversation(connection: Connection, site: Site, loaded: Loaded, at: int) -> int:
    """The conversation's row, its window opened for 24 h by what was written."""
    thread = loaded.thread
    statement = lanes.upsert(connection.dialect.name)(conversation).values(
        id=site.ids(), number=thread.number, key=thread.lane_key, window_until=at + WINDOW, language=thread.language
    )
    statement = statement.on_conflict_do_nothing(index_elements=["key"])
    connection.execute(statement)
    row = connection.execute(
        select(conversation.c.id, conversation.c.window_until)
        .where(conversation.c.key == thread.lane_key)
        .with_for_update()
    ).one()
    connection.execute(
        update(conversation)
        .where(conversation.c.id == row.id)
        .values(window_until=max(row.window_until, at + WINDOW), language=thread.language)
    )
    return int(row.id)


def _say(site: Site, loaded: Loaded, effect: Say, said: int, i: int) -> NewMessage:
    return answer(
        site,
        loaded.thread,
        key=f"answer|{said}|{i}",
        reply_id=effect.reply_id,
        fields=effect.fields,
        turn=said,
        buttons=effect.buttons,
    )


def _ask(
    connection: Connection, site: Site, loaded: Loaded, effect: Ask, talk: int, said: int, i: int
) -> tuple[NewMessage, int]:
    """A question is a row; every other open one of this conversation is replaced by it."""
    connection.execute(
        update(question)
        .where(question.c.conversation_id == talk, question.c.choice.is_(None))
        .values(choice="replaced", answered_by=said)
    )
    row = site.ids()
    business = site.clock.now_us()
    visit = effect.visit
    body = {
        "person_id": effect.person_id,
        "role": effect.role,
        "patient": visit.patient if visit is not None else None,
        "zone": loaded.zone,
        "asked_of": loaded.identity_keys,
    }
    connection.execute(
        insert(question).values(
            id=row,
            conversation_id=talk,
            kind=effect.kind,
            message_id=effect.message_id,
            resource_key=site.crypto.index(keys.resource(visit.ehr, visit.reference)) if visit is not None else None,
            revision=visit.revision if visit is not None else None,
            asked_at=business,
            until=business + QUESTION_OPEN,
            key_id=site.crypto.key_id,
            body=site.crypto.encrypt(msgspec.json.encode(body), "question", "body", row),
        )
    )
    asked = answer(
        site,
        loaded.thread,
        key=f"answer|{said}|{i}",
        reply_id=effect.reply_id,
        fields=effect.fields,
        turn=said,
        question=row,
        buttons=effect.buttons,
    )
    return asked, row


def _document(connection: Connection, site: Site, loaded: Loaded, effect: ShowDocument, said: int) -> NewMessage:
    """What fetches it and sends it: the words of the reply are not needed for that."""
    about = connection.execute(select(outbox_table).where(outbox_table.c.id == effect.message_id)).one()
    link = next(link for link in loaded.situation.linked if link.person_id == effect.person_id)
    gate = gates.gate_kept(site, about)
    wish = Wish(
        ehr=link.ehr,
        reference=about.resource_ref or "",
        patient=link.patient,
        guardian=link.reference if link.role == "guardian" else None,
        mapping=about.mapping,
        language=loaded.thread.language,
        zone=about.zone or site.settings.site.zone,
        turn=said,
        thread=loaded.thread,
        released=gate.released if gate is not None else (),
    )
    return wished(site, wish, about)


def _command(
    connection: Connection, site: Site, loaded: Loaded, effect: Command, talk: int, said: int, now: int
) -> None:
    """One row per decision, in order; never coalesced."""
    visit = effect.visit
    link = _link(loaded, effect.person_id, visit.patient)
    row = site.ids()
    thread = loaded.thread
    wanted = {
        "reference": visit.reference,
        "patient": visit.patient,
        "actor": link.reference if link is not None else visit.patient,
        "start": visit.start.isoformat(),
        "day": visit.day,
        "time": visit.time,
        "zone": loaded.zone,
        "wa_id": thread.wa_id,
        "user_id": thread.user_id,
        "language": thread.language,
        "lane_key": thread.lane_key,
        "number": thread.number,
        "revision": visit.revision,
    }
    values: dict[str, object] = {
        "id": row,
        "kind": "command",
        "verb": effect.verb,
        "ehr": visit.ehr,
        "resource_key": site.crypto.index(keys.resource(visit.ehr, visit.reference)),
        "message_id": effect.message_id,
        "turn_id": said,
        "person_id": effect.person_id,
        "conversation_id": talk,
        "state": "asked",
        "next_at": now,
        "key_id": site.crypto.key_id,
        "wanted": site.crypto.encrypt(msgspec.json.encode(wanted), "write", "wanted", row),
    }
    writes.add(connection, site.ids, [values], now)


def _link(loaded: Loaded, person_id: int | None, patient: str) -> Linked | None:
    same = [link for link in loaded.situation.linked if link.patient == patient]
    return next((link for link in same if link.person_id == person_id), same[0] if same else None)


def _stopped_since(connection: Connection, loaded: Loaded, at: int) -> bool:
    later = select(block.c.id).where(
        block.c.key.in_(loaded.identity_keys), block.c.lifted_at.is_(None), block.c.since >= at
    )
    return connection.execute(later.limit(1)).first() is not None


def block_identities(connection: Connection, site: Site, identities: Sequence[str], at: int, said: int | None) -> None:
    """Nothing but answers leaves to these any more. `said`: the turn that asked for it."""
    held = set(
        connection.execute(
            select(block.c.key).where(block.c.key.in_(identities), block.c.lifted_at.is_(None)).with_for_update()
        ).scalars()
    )
    rows = [{"id": site.ids(), "key": key, "since": at, "turn_id": said} for key in identities if key not in held]
    if rows:
        connection.execute(insert(block), rows)


def _decision(
    connection: Connection,
    site: Site,
    loaded: Loaded,
    effect: RecordDecision,
    at: int,
    said: int,
    talk: int,
    now: int,
) -> None:
    """STOP denies every purpose; START gives back only what a STOP in this chat had denied; an answer is of what was asked."""
    purposes = list(effect.purposes or site.settings.consent.purposes)
    if effect.decision == "permit" and not effect.purposes:
        denied = connection.execute(
            select(consent.c.purpose, consent.c.decision, consent.c.source)
            .where(consent.c.person_id == effect.person_id)
            .order_by(consent.c.decided_at, consent.c.id)
        ).all()
        newest = {row.purpose: (row.decision, row.source) for row in denied}
        purposes = [purpose for purpose, last in newest.items() if last == ("deny", "chat")]
    if not purposes:
        return
    connection.execute(
        insert(consent),
        [
            {
                "id": site.ids(), "person_id": effect.person_id, "purpose": purpose, "decision": effect.decision,
                "decided_at": at, "source": "chat", "ref_key": f"turn {said}", "evidence": f"turn {said}",
                "recorded_at": site.clock.now_us(),
            }
            for purpose in purposes
        ],
    )  # fmt: skip
    held = loaded.persons.get(effect.person_id)
    if held is None:  # a guardian's: the patient is no person of this telephone
        held = connection.execute(select(person).where(person.c.id == effect.person_id)).first()
    if held is None or held.ref is None or site.settings.ehrs[held.ehr].writeback.consent != "create":
        return
    row = site.ids()
    wanted = {
        "patient": held.ref, "decision": effect.decision, "at": at, "turn": said, "purposes": effect.purposes,
        "performer": effect.decided_by or held.ref,
    }  # fmt: skip
    values: dict[str, object] = {
        "id": row,
        "kind": "command",
        "verb": "stop" if effect.decision == "deny" else "start",
        "ehr": held.ehr,
        "resource_key": f"consent {effect.person_id}",
        "turn_id": said,
        "person_id": effect.person_id,
        "conversation_id": talk,
        "state": "asked",
        "told": "outcome",
        "next_at": now,
        "key_id": site.crypto.key_id,
        "wanted": site.crypto.encrypt(msgspec.json.encode(wanted), "write", "wanted", row),
    }
    writes.add(connection, site.ids, [values], now)


def _communication(
    connection: Connection,
    site: Site,
    loaded: Loaded,
    reply: Reply,
    message: Message,
    said: int,
    talk: int,
    now: int,
) -> None:
    """What a known person wrote is to stand in the EHR too, once; who it may be is not guessed."""
    linked = _speaker(loaded)
    if linked is None or reply.kind in ("reaction", "system"):
        return
    ehr = site.settings.ehrs.get(linked.ehr)
    if ehr is None or ehr.writeback.communication != "create" or not ehr.base_url:
        return
    bubble: Any = loaded.bubble_row
    wanted = {
        "patient": linked.patient,
        "sender": linked.reference,
        "at": to_us(reply.at),
        "text": reply.text,
        "wamid": message.id,
        "about": bubble.resource_ref if bubble is not None else None,
        "message": bubble.id if bubble is not None else None,
        "type": reply.kind,
    }
    row = projections.inbound(
        site, turn=said, ehr=linked.ehr, person_id=linked.person_id, conversation_id=talk, now=now, wanted=wanted
    )
    writes.add(connection, site.ids, [row], now)


def _speaker(loaded: Loaded) -> Linked | None:
    """The one person this can be: who was addressed by the tapped message, or the only one linked."""
    linked = loaded.situation.linked
    bubble = loaded.situation.bubble
    if bubble is not None:
        return next((link for link in linked if link.person_id == bubble.person_id), None)
    return linked[0] if len(linked) == 1 else None
