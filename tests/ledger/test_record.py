"""What became of a POST merges whenever it comes: late, twice, after a doubt, after somebody took the lane."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bridge.ledger import audit, keys, lanes, outbox, states
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import attempt, number
from bridge.ledger.tables import audit as audit_table
from bridge.outbound.reactions import TABLE, Reaction, react
from bridge.outbound.record import MAX_TRIES, Recorder, Result, take_over, to_doubt
from tests.ledger.kit import NUMBER, Ledger

NOW = 10**15


def record(ledger: Ledger, *results: Result, now: int = NOW) -> set[int]:
    with ledger.store.write() as connection:
        return Recorder(ledger.crypto, ledger.ids).run(connection, results, now=now, business=77)


def attempts(ledger: Ledger, message: int) -> list[tuple[int, str | None]]:
    with ledger.store.read() as connection:
        rows = connection.execute(
            select(attempt.c.n, attempt.c.outcome).where(attempt.c.message == message).order_by(attempt.c.n)
        )
        return [(row.n, row.outcome) for row in rows]


def alarms(ledger: Ledger) -> int:
    with ledger.store.read() as connection:
        return len(connection.execute(select(audit_table.c.id).where(audit_table.c.action == audit.ALARM)).all())


def in_flight(ledger: Ledger, state: str = "sending", tries: int = 1) -> int:
    message = ledger.put(state=state, now=1)
    for n in range(1, tries + 1):
        ledger.attempt(message, n)
    return message


@pytest.mark.parametrize("state", ["sending", "doubt", "held", "ready", "planned", "closed"])
def test_proof_of_acceptance_wins(ledger: Ledger, state: str) -> None:
    message = in_flight(ledger, state)
    record(ledger, Result(message, 1, "accepted", http=200, wamid="wamid.X"))
    row = ledger.row(message)
    assert (row.state, row.reason, row.accepted_at) == ("accepted", None, 77)
    assert attempts(ledger, message) == [(1, "accepted")]


@pytest.mark.parametrize(
    "state", ["delivered", "read", "played", "superseded", "cancelled", "suppressed", "expired", "failed"]
)
def test_what_is_further_or_over_stays(ledger: Ledger, state: str) -> None:
    message = in_flight(ledger, state)
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X"))
    assert ledger.state(message) == state
    assert attempts(ledger, message) == [(1, "accepted")], "the proof is kept even so"


def test_the_wamid_is_found_by_a_blind_index_only(ledger: Ledger) -> None:
    """A wamid carries the phone number in base64: it stands in no clear column."""
    message = in_flight(ledger)
    record(ledger, Result(message, 1, "accepted", wamid="wamid.HBgLMzQ2MTIwMDAxMDE="))
    with ledger.store.read() as connection:
        row = connection.execute(select(attempt)).one()
    assert row.wamid == ledger.crypto.index(keys.wamid("wamid.HBgLMzQ2MTIwMDAxMDE="))
    assert b"HBgL" not in row.body
    plain = ledger.crypto.decrypt(row.body, row.key_id, "attempt", "body", f"{message}.1")
    assert b"wamid.HBgLMzQ2MTIwMDAxMDE=" in plain


def test_a_lost_answer_is_a_doubt_and_a_late_one_settles_it(ledger: Ledger) -> None:
    message = in_flight(ledger)
    record(ledger, Result(message, 1, "doubt", reason="the answer was lost"))
    assert (ledger.state(message), ledger.row(message).reason) == ("doubt", "the answer was lost")
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X"))
    assert ledger.state(message) == "accepted"


def test_a_lost_answer_does_not_unsay_what_a_status_proved(ledger: Ledger) -> None:
    message = in_flight(ledger)
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X"))
    record(ledger, Result(message, 1, "doubt", reason="the answer was lost"))
    assert ledger.state(message) == "accepted"
    assert attempts(ledger, message) == [(1, "accepted")]


def test_an_older_attempts_refusal_does_not_end_a_newer_one(ledger: Ledger) -> None:
    message = in_flight(ledger, tries=2)
    record(ledger, Result(message, 1, "refused", code=131026, reaction=react(131026, 400), reason="undeliverable"))
    assert ledger.state(message) == "sending"
    record(ledger, Result(message, 1, "doubt"), Result(message, 1, "taken_back"))
    assert ledger.state(message) == "sending"


def test_an_older_attempts_acceptance_settles_a_later_try(ledger: Ledger) -> None:
    message = in_flight(ledger, "ready", tries=2)
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X"))
    assert ledger.state(message) == "accepted"


def test_two_accepted_attempts_are_counted_and_alarmed(ledger: Ledger) -> None:
    message = in_flight(ledger, tries=2)
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X"))
    assert alarms(ledger) == 0
    record(ledger, Result(message, 2, "accepted", wamid="wamid.Y"))
    assert alarms(ledger) == 1


def test_taken_back_is_ready_again_and_costs_no_try(ledger: Ledger) -> None:
    message = in_flight(ledger)
    record(ledger, Result(message, 1, "taken_back", reason="not sent", unreachable=True))
    row = ledger.row(message)
    assert (row.state, row.tries) == ("ready", 0)
    with ledger.store.read() as connection:
        pause = connection.execute(select(number.c.paused_until).where(number.c.key == NUMBER)).scalar_one()
    assert NOW < pause <= NOW + 10 * SECOND, "nobody else of this number should run into the same wall"
    record(ledger, Result(in_flight(ledger), 1, "accepted", wamid="wamid.X"))
    with ledger.store.read() as connection:
        assert connection.execute(select(number.c.paused_until)).scalar_one() == 0, "an acceptance lifts it"


def test_one_batch_may_hold_everything(ledger: Ledger) -> None:
    ids = [in_flight(ledger) for _ in range(4)]
    record(
        ledger,
        Result(ids[0], 1, "accepted", wamid="wamid.0"),
        Result(ids[1], 1, "doubt", reason="lost"),
        Result(ids[2], 1, "taken_back", reason="not sent"),
        Result(ids[3], 1, "refused", code=131026, reaction=react(131026, 400), reason="undeliverable"),
        Result(999, 1, "accepted", wamid="wamid.of.nobody"),
    )
    assert [ledger.state(i) for i in ids] == ["accepted", "doubt", "ready", "failed"]


# --- refusals: the table of reactions --------------------------------------------------------------------------------


def every_reaction() -> list[tuple[int, Reaction]]:
    found = []
    for codes, reaction in TABLE:
        first = codes[0]
        found.append((first.start if isinstance(first, range) else first, reaction))
    return found


EXPECT = {
    "permanent": "failed", "optout": "failed", "window": "failed", "unsure": "doubt", "alarm_stop": "ready",
    "pair": "planned", "backoff": "planned", "retry_after": "planned", "hold_template": "planned",
}  # fmt: skip


def test_a_refusal_ends_where_the_table_says(ledger: Ledger) -> None:
    for code, reaction in every_reaction():
        message = in_flight(ledger)
        with ledger.store.write() as connection:
            connection.execute(number.delete())
        before = alarms(ledger)
        record(ledger, Result(message, 1, "refused", http=400, code=code, reaction=reaction, reason=reaction.reason))
        whole_number = reaction.scope == "number" and not reaction.final and reaction.kind != "unsure"
        wanted = "ready" if whole_number else EXPECT[reaction.kind]
        row = ledger.row(message)
        assert (row.state, row.reason) == (wanted, reaction.reason), (code, reaction)
        if wanted == "planned":
            assert (row.retry_at > NOW, row.tries) == (True, 1), code
            assert row.attempted, "it is rendered: its words and date do not change between two tries"
        if wanted == "ready":
            with ledger.store.read() as connection:
                assert connection.execute(select(number.c.paused_until)).scalar_one() > NOW, code
        assert (alarms(ledger) > before) is reaction.alarm, code


def test_refusals_back_off_and_give_up(ledger: Ledger) -> None:
    message = in_flight(ledger)
    reaction = Reaction("backoff", 0, "message", "try later")
    waits = []
    for n in range(1, MAX_TRIES + 2):
        if n > 1:
            ledger.attempt(message, n)
            with ledger.store.write() as connection:
                outbox.move(connection, [message], "ready", NOW)
                outbox.move(connection, [message], "sending", NOW)
        record(ledger, Result(message, n, "refused", http=400, code=4, reaction=reaction, reason="try later"))
        if ledger.state(message) == "planned":
            waits.append(ledger.row(message).retry_at - NOW)
    assert waits == sorted(waits)
    assert waits[0] < waits[-1] <= 600 * SECOND
    assert ledger.state(message) == "failed"
    assert "tried" in ledger.row(message).reason


# --- a sender that died ------------------------------------------------------------------------------------------------


def test_a_lane_taken_over_leaves_a_doubt(ledger: Ledger) -> None:
    message = in_flight(ledger)
    ledger.set_lane(owner="n1", lease_until=5)
    (claimed,) = ledger.claim("n2", now=10)
    with ledger.store.write() as connection:
        to_doubt(connection, [claimed.id], 10, reason="it died")
    assert (ledger.state(message), attempts(ledger, message)) == ("doubt", [(1, "doubt")])
    record(ledger, Result(message, 1, "accepted", wamid="wamid.X", lane_id=claimed.id, epoch=claimed.epoch - 1))
    assert ledger.state(message) == "accepted", "the epoch protects the lane, never the outcome"


def test_a_nodes_next_life_knows_what_its_last_was_sending(ledger: Ledger) -> None:
    mine, other = in_flight(ledger), ledger.put(state="sending", lane="other", now=1)
    ledger.attempt(other, 1, node="n2")
    ledger.set_lane(owner="n1", lease_until=NOW * 2)
    ledger.set_lane("other", owner="n2", lease_until=NOW * 2)
    with ledger.store.write() as connection:
        assert take_over(connection, "n1", NOW) == {mine}
    assert (ledger.state(mine), ledger.state(other)) == ("doubt", "sending")
    assert ledger.lane().owner is None
    ledger.put(cls=states.ANSWER, now=NOW)
    assert [one.key for one in ledger.claim("n1", now=NOW)] == ["lane-1"], "an answer does not wait for the doubt"
    with ledger.store.write() as connection:
        lanes.forget_node(connection, "n1")
