"""Opting in again: the words only, whoever holds the conversation."""

from __future__ import annotations

from bridge.inbound.intents.wishes import StartMessages
from bridge.inbound.reply import Reply
from bridge.inbound.situation import Situation


def recognise(situation: Situation, reply: Reply) -> StartMessages | None:
    # no caption, no foreign button: lifting a stop takes the word and nothing beside it
    said = reply.kind == "text" and situation.words.starts(reply.text, situation.language)
    return StartMessages() if said else None
