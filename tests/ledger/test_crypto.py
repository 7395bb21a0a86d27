"""What is encrypted opens only where it was put; what is signed is ours or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import Undecryptable
from bridge.ledger import tokens
from bridge.ledger.crypto import Crypto, clear_reference

ONE, TWO = b"1" * 32, b"2" * 32
CRYPTO = Crypto({"k1": ONE}, b"index")


@given(st.binary(max_size=300))
def test_round_trip_and_no_two_alike(value: bytes) -> None:
    first, second = (CRYPTO.encrypt(value, "inbox", "body", 5) for _ in range(2))
    assert first != second
    assert CRYPTO.decrypt(first, "k1", "inbox", "body", 5) == value


@pytest.mark.parametrize("place", [("outbox", "body", 5), ("inbox", "content", 5), ("inbox", "body", 6)])
def test_a_value_moved_elsewhere_does_not_open(place: tuple[str, str, int]) -> None:
    blob = CRYPTO.encrypt(b"Ana Garrido", "inbox", "body", 5)
    with pytest.raises(Undecryptable) as caught:
        CRYPTO.decrypt(blob, "k1", *place)
    assert "Ana" not in str(caught.value)
    assert str(place[2]) in str(caught.value)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_does_not_open(position: int, change: int) -> None:
    blob = bytearray(CRYPTO.encrypt(b"words", "inbox", "body", 5))
    blob[position % len(blob)] ^= change
    with pytest.raises(Undecryptable):
        CRYPTO.decrypt(bytes(blob), "k1", "inbox", "body", 5)


@pytest.mark.parametrize("blob", [b"", b"short", b"x" * 12])
def test_too_short_to_be_one(blob: bytes) -> None:
    with pytest.raises(Undecryptable):
        CRYPTO.decrypt(blob, "k1", "inbox", "body", 5)


def test_rotation() -> None:
    """The last key encrypts, all decrypt; blind indexes stay what they were."""
    old = CRYPTO.encrypt(b"words", "inbox", "body", 5)
    rotated = Crypto({"k1": ONE, "k2": TWO}, b"index")
    assert rotated.key_id == "k2"
    assert rotated.decrypt(old, "k1", "inbox", "body", 5) == b"words"
    new = rotated.encrypt(b"words", "inbox", "body", 5)
    assert rotated.decrypt(new, "k2", "inbox", "body", 5) == b"words"
    assert rotated.index("conversation|a|b") == CRYPTO.index("conversation|a|b")
    with pytest.raises(Undecryptable):
        CRYPTO.decrypt(new, "k1", "inbox", "body", 5)


def test_one_more_column_of_an_older_row_keeps_its_key() -> None:
    rotated = Crypto({"k1": ONE, "k2": TWO}, b"index")
    blob = rotated.encrypt(b"words", "outbox", "content", 5, "k1")
    assert CRYPTO.decrypt(blob, "k1", "outbox", "content", 5) == b"words"


def test_a_key_that_is_gone_is_named() -> None:
    blob = CRYPTO.encrypt(b"Ana", "outbox", "content", 77)
    with pytest.raises(Undecryptable, match=r"outbox 77.*'k9'"):
        CRYPTO.decrypt(blob, "k9", "outbox", "content", 77)


def test_indexes_differ_by_key_and_by_value() -> None:
    other = Crypto({"k1": ONE}, b"another index key")
    assert CRYPTO.index("a") != other.index("a") != other.index("b")
    assert len(bytes.fromhex(CRYPTO.index("a"))) == 16
    assert CRYPTO.index("\ud800")  # what no UTF-8 has, senders send


@pytest.mark.parametrize(
    ("reference", "clear"),
    [
        ("Appointment/a1", True),
        ("Patient/" + "a" * 64, True),
        ("Patient/" + "a" * 65, False),
        ("Patient/ana garrido", False),
        ("Patient/a1/_history/3", False),
        ("https://ehr.example/fhir/Patient/1", False),
        ("Patient/a1\n", False),
        ("Patient/", False),
        ("", False),
    ],
)
def test_only_plain_references_stand_in_clear(reference: str, clear: bool) -> None:
    assert (clear_reference(reference) == reference) is clear


# --- button tokens -----------------------------------------------------------------------------------------------------


def test_tokens_come_back_as_they_left() -> None:
    button = tokens.button(CRYPTO, 2**62, 12, "confirm")
    assert tokens.read(CRYPTO, button) == tokens.ButtonToken(2**62, 12, "confirm")
    assert len(button) <= 128
    choice = tokens.choice(CRYPTO, 2**62, "yes")
    assert tokens.read(CRYPTO, choice) == tokens.QuestionToken(2**62, "yes")
    assert tokens.read_callback(tokens.callback(2**62, 3)) == (2**62, 3)


def test_of_another_site_or_changed_by_a_character() -> None:
    token = tokens.button(CRYPTO, 12, 3, "confirm")
    assert tokens.read(Crypto({"k1": ONE}, b"of another site"), token) is None
    for i in range(len(token)):
        forged = token[:i] + ("0" if token[i] != "0" else "1") + token[i + 1 :]
        assert tokens.read(CRYPTO, forged) is None, forged


def test_a_question_is_no_button() -> None:
    """The mac covers the kind: a question's token with its head exchanged is nothing."""
    mac = tokens.choice(CRYPTO, 5, "1.confirm").rpartition(".")[2]
    assert tokens.read(CRYPTO, f"b1.5.1.confirm.{mac}") is None


@given(st.text(max_size=80))
def test_any_text_is_a_token_or_none(text: str) -> None:
    assert tokens.read(CRYPTO, text) is None
    tokens.read_callback(text)


@pytest.mark.parametrize(
    "data", ["b1.9223372036854775808.1", "b1.1.2147483648", "b1.٣.1", "b1..1", "b1.-1.1", "b2.1.1", None]
)
def test_a_callback_that_no_column_holds_is_none(data: str | None) -> None:
    assert tokens.read_callback(data) is None


@given(st.text(max_size=40))
def test_signed_nonsense_is_none(head: str) -> None:
    """Even with a true mac (a leaked key, an older version's form) nothing raises."""
    tokens.read(CRYPTO, f"{head}.{CRYPTO.mac8(head)}")
    for kind in ("b1", "q1"):
        made = f"{kind}.{head}.1.x"
        tokens.read(CRYPTO, f"{made}.{CRYPTO.mac8(made)}")
