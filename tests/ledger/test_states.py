"""The state machines as tables: whole, closed, and as the page shows them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bridge.ledger import states, states_doc

STATUSES = (*states.RANK, "failed", "deleted", "warning", "")


def test_every_target_is_a_state() -> None:
    for machine in (states.MESSAGE, states.WRITE):
        assert {target for targets in machine.values() for target in targets} <= machine.keys()


def test_every_state_can_be_reached_and_left_or_ends() -> None:
    reached = {"planned"}
    while more := {t for s in reached for t in states.MESSAGE[s]} - reached:
        reached |= more
    assert reached == states.MESSAGE.keys()
    assert {s for s, targets in states.MESSAGE.items() if not targets} <= states.TERMINAL


def test_what_is_told_was_not_recallable() -> None:
    assert not set(states.TOLD) & set(states.RECALLABLE)
    dropped = {"superseded", "cancelled", "suppressed", "expired"}
    for state in states.TOLD:
        assert not dropped & set(states.MESSAGE[state]), state


@given(st.sampled_from(sorted(states.MESSAGE)), st.lists(st.sampled_from(STATUSES), max_size=6))
def test_statuses_only_move_forward(state: str, statuses: list[str]) -> None:
    """Any statuses in any order, duplicated and late: never a step the table does not have, never backwards."""
    best = states.RANK.get(state, 0)
    for status in statuses:
        after = states.merge_status(state, status)
        if after is None:
            continue
        assert after in states.MESSAGE[state]
        if state in states.RANK and after in states.RANK:
            assert states.RANK[after] > states.RANK[state]
        state = after
        best = max(best, states.RANK.get(state, 0))
    if best >= states.RANK["delivered"]:
        assert states.RANK.get(state) == best  # once it was on a phone nothing takes that back


@given(st.sampled_from(sorted(states.MESSAGE)), st.permutations(["sent", "delivered", "read"]))
def test_the_order_of_arrival_does_not_matter(state: str, statuses: list[str]) -> None:
    """Sent, delivered and read of one message settle in the same state whatever came first."""
    ends = set()
    for order in (statuses, ["sent", "delivered", "read"]):
        now = state
        for status in order:
            now = states.merge_status(now, status) or now
        ends.add(now)
    assert len(ends) == 1


def test_a_dropped_message_stays_dropped() -> None:
    for state in ("superseded", "cancelled", "suppressed", "expired"):
        assert [states.merge_status(state, status) for status in STATUSES] == [None] * len(STATUSES)


def test_failed_ends_only_what_was_not_delivered() -> None:
    ended = {state for state in states.MESSAGE if states.merge_status(state, "failed") == "failed"}
    assert ended == {"sending", "doubt", "held", "accepted", "sent"}


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs/states.md"
    assert page.read_text("utf-8") == states_doc.page(), "run: python -m bridge.ledger.states_doc > docs/states.md"


def test_the_page_draws_every_step() -> None:
    """A group stands for its members only where a state may become all of them."""
    drawn = set()
    members = states_doc.GROUPS
    for line in states_doc._diagram(states.MESSAGE):
        source, arrow, target = line.strip().partition(" --> ")
        if arrow and source in states.MESSAGE:
            drawn |= {(source, each) for each in members.get(target, (target,))}
    proved = members["arriving"]
    chain = {(a, b) for i, a in enumerate(proved) for b in proved[i + 1 :]}  # the box draws neighbours only
    steps = {(s, t) for s, targets in states.MESSAGE.items() for t in targets}
    assert drawn | chain == steps


def test_every_state_says_what_it_means() -> None:
    assert states_doc.MEANS.keys() == states.MESSAGE.keys()
    assert states_doc.WRITES.keys() == states.WRITE.keys()
    assert states_doc.FATES.keys() == set(states.EVENT_FATES)
