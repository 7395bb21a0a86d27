"""TR4: of random cases, none acts for a patient for whom the one who writes may not act. 10,000 with BRIDGE_FAULTS=long.

Senders without a number, changed and recycled numbers, two patients on one phone, two visits ahead, guardians and
children, taps on old and foreign bubbles, words, webhooks delivered again: `whose` makes them and judges them by what
the pretend EHR holds and the pretend phones got. A finding names its seed and world, which repeat it.
"""

from __future__ import annotations

import copy
import os
import random

from tests.engine.conftest import Workshop
from tests.engine.harness import Bench
from tests.engine.whose import Account, Act, World, play

SEED = 4
CASES = 10_000 if os.environ.get("BRIDGE_FAULTS") == "long" else 200
AT_ONCE = 250


def test_nobody_acts_for_another(workshop: Workshop) -> None:
    wrong: list[str] = []
    changed = asked = 0
    for first in range(0, CASES, AT_ONCE):
        bench = workshop()
        worlds = play(bench, first, min(AT_ONCE, CASES - first), seed=SEED)
        wrong += [f"world {world.n}: {why}" for world in worlds for why in world.wrong]
        changed += sum(reference.startswith("Appointment/") for _, reference in bench.ehr.writes)
        asked += sum("?" in (bubble.text or "") for bubble in bench.whatsapp.bubbles)
        print(
            f"{first + len(worlds)} cases, {changed} visits changed, {asked} questions asked, {len(wrong)} wrong",
            flush=True,
        )
        bench.close()
    assert not wrong
    assert changed > CASES // 10 and asked > CASES // 10, "the cases must go somewhere"


def acted(bench: Bench) -> tuple[World, Act]:
    """A world in which its first account has just tapped a button of Ana's bubble, and Ana's number is that phone."""
    world = World(0, random.Random(1), bench)
    sender, other = (
        Account("ES.0.0", world.phones[0], {world.phones[0]}),
        Account("ES.0.1", world.phones[1], {world.phones[1]}),
    )
    world.accounts = [sender, other]
    for name, phone in (("a0", sender.phone), ("b0", other.phone)):
        world.put(
            copy.deepcopy(world.held(f"Patient/{name}")) | {"telecom": [{"system": "phone", "value": f"+{phone}"}]}
        )
    world.guardian(other.phone, "Patient/m0")
    for patient in world.patients():
        bench.clerk(world.book(patient))
    bench.settle()
    world.judge(None, world.holdings(), bench.whatsapp.bubbles)
    assert not world.wrong
    bubble = bench.whatsapp.of(sender.phone)[0]
    return world, Act(sender, {"messages": [{"from": sender.phone}]}, "a tap", tapped=bubble)


def done(world: World, act: Act, visit: str, **change: object) -> list[str]:
    """What the judge says when, after this act, the EHR holds this change."""
    before = world.holdings()
    held = copy.deepcopy(world.held(f"Appointment/{visit}"))
    world.put(held | change)
    world.judge(act, before, ())
    world.put(held)
    found, world.wrong = world.wrong, []
    return found


def test_the_judge(bench: Bench) -> None:
    """It names what is wrong, put in by hand, and nothing that is right."""
    world, act = acted(bench)
    accepted = copy.deepcopy(world.held("Appointment/v0.1"))["participant"]
    accepted[0]["status"] = "accepted"
    assert done(world, act, "v0.1", participant=accepted) == []
    assert "of ['Patient/b0'] changed" in done(world, act, "v0.2", status="cancelled")[0]
    assert "of ['Patient/m0'] changed" in done(world, act, "v0.3", status="cancelled")[0]
    foreign = Act(world.accounts[1], act.value, "a tap", tapped=act.tapped)
    assert any("of ['Patient/a0'] changed" in why for why in done(world, foreign, "v0.1", status="cancelled"))
    typed = Act(act.sender, act.value, "words: sí", typed=True)
    assert "was not asked" in done(world, typed, "v0.1", status="cancelled")[0]
    again = Act(act.sender, act.value, "again", tapped=act.tapped, again=True)
    assert "delivered again" in done(world, again, "v0.1", status="cancelled")[0]
    before = world.holdings()
    world.put(copy.deepcopy(world.held("Appointment/v0.1")) | {"status": "cancelled"})
    world.judge(None, before, ())
    assert "nobody had written" in world.wrong[0]


def test_the_judge_reads_the_phones(bench: Bench) -> None:
    """A bubble about somebody else's visit, and one after BAJA."""
    world, act = acted(bench)
    theirs = copy.copy(bench.whatsapp.of(world.phones[1])[0])
    theirs.to = act.sender.phone
    world.judge(act, world.holdings(), [theirs])
    assert "reads of" in world.wrong.pop()
    own = bench.whatsapp.of(act.sender.phone)[0]
    world.judge(Act(act.sender, act.value, "words: baja", typed=True), world.holdings(), ())
    world.judge(None, world.holdings(), [own])
    assert "after BAJA" in world.wrong.pop()
