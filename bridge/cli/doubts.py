"""`bridge doubts`: messages whose outcome nobody knows, and those held for a person; resend or close them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from sqlalchemy import func, select

from bridge.cli import DEFAULT_CONFIG, DONE, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import changing, looking, moment, number_of
from bridge.ledger.clock import from_us
from bridge.ledger.store import Store
from bridge.ledger.tables import attempt, outbox

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

IdsArgument = Annotated[list[str] | None, typer.Argument(help="msg_… as `bridge doubts` prints them.")]
FencedOption = Annotated[
    str, typer.Option("--fenced-before", help="All whose last attempt began before: 2026-11-24T08:00Z, 2h.")
]


@app.callback(invoke_without_command=True)
def doubts(context: typer.Context, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List them: what, since when, why."""
    if context.invoked_subcommand is not None:
        return
    with looking(config) as (_, store):
        rows = listed(store)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            tried = f"attempt {row['attempts']} at {row['fenced_at']}" if row["attempts"] else "never sent"
            print(f"{row['id']}  {row['state']} since {row['since']}  {row['event']}  {tried}  {row['reason'] or ''}")
        print(f"{len(rows)} to decide" if rows else "nothing is in doubt")
    raise typer.Exit(DONE)


@app.command()
def resend(
    ids: IdsArgument = None, fenced_before: FencedOption = "", config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Send again. The patient may get it twice: nobody knows whether it arrived."""
    _decide("doubts.resend", "sent again", ids, fenced_before, config, as_json)


@app.command()
def close(
    ids: IdsArgument = None, fenced_before: FencedOption = "", config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Leave it at that. A status that comes still later settles the message all the same."""
    _decide("doubts.close", "closed", ids, fenced_before, config, as_json)


def _decide(verb: str, done: str, ids: list[str] | None, before: str, config: Any, as_json: bool) -> None:
    if bool(ids) == bool(before):
        typer.echo("give ids, or --fenced-before", err=True)
        raise typer.Exit(REFUSED)
    messages = [number_of(each, "msg") for each in ids or ()]
    limit = moment(before, "--fenced-before") if before else None
    count = changing(config, verb, messages=messages, fenced_before=limit)
    print(json.dumps({"messages": count}) if as_json else f"{count} {done}")


def listed(store: Store) -> list[dict[str, Any]]:
    """Ids, states, times and reasons; oldest first."""
    last = (
        select(attempt.c.message, func.max(attempt.c.n).label("n"), func.max(attempt.c.fenced_at).label("fenced_at"))
        .group_by(attempt.c.message)
        .subquery()
    )
    with store.read() as connection:
        rows = connection.execute(
            select(outbox.c.id, outbox.c.state, outbox.c.event, outbox.c.reason, outbox.c.changed_at, last)
            .outerjoin(last, last.c.message == outbox.c.id)
            .where(outbox.c.state.in_(("doubt", "held")))
            .order_by(outbox.c.changed_at, outbox.c.id)
        ).all()
    return [
        {
            "id": f"msg_{row.id}",
            "state": row.state,
            "event": row.event,
            "since": from_us(row.changed_at).isoformat(timespec="seconds"),
            "attempts": row.n or 0,
            "fenced_at": from_us(row.fenced_at).isoformat(timespec="milliseconds") if row.fenced_at else None,
            "reason": row.reason,
        }
        for row in rows
    ]
