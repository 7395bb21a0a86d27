"""`bridge show ID`: one event or message, hop by hop. Ids, times and reasons only."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import changing, looking
from bridge.console.plain_words import steps
from bridge.console.trace import find


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
