"""What the pretend WhatsApp's journal says of rates, order in time and doubles. Values in, values out; reads no table of ours.

Times are seconds on the machine's clock, as the journal's `at`: when the POST was read at the other end of the wire.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

STORM_BEGINS = 2.0  # seconds in which what was fenced before the first refusal may still arrive
RECOVERED = 5.0  # seconds that must go at 95 % of the rate to count as recovered
SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Post:
    """One POST of a message."""

    at: float
    number: str  # phone_number_id it was posted for
    to: str  # wa_id
    message: str  # ours: of biz_opaque_callback_data
    attempt: int
    template: str | None  # None: free text, an answer
    accepted: bool
    fault: str | None  # storm, or another one we injected
    code: int | None = None


def posts(lines: Iterable[Mapping[str, Any]]) -> list[Post]:
    """The journal's messages, oldest first."""
    found = []
    for line in lines:
        if (
            line.get("dir") != "in"
            or line.get("method") != "POST"
            or not str(line.get("path", "")).endswith("/messages")
        ):
            continue
        body, ids = line.get("body"), line.get("ids") or {}
        if not isinstance(body, Mapping) or "status" in body:
            continue
        told = str(ids.get("callback") or "..").split(".")
        template = body["template"]["name"] if body.get("type") == "template" else None
        found.append(Post(
            float(line["at"]), str(line["path"]).strip("/").split("/")[1], str(ids.get("to") or "").lstrip("+"), told[1],
            int(told[2]) if told[2].isdigit() else 0, template, line.get("effect") == "message", line.get("fault"), ids.get("code"),
        ))  # fmt: skip
    return sorted(found, key=lambda post: post.at)


def most_in_a_second(times: Sequence[float]) -> int:
    """The fullest sliding second, [t, t + 1 s)."""
    most = begin = 0
    for end, at in enumerate(times):
        while at - times[begin] >= 1.0:
            begin += 1
        most = max(most, end - begin + 1)
    return most


def average(times: Sequence[float]) -> float:
    """Messages a second between the first and the last."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0


def twice(found: Iterable[Post]) -> list[str]:
    """Messages of ours that were accepted more than once."""
    counted = Counter(post.message for post in found if post.accepted)
    return sorted(message for message, count in counted.items() if count > 1)


def too_often(found: Iterable[Post], wanted: Mapping[str, int]) -> list[str]:
    """People who got another number of templates than they have visits."""
    got = Counter(post.to for post in found if post.accepted and post.template is not None)
    return sorted(who for who in {*wanted, *got} if got[who] != wanted.get(who, 0))


def smallest_gap(found: Iterable[Post]) -> float | None:
    """Seconds between two templates to one person; None when nobody got two."""
    by_person: dict[str, list[float]] = defaultdict(list)
    for post in found:
        if post.accepted and post.template is not None:
            by_person[post.to].append(post.at)
    gaps = [after - before for times in by_person.values() for before, after in pairwise(times)]
    return min(gaps) if gaps else None


def between(found: Iterable[Post], since: float, until: float) -> list[Post]:
    return [post for post in found if since <= post.at < until]


def probes(found: Sequence[Post], since: float, until: float) -> int:
    """POSTs in the fullest second of a storm, once what was on its way has arrived."""
    return most_in_a_second([post.at for post in between(found, since + STORM_BEGINS, until)])


def recovery(found: Sequence[Post], ended: float, rate: float) -> float | None:
    """Seconds from a storm's end until the rate is kept again for `RECOVERED` seconds; None: never."""
    times = [post.at for post in found if post.accepted and post.at >= ended]
    need = SHARE * rate * RECOVERED
    for begin, at in enumerate(times):
        last = begin + int(need)
        if last < len(times) and times[last] - at <= RECOVERED:
            return at - ended
    return None


def overtaking(said: Mapping[str, float], found: Iterable[Post]) -> dict[str, float | None]:
    """Person -> seconds from their words to our answer; None: none came."""
    answered: dict[str, float] = {}
    for post in found:
        if post.accepted and post.template is None and post.to in said and post.to not in answered:
            answered[post.to] = post.at
    return {who: answered[who] - at if who in answered else None for who, at in said.items()}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(median, largest)."""
    return (median(values), max(values)) if values else (0.0, 0.0)
