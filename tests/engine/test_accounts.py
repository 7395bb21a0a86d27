"""What Meta says of the account, its numbers and templates stops what it must, and lets go again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench

ANA = "34612000101"
REINSTATED = {
    "event": "DISABLED_UPDATE",
    "ban_info": {"waba_ban_state": "REINSTATE", "waba_ban_date": "April 17, 2025"},
}


def book(bench: Bench, day: int = 9) -> None:
    bench.clerk(people.appointment(f"a{day}", MORNING + timedelta(days=day)))
    bench.settle()


@pytest.mark.parametrize(
    "value",
    [
        {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}},
        {
            "event": "ACCOUNT_RESTRICTION",
            "restriction_info": [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING"}],
        },
        {"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "ALCOHOL"}},
    ],
    ids=lambda value: str(value["event"]),
)
def test_an_account_that_meta_restricts_sends_nothing(bench: Bench, value: dict[str, object]) -> None:
    bench.account("account_update", value)
    book(bench)
    assert bench.told(ANA) == []
    assert any(f"Meta reports {value['event']}" in alarm for alarm in bench.alarms())
    bench.account("account_update", REINSTATED)
    bench.settle()
    assert len(bench.told(ANA)) == 1


def test_without_a_word_that_lifts_it_one_message_is_tried(bench: Bench) -> None:
    """The webhook that lifts a hold may be lost: after five minutes WhatsApp itself is asked, one message a second."""
    bench.account("account_update", {"event": "ACCOUNT_RESTRICTION"})
    book(bench)
    bench.pass_(minutes=4)
    bench.settle()
    assert bench.told(ANA) == []
    bench.pass_(minutes=2)
    bench.settle()
    assert len(bench.told(ANA)) == 1


def test_a_flagged_number_waits_until_it_is_not(bench: Bench) -> None:
    flag = {"display_phone_number": "34910000000", "event": "FLAGGED", "current_limit": "TIER_10K"}
    bench.account("phone_number_quality_update", flag)
    book(bench)
    assert bench.told(ANA) == []
    bench.account("phone_number_quality_update", flag | {"event": "UNFLAGGED"})
    bench.settle()
    assert len(bench.told(ANA)) == 1


def test_a_template_made_marketing_is_held_until_it_is_utility_again(bench: Bench) -> None:
    template = {"message_template_id": 3333333333, "message_template_name": "appointment_booked",
                "message_template_language": "es"}  # fmt: skip
    bench.account("template_category_update", template | {"correct_category": "MARKETING", "new_category": None})
    book(bench)
    assert len(bench.told(ANA)) == 1, "a notice of what comes tomorrow holds nothing"
    assert any("MARKETING" in alarm for alarm in bench.alarms())
    bench.account("template_category_update", template | {"previous_category": "UTILITY", "new_category": "MARKETING"})
    book(bench, 10)
    bench.pass_(minutes=1)
    bench.settle()
    assert len(bench.told(ANA)) == 1
    bench.account("template_category_update", template | {"previous_category": "MARKETING", "new_category": "UTILITY"})
    bench.pass_(minutes=1)
    bench.settle()
    assert len(bench.told(ANA)) == 2
