"""`config/bridge.yaml` and the environment as one frozen value; nothing else reads either.

Every field's meaning is the description of its key in `settings_schema.json`; comments here give units and alphabets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

CONTENT = ("mappings", "templates", "replies", "words.yaml")  # what a site may write beside its bridge.yaml
POLICY: dict[str, Any] = {"confirmed_once": False, "release_abnormal": False, "sensitive_loinc": []}  # defaults


@dataclass(frozen=True, slots=True)
class QuietHours:
    from_: time  # naive: wall clock in the patient's zone
    to: time  # earlier than from_: the next day


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    zone: str  # "Europe/Madrid"
    region: str  # "ES"
    languages: tuple[str, ...]  # the first is the default
    quiet_hours: QuietHours | None
    emergency_number: str
    minor_under: int  # years
    own_voice_from: int  # years
    policy: Mapping[str, Any]  # %site_policy in mappings


@dataclass(frozen=True, slots=True)
class Store:
    url: str = field(repr=False)  # "sqlite:///…" or "postgresql+psycopg://…", its password resolved

    @property
    def sqlite(self) -> bool:
        return self.url.startswith("sqlite:")


@dataclass(frozen=True, slots=True)
class HostPort:
    host: str  # an IPv6 address without its brackets
    port: int  # 0: any free one

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listen:
    doors: HostPort
    console: HostPort
    public_url: str | None  # without a trailing slash


@dataclass(frozen=True, slots=True)
class Security:
    data_keys: Mapping[str, bytes] = field(repr=False)  # key id -> 32 bytes; the last one encrypts
    index_key: bytes = field(repr=False)
    session_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """How we prove who we are to an EHR; only the fields of its `kind` are set."""

    kind: Literal["none", "bearer", "basic", "header", "client_secret", "smart_backend", "mtls"]
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    header: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    private_key: str | None = field(default=None, repr=False)  # PEM
    key_id: str | None = None
    certificate: str | None = field(default=None, repr=False)  # PEM


@dataclass(frozen=True, slots=True)
class Door:
    """How an EHR proves who it is to us; `header` and `user` as their kind needs them."""

    kind: Literal["bearer", "hmac", "basic", "path", "mtls_header"]
    secrets: tuple[str, ...] = field(default=(), repr=False)
    header: str | None = None
    user: str | None = None
    identities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    key: str
    resource: str  # "Appointment"
    criteria: str | None


@dataclass(frozen=True, slots=True)
class Writeback:
    appointment: Literal["put", "patch", "none"] = "none"
    communication: Literal["create", "none"] = "none"
    consent: Literal["create", "none"] = "none"


@dataclass(frozen=True, slots=True)
class Ehr:
    key: str
    base_url: str | None  # without a trailing slash; None: we only listen
    fhir_version: Literal["R4", "R4B", "R5"]
    dialect: str
    auth: Auth
    door: Door
    prime: Literal["required", "none"]
    subscriptions: Mapping[str, SubscriptionSettings]
    writeback: Writeback
    zone: str | None


@dataclass(frozen=True, slots=True)
class App:
    key: str
    app_secrets: tuple[str, ...] = field(repr=False)
    verify_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Number:
    key: str
    provider: str
    app: str  # a key of `apps`
    base_url: str  # without a trailing slash
    api_version: str  # "v23.0"
    waba_id: str
    portfolio: str
    phone_number_id: str
    access_token: str = field(repr=False)
    rate: float  # messages per second


@dataclass(frozen=True, slots=True)
class Purpose:
    without_decision: Literal["send", "block"]
    basis: str | None


@dataclass(frozen=True, slots=True)
class Recognise:
    category: str  # "http://loinc.org|89057-4"
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConsentSettings:
    purposes: Mapping[str, Purpose]
    recognise: tuple[Recognise, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    brake: int  # planned messages an hour
    doubt_wait: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Reminders:
    unconfirmed: Literal["send", "suppress"] = "send"


@dataclass(frozen=True, slots=True)
class Results:
    enabled: bool = False


@dataclass(frozen=True, slots=True)
class Pilot:
    enabled: bool = False
    locations: tuple[str, ...] = ()  # "Location/l1"
    patients: tuple[str, ...] = ()  # "Patient/p1"


@dataclass(frozen=True, slots=True)
class Retention:
    bodies: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    edit: bool = False


@dataclass(frozen=True, slots=True)
class ClockSettings:
    adjustable: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    site: Site
    store: Store
    listen: Listen
    security: Security
    ehrs: Mapping[str, Ehr]
    apps: Mapping[str, App]
    numbers: Mapping[str, Number]
    consent: ConsentSettings
    delivery: Delivery
    config_dir: Path  # folder of bridge.yaml
    data_dir: Path  # folder of the SQLite file, or ./data: lock, socket, journals
    version: str  # 12 hex digits over every file of the configuration
    reminders: Reminders = Reminders()
    results: Results = Results()
    pilot: Pilot = Pilot()
    retention: Retention = Retention()
    console: ConsoleSettings = ConsoleSettings()
    clock: ClockSettings = ClockSettings()

    @property
    def fhir_versions(self) -> tuple[str, ...]:
        """What mappings are checked against: R4, in whose words they are written, and what the EHRs speak."""
        return tuple(dict.fromkeys(("R4", *(ehr.fhir_version for ehr in self.ehrs.values()))))

    def part(self, name: str) -> Path:
        """`mappings`, `templates`, `replies` or `words.yaml`: the site's own, else the one we ship."""
        return content_path(self.config_dir, name)


def load_settings(
    path: Path, environ: Mapping[str, str], needed: Callable[[tuple[str | int, ...]], bool] = lambda path: True
) -> Settings:
    """Read and check a configuration.

    Args:
        path: a bridge.yaml; `${file:…}` and the other files of the configuration are looked up from its folder.
        environ: where `${env:NAME}` is looked up.
        needed: whether the secret at this place of the document must be there; one that nobody uses may be missing.

    Raises:
        Refused: everything that is wrong, missing secrets by name included, each at its place.
    """
    from bridge.settings_reader import read_settings  # late: ruamel and jsonschema, which `bridge --help` need not pay

    return read_settings(path, environ, needed)


def shipped_config() -> Path:
    """The configuration that comes with bridge: inside an installed wheel, or at the top of a checkout."""
    packed = Path(__file__).parent / "_config"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "config"


def content_path(config_dir: Path, name: str) -> Path:
    """A part of the configuration: the site's own if it is there, else the one we ship."""
    own = config_dir / name
    return own if own.exists() else shipped_config() / name


def loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
