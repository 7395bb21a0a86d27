"""Limits of whatsapp.md §3.1, one row each: what is refused, and that the limit itself passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.outbound.message import Address, Interactive, Outgoing, QuickReply, Template, Text, check, length
from bridge.outbound.providers import cloud_api

TO = Address("34600111222")
TEMPLATE = Template(
    "appointment_booked",
    "es",
    (("first_name", "Ana"), ("day", "martes 1 de diciembre")),
    buttons=(QuickReply(0, "b1.7.3.confirm"), QuickReply(1, "b1.7.3.cancel")),
)
TEXT = Text("Su cita está confirmada.")
ASK = Interactive("¿Anular la cita?", (("q1.yes", "Sí, anular"), ("q1.no", "No")))


def out(content: Any = TEMPLATE, to: Address = TO, callback: str = "b1.7.1") -> Outgoing:
    return Outgoing(to, content, callback)


def template(**changes: Any) -> Outgoing:
    return out(replace(TEMPLATE, **changes))


def ask(*buttons: tuple[str, str], body: str = "¿Anular?") -> Outgoing:
    return out(Interactive(body, buttons))


GOOD = {
    "template": out(),
    "text": out(TEXT),
    "interactive": out(ASK),
    "business-scoped user id": out(to=Address(None, "US.13491208655302741918")),
    "user id of another form": out(to=Address(None, "something else")),
    "no parameters": template(params=(), buttons=()),
    "positional": template(params=(("", "Ana"), ("", "martes")), named=False),
    "pt_BR": template(language="pt_BR"),
    "four spaces": template(params=(("a", "x    y"),)),
    "text of 4096": out(Text("a" * 4096)),
    "body of 1024": ask(("a", "b"), body="a" * 1024),
    "filled template of 1024": template(body="a" * 1024),
    "payload of 128 bytes": template(buttons=(QuickReply(9, "a" * 128),)),
    "title of 20": ask(("a" * 256, "b" * 20)),
    "three buttons": ask(("a", "1"), ("b", "2"), ("c", "3")),
    "callback of 512": out(callback="c" * 512),
}

BAD = {
    "nobody": (out(to=Address(None)), "neither"),
    "plus": (out(to=Address("+34600111222")), "wa_id"),
    "letters": (out(to=Address("US13491208655")), "wa_id"),
    "national": (out(to=Address("0600111222")), "wa_id"),
    "newline after the number": (out(to=Address("34600111222\n")), "wa_id"),
    "empty user id": (out(to=Address(None, " ")), "user_id is empty"),
    "template name": (template(name="Appointment Booked"), "template name"),
    "template name of 513": (template(name="a" * 513), "template name"),
    "dash language": (template(language="pt-BR"), "language"),
    "empty parameter": (template(params=(("a", ""),)), "parameter 1 is empty"),
    "newline in a parameter": (template(params=(("a", "x\ny"),)), "line break"),
    "tab in a parameter": (template(params=(("a", "x\ty"),)), "line break"),
    "five spaces": (template(params=(("a", "x     y"),)), "four spaces"),
    "parameter of 1025": (template(params=(("a", "x" * 1025),)), "1025 characters"),
    "filled template of 1025": (template(body="a" * 1025), "filled template"),
    "parameter name": (template(params=(("First Name", "Ana"),)), "has a name"),
    "parameter twice": (template(params=(("a", "x"), ("a", "y"))), "stands twice"),
    "button index": (template(buttons=(QuickReply(10, "x"),)), "index 10"),
    "button twice": (template(buttons=(QuickReply(0, "x"), QuickReply(0, "y"))), "stands twice"),
    "payload of 129 bytes": (template(buttons=(QuickReply(0, "a" * 127 + "é"),)), "bytes"),
    "empty payload": (template(buttons=(QuickReply(0, ""),)), "bytes"),
    "empty text": (out(Text("  ")), "text is empty"),
    "text of 4097": (out(Text("a" * 4097)), "4097"),
    "emoji are two": (out(Text("😀" * 2049)), "4098"),
    "NUL": (out(Text("a\0b")), "NUL"),
    "half a pair": (out(Text("a\ud83d")), "surrogate"),
    "no button": (ask(), "0 reply buttons"),
    "four buttons": (ask(("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")), "4 reply buttons"),
    "button id twice": (ask(("a", "1"), ("a", "2")), "button id stands twice"),
    "button title twice": (ask(("a", "1"), ("b", "1")), "button title stands twice"),
    "title of 21": (ask(("a", "b" * 21)), "title of button 1"),
    "id of 257": (ask(("a" * 257, "b")), "id of button 1"),
    "body of 1025": (ask(("a", "b"), body="a" * 1025), "1025"),
    "callback of 513": (out(callback="c" * 513), "callback"),
    "no callback": (out(callback=""), "callback"),
}


@pytest.mark.parametrize("name", GOOD)
def test_allowed(name: str) -> None:
    assert check(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    outgoing, words = BAD[name]
    problems = check(outgoing)
    assert any(words in problem for problem in problems), problems


@given(text=st.text(max_size=60), number=st.text(max_size=20), title=st.text(max_size=30))
def test_a_problem_never_quotes_the_patient(text: str, number: str, title: str) -> None:
    marked = f"Ana-Ejemplo{text}"
    problems = check(
        Outgoing(
            Address(f"no-number-{number}"), Interactive(marked + "\0", ((marked, title), (marked, title))), "b1.7.1"
        )
    )
    assert problems
    assert not any("Ana-Ejemplo" in problem or "no-number" in problem for problem in problems)


@given(text=st.text(min_size=1, max_size=200), name=st.text(max_size=10))
def test_what_check_allows_becomes_a_payload(text: str, name: str) -> None:
    for outgoing in (out(Text(text)), template(params=((name, text),)), ask((text, text), body=text)):
        if not check(outgoing):
            assert cloud_api.payload(outgoing)


def test_a_message_does_not_show_its_words_in_a_traceback() -> None:
    assert "Ana" not in repr(TEMPLATE)
    assert "34600111222" not in repr(TO)
    assert "cita" not in repr(out(TEXT))


def test_length_counts_as_a_phone_does() -> None:
    assert [length(text) for text in ("", "a", "é", "😀", "👨‍👩‍👧")] == [0, 1, 1, 2, 8]
