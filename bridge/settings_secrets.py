"""Which secrets a configuration names, where each comes from, and what makes a fresh one. Values are never touched here.

`bridge init` writes them into `.env.example`, `bridge doctor` says which is missing; both read the config itself, so that
a site's own `${env:NAME}` is told of like ours.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bridge.mappers.document import Document
from bridge.settings_checks import REFERENCE, Step

Maker = Literal[
    "key", "word", "password"
]  # 32 bytes in base64 · invented by us, told to the other side · the database's


@dataclass(frozen=True, slots=True)
class Named:
    """One `${env:NAME}` or `${file:path}`."""

    kind: str  # "env" or "file"
    name: str
    path: Step  # of its first use

    @property
    def key(self) -> str:
        """`apps.hospital.verify_token`."""
        return ".".join(str(step) for step in self.path)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a secret is had."""

    told: str
    page: str
    maker: Maker | None = None  # None: the other side issues it


CONFIG, EHR, WHATSAPP = "README.md", "docs/guides/connect-ehr.md", "docs/guides/connect-whatsapp.md"
_FRESH = "`bridge init --keys` prints a fresh one"
ORIGINS: dict[tuple[str, str], Origin] = {
    ("security", "data_keys"): Origin(f"32 bytes in base64, encrypts what is stored; {_FRESH}", CONFIG, "key"),
    ("security", "index_key"): Origin(f"blinds numbers and ids, and is never changed; {_FRESH}", CONFIG, "key"),
    ("security", "session_key"): Origin(f"signs the console's sessions; {_FRESH}", CONFIG, "key"),
    ("store", "url"): Origin(f"the database's password; {_FRESH} for a new database", CONFIG, "password"),
    ("ehrs", "auth"): Origin("what the EHR issued to bridge: a token, client secret or private key", EHR),
    ("ehrs", "door"): Origin(f"yours to invent and to give to the EHR with its Subscriptions; {_FRESH}", EHR, "word"),
    ("apps", "app_secrets"): Origin("Meta: your app, Settings, Basic, App secret", WHATSAPP),
    ("apps", "verify_token"): Origin(f"yours to invent and to enter at Meta beside the webhook; {_FRESH}", WHATSAPP, "word"),
    ("numbers", "access_token"): Origin("Meta: a system user's token that does not expire", WHATSAPP),
}  # fmt: skip
_UNKNOWN = Origin("named by your own configuration", CONFIG)


def named_secrets(doc: Document) -> tuple[Named, ...]:
    """Each secret once, in the order in which the file names them."""
    found: dict[tuple[str, str], Named] = {}
    for each in _walk(doc.data, ()):
        found.setdefault((each.kind, each.name), each)
    return tuple(found.values())


def _walk(value: Any, path: Step) -> Iterator[Named]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _walk(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _walk(each, (*path, index))
    elif isinstance(value, str):
        yield from (Named(kind, name, path) for kind, name in REFERENCE.findall(value))


def origin_of(named: Named) -> Origin:
    """By the place that names it."""
    first = str(named.path[0])
    return next((ORIGINS[first, str(step)] for step in named.path[1:] if (first, str(step)) in ORIGINS), _UNKNOWN)


def fresh(maker: Maker) -> str:
    """A new secret from the system's random source, in characters that need no quoting in a shell or a URL."""
    if maker == "key":
        return base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(32)
