"""`bridge replay evt_…`: decides a stored event again with today's mappings and shows the difference. No word is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, NOTHING_SENT, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import changing, number_of
from bridge.errors import NothingToDo


def replay(
    name: Annotated[str, typer.Argument(metavar="EVENT", help="evt_…, of an EHR.")],
    config: ConfigOption = DEFAULT_CONFIG,
    really_send: Annotated[
        bool, typer.Option("--really-send", help="Send what comes out, though the patient may have it already.")
    ] = False,
    as_then: Annotated[
        bool, typer.Option("--then", help="With the clock of then: for a visit that is over by now. Never sends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide an event again; nothing is sent without --really-send."""
    try:
        found = changing(config, "replay", event=number_of(name, "evt"), really_send=really_send, as_then=as_then)
    except NothingToDo as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        for line in lines(found, really_send=really_send, as_then=as_then):
            print(line)
    raise typer.Exit(NOTHING_SENT if really_send and not found["sent"] and "applied_as" not in found else DONE)


def lines(found: Mapping[str, Any], *, really_send: bool, as_then: bool = False) -> Iterator[str]:
    """As a terminal shows it."""
    clock = "the clock of then" if as_then else "today's clock"
    yield f"{found['event']} · {found['about']}, {found['decided']}, with today's mappings and {clock}"
    yield f"then  {_came_to(found['then'], 'planned')}"
    yield f"now   {_came_to(found['now'], 'would plan')}"
    yield "same as then" if found["same"] else "not as then:"
    if not found["same"] or any("other" in each or "changed" in each for each in found["differences"]):
        yield from (f"  {each}" for each in found["differences"])
    if really_send:
        yield f"sent: {', '.join(found['sent'])}" if found["sent"] else "nothing was sent"
        yield from (f"  {each}" for each in found["not_sent"])
    elif found["now"]["messages"]:
        yield "nothing was sent; --really-send sends it, with a number behind its effect key and an entry in the audit"


def _came_to(one: Mapping[str, Any], verb: str) -> str:
    names = [
        f"{each['mapping']} ({each['offset']} before)" if each["offset"] else str(each["mapping"])
        for each in one["messages"]
    ]
    reason = f" ({one['reason']})" if one["reason"] else ""
    if names:
        return f"{verb} {', '.join(names)}{reason}"
    skip = "would skip" if verb == "would plan" and one["fate"] == "suppressed" else one["fate"]
    return f"{skip}{reason}"
