"""bridge.yaml and the environment -> Settings: every problem found before the first is reported.

Three passes over the plain document: its schema, the references to secrets, and what no schema can say (zones, URLs,
names that must exist elsewhere). Only a document that passes all three is built.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from bridge.errors import Refused
from bridge.mappers.document import Document, Problem, check_schema, load_document
from bridge.settings import (
    CONTENT,
    POLICY,
    App,
    Auth,
    ClockSettings,
    ConsentSettings,
    ConsoleSettings,
    Delivery,
    Door,
    Ehr,
    HostPort,
    Listen,
    Number,
    Pilot,
    Purpose,
    QuietHours,
    Recognise,
    Reminders,
    Results,
    Retention,
    Security,
    Settings,
    Site,
    Store,
    SubscriptionSettings,
    Writeback,
    content_path,
)
from bridge.settings_checks import REFERENCE, Step, beyond_schema, key_bytes

SECRET_NAME = re.compile(r"token|secret|password|key|certificate|url", re.IGNORECASE)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """`30m`, `90d`; the schema has checked the form."""
    return timedelta(**{UNITS[text[-1]]: int(text[:-1])})


def schema() -> dict[str, Any]:
    """The JSON Schema of bridge.yaml, as installed."""
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "settings_schema.json").read_text("utf-8"))
    return loaded


def read_settings(
    path: Path, environ: Mapping[str, str], needed: Callable[[Step], bool] = lambda path: True
) -> Settings:
    """See `bridge.settings.load_settings`."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise Refused([Problem(str(path), 1, 1, "BR007", "there is no such file", "")]) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise Refused([Problem(str(path), 1, 1, "BR007", f"cannot be read: {type(exc).__name__}", "")]) from None
    doc = load_document(text, str(path))
    if not isinstance(doc.data, dict):
        raise Refused([doc.problem((), "BR010", "this should be a mapping of the sections, like site: and store:")])
    problems = check_schema(doc, schema())
    resolver = _Resolver(doc, path.parent, environ, needed)
    data = resolver.resolved(doc.data, ())
    problems += resolver.problems
    placed = {(problem.line, problem.column) for problem in problems} | resolver.left_out
    beyond = [problem for problem in beyond_schema(doc, data) if (problem.line, problem.column) not in placed]
    problems = sorted(problems + beyond, key=lambda problem: (problem.line, problem.column, problem.code))
    if problems:
        raise Refused(_masked(doc, problems))
    return _build(data, path.parent, config_version(path))


def config_version(path: Path) -> str:
    """12 hex digits that change when any file of the configuration does (secrets are not part of them)."""
    digest = hashlib.sha256(path.read_bytes())
    for name in CONTENT:
        part = content_path(path.parent, name)
        files = (
            [part] if part.is_file() else sorted(each for each in part.rglob("*") if each.suffix in {".yaml", ".json"})
        )
        for file in files:
            digest.update(b"\0" + file.relative_to(part.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


class _Resolver:
    """Puts the values in the place of `${env:NAME}` and `${file:path}`."""

    def __init__(self, doc: Document, folder: Path, environ: Mapping[str, str], needed: Callable[[Step], bool]) -> None:
        self.doc, self.folder, self.environ, self.needed = doc, folder, environ, needed
        self.problems: list[Problem] = []
        self.left_out: set[tuple[int, int]] = set()  # where what is missing is missed by nobody: the reference stays

    def resolved(self, value: Any, path: Step) -> Any:
        if isinstance(value, dict):
            return {key: self.resolved(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolved(each, (*path, index)) for index, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        inside_url = path == ("store", "url") and not REFERENCE.fullmatch(value)  # a password may hold @ or /
        return REFERENCE.sub(lambda found: self.looked_up(found, path, inside_url), value)

    def looked_up(self, found: re.Match[str], path: Step, quoted: bool) -> str:
        kind, name = found.groups()
        if kind == "env":
            if value := self.environ.get(name, ""):
                return quote(value, safe="") if quoted else value
            state = "is empty" if name in self.environ else "is not set"
            self._missing(path, "BR031", f"the environment variable {name} {state}")
            return found.group()
        try:
            value = (self.folder / name).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError, ValueError):
            self._missing(path, "BR032", f"the file {name} cannot be read")
            return found.group()
        if not value:
            self._missing(path, "BR032", f"the file {name} is empty")
            return found.group()
        return quote(value, safe="") if quoted else value

    def _missing(self, path: Step, code: str, told: str) -> None:
        if self.needed(path):
            self.problems.append(self.doc.problem(path, code, told))
        else:
            self.left_out.add(self.doc.position(path))


def _masked(doc: Document, problems: list[Problem]) -> list[Problem]:
    """No line is shown that holds what looks like a secret written out, and of a misspelt key only its name."""
    hidden: set[int] = set()
    cut = {problem.line: problem.column for problem in reversed(problems) if problem.code == "BR011"}

    def walk(value: Any, path: Step, secret: bool) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(each, (*path, key), secret or bool(SECRET_NAME.search(key)))
        elif isinstance(value, list):
            for index, each in enumerate(value):
                walk(each, (*path, index), secret)
        elif secret and isinstance(value, str | int) and _is_secret(path, str(value)):
            hidden.add(doc.position(path)[0])

    def shown(problem: Problem) -> str:
        if problem.line in hidden:
            return ""
        if problem.line not in cut:
            return problem.source
        end = problem.source.find(":", cut[problem.line] - 1)  # what follows may be a token under a name of nobody's
        return problem.source[: end + 1] + " …" if problem.column <= end else ""

    walk(doc.data, (), False)
    return [replace(problem, source=shown(problem)) for problem in problems]


def _is_secret(path: Step, value: str) -> bool:
    if REFERENCE.fullmatch(value) or path[-1] == "key_id":
        return False
    if "url" in str(path[-1]):  # harmless unless a password stands in it
        return "@" in REFERENCE.sub("", value) and not re.search(r":\$\{[^}]+\}@", value)
    return True


def _build(data: dict[str, Any], folder: Path, version: str) -> Settings:
    site, listen, security = data["site"], data["listen"], data["security"]
    quiet = site.get("quiet_hours")
    url = re.sub(r"^postgresql://", "postgresql+psycopg://", data["store"]["url"])
    file = re.match(r"sqlite:///([^?]+)", url)
    pilot, delivery = data.get("pilot", {}), data["delivery"]
    return Settings(
        site=Site(
            name=site["name"],
            zone=ZoneInfo(site["zone"]).key,
            region=site["region"],
            languages=tuple(site["languages"]),
            quiet_hours=QuietHours(time.fromisoformat(quiet["from"]), time.fromisoformat(quiet["to"]))
            if quiet
            else None,
            emergency_number=str(site.get("emergency_number", "112")),
            minor_under=site.get("minor_under", 18),
            own_voice_from=site.get("own_voice_from", min(16, site.get("minor_under", 18))),
            policy=POLICY | site.get("policy", {}),
        ),
        store=Store(url),
        listen=Listen(
            doors=_host_port(listen["doors"]),
            console=_host_port(listen["console"]),
            public_url=listen["public_url"].rstrip("/") if "public_url" in listen else None,
        ),
        security=Security(
            data_keys={name: key_bytes(value) or b"" for name, value in security["data_keys"].items()},
            index_key=security["index_key"].encode(),
            session_key=security["session_key"].encode(),
        ),
        ehrs={key: _build_ehr(key, ehr) for key, ehr in data["ehrs"].items()},
        apps={key: App(key, tuple(app["app_secrets"]), app["verify_token"]) for key, app in data["apps"].items()},
        numbers={key: _build_number(key, number) for key, number in data["numbers"].items()},
        consent=ConsentSettings(
            purposes={
                key: Purpose(each["without_decision"], each.get("basis"))
                for key, each in data["consent"]["purposes"].items()
            },
            recognise=tuple(
                Recognise(each["category"], tuple(each["purposes"])) for each in data["consent"].get("recognise", ())
            ),
        ),
        delivery=Delivery(delivery["brake"], duration(delivery.get("doubt_wait", "30m"))),
        config_dir=folder,
        data_dir=Path(file.group(1)).parent if file else Path("data"),
        version=version,
        reminders=Reminders(**data.get("reminders", {})),
        results=Results(**data.get("results", {})),
        pilot=Pilot(pilot.get("enabled", False), tuple(pilot.get("locations", ())), tuple(pilot.get("patients", ()))),
        retention=Retention(duration(data.get("retention", {}).get("bodies", "90d"))),
        console=ConsoleSettings(**data.get("console", {})),
        clock=ClockSettings(**data.get("clock", {})),
    )


def _host_port(text: str) -> HostPort:
    host, _, port = text.rpartition(":")
    return HostPort(host.strip("[]"), int(port))


def _build_ehr(key: str, ehr: dict[str, Any]) -> Ehr:
    door = ehr["door"]
    return Ehr(
        key=key,
        base_url=ehr["base_url"].rstrip("/") if "base_url" in ehr else None,
        fhir_version=ehr.get("fhir_version", "R4"),
        dialect=ehr.get("dialect", "generic"),
        auth=Auth(**ehr.get("auth", {"kind": "none"})),
        door=Door(
            door["kind"],
            tuple(door.get("secrets", ())),
            door.get("header"),
            door.get("user"),
            tuple(door.get("identities", ())),
        ),
        prime=ehr.get("prime", "required"),
        subscriptions={
            name: SubscriptionSettings(name, each["resource"], each.get("criteria"))
            for name, each in ehr["subscriptions"].items()
        },
        writeback=Writeback(**ehr.get("writeback", {})),
        zone=ehr.get("zone"),
    )


def _build_number(key: str, number: dict[str, Any]) -> Number:
    return Number(
        key=key,
        provider=number["provider"],
        app=number["app"],
        base_url=number.get("base_url", "https://graph.facebook.com").rstrip("/"),
        api_version=number.get("api_version", "v23.0"),
        waba_id=str(number["waba_id"]),
        portfolio=number.get("portfolio", "default"),
        phone_number_id=str(number["phone_number_id"]),
        access_token=number["access_token"],
        rate=float(number.get("rate", 70)),
    )
