"""Which of a person's telecoms WhatsApp can reach, best first, and in which digits.

Sources: https://hl7.org/fhir/R4/datatypes.html#ContactPoint; reference/fhir.md §13 (phones as found);
reference/whatsapp.md §2 (WhatsApp rewrites Brazilian and Mexican prefixes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberType, ValidationResult

from bridge.mappers.tolerant import code, extensions, objects, period, text

SPOKEN_TO = {
    "phone",
    "sms",
    "whatsapp",
    "",
}  # no system at all is seen too; fax, pager, email and url are not written to
CHANNEL = "messaging-channel-extension"  # FHIR Messaging Gateway IG: the number stands in system=other
NO_RANK = 1000  # after every rank a person gave
TRUNK_ZERO = re.compile(r"^(\s*\+.*?)\(0\)")  # "+34 (0) 600…": the zero is for callers inside the country
LANDLINE = {PhoneNumberType.FIXED_LINE, PhoneNumberType.TOLL_FREE, PhoneNumberType.PREMIUM_RATE, PhoneNumberType.UAN}
WHATSAPP, MOBILE, UNKNOWN, FIXED = range(4)  # order of preference

MEXICO_OLD = re.compile(r"521(\d{10})")  # the 1 of mobiles ended in 2019, wa_ids still carry it
BRAZIL_SHORT = re.compile(r"55([1-9]\d)([6-9]\d{7})")  # mobiles got a ninth digit by 2016, wa_ids often lack it
ARGENTINA_MOBILE = re.compile(r"54([1-9]\d{9})")  # a mobile dialled from abroad has a 9 after 54


@dataclass(frozen=True, slots=True)
class Phone:
    """A number that may be dialled from anywhere."""

    wa_id: str = field(repr=False)  # digits only, country code first, no "+"
    raw: str = field(repr=False)  # as the EHR wrote it
    system: str  # phone | sms | whatsapp | other, "" when absent
    use: str  # home | work | temp | mobile, "" when absent
    rank: int | None  # 1 = preferred


def canonical(wa_id: str) -> str:
    """One spelling for the spellings in which WhatsApp names the same phone; what the blind index is made of.

    Only differences that cannot part two subscribers are levelled: Mexico's former 1, Brazil's ninth digit.
    """
    if found := MEXICO_OLD.fullmatch(wa_id):
        return f"52{found[1]}"
    if found := BRAZIL_SHORT.fullmatch(wa_id):
        return f"55{found[1]}9{found[2]}"
    return wa_id


def dialled(raw: str, region: str, *, mobile: bool = False) -> tuple[str, bool] | None:
    """(digits with country code, whether it is a landline), None when it is no number one could write to.

    Args:
        raw: as written; a national number is read as one of `region`.
        region: ISO 3166 code of the site.
        mobile: the EHR says it is a mobile, which settles Argentina's missing 9.
    """
    read = _read(raw, region, mobile=mobile)
    return (read[0], read[1] in LANDLINE) if read else None


def _read(raw: str, region: str, *, mobile: bool) -> tuple[str, int] | None:
    """(digits with country code, what the numbering plan says they are)."""
    try:
        number = phonenumbers.parse(TRUNK_ZERO.sub(r"\1", raw), region)
    except phonenumbers.NumberParseException:
        return None
    if number.extension:  # a switchboard answers there, and nobody else
        return None
    digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).lstrip("+")
    if mobile and (found := ARGENTINA_MOBILE.fullmatch(digits)):
        digits = f"549{found[1]}"
    digits = canonical(digits)
    if digits != f"{number.country_code}{phonenumbers.national_significant_number(number)}":
        number = phonenumbers.parse(f"+{digits}")
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return digits, phonenumbers.number_type(number)


def phones(telecoms: Any, *, region: str, now: datetime) -> tuple[Phone, ...]:
    """Every number of a telecom list that may be written to, best first.

    Order: marked for WhatsApp, mobile (by system, use or numbering plan), the rest, landlines; within each by rank,
    private before work (a colleague may read a work phone), then as listed.
    """
    found: list[tuple[tuple[int, int, int, int], Phone]] = []
    for place, telecom in enumerate(objects(telecoms)):
        read = _phone(telecom, region, now)
        if read:
            kind, phone = read
            rank = NO_RANK if phone.rank is None else phone.rank
            found.append(((kind, rank, phone.use in {"work", "temp"}, place), phone))
    best: dict[str, Phone] = {}
    for _, phone in sorted(found, key=lambda item: item[0]):
        best.setdefault(phone.wa_id, phone)
    return tuple(best.values())


def _phone(telecom: Mapping[str, Any], region: str, now: datetime) -> tuple[int, Phone] | None:
    raw, system, use = text(telecom.get("value")), code(telecom.get("system")), code(telecom.get("use"))
    channel = _channel(telecom)
    if raw is None or use == "old" or not period(telecom.get("period")).covers(now):
        return None
    if channel == "whatsapp":
        system = "whatsapp"
    if system not in SPOKEN_TO or channel not in {"", "whatsapp", "sms"}:
        return None
    says_mobile = use == "mobile" or system in {"sms", "whatsapp"}
    read = _read(raw, region, mobile=says_mobile)
    if read is None:
        return None
    digits, plan = read
    if system == "whatsapp":
        kind = WHATSAPP
    elif says_mobile or plan == PhoneNumberType.MOBILE:
        kind = MOBILE
    else:
        kind = FIXED if plan in LANDLINE else UNKNOWN
    return kind, Phone(digits, raw, system, use, _rank(telecom.get("rank")))


def _channel(telecom: Mapping[str, Any]) -> str:
    for extension in extensions(telecom, CHANNEL):
        for key in ("valueCode", "valueString"):
            if value := code(extension.get(key)):
                return value
        coded = extension.get("valueCoding") or extension.get("valueCodeableConcept")
        for item in objects(coded):
            for coding in (item, *objects(item.get("coding"))):
                if value := code(coding.get("code")):
                    return value
    return ""


def _rank(value: Any) -> int | None:
    """A rank of 1 or more, also as a string."""
    written = text(value)
    return (
        int(written) if written and written.isascii() and written.isdigit() and 0 < int(written[:6]) < NO_RANK else None
    )
