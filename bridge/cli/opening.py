"""How a verb reaches the ledger: read-only to look, through the running engine's socket to change something, and with
the engine's lock in hand where none runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from sqlalchemy.engine import make_url

from bridge.cli import REFUSED
from bridge.control import ask_any
from bridge.errors import EngineNotRunning, StoreMissing
from bridge.ledger.clock import to_us
from bridge.ledger.schema import HEAD, current
from bridge.ledger.store import Store
from bridge.settings import Settings, load_settings

_AGO = re.compile(r"(\d{1,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@contextmanager
def looking(config: Path) -> Iterator[tuple[Settings, Store]]:
    """Settings and the store, opened so that nothing can be changed.

    Raises: Refused, StoreMissing.
    """
    settings = load_settings(config, os.environ)
    with opened(settings) as store:
        yield settings, store


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The store read-only. Raises: StoreMissing."""
    url = settings.store.url
    if settings.store.sqlite and not Path(str(make_url(url).database)).exists():
        raise StoreMissing("there is no store yet")
    store = Store(url, readonly=True)
    try:
        if current(store) != HEAD:
            raise StoreMissing("the store's schema is not up to date")
        yield store
    finally:
        store.close()


def changing(config: Path, verb: str, **arguments: Any) -> Any:
    """Have the running engine do it; without one, do it under its lock.

    Raises: Refused, StoreLocked, StoreMissing, and what the operation raises.
    """
    settings = load_settings(config, os.environ)
    try:
        return ask_any(settings.data_dir, verb, **arguments)
    except FileNotFoundError:
        pass
    from bridge.app import make_site  # late: only where no engine runs
    from bridge.engine.operations import OPERATIONS

    with opened(settings):
        pass  # a store that is not there is not made by looking for something in it
    store = Store(settings.store.url)
    try:
        if settings.store.sqlite:
            store.lock(settings.data_dir)
        return OPERATIONS[verb](make_site(settings, store), **arguments)
    finally:
        store.close()


def running(config: Path, verb: str, **arguments: Any) -> Any:
    """Have the running engine do what only it can.

    Raises: Refused, EngineNotRunning.
    """
    settings = load_settings(config, os.environ)
    try:
        return ask_any(settings.data_dir, verb, **arguments)
    except FileNotFoundError:
        raise EngineNotRunning("no engine answers in the data folder") from None


def moment(value: str, option: str) -> int:
    """`2026-11-24T08:00Z`, `2026-11-24` (UTC) or `90m`, `24h`, `7d` ago, as microseconds."""
    if found := _AGO.fullmatch(value.strip()):
        return to_us(datetime.now(UTC) - timedelta(**{_UNITS[found.group(2)]: int(found.group(1))}))
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        typer.echo(f"{option}: give a time such as 2026-11-24T08:00Z, or 24h, 7d", err=True)
        raise typer.Exit(REFUSED) from None
    return to_us(at if at.tzinfo is not None else at.replace(tzinfo=UTC))


def number_of(given: str, prefix: str) -> int:
    """`msg_123` or `123` as 123."""
    bare = given.removeprefix(f"{prefix}_")
    if not bare.isascii() or not bare.isdecimal() or len(bare) > 19:
        typer.echo(f"{prefix}_… expected: `bridge` prints ids in that form", err=True)
        raise typer.Exit(REFUSED)
    return int(bare)
