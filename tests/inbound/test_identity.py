"""Forms under which a sender is looked up, and the language to answer in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.inbound.identity import Key, choose_language, keys, variants


@pytest.mark.parametrize(
    ("wa_id", "expect"),
    [
        ("5215550001111", ("5215550001111", "525550001111")),  # Mexico, as WhatsApp wrote mobiles until 2019
        ("525550001111", ("525550001111", "5215550001111")),
        ("5491155550000", ("5491155550000", "541155550000")),  # Argentina, dialled from abroad
        ("541155550000", ("541155550000", "5491155550000")),
        ("5511987650000", ("5511987650000", "551187650000")),  # Brazil's ninth digit
        ("551187650000", ("551187650000", "5511987650000")),
        ("551123450000", ("551123450000",)),  # a Brazilian landline never had one
        ("5511923450000", ("5511923450000",)),  # numbers born with nine digits have no short form: it is a landline's
        ("34600000001", ("34600000001",)),
        ("15550001111", ("15550001111",)),
        ("52155500011112", ("52155500011112",)),  # not a Mexican number, whatever it begins with
    ],
)
def test_variants(wa_id: str, expect: tuple[str, ...]) -> None:
    assert variants(wa_id) == expect


@given(st.from_regex(r"(52|54|55|34|1)[0-9]{6,14}", fullmatch=True))
def test_variants_find_each_other(wa_id: str) -> None:
    forms = variants(wa_id)
    assert forms[0] == wa_id
    assert all(set(variants(form)) == set(forms) for form in forms)


@pytest.mark.parametrize(
    ("sender", "expect"),
    [
        (("34600000001", None, None), [("phone", "34600000001")]),
        (("+34600000001", None, None), [("phone", "34600000001")]),
        ((None, "ES.1349120865530274", None), [("user", "ES.1349120865530274")]),
        (
            ("525550001111", "MX.77aB", None),
            [("user", "MX.77aB"), ("phone", "525550001111"), ("phone", "5215550001111")],
        ),
        (
            ("ES.1349120865530274", None, None),
            [("user", "ES.1349120865530274")],
        ),  # seen: a user id in the phone's place
        ((None, "ES.1", "ES.ENT.9"), [("user", "ES.1"), ("user", "ES.ENT.9")]),
        (("ES.1", "ES.1", None), [("user", "ES.1")]),
        ((None, "some-later-form", None), [("user", "some-later-form")]),  # never dropped for its form
        ((None, None, None), []),
    ],
)
def test_keys(sender: tuple[str | None, str | None, str | None], expect: list[tuple[str, str]]) -> None:
    assert keys(*sender) == tuple(Key(kind, value) for kind, value in expect)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "preferred", "inbound", "expect"),
    [
        ("en", "pt", "es", ("en", "chosen in chat")),
        (None, "pt_BR", "es", ("pt", "preferred")),
        (None, "pt-BR", None, ("pt", "preferred")),
        (None, "ja", "en", ("en", "last inbound")),  # a language the site does not speak is passed over
        (None, None, "pt", ("pt", "last inbound")),
        (None, None, None, ("es", "site default")),
        ("fr", "ja", "zh", ("es", "site default")),
    ],
)
def test_choose_language(
    chosen: str | None, preferred: str | None, inbound: str | None, expect: tuple[str, str]
) -> None:
    languages = ("es", "en", "pt")
    assert choose_language(chosen=chosen, preferred=preferred, inbound=inbound, languages=languages) == expect


def test_a_regional_language_of_the_site() -> None:
    languages = ("es", "es_MX")
    assert choose_language(chosen=None, preferred="es-MX", inbound=None, languages=languages)[0] == "es_MX"
    assert choose_language(chosen=None, preferred="es-AR", inbound=None, languages=languages)[0] == "es"
