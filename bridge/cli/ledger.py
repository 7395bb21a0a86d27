"""`bridge ledger`: does the ledger balance? `bridge migrate`: bring its schema up to date."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, FAILED, ConfigOption, JsonOption
from bridge.cli.opening import looking, moment
from bridge.ledger.balance import balance
from bridge.ledger.schema import HEAD, current, migrate
from bridge.ledger.store import Store
from bridge.settings import load_settings

SinceOption = Annotated[str, typer.Option("--since", help="Only what came to be since: 2026-11-24T08:00Z, 24h, 7d.")]


def ledger(config: ConfigOption = DEFAULT_CONFIG, since: SinceOption = "", as_json: JsonOption = False) -> None:
    """Three lines that must hold: events, messages, writes. Exits 4 unless each does."""
    start = moment(since, "--since") if since else 0
    with looking(config) as (_, store):
        lines = balance(store, start)
    holds = all(line.holds for line in lines)
    if as_json:
        print(json.dumps({"holds": holds, "lines": [line.as_json() for line in lines]}, indent=1))
    else:
        print("\n".join(str(line) for line in lines))
    raise typer.Exit(DONE if holds else FAILED)


def bring_up(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Bring the store's schema up to date; `bridge serve` does it too."""
    settings = load_settings(config, os.environ)
    store = Store(settings.store.url)
    try:
        if settings.store.sqlite:
            store.lock(settings.data_dir)
            with store.write():
                pass  # makes the file
        before = current(store)
        migrate(store)
    finally:
        store.close()
    done = {"from": before, "to": HEAD, "changed": before != HEAD}
    print(json.dumps(done) if as_json else f"schema {before or 'none'} → {HEAD}" if before != HEAD else f"at {HEAD}")
