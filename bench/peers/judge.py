"""What a kill cost, seen from outside: what was acknowledged against what WhatsApp accepted. Pure.

Every patient of the run has one visit and one telephone, so that the number tells which notification a message is of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Verdict:
    """`lost` and `doubled` name telephones of invented people."""

    acknowledged: int = 0
    accepted: int = 0
    lost: list[str] = field(default_factory=list)  # acknowledged, and no message
    doubled: list[str] = field(default_factory=list)  # one version, more than one message
    unasked: list[str] = field(default_factory=list)  # a message to somebody nobody spoke of
    statuses_lost: int = 0  # `read` acknowledged and not recorded
    for_a_person: int = 0  # bridge only: what it would not send again by itself and showed in `bridge doubts`


def judge(acknowledged: Iterable[str], asked: Iterable[str], posts: Iterable[Mapping[str, Any]]) -> Verdict:
    """
    Args:
        acknowledged: telephones whose notification got a 200, before or after the kill.
        asked: telephones of every notification that was sent at all.
        posts: journal lines of the pretend WhatsApp with `effect` "message".
    """
    got = Counter(str(line["ids"]["to"]).lstrip("+") for line in posts)
    acks, known = set(acknowledged), set(asked)
    return Verdict(
        acknowledged=len(acks),
        accepted=sum(got.values()),
        lost=sorted(acks - got.keys()),
        doubled=sorted(to for to, count in got.items() if count > 1),
        unasked=sorted(got.keys() - known),
    )


def reads_delivered(lines: Iterable[Mapping[str, Any]]) -> set[str]:
    """wamids whose `read` some door answered with 200."""
    sent: dict[int, list[str]] = {}
    delivered: set[str] = set()
    for line in lines:
        if line["dir"] == "out":
            sent[line["seq"]] = [key for key in (line.get("ids") or {}).get("updates", ()) if key.endswith("|read")]
        elif line["dir"] == "answer" and line.get("delivered"):
            delivered.update(key.removesuffix("|read") for key in sent.pop(line["of"], ()))
    return delivered
