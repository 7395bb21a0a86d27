"""`bridge reminders`: what is planned, by time; and the brake on campaigns, which a person releases or cancels."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from sqlalchemy import select

from bridge.cli import DEFAULT_CONFIG, DONE, ConfigOption, JsonOption
from bridge.cli.opening import changing, looking
from bridge.ledger import brake
from bridge.ledger.clock import from_us
from bridge.ledger.states import CLASSES
from bridge.ledger.tables import outbox

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, earliest first.")]


@app.command("list")
def planned(config: ConfigOption = DEFAULT_CONFIG, limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """Planned messages by the time they are due; ids only."""
    with looking(config) as (_, store), store.read() as connection:
        braked = brake.is_on(connection)
        rows = connection.execute(
            select(
                outbox.c.id, outbox.c.cls, outbox.c.event, outbox.c.offset, outbox.c.not_before, outbox.c.resource_ref,
                outbox.c.reason,
            )
            .where(outbox.c.state == "planned")
            .order_by(outbox.c.not_before, outbox.c.id)
            .limit(limit)
        ).all()  # fmt: skip
    found = [
        {
            "id": f"msg_{row.id}",
            "class": CLASSES[row.cls],
            "event": row.event,
            "offset": row.offset,
            "due": from_us(row.not_before).isoformat(timespec="minutes") if row.not_before else None,
            "about": row.resource_ref,
            "reason": row.reason,
        }
        for row in rows
    ]
    if as_json:
        print(json.dumps({"brake": braked, "planned": found}, indent=1))
        raise typer.Exit(DONE)
    for one in found:
        print(f"{one['due'] or 'at once':<22} {one['id']}  {one['event']} {one['offset'] or ''}  {one['about'] or ''}")
    print(f"{len(found)} planned" + ("; the brake is on: `bridge reminders release` or `cancel`" if braked else ""))


@app.command()
def release(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Take the brake off: campaigns that waited go out."""
    count = changing(config, "brake.release")
    print(json.dumps({"messages": count}) if as_json else f"the brake is off; {count} go on")


@app.command()
def cancel(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Cancel the campaign messages that the brake held, and take it off."""
    count = changing(config, "brake.cancel")
    print(json.dumps({"messages": count}) if as_json else f"{count} cancelled; the brake is off")
