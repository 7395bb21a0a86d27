"""The machine bridge runs on: its clock, the store, the disk under it, and whether the engine answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pysqlite3.dbapi2
import requests
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.console.health import EHR_PAGE, OPERATE_PAGE, README, WHATSAPP_PAGE, Finding, Lines
from bridge.ledger.schema import HEAD, current
from bridge.ledger.store import MAX_DRIFT, Store
from bridge.settings import HostPort, Settings

CLOCK_OFF = 10.0  # s: beyond it token servers refuse our assertions, and windows of 24 h end at the wrong moment
SQLITE_LEAST = (3, 51, 3)
DISK_LEAST = 1 << 30  # bytes: about 100,000 events with their bodies, and room to empty what is old
TIMEOUT = (3.0, 10.0)  # s, connect and read


def clock(settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Finding]:
    """This machine's clock beside those of the servers it speaks with."""
    bases = {f"EHR {ehr.key}": f"{ehr.base_url}/metadata" for ehr in settings.ehrs.values() if ehr.base_url}
    bases |= {f"WhatsApp of {number.key}": number.base_url for number in settings.numbers.values()}
    for name, url in bases.items():
        lines = Lines("clock", f"this machine's clock and {name}'s")
        theirs = server_time(url)
        if theirs is None:
            yield lines.skipped("it answers nothing with a Date")
            continue
        apart = (now() - theirs).total_seconds()
        if abs(apart) <= CLOCK_OFF:
            yield lines.good("agree")
        else:
            yield lines.bad(
                f"are {abs(apart):.0f} s apart: ours is {'ahead' if apart > 0 else 'behind'}",
                "Have this machine's clock kept by NTP (`timedatectl` shows it); if only one server differs, it is that one's.",
                OPERATE_PAGE,
            )


def server_time(url: str) -> datetime | None:
    """The `Date` of whatever a server answers; None when it answers nothing."""
    try:
        answer = requests.head(url, timeout=TIMEOUT, allow_redirects=False, headers={"Accept": "*/*"})
        return parsedate_to_datetime(answer.headers["Date"])
    except (requests.RequestException, KeyError, ValueError, TypeError):
        return None


def store(
    settings: Settings, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Finding]:
    """Reachable, at this version's schema, on a disk with room."""
    if settings.store.sqlite:
        yield sqlite_version(pysqlite3.dbapi2.sqlite_version_info)
    lines = Lines("store", "store")
    path = Path(str(make_url(settings.store.url).database))
    if settings.store.sqlite and not path.exists():
        yield lines.bad(
            f"there is no {path} yet", "`bridge migrate` makes it; `bridge serve` does so by itself.", OPERATE_PAGE
        )
    else:
        yield from _opened(settings, lines)
    if settings.store.sqlite:
        yield disk(path, free)


def _opened(settings: Settings, lines: Lines) -> Iterator[Finding]:
    try:
        opened = Store(settings.store.url, readonly=True)
    except ImportError:  # psycopg is LGPL, and so the site's to install
        yield lines.bad(
            "PostgreSQL's driver is not installed",
            "Install bridge with its extra: uv sync --extra postgres, or pip install 'fhir-whatsapp-bridge[postgres]'.",
            README,
        )
        return
    try:
        revision = current(opened)
        yield lines.good("can be read")
        lines = Lines("store", "schema")
        if revision == HEAD:
            yield lines.good(f"at {HEAD}")
        else:
            found = f"at {revision}" if revision else "not there"
            yield lines.bad(f"{found}, this version wants {HEAD}", "Run `bridge migrate`.", OPERATE_PAGE)
        if opened.dialect == "postgresql":
            yield _drift(opened.drift())
            with opened.read() as connection:
                version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
            yield Lines("store", "PostgreSQL").good(f"version {version // 10000}")
    except SQLAlchemyError as error:
        yield lines.bad(
            f"cannot be read: {type(error).__name__}",
            "Is the database up, do host, user and password of `store.url` fit? `bridge check` shows where it is set.",
            OPERATE_PAGE,
        )
    finally:
        opened.close()


def sqlite_version(version: Sequence[int]) -> Finding:
    lines = Lines("store", "SQLite")
    shown = ".".join(map(str, version))
    if tuple(version) >= SQLITE_LEAST:
        return lines.good(f"version {shown}")
    least = ".".join(map(str, SQLITE_LEAST))
    return lines.bad(
        f"version {shown}, older than {least}: it may lose what was committed when its log is reset",
        "Install the wheel that brings its own: pip install --force-reinstall pysqlite3.",
        README,
    )


def disk(path: Path, free: Callable[[Path], int]) -> Finding:
    """Room where the SQLite file lies, and leave to write there."""
    folder = next((each for each in path.absolute().parents if each.is_dir()), Path("/"))
    lines = Lines("store", "disk")
    if not os.access(folder, os.W_OK):
        return lines.bad(
            f"{folder} cannot be written by this user", f"chown it to the user that runs bridge: {folder}", OPERATE_PAGE
        )
    room = free(folder)
    if room < DISK_LEAST:
        return lines.bad(
            f"{room >> 20} MB free under {folder}; without room nothing is acknowledged",
            "Free some, give `store.url` a larger disk, or shorten `retention.bodies` and run `bridge retention`.",
            OPERATE_PAGE,
        )
    return lines.good(f"{room / (1 << 30):.1f} GB free")


def _drift(microseconds: int) -> Finding:
    lines = Lines("clock", "this machine's clock and the database's")
    if abs(microseconds) <= MAX_DRIFT:
        return lines.good("agree")
    return lines.bad(
        f"are {abs(microseconds) / 1e6:.1f} s apart: this node claims nothing beyond 2 s",
        "Have both machines' clocks kept by NTP (`timedatectl` shows it).",
        OPERATE_PAGE,
    )


def local(place: HostPort) -> str:
    """Where this machine reaches a listener of its own."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
    return str(HostPort(everywhere.get(place.host, place.host), place.port))


def engine(settings: Settings) -> Iterator[Finding]:
    """Whether it runs and calls itself ready."""
    lines = Lines("store", "engine")
    if settings.listen.console.port == 0:
        yield lines.skipped("its console has no fixed port in `listen.console`")
        return
    try:
        answer = requests.get(f"http://{local(settings.listen.console)}/readyz", timeout=TIMEOUT)
    except requests.RequestException:
        yield lines.bad(
            "does not answer at `listen.console`",
            "Start `bridge serve` with this config (or see its last log lines for why it ended).",
            OPERATE_PAGE,
        )
        return
    try:
        problems = answer.json()["problems"] if answer.status_code == 503 else []
    except (ValueError, KeyError):
        problems = ["it answers 503"]
    if answer.status_code == 200:
        yield lines.good("ready")
    elif problems:
        yield lines.bad("; ".join(map(str, problems)), "Mend what it names; it is asked again each time.", OPERATE_PAGE)
    else:
        yield lines.bad(
            f"something else answers {answer.status_code} at `listen.console`",
            "Give `listen.console` a port of its own.",
            OPERATE_PAGE,
        )


def public(settings: Settings) -> Iterator[Finding]:
    """Whether `listen.public_url` leads to our doors, as the EHRs use it."""
    lines = Lines("ehr", "public address")
    base = settings.listen.public_url
    if base is None:
        yield lines.bad(
            "`listen.public_url` is not set", "Set it to the address at which EHRs and Meta reach the doors.", EHR_PAGE
        )
        return
    parts = urlsplit(base)
    inside = parts.hostname in {"localhost", "::1"} or str(parts.hostname).startswith("127.")
    if parts.scheme != "https" and not inside:
        yield lines.bad(
            "is not https: names and numbers would cross the net in clear, and Meta refuses it",
            "Put a TLS proxy before `listen.doors` and begin `listen.public_url` with https://.",
            WHATSAPP_PAGE,
        )
    for ehr in settings.ehrs.values():
        yield _door(base, ehr.key, next(iter(ehr.subscriptions), ""))


def _door(base: str, ehr: str, subscription: str) -> Finding:
    lines = Lines("ehr", f"EHR {ehr}: our door, through the public address")
    try:
        status = requests.get(f"{base}/ehr/{ehr}/{subscription}", timeout=TIMEOUT, allow_redirects=False).status_code
    except requests.RequestException as error:
        return lines.bad(
            f"is not reached: {type(error).__name__}",
            "Is bridge running, does the proxy pass on to `listen.doors`, does the name resolve? From inside some networks "
            "their own public address is not reachable: then try from outside.",
            EHR_PAGE,
        )
    if status == 200:
        return lines.good("answers")
    return lines.bad(
        f"answers {status} where bridge answers 200",
        "The proxy must pass the path /ehr/ on as it is, to `listen.doors`.",
        EHR_PAGE,
    )
