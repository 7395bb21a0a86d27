"""Who may be writing: the forms under which an identity is looked up, and the language to answer in.

A phone identity has several spellings in three countries: WhatsApp kept prefixes that national plans dropped, and the
EHR's number normalises to the other one. A business-scoped user id is compared as it stands and never "cleaned": what
a phone normaliser makes of one is somebody else's number.
Source: reference/whatsapp.md §8; reference/patients.md C.2 (language order)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.inbound.words import base

DIGITS = re.compile(r"[0-9]{5,20}")
MEXICO = re.compile(r"52(1?)([0-9]{10})")  # 52 1 … is how WhatsApp wrote mobiles until Mexico dropped the 1 in 2019
ARGENTINA = re.compile(r"54(9?)([0-9]{10})")  # 54 9 … is a mobile dialled from abroad
BRAZIL = re.compile(r"55([1-9][0-9])(9?)([6-9][0-9]{7})")  # the ninth digit; old accounts keep their wa_id without it


@dataclass(frozen=True, slots=True)
class Key:
    """One form to look an identity up by."""

    kind: Literal["phone", "user"]
    value: str  # digits of a wa_id, or a business-scoped user id as it came


def variants(wa_id: str) -> tuple[str, ...]:
    """Every spelling of one phone identity, the one given first."""
    other: str | None = None
    if match := MEXICO.fullmatch(wa_id):
        other = f"52{'' if match[1] else '1'}{match[2]}"
    elif match := ARGENTINA.fullmatch(wa_id):
        other = f"54{'' if match[1] else '9'}{match[2]}"
    elif match := BRAZIL.fullmatch(wa_id):
        other = f"55{match[1]}{'' if match[2] else '9'}{match[3]}"
    return (wa_id,) if other is None else (wa_id, other)


def keys(wa_id: str | None, user_id: str | None, parent_user_id: str | None = None) -> tuple[Key, ...]:
    """The forms to look up for one sender, surest first: its user id, its phone and that phone's spellings, its parent id.

    Whatever is not digits in the phone's place is a user id (seen in foreign data), not a number with letters in it.
    """
    found: list[Key] = []
    if user_id:
        found.append(Key("user", user_id))
    if wa_id:
        phone = wa_id.removeprefix("+")
        found += [Key("phone", form) for form in variants(phone)] if DIGITS.fullmatch(phone) else [Key("user", wa_id)]
    if parent_user_id:
        found.append(Key("user", parent_user_id))
    return tuple(dict.fromkeys(found))


def choose_language(
    *, chosen: str | None, preferred: str | None, inbound: str | None, languages: Sequence[str]
) -> tuple[str, str]:
    """The language to answer in and the rule that chose it.

    Args:
        chosen: in this chat.
        preferred: `Patient.communication.preferred`.
        inbound: of the last message, where its words tell (`Words.language_of`).
        languages: the site's, first is the default; a language it does not speak is passed over.
    """
    for rule, wish in (("chosen in chat", chosen), ("preferred", preferred), ("last inbound", inbound)):
        if wish and (found := spoken(wish, languages)):
            return found, rule
    return languages[0], "site default"


def spoken(wish: str, languages: Sequence[str]) -> str | None:
    """The site's language for `es-MX`: itself, else one of the same base."""
    same = [language for language in languages if language.replace("-", "_") == wish.replace("-", "_")]
    near = [language for language in languages if base(language) == base(wish)]
    return next(iter(same or near), None)
