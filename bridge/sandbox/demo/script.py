"""Playing the steps headless, with a transcript that a person can read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bridge.sandbox.demo.stage import Check, Stage, stage
from bridge.sandbox.demo.steps import STEPS, Step

BREAK = "BRIDGE_DEMO_BREAK"  # a step's number: its first expectation is altered, so that its ✓ must fail
SHOWN = 160  # characters of what was expected and seen instead


def chosen(wanted: Sequence[int]) -> list[Step]:
    """These steps and those they need, in order.

    Raises:
        ValueError: a number that is no step.
    """
    by_number = {step.number: step for step in STEPS}
    numbers = {0}
    todo = list(wanted)
    while todo:
        number = todo.pop()
        if number not in by_number:
            raise ValueError(f"no step {number}; there are {', '.join(map(str, by_number))}")
        numbers.add(number)
        todo += [need for need in by_number[number].needs if need not in numbers]
    return [step for step in STEPS if step.number in numbers]


def play(folder: Path, steps: Sequence[Step], *, lang: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Play the steps in a fresh world under `folder`.

    Returns:
        One dict a step: number, title, seconds, ok, checks.
    """
    broken = os.environ.get(BREAK)
    results = []
    with stage(folder, lang=lang, broken=int(broken) if broken else None) as on:
        on.open()
        for step in steps:
            results.append(_one(on, step, say))
        if not all(result["ok"] for result in results):
            say(f"\nthe engine's last words ({folder / 'engine.log'}):\n{on.world.log_tail()}")
    return results


def _one(on: Stage, step: Step, say: Callable[[str], None]) -> dict[str, Any]:
    on.step, on.checks, on.notes = step.number, [], []
    begun = time.monotonic()
    try:
        step.play(on)
    except Exception as error:  # what a step could not do is a ✗ with its reason, and the next steps still play
        on.checks.append(Check(f"the step could be played: {type(error).__name__}: {error}", True, False))
    seconds = on.started if step.number == 0 else time.monotonic() - begun
    ok = all(check.holds for check in on.checks)
    say(f"{_mark(ok)} {step.number:>2}  {step.title}  ({seconds:.1f} s)")
    for note in on.notes:
        say(f"        {note}")
    for check in on.checks:
        say(f"      {_mark(check.holds)} {check.claim}{_value(check)}")
        if not check.holds:
            say(f"          expected {_short(check.expected)}\n          seen     {_short(check.seen)}")
    checks = [{"claim": check.claim, "ok": check.holds, "seen": str(check.seen)} for check in on.checks]
    return {"step": step.number, "title": step.title, "seconds": round(seconds, 3), "ok": ok, "checks": checks}


def _value(check: Check) -> str:
    """What was seen, where it says more than the claim does."""
    if not check.holds or not isinstance(check.seen, (str, int)) or isinstance(check.seen, bool) or check.seen == "":
        return ""
    return f": {check.seen}" if len(str(check.seen)) < 40 else ""


def _mark(ok: bool) -> str:
    return "✓" if ok else "✗"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
