"""The judge is judged: a recorded good history, with one wrong thing put in by hand, and the wrong thing must be named.

The recording is of a real run (one kill, 36 messages), cut down to the members that `history.py` reads.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.faults import checker, history

GOOD = Path(__file__).parent / "testdata/good"
MOVED, MOVED_PHONE = "Appointment/k00003", "34622000003"  # booked, moved, moved: three texts
TAPPED_PHONE = "34622000001"  # tapped Confirm: the EHR has accepted, the patient was told
TYPED_PHONE = "34622000008"
Line = dict[str, Any]


@dataclass(slots=True)
class Run:
    ehr: list[Line]
    whatsapp: list[Line]
    notes: list[Line]

    def verdict(self) -> checker.Verdict:
        return checker.judge(history.build(self.ehr, self.whatsapp, self.notes))

    def posts(self, phone: str, *, template: bool = True) -> list[Line]:
        return [
            line
            for line in self.whatsapp
            if line.get("effect") == "message"
            and history.digits(line["ids"]["to"]) == phone
            and ("template" in line["body"]) == template
        ]


def load(name: str) -> list[Line]:
    return [json.loads(line) for line in (GOOD / name).read_text("utf-8").splitlines()]


@pytest.fixture
def run() -> Run:
    return Run(load("ehr.jsonl"), load("whatsapp.jsonl"), load("acks.jsonl"))


def test_good(run: Run) -> None:
    verdict = run.verdict()
    assert verdict.findings == []
    assert (verdict.acknowledged, verdict.effects) == (147, 36)


def again(run: Run, line: Line, *, callback: str | None = None) -> None:
    second = copy.deepcopy(line)
    second["seq"] = max(each["seq"] for each in run.whatsapp) + 1
    second["at"] += 0.2
    second["ids"]["wamid"] += "again"
    if callback is not None:
        second["ids"]["callback"] = callback
    run.whatsapp.append(second)


def second_post(run: Run) -> None:
    """The engine POSTs again what it did not know the outcome of."""
    again(run, run.posts(MOVED_PHONE)[-1])


def second_attempt(run: Run) -> None:
    line = run.posts(MOVED_PHONE)[-1]
    again(run, line, callback=line["ids"]["callback"][:-1] + "2")


def planned_twice(run: Run) -> None:
    """One revision became two messages."""
    again(run, run.posts(MOVED_PHONE)[-1], callback="b1.999999999999999999.1")


def answered_twice(run: Run) -> None:
    again(run, run.posts(TAPPED_PHONE, template=False)[-1], callback="b1.999999999999999999.1")


def communication_twice(run: Run) -> None:
    created = next(line for line in run.ehr if line.get("effect") == "write" and is_communication(line))
    second = copy.deepcopy(created)
    second["ids"]["written"] = ["Communication/9999/_history/1"]
    run.ehr.append(second)


def is_communication(line: Line) -> bool:
    return bool((line.get("body") or {}).get("resourceType") == "Communication")


def last_news_missing(run: Run) -> None:
    run.whatsapp.remove(run.posts(MOVED_PHONE)[-1])


def all_news_missing(run: Run) -> None:
    for line in run.posts(MOVED_PHONE):
        run.whatsapp.remove(line)


def invented_hour(run: Run) -> None:
    parameters = run.posts(MOVED_PHONE)[-1]["body"]["template"]["components"][0]["parameters"]
    next(p for p in parameters if p["parameter_name"] == "time")["text"] = "4:04"


def tap_without_outcome(run: Run) -> None:
    for line in run.posts(TAPPED_PHONE, template=False):
        run.whatsapp.remove(line)


def tap_forgotten(run: Run) -> None:
    tap_without_outcome(run)
    for line in run.ehr:
        if line["dir"] == "in" and (line.get("body") or {}).get("id") == "k00001":
            for participant in line["body"]["participant"]:
                participant["status"] = "needs-action"


def text_unanswered(run: Run) -> None:
    for line in run.posts(TYPED_PHONE, template=False):
        run.whatsapp.remove(line)


def delivery_unknown_to_the_ehr(run: Run) -> None:
    message = "msg_" + run.posts(MOVED_PHONE)[0]["ids"]["callback"].split(".")[1]
    run.ehr[:] = [line for line in run.ehr if message not in json.dumps(line.get("body"))]


def words_unknown_to_the_ehr(run: Run) -> None:
    wamid = next(note["wamid"] for note in run.notes if note["what"] == "tap")
    run.ehr[:] = [line for line in run.ehr if wamid not in json.dumps(line.get("body"))]


def old_news_late(run: Run) -> None:
    """The second text is on its way while the EHR has been acknowledged for the third hour long ago."""
    second, third = run.posts(MOVED_PHONE)[1:3]
    second["at"] = third["at"] - 0.1


def old_news_last(run: Run) -> None:
    first, *_, last = run.posts(MOVED_PHONE)
    first["seq"], last["seq"] = last["seq"], first["seq"]
    run.whatsapp.sort(key=lambda line: line["seq"])


def answers_swapped(run: Run) -> None:
    """Two messages of one class in one conversation, the newer one first."""
    line = run.posts(TYPED_PHONE, template=False)[-1]
    run.notes.append({"what": "say", "who": TYPED_PHONE, "wamid": "not delivered yet", "at": line["at"] + 1})
    again(run, line, callback="b1.1.1")


@pytest.mark.parametrize(
    ("wrong", "kind", "names"),
    [
        (second_post, "doubled", "msg_"),
        (second_attempt, "doubled", "msg_"),
        (planned_twice, "doubled", MOVED_PHONE),
        (answered_twice, "doubled", TAPPED_PHONE),
        (communication_twice, "doubled", "Communication"),
        (last_news_missing, "lost", MOVED),
        (all_news_missing, "lost", MOVED),
        (invented_hour, "lost", MOVED_PHONE),
        (tap_without_outcome, "lost", "not told"),
        (tap_forgotten, "lost", "neither accepted nor answered"),
        (text_unanswered, "lost", TYPED_PHONE),
        (delivery_unknown_to_the_ehr, "lost", "no Communication"),
        (words_unknown_to_the_ehr, "lost", "no Communication"),
        (old_news_late, "late", MOVED),
        (old_news_last, "out_of_order", MOVED),
        (answers_swapped, "out_of_order", TYPED_PHONE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_named(run: Run, wrong: Callable[[Run], None], kind: str, names: str) -> None:
    wrong(run)
    verdict = run.verdict()
    assert not verdict.good
    assert any(names in finding for finding in getattr(verdict, kind)), verdict.findings


def test_what_was_never_acknowledged_is_not_lost(run: Run) -> None:
    """A version nobody got a 2xx for proves nothing against the engine; one push of it that was acknowledged does."""
    last_news_missing(run)
    acked = [(n["reference"], n["version"]) for n in run.notes if n["what"] == "push" and n["reference"] == MOVED]
    run.notes[:] = [note for note in run.notes if note.get("reference") != MOVED]
    sent = {line["seq"] for line in run.ehr if line["dir"] == "out" and line["ids"].get("focus") == MOVED
            and line["ids"]["version"] == "3"}  # fmt: skip
    run.ehr[:] = [line for line in run.ehr if line.get("of") not in sent]
    assert run.verdict().lost == []
    run.notes.append({"what": "push", "reference": MOVED, "version": "3", "acked": 1.0})
    assert [finding for finding in run.verdict().lost if MOVED in finding], acked


def test_unknown_is_what_a_kill_or_a_lost_answer_may_have_hidden(run: Run) -> None:
    before = run.verdict().unknown
    posts = run.posts(MOVED_PHONE)
    posts[0]["fault"] = "drop_answer"
    run.notes.append({"what": "kill", "at": posts[1]["at"] + 0.1, "how": "random"})
    assert run.verdict().unknown >= before + 2
