"""The judge of the morning burst is judged: what was put in by hand is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.burst import judge
from bench.burst.judge import Post
from bridge.sandbox.whatsapp.faults import Rule


def post(at: float, message: str = "", *, to: str = "34600000001", **more: Any) -> Post:
    values: dict[str, Any] = {"template": "appointment_reminder", "accepted": True, "fault": None} | more
    return Post(at, "1", to, message or f"m{at}", 1, **values)


def steady(rate: float, seconds: float, since: float = 0.0) -> list[Post]:
    return [post(since + n / rate, to=f"346{since:.0f}{n:07d}") for n in range(int(rate * seconds))]


def test_the_fullest_second() -> None:
    times = [n * 0.1 for n in range(30)]
    assert judge.most_in_a_second(times) == 10
    assert judge.most_in_a_second(sorted([*times, 1.234])) == 11
    assert judge.most_in_a_second([]) == 0


def test_the_average() -> None:
    assert abs(judge.average([n / 70 for n in range(700)]) - 70) < 0.01
    assert judge.average([1.0]) == 0.0


def test_one_message_twice() -> None:
    found = steady(10, 3)
    assert judge.twice(found) == []
    assert judge.twice([*found, replace(found[7], at=9.0)]) == [found[7].message]
    assert judge.twice([*found, replace(found[7], at=9.0, accepted=False)]) == []


def test_a_visit_without_its_reminder_and_one_too_many() -> None:
    found = [post(0.0, to="a"), post(1.0, to="b"), post(9.0, to="b")]
    assert judge.too_often(found, {"a": 1, "b": 2}) == []
    assert judge.too_often(found, {"a": 1, "b": 1, "c": 1}) == ["b", "c"]


def test_the_pair_gap() -> None:
    assert judge.smallest_gap(steady(10, 2)) is None
    assert judge.smallest_gap([post(0.0), post(6.0), post(9.5)]) == 3.5


def test_probes_and_recovery() -> None:
    refused = {"accepted": False, "fault": "storm"}
    found = [*steady(20, 10), *(post(10 + n, **refused) for n in range(30)), *steady(20, 10, since=43)]
    assert judge.probes(found, 10.0, 40.0) == 1
    assert judge.probes(sorted([*found, post(25.5, **refused)], key=lambda one: one.at), 10.0, 40.0) == 2
    assert judge.recovery(found, 40.0, 20.0) == 3.0
    assert judge.recovery(found[:-150], 40.0, 20.0) is None


def test_who_waited_for_an_answer() -> None:
    found = [post(10.4, to="x", template=None), post(13.0, to="x", template=None), post(10.2, to="y")]
    took = judge.overtaking({"x": 10.0, "y": 10.0}, found)
    assert took["y"] is None
    assert abs((took["x"] or 0) - 0.4) < 0.001


def test_lines_of_the_journal() -> None:
    line = {
        "at": 3.5, "dir": "in", "method": "POST", "path": "/v23.0/106/messages", "status": 200, "effect": "message",
        "body": {"type": "template", "template": {"name": "appointment_reminder"}},
        "ids": {"to": "+34600000001", "callback": "b1.77.2", "wamid": "w"},
    }  # fmt: skip
    read = {
        "at": 1.0,
        "dir": "in",
        "method": "POST",
        "path": "/v23.0/106/messages",
        "body": {"status": "read"},
        "ids": {},
    }
    refused = line | {"at": 2.0, "effect": None, "fault": "storm", "ids": line["ids"] | {"code": 130429}}
    first, second = judge.posts([line, read, refused, {"dir": "out"}])
    assert (first.at, first.fault, first.accepted, first.code) == (2.0, "storm", False, 130429)
    assert (second.number, second.to, second.message, second.attempt) == ("106", "34600000001", "77", 2)


def test_a_fault_of_one_number() -> None:
    rule = Rule("storm", times=-1, number="2")
    assert rule.meets({"to": "1"}, "2")
    assert not rule.meets({"to": "1"}, "1")
    assert Rule("storm", times=-1).meets({"to": "1"}, "1")
