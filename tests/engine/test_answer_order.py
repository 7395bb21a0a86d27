"""Answers come to be in two threads: what a patient wrote is applied in one, the outcome of a write comes from another. In
one conversation the one that commits first is first: by id, by `ready_at`, and on the phone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from bridge.ledger import lanes, states
from bridge.ledger.tables import outbox, write
from bridge.ledger.words import Words
from bridge.sandbox import people
from tests.engine.conftest import Workshop
from tests.engine.harness import MORNING, Bench

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


def tapped(bench: Bench) -> Any:
    """A visit was told, Confirm was tapped: a command for the EHR, whose outcome the patient is to read."""
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    bench.tap(bench.whatsapp.of(people.ANA_PHONE)[-1], 0)
    bench.pass_(seconds=3)
    bench.apply()
    (command,) = bench.rows(write, write.c.kind == "command")
    assert command.state == "asked"
    return command


def one_waits_for_the_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, early: Callable[[], object], late: Callable[[], object]
) -> None:
    """`late` begins its transaction first and comes to the conversation's lane second: it waits for its lock until
    `early` has drawn what it draws and committed. Replies do so on threads of their own, `reply_0` and so on."""
    lock, at_lane, may_commit = lanes.lock, threading.Event(), threading.Event()
    replies = "early" if early == bench.applier._replies.run else "late"

    def meet(connection: Any, lane_ids: Sequence[int]) -> None:
        name = threading.current_thread().name
        name = replies if name.startswith("reply") else name
        if name == "late" and not at_lane.is_set():
            at_lane.set()
            assert may_commit.wait(30)  # `early` has the lock
        lock(connection, lane_ids)
        if name == "early" and not may_commit.is_set():
            may_commit.set()
            for _ in range(3000):
                with bench.store.read() as looking:
                    if looking.execute(WAITING).scalar_one():
                        return
            raise AssertionError("nobody waits for the lane's lock")

    monkeypatch.setattr(lanes, "lock", meet)
    problems: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)

        return run

    first = threading.Thread(target=guarded(late), name="late")
    first.start()
    assert at_lane.wait(30)
    second = threading.Thread(target=guarded(early), name="early")
    second.start()
    first.join(60)
    second.join(60)
    assert problems == []


@pytest.mark.parametrize("early", ["outcome", "reply"])
def test_two_answers_at_once(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, early: str) -> None:
    bench = workshop("postgresql")  # on SQLite one writes after the other
    command = tapped(bench)
    bench.says(people.ANA_PHONE, "¿Tengo que ir en ayunas?")
    bench.pass_(seconds=3)
    known = {row.id for row in bench.messages()}
    ways = {"outcome": bench.writer.once, "reply": bench.applier._replies.run}
    (late,) = set(ways) - {early}
    one_waits_for_the_other(bench, monkeypatch, ways[early], ways[late])
    answers = [row for row in bench.messages(outbox.c.cls == states.ANSWER) if row.id not in known]
    assert len(answers) == 2
    of_write = [f"write|{command.id}|" in row.effect_key for row in answers]
    assert of_write == [early == "outcome", early != "outcome"], "ids rise in the order of the commits"
    assert answers[0].ready_at < answers[1].ready_at, "places in line too"
    begun = len(bench.whatsapp.posts)
    bench.settle()
    callbacks = [post["biz_opaque_callback_data"].split(".")[1] for post in bench.whatsapp.posts[begun:]]
    ours = [callback for callback in callbacks if int(callback) in {row.id for row in answers}]
    assert ours == [str(row.id) for row in answers], "and so they leave"


ORDER = ("lane", "inbox", "resource", "identity", "person", "consent", "block", "outbox", "write")
CHANGES = re.compile(r"^(?:UPDATE|INSERT INTO|DELETE FROM) (\w+)|^SELECT.*\sFROM (\w+).*\sFOR UPDATE", re.DOTALL)


@pytest.mark.parametrize("button", [0, 2], ids=["confirm", "cancel"])
def test_what_records_a_command_locks_in_the_one_order(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, button: int
) -> None:
    """Lane, resource, outbox, write: whoever locks two of these rows locks them in this order, or two wait for each other."""
    bench = workshop("postgresql")
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    bench.tap(bench.whatsapp.of(people.ANA_PHONE)[-1], button)
    bench.pass_(seconds=3)
    if button:  # "cancel it, sure?"
        bench.settle()
        bench.tap(bench.whatsapp.of(people.ANA_PHONE)[-1], 0)
        bench.pass_(seconds=3)
    bench.apply()
    transactions: list[list[str]] = [[]]

    def heard(_: Any, __: Any, statement: str, *___: Any) -> None:
        if found := CHANGES.match(statement.strip()):
            transactions[-1].append(found.group(1) or found.group(2))

    def spoken(way: str) -> Callable[..., Any]:
        """What is said in the driver's own words goes past SQLAlchemy's events."""
        says = getattr(Words, way)

        def say(words: Words, connection: Any, values: Any) -> Any:
            heard(None, None, words._text)
            return says(words, connection, values)

        return say

    for way in ("_execute", "many"):
        monkeypatch.setattr(Words, way, spoken(way))
    event.listen(bench.store._write_engine, "before_cursor_execute", heard)
    event.listen(bench.store._write_engine, "commit", lambda _: transactions.append([]))
    bench.write()
    event.remove(bench.store._write_engine, "before_cursor_execute", heard)
    (recorded,) = [one for one in transactions if {"outbox", "resource", "write"} <= set(one) and "inbox" not in one]
    firsts = [table for table in dict.fromkeys(recorded) if table in ORDER]
    assert firsts == sorted(firsts, key=ORDER.index), recorded
    assert firsts[0] == "lane"
