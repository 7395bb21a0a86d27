"""Who pushes: proof over the raw bytes, in constant time, before anything is parsed. Pure.

Source: reference/fhir.md §1, §2, §15; the kinds are those of `ehrs.<key>.door` in the config.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from bridge.errors import SignatureMismatch
from bridge.settings import Door

TOKEN = "~"  # noqa: S105  marks a path segment as the secret: `/ehr/main/appointments/~<token>/Appointment/a1`
SIGNATURES = ("x-signature", "x-hub-signature-256", "x-hub-signature")
DIGESTS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1, "sha512": hashlib.sha512}


def needs_body(door: Door) -> bool:
    """Whether the proof is over the body, so that it must be read first."""
    return door.kind == "hmac"


def split_tail(tail: str) -> tuple[str | None, str | None]:
    """(token, "Type/id") of what follows the subscription in the path; a version behind the id is dropped."""
    segments = [segment for segment in tail.split("/") if segment]
    token = None
    if segments and segments[0].startswith(TOKEN):
        token = segments.pop(0)[1:]
    if not segments:
        return token, None
    return token, "/".join(segments[:2])


def authenticate(door: Door, headers: Mapping[str, str], token: str | None, body: bytes) -> None:
    """Raises: SignatureMismatch, saying what was missing or wrong, never what was sent."""
    if door.kind == "bearer":
        _one_of(_bearer(door, headers), door.secrets, "the bearer secret")
    elif door.kind == "path":
        _one_of(token or "", door.secrets, "the token in the path")
    elif door.kind == "basic":
        _basic(door, headers.get("authorization", ""))
    elif door.kind == "mtls_header":
        _one_of(headers.get((door.header or "").lower(), ""), door.identities, "the identity the proxy verified")
    else:
        _hmac(door, headers, body)


def _one_of(sent: str, secrets: Iterable[str], what: str) -> None:
    given = sent.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(given, secret.encode()) for secret in secrets if secret]
    if not sent or not any(matches):
        raise SignatureMismatch(f"{what} is missing or wrong")


def _bearer(door: Door, headers: Mapping[str, str]) -> str:
    """The secret as sent; in a header of its own (`X-Api-Key: …`) the word Bearer may be left out."""
    sent = headers.get((door.header or "authorization").lower(), "").strip()
    scheme, _, rest = sent.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return sent if door.header is not None and door.header.lower() != "authorization" else ""


def _basic(door: Door, header: str) -> None:
    scheme, _, sent = header.partition(" ")
    try:
        user, _, password = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
    except ValueError:
        user = password = ""
    known = hmac.compare_digest(user.encode(), (door.user or "").encode())
    _one_of(password if scheme.lower() == "basic" and known else "", door.secrets, "user and password")


def _hmac(door: Door, headers: Mapping[str, str], body: bytes) -> None:
    names = [door.header.lower()] if door.header else list(SIGNATURES)
    for name in names:
        sent = headers.get(name)
        if not sent:
            continue
        method, equals, digest = sent.strip().partition("=")
        kind = DIGESTS.get(method.lower()) if equals else hashlib.sha256
        if kind is None:
            continue
        value = (digest if equals else sent.strip()).lower().encode("utf-8", "surrogateescape")
        matches = [
            hmac.compare_digest(hmac.new(secret.encode(), body, kind).hexdigest().encode(), value)
            for secret in door.secrets
            if secret
        ]
        if any(matches):
            return
    raise SignatureMismatch("no signature over the body that matches a secret of this door")
