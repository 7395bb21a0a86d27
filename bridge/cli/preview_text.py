"""A preview as a terminal shows it: conditions, a table of the blanks, and the bubble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.engine.standing import Standing
    from bridge.mappers.preview import Bubble, Preview, Value

WIDE = 46  # characters of the bubble's text
RAW = 44  # characters of a raw value in the table; --json has it whole
TICK = {True: "✓", False: "✗", None: "·"}


def lines(shown: Preview, *, refusal: str | None, notes: Sequence[str], policy: Standing | None) -> Iterator[str]:
    """Top to bottom."""
    paused = "" if shown.enabled else " · paused (enabled: false)"
    reminder = f" {shown.offset} before" if shown.offset else ""
    yield f"{shown.mapping}{paused} · {shown.event}{reminder} · {shown.resource} · to the {_reader(shown.role)}"
    yield f"now {shown.now} · times of {shown.zone} · {shown.file} @ {shown.version}"
    if shown.let:
        yield ""
        yield "let"
        for each in shown.let:
            yield f"  %{each.name} = {each.path}  →  {_raw(each.raw, each.problem)}"
    if shown.conditions:
        yield ""
        yield "when"
        yield from (_condition(each) for each in shown.conditions)
    if shown.skip_if is not None:
        yield f"  {'✗ not needed' if shown.skip_if.holds else '✓'} skip_if: {shown.skip_if.path}  →  {_raw(shown.skip_if.raw, shown.skip_if.problem)}"
    if shown.hold:
        yield ""
        yield "gate.hold (what is not exactly true keeps it for a clinician)"
        yield from (_condition(each) for each in shown.hold)
    for bubble in shown.bubbles:
        yield ""
        yield from _bubble(bubble)
    yield ""
    if refusal is not None:
        yield f"nobody is written to: {refusal}"
    yield from (f"note: {note}" for note in notes)
    if policy is not None:
        yield from _policy(policy)


def _reader(role: str) -> str:
    return "patient" if role == "self" else role


def _condition(each: Value) -> str:
    otherwise = "" if each.holds else f"  so: {each.name}"
    return f"  {TICK[each.holds]} {each.path}  →  {_raw(each.raw, each.problem)}{otherwise}"


def _raw(raw: Sequence[str], problem: str | None) -> str:
    if problem is not None:
        return problem
    return _cut(", ".join(raw)) if raw else "(nothing)"


def _cut(text: str) -> str:
    return text if len(text) <= RAW else text[: RAW - 1] + "…"


def _bubble(bubble: Bubble) -> Iterator[str]:
    yield f"{bubble.language} · template {bubble.template} ({bubble.template_language})"
    rows = [("parameter", "path", "value", "as", "words")]
    for blank in bubble.blanks:
        words = (
            blank.words + (" (default)" if blank.by_default else "") if blank.problem is None else f"✗ {blank.problem}"
        )
        rows.append(
            (blank.name, _cut(blank.path or ""), _raw(blank.raw, None) if blank.path else "", blank.form, words)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)) + "  " + row[4]
    if bubble.body is None:
        yield f"  nothing is sent: {bubble.skip}"
        return
    yield f"  ╭{'─' * (WIDE + 2)}╮"
    if bubble.header:
        for line in wrap(bubble.header, WIDE):
            yield f"  │ {line.ljust(WIDE)} │"
        yield f"  │ {' ' * WIDE} │"
    for paragraph in bubble.body.split("\n"):
        for line in wrap(paragraph, WIDE) or [""]:
            yield f"  │ {line.ljust(WIDE)} │"
    for title, name, do in bubble.buttons:
        yield f"  ├{'─' * (WIDE + 2)}┤"
        yield f"  │ {title.center(WIDE)} │  {name} → {do}"
    yield f"  ╰{'─' * (WIDE + 2)}╯"


def _policy(policy: Standing) -> Iterator[str]:
    said = {
        "leaves": "would leave now",
        "waits": f"would wait: {policy.reason}" + (f", until {policy.until}" if policy.until else ""),
        "never": f"would not be sent: {policy.reason}",
    }[policy.verdict]
    yield f"policy now: {said} · consent: {policy.consent}"
    if not policy.known:
        yield "  bridge has not met this person yet: their Consents are read from the EHR before the first message"
