"""The judge: reads what the outside witnessed (`history.py`), never the engine's tables, and names what went wrong.

    python -m bench.faults.checker FOLDER      exits 4 when anything is doubled, lost, late or out of order

- **doubled**: one effect twice. Two accepted POSTs of one message; one revision told twice; more answers of one text than
  were asked for; one Communication created twice.
- **lost**: something acknowledged that the outside contradicts once all is quiet. The patient's last news is not what the
  EHR holds; a tap that neither changed the EHR nor was answered; a text nobody answered; a delivered message, or a
  patient's own, that the EHR knows nothing of.
- **late**: news of an old revision POSTed although a newer one had been acknowledged before its fence can have begun.
- **out of order**: news of one appointment not in the EHR's order; messages of one class in one conversation not in the
  order in which they came to be.
- **unknown**: accepted POSTs whose answer the engine cannot, or may not, have seen: a figure, no failure.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.faults.history import CANCELLED, History, Post, Version, read

# A POST begins at most 0.25 s (slot) and 1 s (start) after its fence, and an acknowledgement before the fence counts.
# The rest is for two busy cores: the journal notes a POST when the pretend server gets to it.
LATE_AFTER = 2.5
UNSEEN = 0.25  # seconds before a kill in which an answer may not have been read any more
URGENT = ("_cancelled", "_rescheduled")
SLOW = 0.5  # and so much earlier where the pretend server took its time to answer


@dataclass(slots=True)
class Verdict:
    """Every finding is a sentence with ids of invented people."""

    acknowledged: int = 0
    effects: int = 0
    unknown: int = 0
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.doubled or self.lost or self.late or self.out_of_order)

    @property
    def findings(self) -> list[str]:
        kinds = (("doubled", self.doubled), ("lost", self.lost), ("late", self.late), ("order", self.out_of_order))
        return [f"{kind}: {finding}" for kind, found in kinds for finding in found]

    def __str__(self) -> str:
        return (
            f"acknowledged {self.acknowledged}, effects {self.effects}, doubled {len(self.doubled)}, lost {len(self.lost)}, "
            f"late {len(self.late)}, out of order {len(self.out_of_order)}, unknown {self.unknown}"
        )


def judge(history: History) -> Verdict:
    """The verdict on one run, once all is quiet."""
    verdict = Verdict(acknowledged=history.acknowledged, effects=len(history.posts))
    verdict.unknown = sum(1 for post in history.posts if _unseen(history, post))
    by_phone: dict[str, list[Post]] = defaultdict(list)
    for post in sorted(history.posts, key=lambda each: each.seq):
        by_phone[post.to].append(post)
    _doubled(history, by_phone, verdict)
    placed: set[int] = set()
    for reference, versions in history.versions.items():
        hours = {hour(version.telling) for version in versions}
        news = [post for post in by_phone[_phone(history, reference)] if post.telling and hour(post.telling) in hours]
        placed.update(post.seq for post in news)
        _last_news(history, reference, news, verdict)
        _revisions(history, reference, news, verdict)
    for post in history.posts:
        if post.telling and post.seq not in placed:
            verdict.lost.append(f"{post.to}: read {post.telling!r}, which no visit of theirs ever was")
    _patients(history, by_phone, verdict)
    _communications(history, verdict)
    for phone, posts in by_phone.items():
        _conversation(phone, posts, verdict, history)
    return verdict


def hour(telling: str) -> str:
    """What tells the visits of one patient apart."""
    return telling.removeprefix(CANCELLED).strip()


def _phone(history: History, reference: str) -> str:
    return history.phone_of.get(history.patient_of.get(reference, ""), "")


def _unseen(history: History, post: Post) -> bool:
    early = UNSEEN + (SLOW if post.slow else 0)
    return not post.answered or any(kill["at"] - early <= post.at <= kill["at"] + UNSEEN for kill in history.kills)


# --- doubled ---------------------------------------------------------------------------------------------------------


def _doubled(history: History, by_phone: dict[str, list[Post]], verdict: Verdict) -> None:
    for message, count in Counter(post.message for post in history.posts if post.message).items():
        if count > 1:
            verdict.doubled.append(f"msg_{message}: accepted {count} times")
    wrote = Counter(note["who"] for note in history.wrote)
    for phone, posts in by_phone.items():
        for telling, count in Counter(post.telling for post in posts if post.telling).items():
            if count > 1:
                verdict.doubled.append(f"{phone}: told {telling!r} {count} times")
        asked = wrote[phone]
        for text, count in Counter(post.text for post in posts if not post.template).items():
            if count > asked:
                verdict.doubled.append(f"{phone}: the same answer {count} times to {asked} messages: {text[:40]}")
    for identifier, created in history.communications.items():
        if len(created) > 1:
            verdict.doubled.append(f"Communication {identifier}: created {len(created)} times")


# --- lost ------------------------------------------------------------------------------------------------------------


def _last_news(history: History, reference: str, news: list[Post], verdict: Verdict) -> None:
    """The patient's last text about a visit equals what the EHR holds, if the EHR was acknowledged for it."""
    versions = history.versions[reference]
    wanted = versions[-1].telling
    acked = any((reference, version.number) in history.told_acked for version in versions if version.telling == wanted)
    if not acked:
        return
    told = news[-1].telling if news else ""
    if wanted.startswith(CANCELLED):
        if not told or told.startswith(CANCELLED):
            return  # never told of it: nothing to take back; its hour is `_revisions`' business
    elif told == wanted:
        return
    verdict.lost.append(f"{reference}: the EHR holds {wanted!r}, the patient last read {told!r}")


def _patients(history: History, by_phone: dict[str, list[Post]], verdict: Verdict) -> None:
    first: dict[str, float] = {}
    for note in history.wrote:
        first.setdefault(note["who"], note["at"])
    for note in history.wrote:
        if note["wamid"] not in history.webhooks_acked:
            continue
        phone, at = note["who"], note["at"]
        since = (
            at if note["what"] == "tap" else first[phone]
        )  # once handed to a person, the bot says so and keeps silent
        answers = [post for post in by_phone[phone] if not post.template and post.at >= since]
        if answers:
            continue
        if note["what"] == "tap":
            accepted = any(
                version.accepted and version.at >= at
                for reference, versions in history.versions.items()
                if _phone(history, reference) == phone
                for version in versions
            )
            state = "accepted, but the patient was not told" if accepted else "neither accepted nor answered"
            verdict.lost.append(f"{phone}: a tap of {at:.1f} was {state}")
        else:
            verdict.lost.append(f"{phone}: a text of {at:.1f} was not answered")


def _communications(history: History, verdict: Verdict) -> None:
    """What was delivered to a patient, and what a patient wrote, stands in the EHR."""
    for post in history.posts:
        delivered = f"{post.wamid}|delivered" in history.webhooks_acked
        if post.template and delivered and f"msg_{post.message}" not in history.communications:
            verdict.lost.append(f"msg_{post.message}: delivered, and no Communication in the EHR")
    met: dict[str, float] = {}  # who was written to is known to the engine; a stranger's words are for a person only
    for post in sorted(history.posts, key=lambda each: each.seq):
        if post.template:
            met.setdefault(post.to, post.at)
    for note in history.wrote:
        known = met.get(note["who"], note["at"]) < note["at"]
        if known and note["wamid"] in history.webhooks_acked and note["wamid"] not in history.communications:
            verdict.lost.append(f"{note['who']}: what was written at {note['at']:.1f} has no Communication in the EHR")


# --- late and out of order -------------------------------------------------------------------------------------------


def _revisions(history: History, reference: str, news: list[Post], verdict: Verdict) -> None:
    versions = history.versions[reference]
    said = {version.number: version.telling for version in versions}
    last = 0
    for post in news:
        number = _place(versions, post.telling)
        if number is None:
            verdict.lost.append(f"{reference}: the patient read {post.telling!r}, which is not so and was never said")
            continue
        if number < last:
            verdict.out_of_order.append(f"{reference}: {post.telling!r} was told after something newer")
        last = max(last, number)
        newer = [
            history.told_acked[reference, version.number]
            for version in versions
            if version.number > number and version.telling != said[number]
            and (reference, version.number) in history.told_acked
        ]  # fmt: skip
        if newer and post.at - min(newer) > LATE_AFTER:
            verdict.late.append(
                f"{reference}: {post.telling!r} left {post.at - min(newer):.1f} s after a newer version was acknowledged"
            )


def _place(versions: list[Version], telling: str) -> int | None:
    """The first version that a text speaks of; None for none. What is cancelled is the visit as the patient knows it: one
    moved and cancelled before the move was told is cancelled at its old hour. A text of unknown outcome counts as told."""
    held: set[str] = set()
    for version in versions:
        held.add(f"{CANCELLED} {version.telling}")
        if version.telling == telling or (version.telling.startswith(CANCELLED) and telling in held):
            return version.number
    return None


def _conversation(phone: str, posts: list[Post], verdict: Verdict, history: History) -> None:
    """Ids rise in the order in which messages of a conversation came to be, whatever thread they come from. A message that was refused and tried again, or sent again by a
    person, has no place to keep."""
    last: dict[str, int] = defaultdict(int)
    for post in posts:
        if not post.message or post.attempt > 1 or post.message in history.resent:
            continue
        cls = _class(post)
        if int(post.message) < last[cls]:
            verdict.out_of_order.append(f"{phone}: msg_{post.message} after msg_{last[cls]}, both {cls}")
        last[cls] = max(last[cls], int(post.message))


def _class(post: Post) -> str:
    """As the mappings that are shipped say it: a move or a cancellation may overtake what is not urgent."""
    if not post.template:
        return "answer"
    return "urgent" if post.template.endswith(URGENT) else "news"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    verdict = judge(read(Path(arguments[0])))
    print(verdict)
    for finding in verdict.findings:
        print(f"  {finding}")
    return 0 if verdict.good else 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
