"""How an EHR proves who it is: each kind of door lets its own sender in and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from bridge.errors import SignatureMismatch
from bridge.fhir.door import authenticate, needs_body, split_tail
from bridge.settings import Door

BODY = '{"resourceType":"Appointment","id":"a1","description":"revisión"}'.encode()
OLD, NEW = "old-secret-1", "new-secret-2"


def signed(secret: str, method: str = "sha256") -> str:
    return hmac.new(secret.encode(), BODY, method).hexdigest()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


BEARER = Door("bearer", (OLD, NEW))
KEY = Door("bearer", (NEW,), header="X-Api-Key")
BASIC = Door("basic", (NEW,), user="ehr")
HMAC = Door("hmac", (OLD, NEW))
ONE_HEADER = Door("hmac", (NEW,), header="X-Signature")
PATH = Door("path", (NEW,))
MTLS = Door("mtls_header", header="X-Client-DN", identities=("CN=ehr.hospital.example",))

GOOD: list[tuple[str, Door, dict[str, str], str | None]] = [
    ("bearer", BEARER, {"authorization": f"Bearer {NEW}"}, None),
    ("bearer, the old one during rotation", BEARER, {"authorization": f"bearer  {OLD}"}, None),
    ("bearer in a header of its own", KEY, {"x-api-key": NEW}, None),
    ("the same with its scheme", KEY, {"x-api-key": f"Bearer {NEW}"}, None),
    ("basic", BASIC, {"authorization": basic("ehr", NEW)}, None),
    ("hmac, bare hex as Medplum sends it", HMAC, {"x-signature": signed(NEW)}, None),
    ("hmac, athenahealth's header", HMAC, {"x-hub-signature": f"sha256={signed(NEW)}"}, None),
    ("hmac, sha1 named", HMAC, {"x-hub-signature": f"sha1={signed(OLD, 'sha1')}"}, None),
    ("hmac in the one header", ONE_HEADER, {"x-signature": signed(NEW).upper()}, None),
    ("path", PATH, {}, NEW),
    ("mtls", MTLS, {"x-client-dn": "CN=ehr.hospital.example"}, None),
]
BAD: list[tuple[str, Door, dict[str, str], str | None]] = [
    ("bearer: nothing", BEARER, {}, None),
    ("bearer: another scheme", BEARER, {"authorization": f"Token {NEW}"}, None),
    ("bearer: no scheme in Authorization", BEARER, {"authorization": NEW}, None),
    ("bearer: one character less", BEARER, {"authorization": f"Bearer {NEW[:-1]}"}, None),
    ("own header: the secret in another one", KEY, {"authorization": f"Bearer {NEW}"}, None),
    ("own header: empty", KEY, {"x-api-key": ""}, None),
    ("basic: another user", BASIC, {"authorization": basic("root", NEW)}, None),
    ("basic: not base64", BASIC, {"authorization": "Basic §"}, None),
    ("hmac: another secret", HMAC, {"x-signature": signed("third")}, None),
    ("hmac: another body", HMAC, {"x-signature": hmac.new(NEW.encode(), b"{}", hashlib.sha256).hexdigest()}, None),
    ("hmac: in a header we do not look at", ONE_HEADER, {"x-hub-signature": f"sha256={signed(NEW)}"}, None),
    ("hmac: a method nobody knows", HMAC, {"x-hub-signature": f"md5={signed(NEW, 'md5')}"}, None),
    ("path: none", PATH, {"authorization": f"Bearer {NEW}"}, None),
    ("path: empty", PATH, {}, ""),
    ("mtls: somebody else", MTLS, {"x-client-dn": "CN=other.example"}, None),
    ("mtls: not verified", MTLS, {}, None),
]


@pytest.mark.parametrize(("door", "headers", "token"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_who_may_come_in(door: Door, headers: dict[str, str], token: str | None) -> None:
    authenticate(door, headers, token, BODY)


@pytest.mark.parametrize(("door", "headers", "token"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_who_may_not_and_no_secret_is_told(door: Door, headers: dict[str, str], token: str | None) -> None:
    with pytest.raises(SignatureMismatch) as caught:
        authenticate(door, headers, token, BODY)
    assert not any(secret in str(caught.value) for secret in (OLD, NEW))


def test_only_a_signature_needs_the_body() -> None:
    assert [needs_body(door) for door in (BEARER, BASIC, PATH, MTLS, HMAC)] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", (None, None)),
        ("Appointment/a1", (None, "Appointment/a1")),
        ("Appointment/a1/_history/3", (None, "Appointment/a1")),
        (f"~{NEW}", (NEW, None)),
        (f"~{NEW}/Appointment/a1", (NEW, "Appointment/a1")),
        (f"/~{NEW}//Appointment/a1/", (NEW, "Appointment/a1")),
    ],
)
def test_the_token_and_what_the_server_appended(tail: str, expected: tuple[str | None, str | None]) -> None:
    assert split_tail(tail) == expected
