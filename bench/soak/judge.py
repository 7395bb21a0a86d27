"""The outside's judgement of a long run: `bench/faults/checker.py` over journals that are read line by line, and STOP.

Hours of journals are gigabytes: nothing is kept but what `history.py` makes of a line. A patient who said STOP is told
nothing more: news of theirs that were acknowledged around or after it are not missed, and no template may leave after
the STOP was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.faults import checker, history
from bench.faults.history import History

WAITED = 300.0  # seconds before a STOP in which acknowledged news may still have been waiting for an outage to end


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """A journal's whole lines, oldest first, one at a time."""
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            yield msgspec.json.decode(raw)


def read(folder: Path) -> tuple[History, dict[str, float]]:
    """The history, and who said STOP: phone -> when it was acknowledged."""
    notes = list(lines(folder / history.ACKS))
    found = history.build(lines(folder / "ehr.jsonl"), lines(folder / "whatsapp.jsonl"), notes)
    stops = {
        note["who"]: found.webhooks_acked[note["wamid"]]
        for note in notes
        if note.get("stop") and note["wamid"] in found.webhooks_acked
    }
    return found, stops


def judge(folder: Path) -> tuple[checker.Verdict, int]:
    """The verdict, and how many said STOP."""
    found, stops = read(folder)
    for reference, number in list(found.told_acked):
        phone = found.phone_of.get(found.patient_of.get(reference, ""), "")
        if phone in stops and found.told_acked[reference, number] > stops[phone] - WAITED:
            del found.told_acked[reference, number]
    verdict = checker.judge(found)
    for post in found.posts:
        if post.template and post.to in stops and post.at - stops[post.to] > checker.LATE_AFTER:
            verdict.late.append(
                f"{post.to}: {post.template} left {post.at - stops[post.to]:.1f} s after an acknowledged STOP"
            )
    return verdict, len(stops)
