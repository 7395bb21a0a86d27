"""Morning burst and fairness: reminders due at nine, a set rate, a storm of refusals, several numbers.

    python -m bench.burst [--scenes burst,rate,storm,numbers] [--count 50000] [--rate 70] [--storm 60] [--store sqlite]

Each scene is a world of its own: pretend EHR, pretend WhatsApp and `bridge serve`, a process each, the business clock pushed
to just before nine. Prints goal and reached; exits 4 when a row fails.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, stores
from bench.burst import judge
from bench.burst.judge import Post
from bench.burst.morning import Morning

OVERTAKES = 2.0  # seconds
PAIR_GAP = 5.0  # seconds: 6 between two slots of a person, and a POST may start 1 s after its slot
ASKERS = 12  # people who write in a scene
RATE_SCENE, RATE_SECONDS = 80.0, 60.0  # TS4
STORM_AT = 8.0  # seconds after nine
RECOVERS = 60.0  # seconds: TS3
SLACK = 4.0  # times the ideal duration that a scene may take


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    goal: str
    value: str
    reached: bool | None = None


@dataclass(slots=True)
class Table:
    """Rows of all scenes."""

    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, goal: str, value: str, reached: bool | None = None) -> None:
        self.rows.append(Row(what, goal, value, reached))

    @property
    def good(self) -> bool:
        return all(row.reached is not False for row in self.rows)

    def __str__(self) -> str:
        cells = [("burst", "goal", "measured", "reached")]
        cells += [
            (r.what, r.goal, r.value, "" if r.reached is None else "yes" if r.reached else "NO") for r in self.rows
        ]
        widths = [max(len(row[at]) for row in cells) for at in range(4)]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for on the command line."""

    folder: Path
    store: str
    count: int
    rate: float
    storm: float
    say: Callable[[str], None]


def _rates(table: Table, found: list[Post], rate: float) -> None:
    times = [post.at for post in found]
    most, mean = judge.most_in_a_second(times), judge.average(times)
    table.add("  POSTs in the fullest sliding second", f"<= {rate:g}", f"{most}", most <= rate)
    table.add("  on average", f">= {judge.SHARE * rate:g}/s", f"{mean:.1f}/s", mean >= judge.SHARE * rate)


def _nothing_doubled(table: Table, morning: Morning, nine: float) -> None:
    found = morning.posts()
    templates = [post for post in found if post.template is not None]
    early = [post for post in templates if post.at < nine]
    table.add("  before nine", "0", f"{len(early)}", not early)
    again, odd = judge.twice(found), judge.too_often(found, morning.wanted)
    table.add("  accepted twice", "0", f"{len(again)}", not again)
    table.add("  people with more or fewer than their visits", "0", f"{len(odd)}", not odd)
    gap = judge.smallest_gap(found)
    if gap is not None:
        table.add("  smallest gap between two of one person", f">= {PAIR_GAP:g} s", f"{gap:.1f} s", gap >= PAIR_GAP)
    failed = morning.states().get("failed", 0)
    table.add("  failed, over the try limit", "0", f"{failed}", not failed)


def _overtakes(table: Table, morning: Morning) -> None:
    took = judge.overtaking(morning.asked, morning.posts())
    known = [seconds for seconds in took.values() if seconds is not None]
    middle, longest = judge.spread(known)
    reached = len(known) == len(took) and longest <= OVERTAKES
    table.add(f"  answers to {len(took)} people who write meanwhile", f"<= {OVERTAKES:g} s each",
              f"p50 {middle:.2f} s, p100 {longest:.2f} s{'' if len(known) == len(took) else f', {len(took) - len(known)} never'}", reached)  # fmt: skip


def burst(plan: Plan, table: Table) -> None:
    """So many reminders due at nine, on one number."""
    with Morning(plan.folder / "burst", plan.store, plan.count, {"front_desk": plan.rate}, plan.say) as morning:
        filled = morning.fill()
        plan.say(f"burst: {plan.count:,} reminders armed by bridge prime in {filled:.0f} s")
        nine, cpu = morning.almost_nine(), morning.cpu()
        ideal = plan.count / plan.rate
        asking = morning.moments(nine + 3, nine + 3 + 0.8 * ideal, ASKERS)
        morning.watch(lambda: morning.accepted() >= plan.count + len(asking), 60 + SLACK * ideal, asking=asking)
        found = morning.posts()
        table.add(f"{plan.count:,} reminders due at 09:00, one number at {plan.rate:g}/s", "all", f"{sum(p.template is not None and p.accepted for p in found):,}",
                  sum(p.template is not None and p.accepted for p in found) == plan.count)  # fmt: skip
        table.add(
            "  first after nine, last",
            "",
            f"{found[0].at - nine:.1f} s, {found[-1].at - nine:.0f} s (ideal {ideal:.0f} s)",
        )
        _rates(table, found, plan.rate)
        _nothing_doubled(table, morning, nine)
        _overtakes(table, morning)
        spent = (morning.cpu() - cpu) / plan.count * 1000
        table.add("  engine's CPU a reminder, read again, sent, its statuses applied", "", f"{spent:.1f} ms")
        table.add("  armed by bridge prime", "", f"{plan.count / filled:.0f}/s")


def rate(plan: Plan, table: Table) -> None:
    """TS4: 80/s set, 60 s."""
    count = int(RATE_SCENE * (RATE_SECONDS + 4))
    with Morning(plan.folder / "rate", plan.store, count, {"front_desk": RATE_SCENE}, plan.say) as morning:
        morning.fill()
        nine = morning.almost_nine()
        morning.watch(lambda: morning.accepted() >= count, 60 + SLACK * RATE_SECONDS)
        found = morning.posts()
        begun = found[0].at
        table.add(f"TS4: {RATE_SCENE:g}/s set, {RATE_SECONDS:g} s", "", f"{count:,} reminders")
        _rates(table, judge.between(found, begun, begun + RATE_SECONDS), RATE_SCENE)
        _nothing_doubled(table, morning, nine)


def storm(plan: Plan, table: Table) -> None:
    """TS3: every POST is refused with 429 and 130429 while the queue is full."""
    count = int(plan.rate * (STORM_AT + RECOVERS + 15))
    with Morning(plan.folder / "storm", plan.store, count, {"front_desk": plan.rate}, plan.say) as morning:
        morning.fill()
        nine = morning.almost_nine()
        morning.watch(lambda: time.time() >= nine + STORM_AT, 60)
        begun, ended = _weather(morning, plan.storm, {})
        morning.watch(lambda: morning.accepted() >= count, 60 + SLACK * count / plan.rate)
        table.add(f"TS3: 429 storm of {plan.storm:g} s at full queue, {plan.rate:g}/s set", "", f"{count:,} reminders")
        _weathered(table, morning.posts(), begun, ended, plan.rate)
        _nothing_doubled(table, morning, nine)


def numbers(plan: Plan, table: Table) -> None:
    """Three numbers with rates of their own, the second in a storm."""
    rates = {"front_desk": plan.rate / 2, "second": plan.rate / 2, "third": plan.rate / 4}
    count = int(sum(rates.values()) * (STORM_AT + plan.storm + 15))
    with Morning(plan.folder / "numbers", plan.store, count, rates, plan.say) as morning:
        morning.fill()
        morning.share()
        nine = morning.almost_nine()
        morning.watch(lambda: time.time() >= nine + STORM_AT, 60)
        begun, ended = _weather(morning, plan.storm, {"number": morning.pnids["second"]})
        morning.watch(lambda: morning.accepted() >= count, 120 + SLACK * (count / sum(rates.values()) + plan.storm))
        table.add(f"three numbers, the second in a storm of {plan.storm:g} s", "", f"{count:,} reminders")
        for key in ("front_desk", "third"):
            table.add(f" {key}, {rates[key]:g}/s set, while the second is refused", "", "")
            _rates(table, judge.between(morning.posts(key), begun, ended), rates[key])
        table.add(f" second, {rates['second']:g}/s set", "", "")
        _weathered(table, morning.posts("second"), begun, ended, rates["second"])
        _nothing_doubled(table, morning, nine)


def _weather(morning: Morning, seconds: float, where: Mapping[str, str]) -> tuple[float, float]:
    """A storm; machine times of its beginning and end."""
    morning.world.whatsapp.post("faults", [{"what": "storm", "times": -1, **where}])
    begun = time.time()
    morning.watch(lambda: time.time() >= begun + seconds, seconds + 60)
    ended = time.time()
    morning.world.whatsapp.delete("faults")
    return begun, ended


def _weathered(table: Table, found: list[Post], begun: float, ended: float, set_rate: float) -> None:
    refused = [post for post in found if post.fault == "storm"]
    table.add("  refused", "> 0", f"{len(refused)}", bool(refused))
    most = judge.probes(found, begun, ended)
    table.add("  POSTs in the storm's fullest second", "<= 1", f"{most}", most <= 1)
    back = judge.recovery(found, ended, set_rate)
    reached = back is not None and back <= RECOVERS
    table.add("  rate recovered after", f"<= {RECOVERS:g} s", f"{back:.1f} s" if back is not None else "never", reached)
    times = [post.at for post in found if post.accepted]
    most = judge.most_in_a_second(times)
    table.add("  accepted in the fullest sliding second", f"<= {set_rate:g}", f"{most}", most <= set_rate)


SCENES: Mapping[str, Callable[[Plan, Table], None]] = {"burst": burst, "rate": rate, "storm": storm, "numbers": numbers}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.burst", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--count", type=int, default=50_000, help="reminders of the burst")
    parser.add_argument("--rate", type=float, default=70.0, help="messages a second that the number may send")
    parser.add_argument("--storm", type=float, default=60.0, help="seconds; the long version: 600")
    parser.add_argument("--store", choices=stores.KINDS, default="sqlite")
    parser.add_argument("--out", type=Path, help="kept; default: a folder that goes when all is well")
    given = parser.parse_args(arguments)
    folder = given.out or Path(tempfile.mkdtemp(prefix="bridge-burst-"))
    plan = Plan(folder, given.store, given.count, given.rate, given.storm, lambda line: print(line, flush=True))
    table, begun = Table(), time.monotonic()
    try:
        for name in given.scenes.split(","):
            try:
                SCENES[name](plan, table)
            except RuntimeError as error:  # the others are measured all the same
                table.add(f"{name}: {error}", "", "", False)
    finally:
        stores.stop()
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine.name()}, load {machine.load():.1f}, {given.store}, {time.monotonic() - begun:,.0f} s"
    )
    print(table)
    if table.good and given.out is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"journals and log: {folder}")
    return 0 if table.good else 4
