"""A valid JSON value -> one that somebody sends after all: mutations that know the schema, and mutations that know bytes.

Every choice comes from a `random.Random`, so that a seed gives a run again; hypothesis can be that Random, and then it
shrinks (`st.randoms(use_true_random=False)`). What JSON cannot say (NaN, a doubled key, a lone surrogate) is written by
placeholder: a marked string that becomes raw bytes once the value is text.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

MARK = "@@raw"  # begins the strings that stand for raw bytes; no seed holds one
DEEP = (20, 70, 500, 1_000, 10_000)
LONG = (1_000, 20_000, 70_000)
STRANGE_STRINGS = (
    "", " ", "\t\n", "\u0000", "\ufeff", "\u202e\u2066", "👍🏽", "é" * 300, "{{1}}", "%00", "../../etc/passwd", "' OR 1=1 --",
    "a\r\nX-Evil: 1", "https://elsewhere.example/fhir/Patient/p1", "urn:uuid:6f1d2c3e-0000-4000-8000-000000000001", "#p1",
    "Patient/", "/Patient/p1", "Patient/p1/_history/2", "Patient/Patient/p1", "Appointment/" + "x" * 65, "Appointment/a b",
    "null", "true", "NaN", "-1", "0", "1e9", "9" * 30, "W/\"3\"", "entered-in-error", "booked", "cancelled", "proposed",
    "2026-02-30", "0000-00-00", "10000-01-01T00:00:00Z", "9999-12-31T23:59:60+14:00", "2026-12-01T09:30:00", "2026", "24:00",
    "2026-10-25T02:30:00+02:00", "1970-01-01T00:00:00-23:59", "2026-12-01T09:30:00.123456789123Z", "+34 612 00 01 01",
    "wamid.", "b1.1.1", "b1.-1.x", "b1." + "9" * 40 + ".1", "ES." + "9" * 200, "read", "failed", "deleted", "text", "system",
)  # fmt: skip
STRANGE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), [], {}, [[]], [None], [{}], {"": ""},
    {"id": None}, {"reference": {"reference": "Patient/p1"}}, {"resourceType": "Patient"}, [1, "a", None, {}], "x",
)  # fmt: skip
RAW = (
    b"NaN", b"-Infinity", b"Infinity", b"1e999", b"-", b"01", b"1.", b"+1", b"9" * 5_000, b"0." + b"1" * 400, b"'single'", b"nul",
    b'"\\ud83d"', b'"\\udc00\\ud800"', b'"a\\u0000b"', b'"\\x41"', b'"Jos\xe9"', b'"\xff\xfe"', b'"tab\there"', b'"line\nfeed"',
    b'"\\u003a\\u0022"', b"[1,]", b'{"a":1,}', b"// no\n1", b'{"a":1,"a":2}', b"", b",", b"}", b"]", b'"',
)  # fmt: skip


class Draft:
    """A value on its way to bytes: the tree, and what its placeholders stand for."""

    def __init__(self, tree: Any, random: Random) -> None:
        self.tree = tree
        self.random = random
        self._raw: list[bytes] = []
        self._members: list[bytes] = []

    def raw(self, written: bytes) -> str:
        self._raw.append(written)
        return f"{MARK}{len(self._raw) - 1}@@"

    def member(self, written: bytes) -> str:
        """The key of a member that will be written as these bytes (`"a":1,"a":2`), whatever its value."""
        self._members.append(written)
        return f"{MARK}m{len(self._members) - 1}@@"

    def to_bytes(self) -> bytes:
        try:
            text = json.dumps(self.tree, ensure_ascii=self.random.random() < 0.5, separators=(",", ":"))
        except RecursionError:
            return b"[" * 2_000 + b"]" * 2_000
        written = text.encode("utf-8", "surrogatepass")
        for at, raw in enumerate(self._members):
            written = written.replace(f'"{MARK}m{at}@@":0'.encode(), raw)
        for at, raw in enumerate(self._raw):
            written = written.replace(f'"{MARK}{at}@@"'.encode(), raw)
        return written

    # --- where -----------------------------------------------------------------------------------------------------

    def anywhere(self) -> tuple[Any, Any]:
        """(container, key or index) of some node below the root, each level as likely as the next; (None, None): none."""
        spots: list[tuple[Any, Any]] = []
        node = self.tree
        while isinstance(node, dict | list) and node:
            key = self.random.choice(list(node)) if isinstance(node, dict) else self.random.randrange(len(node))
            spots.append((node, key))
            node = node[key]
        return self.random.choice(spots) if spots else (None, None)

    def object(self) -> dict[str, Any] | None:
        """Some object of the tree."""
        holder, key = self.anywhere()
        found = holder[key] if holder is not None else None
        if isinstance(found, dict) and found:
            return found
        if isinstance(holder, dict):
            return holder
        return self.tree if isinstance(self.tree, dict) and self.tree else None


def _strange(random: Random) -> Any:
    """A copy: the next change may change it."""
    return copy.deepcopy(random.choice(STRANGE_VALUES))


# --- one change of a tree ------------------------------------------------------------------------------------------


def other_type(draft: Draft) -> None:
    holder, key = draft.anywhere()
    if holder is None:
        return
    old, random = holder[key], draft.random
    choices: list[Any] = [_strange(random), [old], {"value": old}, str(old)[:200], not old]
    if isinstance(old, str) and old.isdigit() and len(old) < 300:
        choices.append(int(old))
    if isinstance(old, list) and old:
        choices.append(old[0])
    holder[key] = random.choice(choices)


def strange_string(draft: Draft) -> None:
    holder, key = draft.anywhere()
    if holder is not None:
        holder[key] = draft.random.choice(STRANGE_STRINGS)


def spoilt_string(draft: Draft) -> None:
    """A string with something put into it."""
    holder, key = draft.anywhere()
    if holder is None or not isinstance(holder[key], str):
        strange_string(draft)
        return
    old, random = holder[key], draft.random
    at = random.randint(0, len(old))
    holder[key] = old[:at] + random.choice(STRANGE_STRINGS) + old[at + random.randint(0, 2) :]


def strange_number(draft: Draft) -> None:
    holder, key = draft.anywhere()
    if holder is not None:
        holder[key] = draft.random.choice(
            (0, -1, 2**31, 2**53 + 1, 2**63, 10**25, 1.5, 1e-300, 99999999999, "99999999999", "-5")
        )


def remove(draft: Draft) -> None:
    found = draft.object()
    if found:
        del found[draft.random.choice(list(found))]


def rename(draft: Draft) -> None:
    found = draft.object()
    if found:
        key, random = draft.random.choice(list(found)), draft.random
        named = random.choice(
            (key.upper(), "_" + key, key + "s", "", key + "\u0000", "x" * 300, key[:-1], "value" + key, "é")
        )
        found[named] = found.pop(key)


def doubled(draft: Draft) -> None:
    """A key that stands twice, with the same value or another."""
    found = draft.object()
    if not found:
        return
    key, random = draft.random.choice(list(found)), draft.random
    if isinstance(found[key], dict | list) or key.startswith(MARK):
        return
    name = json.dumps(key).encode()
    once, again = (json.dumps(value).encode() for value in (found.pop(key), random.choice(STRANGE_STRINGS[-12:])))
    found[draft.member(name + b":" + once + b"," + name + b":" + (once if random.random() < 0.3 else again))] = 0


def listed(draft: Draft) -> None:
    """A list that is longer, empty, out of order, or holds something else too."""
    holder, key = draft.anywhere()
    if holder is None:
        return
    old, random = holder[key], draft.random
    items = old if isinstance(old, list) else [old]
    choices: list[Any] = [[], items + items, items * random.choice((3, 20, 200)), [*items, _strange(random)]]
    shuffled = list(items)
    random.shuffle(shuffled)
    holder[key] = random.choice([*choices, shuffled])


def swapped(draft: Draft) -> None:
    """One node where another stood."""
    first, second = draft.anywhere(), draft.anywhere()
    if first[0] is None or second[0] is None:
        return
    try:
        text = json.dumps(first[0][first[1]])
    except (KeyError, IndexError, RecursionError):
        return
    if len(text) < 5_000:  # a copy: a node inside itself has no end
        second[0][second[1]] = json.loads(text)


def unspeakable(draft: Draft) -> None:
    """What is no JSON, or reads differently here and there."""
    holder, key = draft.anywhere()
    if holder is not None:
        holder[key] = draft.raw(draft.random.choice(RAW))


def deep(draft: Draft) -> None:
    holder, key = draft.anywhere()
    if holder is not None:
        depth = draft.random.choice(DEEP)
        opening, closing = draft.random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        holder[key] = draft.raw(opening * depth + b"1" + closing * depth)


def huge(draft: Draft) -> None:
    found = draft.object()
    if not found:
        return
    random, size = draft.random, draft.random.choice(LONG)
    if random.random() < 0.5:
        found[draft.member(b'"' + b"k" * size + b'":1')] = 0
    else:
        found[random.choice(list(found))] = random.choice(("a", "é", "👍")) * (size // 3)


CHANGES: tuple[tuple[Callable[[Draft], None], int], ...] = (
    (other_type, 20), (strange_string, 20), (spoilt_string, 12), (strange_number, 8), (remove, 14), (rename, 8), (doubled, 3),
    (listed, 8), (swapped, 10), (unspeakable, 3), (deep, 1), (huge, 1),
)  # fmt: skip
_CHANGES = [change for change, _ in CHANGES]
_WEIGHTS = [weight for _, weight in CHANGES]


def mutated(seed: str, random: Random, *, tame: bool = False, shallow: bool = False) -> bytes:
    """The bytes of a changed value.

    Args:
        seed: JSON text of the valid one.
        tame: only changes of one item that cannot break what stands around it (its brackets still match).
        shallow: no deep nesting either; a few such items in one body are more brackets than any webhook has.
    """
    draft = Draft(json.loads(seed), random)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 6))):
        change = random.choices(_CHANGES, _WEIGHTS)[0]
        if not (tame and change is unspeakable) and not (shallow and change is deep):
            change(draft)
    return draft.to_bytes()


# --- one change of bytes -------------------------------------------------------------------------------------------

SPLICES = (
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\\u0000",
    b"\\ud800",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"NaN",
    b" " * 50,
    b"\r\n",
)


def broken(body: bytes, random: Random) -> bytes:
    """A body as lines, proxies and careless programs break it."""
    at, to = sorted((random.randint(0, len(body)), random.randint(0, len(body))))
    match random.randrange(14):
        case 0:
            return body[:at]
        case 1:
            return body[:at] + body[to:]
        case 2:
            return body[:to] + body[at:]
        case 3 | 4:
            return body[:at] + random.choice(SPLICES) + body[at:]
        case 5 | 6:
            spoilt = bytearray(body)
            for _ in range(random.choice((1, 1, 3, 20)) if spoilt else 0):
                spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
            return bytes(spoilt)
        case 7:
            return b"\xef\xbb\xbf" + body
        case 8:
            codec = random.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "utf-7"))
            return body.decode("utf-8", "replace").encode(codec, "replace")
        case 9:
            return random.choice(
                (b"", b" ", b"null", b"[]", b"{}", b'"x"', b"0", b"<html></html>", b"\x1f\x8b\x08", b"\x00" * 99)
            )
        case 10:
            return body + body
        case 11:
            return body.replace(b'"', b"'")
        case 12:
            return random.randbytes(random.choice((1, 10, 1_000)))
        case _:
            return gzip.compress(body, 1, mtime=0)[: random.choice((None, 20))]


def sampled(pool: Sequence[str], random: Random) -> str:
    return pool[random.randrange(len(pool))]
