"""`/readyz` and `/healthz`: a dead loop, one that stands still, and a number that WhatsApp has stopped are named."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import insert

from bridge.console.app import console_app
from bridge.console.readiness import health_app
from bridge.engine import vitals
from bridge.ledger.clock import SECOND
from bridge.ledger.tables import number
from tests.engine.conftest import Workshop
from tests.engine.harness import Bench


@pytest.fixture
def loop(bench: Bench) -> Any:
    """A loop of this process that runs until it is told to end."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="apply", daemon=True)
    thread.start()
    bench.site.vitals.watch("apply", "apply")
    yield lambda: (end.set(), thread.join(5))
    end.set()


def asked(bench: Bench, path: str) -> tuple[int, dict[str, Any]]:
    answer = console_app(bench.site).test_client().get(path)
    return answer.status_code, answer.get_json()


def test_all_is_well(bench: Bench, loop: Any) -> None:
    status, told = asked(bench, "/readyz")
    assert (status, told["ready"], told["problems"]) == (200, True, [])
    assert told["roles"] == ["doors", "apply", "pump", "send", "write", "console"]
    assert asked(bench, "/healthz")[0] == 200


def test_a_loop_that_has_ended(bench: Bench, loop: Any) -> None:
    loop()
    status, told = asked(bench, "/readyz")
    assert (status, told["problems"]) == (503, ["the apply loop has ended: restart this process"])
    assert asked(bench, "/healthz") == (503, {"status": "a loop has ended", "ended": ["apply"]})
    assert bench.site.vitals.sick() == {"apply"}


def test_a_loop_that_does_not_come_round(bench: Bench, loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + vitals.PATIENCE + 1
    monkeypatch.setattr(vitals.time, "monotonic", lambda: later)
    status, told = asked(bench, "/readyz")
    assert (status, told["problems"]) == (503, ["the apply loop has not come round for 31 s"])
    assert asked(bench, "/healthz")[0] == 200, "a restart may not mend it"
    bench.site.vitals.beat("apply")
    assert asked(bench, "/readyz")[0] == 200


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_paused_number_is_told_and_is_no_reason(workshop: Workshop, kind: str) -> None:
    bench = workshop(kind)
    with bench.store.write() as connection:
        until = bench.store.now(connection) + 60 * SECOND
        connection.execute(insert(number).values(key="front_desk", paused_until=until, reason="rate limit hit"))
    status, told = asked(bench, "/readyz")
    assert status == 200
    assert told["notices"] == ["number front_desk is paused: rate limit hit"]
    assert [each["number"] for each in told["numbers_paused"]] == ["front_desk"]
    bench.store.ahead += 61 * SECOND
    assert asked(bench, "/readyz")[1]["numbers_paused"][0]["until"] is None, (
        "one probe a second until it is taken again"
    )


def test_health_without_a_console(bench: Bench) -> None:
    client = health_app(bench.site).test_client()
    assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]
    assert client.get("/api/v1/events").status_code == 404
