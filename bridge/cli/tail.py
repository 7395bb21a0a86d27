"""`bridge tail`: events, sends, replies and writes as they happen. Ids, times and reasons only."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, ConfigOption, JsonOption
from bridge.cli.opening import looking, moment
from bridge.console.stream import Hop, Stream, Wanted
from bridge.console.trace import Event, Message, Turn, Write

EVERY = 1.0  # seconds between two looks


def tail(
    config: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int, typer.Option("--last", "-n", min=0, max=1000, help="How many events to begin with.")] = 10,
    since: Annotated[
        str | None, typer.Option(help="Begin with events since then: 10m, 2h, or 2026-11-24T08:00. At most 1,000.")
    ] = None,
    event: Annotated[
        list[str] | None, typer.Option(help="Only of this event: appointment.booked. May be repeated.")
    ] = None,
    mapping: Annotated[list[str] | None, typer.Option(help="Only of this mapping, by its id. May be repeated.")] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Only with this fate or state: waiting, planned, failed, doubt, delivered … May be repeated."
        ),
    ] = None,
    ref: Annotated[
        list[str] | None,
        typer.Option("--ref", help="Only about this resource or patient: Appointment/a1, Patient/p1. May be repeated."),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Go on until Ctrl-C.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Events, sends, replies and writes as they happen; again when something becomes of them."""
    wanted = Wanted(frozenset(event or ()), frozenset(mapping or ()), frozenset(status or ()), frozenset(ref or ()))
    with looking(config) as (_, store):
        stream = Stream(wanted)
        start = moment(since, "--since") if since is not None else None
        with store.read() as connection:
            for hop in stream.begin(connection, store.now(connection), last=count, since=start):
                _print(hop, as_json)
        try:
            while follow:
                time.sleep(EVERY)
                with store.read() as connection:
                    for hop in stream.look(connection, store.now(connection)):
                        _print(hop, as_json)
        except KeyboardInterrupt:
            raise typer.Exit(DONE) from None


def _print(hop: Hop, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_json(hop), ensure_ascii=False), flush=True)
        return
    print(f"{hop.at}  {hop.id:<24}  {text(hop.of)}".rstrip(), flush=True)


def _json(hop: Hop) -> dict[str, object]:
    """An event with all that came of it so far; a message, turn or write under its own name."""
    if hop.trace is not None:
        return {"at": hop.at, "id": hop.id} | hop.trace.to_json()
    return {"at": hop.at, "id": hop.id, type(hop.of).__name__.lower(): asdict(hop.of)}


def text(of: Event | Message | Turn | Write) -> str:
    """One line without its time and id."""
    reason = f" ({of.reason})" if of.reason else ""
    if isinstance(of, Event):
        planned = f"({of.planned})" if of.planned else ""
        return f"{of.source} {of.kind} {of.about or ''}".strip() + f"  {of.fate or 'waiting'}{planned}{reason}"
    if isinstance(of, Message):
        what = of.mapping or ("answer to " + of.answers if of.answers else of.kind)
        code = next((f" {post.code}" for post in reversed(of.posts) if post.code), "")
        offset = f" {of.offset} before" if of.offset else ""
        return f"{what}{offset} {of.about or ''}".rstrip() + f"  {of.state}{reason}{code}"
    if isinstance(of, Turn):
        tapped = f" on {of.tapped}" if of.tapped else ""
        waits = "  waits for a person" if of.waits_for_person else ""
        return f"reply: {of.kind}{tapped}{waits}{reason}"
    return f"{of.kind} {of.verb} to {of.ehr}  {of.state}{reason}"
