"""The rows of the table of faults: what is demanded, and what holds it. Figures are those of the issue's list.

A row that a test holds is run through pytest in its long version; its figure is what the test asserts, and `reached` says
how many cases held, with what the test printed. A row that needs a world of processes has a scene of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

STORE = "STORE"  # stands for each store's name in a node id or an expression


@dataclass(frozen=True, slots=True)
class Row:
    """`tests`: arguments to pytest. `scene`: a module of bench.faults. One of the two."""

    name: str
    demanded: str
    tests: tuple[str, ...] = ()
    scene: str = ""
    per_store: bool = False  # tests: run once for each store, chosen by -k


ELSEWHERE = {
    "TI3, TI6": "make test (tests/engine/test_freshness.py)",
    "TI7, TI11, bodies of TI8": "make fuzz",
    "TS3, TS4": "make bench (bench/burst)",
    "TS11, TS12": "make test (tests/engine/test_walks.py, test_reminders.py)",
    "Soak": "make soak",
}

ROWS = (
    Row("TI1", "0 lost, 0 second POSTs, order held, unknown <= in flight at each kill", scene="kills"),
    Row("TI2", "1 effect, 20 x 2xx", scene="twice"),
    Row("TI8", "good traffic p99 <= 2x its own", scene="sockets"),
    Row("TI9", "401/403, nothing stored, a counter; again: 200, no effect", (
        "tests/doors/test_doors_auth.py", "tests/doors/test_doors_bad_input.py::test_sent_again_has_no_second_effect",
    )),
    Row("TI10 store", "503, never 200, while it cannot commit; caught up in <= 30 s without help", scene="outage"),
    Row("TI10 clocks", "leases and rates survive +-1 h and a broken clock; reminders at the right local time", (
        "tests/ledger/test_clock.py", "tests/ledger/test_horizons.py", "tests/engine/test_reminders.py",
    )),
    Row("TS1", "0 second POSTs by the engine; accepted when proved, held after 30 min", (
        "tests/engine/test_sending.py", "tests/faults/test_lives.py", "tests/outbound/test_carrier.py",
    )),
    Row("TS5, TS6", "0 fenced after the acknowledgement, 1 ms steps, 10,000 statuses in front",
        ("tests/engine/test_stop_race.py", "-k", STORE), per_store=True),
    Row("TS9", "refused with line and fix; 0 lost in 1,000 reloads under load",
        ("tests/engine/test_reload.py", "tests/cli/test_broken.py")),
    Row("TS13", "that one failed, 499 sent, alarm; what cannot be decrypted likewise", ("tests/engine/test_sending.py", "-k", "500 or decrypted")),
    Row("TS14", "the lane waits <= 60 s, the urgent do not", ("tests/engine/test_sending.py", "-k", "holds_its_lane or blocks_nobody")),
    Row("TR1", "1 effect", ("tests/engine/test_repeated.py",)),
    Row("TR2", "monotone, over all permutations", (
        "tests/engine/test_repeated.py", "tests/engine/test_sending.py::test_statuses_in_every_order", "tests/ledger/test_states.py",
    )),
    Row("TR7", "0 lost updates, 0 blind overwrites, 1 Communication, the echo plans nothing",
        ("tests/engine/test_echo.py", "tests/fhir/test_writeback.py", "tests/engine/test_batched_writes.py")),
    Row("TP2", "refuses to start", ("tests/test_settings.py", "tests/cli/test_broken.py", "-k", "secret")),
    Row("TP4", "0 hits", ("tests/test_canary.py",)),
)  # fmt: skip


def chosen(names: str) -> list[Row]:
    """By names with commas; `TI10` means all rows that begin so. Raises: ValueError for a name that is no row's."""
    if not names:
        return list(ROWS)
    found = []
    for name in (part.strip() for part in names.split(",")):
        mine = [row for row in ROWS if name in row.name.replace(",", "").split() or row.name == name]
        if not mine:
            raise ValueError(f"no such row: {name}; there are {', '.join(row.name for row in ROWS)}")
        found += [row for row in mine if row not in found]
    return found
