"""What a patient should read, worked out without the engine: the template's text and our own calendar words.

Written out for the three languages rather than taken from CLDR, so that a ✓ does not compare the engine with itself.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bridge.settings import shipped_config

WEEKDAYS = {
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "pt": ("segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"),
}
MONTHS = {
    "es": [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "pt": [
        "janeiro",
        "fevereiro",
        "março",
        "abril",
        "maio",
        "junho",
        "julho",
        "agosto",
        "setembro",
        "outubro",
        "novembro",
        "dezembro",
    ],
}
SHORT = {
    "es": ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"],
    "en": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    "pt": ["jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."],
}
NEAR = {
    "es": ("hoy", "mañana", "pasado mañana"),
    "en": ("today", "tomorrow", "the day after tomorrow"),
    "pt": ("hoje", "amanhã", "depois de amanhã"),
}
BRING = {  # the mapping's "*" line: nothing is known of the service
    "es": "Traiga su documento de identidad.",
    "en": "Please bring your ID.",
    "pt": "Traga seu documento de identidade.",
}


def day(at: date, lang: str) -> str:
    """The long form: "miércoles, 25 de noviembre de 2026"."""
    weekday, month = WEEKDAYS[lang][at.weekday()], MONTHS[lang][at.month - 1]
    if lang == "en":
        return f"{weekday}, {month} {at.day}, {at.year}"
    return f"{weekday}, {at.day} de {month} de {at.year}"


def short_day(at: date, lang: str) -> str:
    """The short form: "25 nov 2026"."""
    month = SHORT[lang][at.month - 1]
    return {
        "es": f"{at.day} {month} {at.year}",
        "en": f"{month} {at.day}, {at.year}",
        "pt": f"{at.day} de {month} de {at.year}",
    }[lang]


def time(at: datetime, lang: str) -> str:
    """The time on that wall: "15:30", "3:30 PM"."""
    if lang == "en":
        return f"{at.hour % 12 or 12}:{at.minute:02} {'AM' if at.hour < 12 else 'PM'}"
    return f"{at.hour:02}:{at.minute:02}" if lang == "pt" else f"{at.hour}:{at.minute:02}"


def away(at: date, today: date, lang: str) -> str:
    """How a reminder calls the day: "mañana", "el miércoles 25"."""
    if (at - today).days < len(NEAR[lang]):
        return NEAR[lang][(at - today).days]
    weekday = WEEKDAYS[lang][at.weekday()]
    if lang == "pt":
        return f"{'no' if at.weekday() >= 5 else 'na'} {weekday}, dia {at.day}"
    return f"{'el' if lang == 'es' else 'on'} {weekday} {at.day}"


def body(template: str, lang: str, **values: str) -> str:
    """A template's text with its blanks filled."""
    text = str(_yaml(f"templates/{template}.yaml")["languages"][lang]["body"])
    return re.sub(r"\{\{(\w+)\}\}", lambda blank: values[blank[1]], text)


def titles(template: str, lang: str) -> list[str]:
    """What the buttons under a template say."""
    words = _yaml("templates/buttons.yaml")
    return [str(words[button][lang]) for button in _yaml(f"templates/{template}.yaml")["buttons"]]


def reply(name: str, lang: str, **values: str) -> str:
    """What the engine answers by itself."""
    return str(_yaml(f"replies/{lang}.yaml")["replies"][name]).format(**values)


def reply_title(name: str, lang: str) -> str:
    return str(_yaml(f"replies/{lang}.yaml")["buttons"][name])


@lru_cache
def _yaml(path: str) -> Any:
    return YAML(typ="safe", pure=True).load(Path(shipped_config() / path).read_text(encoding="utf-8"))
