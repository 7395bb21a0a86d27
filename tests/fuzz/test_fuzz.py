"""A little of `make fuzz`: some seconds of mutants at the readers and at the running doors."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from bench.fuzz import readers, run, seeds
from bench.fuzz.inputs import Maker
from bench.fuzz.mutate import broken, mutated

SEED = 20261125
COUNT = 800
TIMED = ("memory", "unusable body alone")  # figures of a machine that does nothing else
KEYS = {"EHR_DOOR_SECRET": "door", "META_APP_SECRET": "app"}


def test_readers_take_whatever_comes() -> None:
    failed, _ = readers.many(4_000, SEED)
    assert failed == []


def test_readers_by_hypothesis() -> None:
    readers.by_hypothesis(60, SEED)


def test_every_seed_is_valid_and_read() -> None:
    """Mutants of something that nobody sends would find nothing."""
    inputs = readers.Inputs()
    for push in inputs.pushes:
        headers = {name.lower(): value for name, value in push.headers.items()}
        assert readers.read_push(push.text.encode(), method=push.method, tail=push.tail or None, headers=headers)
    for hook in inputs.hooks:
        assert readers.read_hook(hook.encode()), hook[:200]


def test_a_reader_that_breaks_is_found_and_made_smaller() -> None:
    def reads(body: bytes) -> None:
        if b"NUL" in body and b"x" in body:
            raise KeyError("a defect")

    body = b"a" * 500 + b"NUL" + b"b" * 300 + b"x" + b"c" * 99
    assert readers.smaller(body, reads, KeyError) == b"NULx"


def test_a_seed_gives_the_same_mutants_again() -> None:
    texts = seeds.texts(seeds.resources())
    first, again = ([mutated(text, Random(n)) for n in range(40) for text in texts] for _ in range(2))
    assert first == again
    assert [broken(b'{"a":1}', Random(n)) for n in range(99)] == [broken(b'{"a":1}', Random(n)) for n in range(99)]
    assert len(set(first)) > 0.9 * len(first)
    parsed = sum(_is_json(one) for one in first)
    assert 0.5 * len(first) < parsed < len(first)  # most are JSON, or nothing deep is ever reached


def test_good_ones_stand_among_them() -> None:
    maker = Maker(SEED, 1, KEYS, 100)
    made = [maker.make(n) for n in range(150)]
    goods = [asked.good for asked in made if asked.good is not None]
    assert len({who for who, _ in goods}) == len(goods) > 3
    assert {what for _, what in goods} == {"booked", "stopped"}
    assert any(asked.kind == "wrong proof" for asked in made)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_mutants_at_the_running_doors(tmp_path: Path) -> None:
    outcome = run.Fuzz(
        tmp_path,
        "sqlite",
        SEED,
        count=COUNT,
        direct=0,
        good_every=100,
        corpus=([], []),
        say=lambda _: None,
        hurried=True,
    ).run()
    wrong = [row for row in outcome.failed() if not row.what.startswith(TIMED)]
    assert not wrong, "\n".join([outcome.table(), *outcome.notes])


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
