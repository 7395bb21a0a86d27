"""The check before a document: what must be shown, kept beside the message; and how an answer to it fares.

What the EHR holds of a patient is kept as blind indexes only, made when the message is made: an answer is checked while
the EHR is away, and nothing of it stands anywhere in clear.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, select

from bridge.engine.site import Site
from bridge.errors import BridgeError
from bridge.inbound.birth_dates import read_claim
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Action, Check
from bridge.inbound.words import normalise
from bridge.ledger.clock import SECOND
from bridge.ledger.crypto import Crypto
from bridge.ledger.tables import outbox, question, turn
from bridge.mappers import tolerant
from bridge.mappers.mapping import Mapping as MappingFile
from bridge.outbound.content import Content, Gate

SESSION = 15 * 60 * SECOND  # business: shown once, a document may be asked for again
KEPT = 200  # tries looked back at; more of them than this in a lock's time are still a lock
KIND, WITH_ID, SHOW = "verify", "birth-date+id-last4", "results.show"
# v2-0203: what an office has given to a person, not what a hospital counts them by
OFFICIAL = frozenset({"NI", "NNESP", "NNBRA", "NNPRT", "NNMEX", "NNARG", "PPN", "DL", "SS", "TAX", "CZ", "PRC"})
_WHOLE = re.compile(r"\d{4}-\d{2}-\d{2}")


def gate_of(
    site: Site, mapping: MappingFile, patient: Mapping[str, Any], released: tuple[str, ...] = ()
) -> Gate | None:
    """The gate of a message that is being made; None for the many without one.

    Args:
        site: for its index key.
        mapping: whose gate it is.
        patient: as read.
        released: `hold` sentences that did not pass: it leaves only if a person lets it.
    """
    if mapping.gate is None:
        return None
    salt = secrets.token_hex(8)
    born = tolerant.text(patient.get("birthDate")) or ""
    ends = {end for each in tolerant.objects(patient.get("identifier")) if (end := _last4_of(each))}
    return Gate(
        mapping.gate.verify,
        mapping.gate.attempts,
        mapping.gate.lock_for.total_seconds(),
        salt,
        _index(site.crypto, salt, born) if _WHOLE.fullmatch(born) else None,
        tuple(sorted(_index(site.crypto, salt, end) for end in ends)),
        released,
    )


def _last4_of(identifier: Mapping[str, Any]) -> str | None:
    codes = {code for _, code in tolerant.codings(identifier.get("type"))}
    if not codes & OFFICIAL or tolerant.code(identifier.get("use")) == "old":
        return None
    value = normalise(tolerant.text(identifier.get("value")) or "").replace(" ", "")
    return value[-4:] if len(value) > 4 else None


def _index(crypto: Crypto, salt: str, value: str) -> str:
    return crypto.index(f"gate|{salt}|{value}")


def gate_kept(site: Site, row: Any) -> Gate | None:
    """The gate that a message's row keeps; None once retention has emptied it."""
    if row.content is None:
        return None
    try:
        return Content.from_bytes(site.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id)).gate
    except (BridgeError, ValueError):
        return None


def check(
    connection: Connection,
    site: Site,
    talk: Any,
    reply: Reply,
    mine: tuple[str, ...],
    action: Action | None,
    language: str,
) -> Check | None:
    """Where the writer stands who wants a document, or has just answered who they are; None for everybody else."""
    asked = _asked(connection, talk, reply)
    if asked is not None:
        message_id = asked.message_id
    elif action is not None and action.do == SHOW and reply.tap is not None:
        message_id = reply.tap.message_id
    else:
        return None
    row = connection.execute(select(outbox).where(outbox.c.id == message_id)).first()
    gate = gate_kept(site, row) if row is not None else None
    mapping = site.content.mappings.get(row.mapping) if row is not None and row.mapping else None
    if row is None or gate is None or mapping is None:
        return None
    wrong, unclear, locked, passed = _counted(
        _tries(connection, talk, row.person_id), site.clock.now_us(), int(gate.lock_for * SECOND)
    )
    return Check(
        verify=gate.verify,
        attempts=gate.attempts,
        wrong=wrong,
        unclear=unclear,
        locked=locked,
        passed=passed,
        provable=gate.birth is not None and (gate.verify != WITH_ID or bool(gate.ids)),
        attaches=mapping.attach is not None,
        same_identity=asked is None or _same(site, asked, mine),
        said=_said(site, gate, reply, language) if asked is not None else None,
    )


def _asked(connection: Connection, talk: Any, reply: Reply) -> Any:
    """The question that this text answers: open, and the last thing we said."""
    said = (talk.last_said or "") if talk is not None else ""
    if reply.kind != "text" or not said.startswith("question:"):
        return None
    wanted = (question.c.id == int(said.partition(":")[2]), question.c.kind == KIND, question.c.choice.is_(None))
    return connection.execute(select(question).where(*wanted)).first()


def _tries(connection: Connection, talk: Any, person_id: int) -> list[tuple[str, int]]:
    """(how it went, when it was written) of this person's tries in this conversation, newest first."""
    if talk is None:
        return []
    tried = (
        select(question.c.choice, turn.c.at)
        .join(turn, turn.c.id == question.c.answered_by)
        .join(outbox, outbox.c.id == question.c.message_id)
        .where(
            question.c.conversation_id == talk.id,
            question.c.kind == KIND,
            question.c.choice.in_(("right", "wrong", "unclear", "locked")),
            outbox.c.person_id == person_id,
        )
        .order_by(question.c.id.desc())
        .limit(KEPT)
    )
    return [(row.choice, row.at) for row in connection.execute(tried)]


def _counted(tries: list[tuple[str, int]], now: int, lock: int) -> tuple[int, int, bool, bool]:
    """(wrong, unclear in a row, locked, passed) of tries, newest first."""
    wrong = unclear = 0
    for n, (choice, at) in enumerate(tries):
        if choice in ("right", "locked"):
            return wrong, unclear, choice == "locked" and at > now - lock, choice == "right" and at > now - SESSION
        wrong += choice == "wrong" and at > now - lock
        unclear += choice == "unclear" and n == unclear
    return wrong, unclear, False, False


def _same(site: Site, asked: Any, mine: tuple[str, ...]) -> bool:
    """Whether one of the writer's identities is one that was asked: two people may share a telephone."""
    try:
        body = msgspec.json.decode(site.crypto.decrypt(asked.body, asked.key_id, "question", "body", asked.id))
    except (BridgeError, ValueError):
        return False
    return bool(set(body.get("asked_of") or ()) & set(mine))


def _said(site: Site, gate: Gate, reply: Reply, language: str) -> Literal["right", "wrong", "unclear"] | None:
    with_id = gate.verify == WITH_ID
    claim = read_claim(reply.text, language, site.now().date(), with_id=with_id)
    if claim is None:
        return None
    if not claim.dates or (with_id and claim.last4 is None):
        return "unclear"
    born = any(_index(site.crypto, gate.salt, each.isoformat()) == gate.birth for each in claim.dates)
    known = not with_id or _index(site.crypto, gate.salt, claim.last4 or "") in gate.ids
    return "right" if born and known else "wrong"
