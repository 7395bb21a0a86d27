"""`bridge show ID`: one event or message, hop by hop. `bridge tail`: events as they come. Ids, times and reasons only."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import changing, looking
from bridge.console.plain_words import steps
from bridge.console.trace import Event, Trace, find, latest, number, traces

EVERY = 1.0  # seconds between two looks
SETTLES_IN = 200  # unsettled events that a tail keeps an eye on


def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="evt_…, msg_…, turn_… or write_….")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Print what it holds in clear, too; that you looked is recorded.")
    ] = False,
) -> None:
    """Where it came from and what became of it."""
    with looking(config) as (_, store), store.read() as connection:
        trace = find(connection, name)
    if trace is None:
        typer.echo(f"there is no {name if name.isascii() and len(name) < 40 else 'such id'}", err=True)
        raise typer.Exit(REFUSED)
    revealed: dict[str, str] = changing(config, "reveal", name=name) if reveal else {}
    if as_json:
        print(json.dumps(trace.to_json() | ({"revealed": revealed} if reveal else {}), indent=1, ensure_ascii=False))
        raise typer.Exit(DONE)
    for step in steps(trace):
        print(f"{step.at or '':<26}{step.id:<26}{step.text}")
    for what, text in revealed.items():
        print(f"\n{what}:\n{text}")


def tail(
    config: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int, typer.Option("--last", "-n", min=0, max=1000, help="How many to begin with.")] = 10,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Events as they come, and again when their fate is known."""
    with looking(config) as (_, store):
        with store.read() as connection:
            found = list(reversed(latest(connection, limit=count))) if count else []
            newest = max((number(e.id) for e in latest(connection, limit=1)), default=0)
            _print(traces(connection, found), as_json)
        waiting = {event.id for event in found if event.fate is None}
        try:
            while follow:
                time.sleep(EVERY)
                with store.read() as connection:
                    fresh = list(reversed(latest(connection, limit=1000, after=newest)))
                    held = [find(connection, name) for name in sorted(waiting)]
                    settled = [t for t in held if t is not None and t.event is not None and t.event.fate is not None]
                    _print((*settled, *traces(connection, fresh)), as_json)
                newest = max((number(event.id) for event in fresh), default=newest)
                waiting -= {t.event.id for t in settled if t.event is not None}
                waiting |= {event.id for event in fresh if event.fate is None}
                waiting = set(sorted(waiting)[-SETTLES_IN:])
        except KeyboardInterrupt:
            raise typer.Exit(DONE) from None


def _print(found: tuple[Trace, ...], as_json: bool) -> None:
    for trace in found:
        if as_json:
            print(json.dumps(trace.to_json(), ensure_ascii=False), flush=True)
        elif trace.event is not None:
            print(_line(trace.event, trace), flush=True)


def _line(event: Event, trace: Trace) -> str:
    messages = " ".join(f"{one.id} {one.state}" for one in trace.messages)
    fate = event.fate or "waiting"
    reason = f" ({event.reason})" if event.reason else ""
    what = f"{event.source} {event.kind} {event.about or ''}".strip()
    return f"{event.received_at}  {event.id}  {what}  {fate}{reason}  {messages}".rstrip()
