"""`bridge serve`: one engine process until SIGTERM."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import re
import signal
import sys
import threading
from types import TracebackType
from typing import Annotated, Any

import typer

from bridge import roles
from bridge.cli import DEFAULT_CONFIG, REFUSED, ConfigOption
from bridge.errors import RolesRefused
from bridge.settings import HostPort, load_settings

# Only these keys of a log record are printed beside its phrase: ids and figures. Everything else stays out.
KEYS = (
    "cause",
    "node",
    "error",
    "event",
    "events",
    "message_id",
    "subject",
    "requests",
    "ehr",
    "type",
    "write",
    "roles",
)


FLASK = ("bridge.doors", "bridge.console")  # its loggers bear our applications' names, its words are its own
ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_PLACE = re.compile(r"(.+):(\d{1,5})")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _phrase(record),
        }
        line |= {key: getattr(record, key) for key in KEYS if hasattr(record, key)}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__  # its message may quote data; where it was thrown may not
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["where"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return json.dumps(line, default=str)


def _phrase(record: logging.LogRecord) -> str:
    """What is said. Libraries put paths, values and whole exceptions into theirs: only their fixed words are kept."""
    if record.name.startswith("bridge.") and record.name not in FLASK:
        return record.getMessage()
    return str(record.msg).partition("\n")[0][:200]


def _died(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Python would print the exception's own words."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger(__name__).critical("something died", exc_info=(kind, error, trace))


def set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    threading.excepthook = lambda args: _died(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _died(args.exc_type, args.exc_value, args.exc_traceback)
    logging.basicConfig(level=os.environ.get("BRIDGE_LOG", "INFO").upper(), handlers=[handler], force=True)
    for quiet in ("alembic", "apscheduler", "urllib3", "asyncio", "werkzeug"):
        logging.getLogger(quiet).setLevel(logging.WARNING)


def few_arenas() -> None:
    """glibc gives every thread a heap of its own; with the doors' threads that kept 75 MB more than was ever in use."""
    with contextlib.suppress(OSError, AttributeError):  # another libc: nothing to set
        ctypes.CDLL(None).mallopt(ARENA_MAX, 2)


def _asked(named: str, health: str) -> tuple[frozenset[str], HostPort | None]:
    """The roles and the place of health that the command line names; what it cannot mean ends here."""
    try:
        mine = roles.parse(named)
    except ValueError as error:
        print(f"--roles: {error}", file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    found = _PLACE.fullmatch(health)
    if health and found is None:
        print("--health: give HOST:PORT, such as 127.0.0.1:8702", file=sys.stderr)
        raise typer.Exit(REFUSED)
    return mine, HostPort(found.group(1).strip("[]"), int(found.group(2))) if found is not None else None


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    named: Annotated[
        str,
        typer.Option(
            "--roles",
            envvar="BRIDGE_ROLES",
            help=f"What this process does, with commas: {', '.join(roles.ROLES)}. Fewer than all: PostgreSQL only.",
            show_default="all",
        ),
    ] = ",".join(roles.ROLES),
    health: Annotated[
        str,
        typer.Option(
            envvar="BRIDGE_HEALTH",
            help="HOST:PORT where a process without the console answers /healthz, /readyz and /metrics.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Run the engine until SIGTERM: doors, loops, console, or what --roles names of it."""
    mine, place = _asked(named, health)
    gc.disable()  # until all is loaded: a thousand modules make no garbage, and looking for it takes a tenth of the start
    set_up_logging()
    few_arenas()
    settings = load_settings(config, os.environ, lambda path: roles.needed(path, mine))
    from bridge.app import Engine  # late: a refused config answers at once

    try:
        engine = Engine(settings, roles=mine, health=place)
    except RolesRefused as error:
        print(f"--roles: {error}", file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    engine.start()
    gc.collect()
    gc.freeze()  # what is loaded now lives as long as the process: the collector need not look at it again
    gc.enable()
    print(
        json.dumps(
            {
                "ready": True,
                "roles": roles.ordered(mine),
            }
            | ({"doors": f"http://{settings.listen.doors}"} if "doors" in mine else {})
            | ({"console": f"http://{settings.listen.console}"} if "console" in mine else {})
        ),
        flush=True,
    )
    stop.wait()
    engine.stop()
