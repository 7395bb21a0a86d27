"""What the engine says by itself, inside the window that a reply opened: rows of the outbox in the `answer` class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from bridge.engine.site import Site
from bridge.inbound.replies import fill, title
from bridge.ledger import lanes, states
from bridge.ledger.clock import SECOND
from bridge.ledger.outbox import NewMessage
from bridge.outbound.content import Button, Content

TITLE = 20  # characters of a reply button
EXPIRES = 24 * 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Thread:
    """The conversation that is answered."""

    number: str
    lane_key: str
    wa_id: str | None
    user_id: str | None
    language: str


def lock_lane(connection: Connection, site: Site, *threads: Thread) -> None:
    """Lanes come first in the order of locks, and who says something in a conversation holds its lane: what it says queues
    behind what others have said, and the fence waits for neither."""
    lane_ids = lanes.ensure(connection, site.ids, "conversation", [(each.lane_key, each.number) for each in threads])
    lanes.lock(connection, sorted(lane_ids.values()))


def answer(
    site: Site,
    thread: Thread,
    *,
    key: str,
    reply_id: str,
    fields: Mapping[str, str],
    turn: int,
    question: int | None = None,
    buttons: tuple[tuple[str, str], ...] = (),
    person_id: int | None = None,
    patient_id: int | None = None,
    ehr: str | None = None,
) -> NewMessage:
    """One sentence of `config/replies`, ready to leave.

    Args:
        key: what makes it the only one of its kind, such as `answer|<turn>|0`.
        reply_id: id of the sentence.
        fields: its blanks.
        turn: what it answers; lets it through to somebody who stopped.
        question: id that its buttons answer.
        buttons: (title's id, choice).
    """
    replies = site.content.replies
    body = fill(replies, reply_id, thread.language, dict(fields) | {"emergency": site.settings.site.emergency_number})
    shown = tuple(
        Button(i, choice, title(replies, name, thread.language)[:TITLE], question=question)
        for i, (name, choice) in enumerate(buttons)
    )
    content = Content(
        wa_id=thread.wa_id,
        user_id=None if thread.wa_id else thread.user_id,
        kind="interactive" if shown else "text",
        body=body,
        buttons=shown,
    )
    business = site.clock.now_us()
    return NewMessage(
        effect_key=key,
        cls=states.ANSWER,
        state="ready",
        kind=content.kind,
        lane_key=thread.lane_key,
        number=thread.number,
        planned_at=business,
        config_version=site.content.version,
        content=content.to_bytes(),
        fields={
            "event": f"answer.{reply_id}",
            "answers": turn,
            "language": thread.language,
            "not_after": business + EXPIRES,
            "person_id": person_id,
            "patient_id": patient_id,
            "ehr": ehr,
        },
    )
