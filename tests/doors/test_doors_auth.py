"""Who may come in, at running doors: every kind of proof, wrong and missing ones, what they leave behind (nothing)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus.running import EHR_SECRET, Doors, running, signature

NEW, OLD = "secret-of-today", "secret-of-yesterday"
SECRETS = {"NEW": NEW, "OLD": OLD}
PAIR = ["${env:OLD}", "${env:NEW}"]
EHRS: dict[str, dict[str, Any]] = {
    "main": {},
    "rotating": {"door": {"kind": "bearer", "secrets": PAIR}},
    "signed": {"door": {"kind": "hmac", "secrets": PAIR}},
    "named": {"door": {"kind": "hmac", "secrets": PAIR, "header": "X-Signature"}},
    "basic": {"door": {"kind": "basic", "user": "ehr", "secrets": PAIR}},
    "path": {"door": {"kind": "path", "secrets": PAIR}},
    "proxied": {"door": {"kind": "mtls_header", "header": "X-Client-DN", "identities": ["CN=ehr.example"]}},
}
BODY = json.dumps(
    {"resourceType": "Appointment", "id": "a1", "status": "booked", "start": "2026-12-01T09:30:00Z"}
).encode()


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with running(ehrs=EHRS, extra_env=SECRETS) as found:
        yield found


def mac(secret: str, body: bytes = BODY, kind: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, getattr(hashlib, kind)).hexdigest()


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


WELCOME = [
    ("main", "", bearer(EHR_SECRET)),
    ("main", "", {"authorization": f"bearer  {EHR_SECRET} "}),
    ("rotating", "", bearer(OLD)),
    ("rotating", "", bearer(NEW)),
    ("rotating", "/Appointment/a1", bearer(NEW)),
    ("rotating", "/", bearer(NEW)),
    ("rotating", "//Appointment/a1", bearer(NEW)),
    ("signed", "", {"X-Signature": mac(OLD)}),
    ("signed", "", {"X-Signature": mac(NEW).upper()}),
    ("signed", "", {"X-Hub-Signature": "sha256=" + mac(NEW)}),
    ("signed", "", {"X-Hub-Signature": "sha1=" + mac(NEW, kind="sha1")}),
    ("signed", "", {"X-Hub-Signature-256": "sha256=" + mac(NEW)}),
    ("signed", "", {"X-Hub-Signature": "sha1=" + "0" * 40, "X-Hub-Signature-256": "sha256=" + mac(NEW)}),
    ("named", "", {"X-Signature": mac(NEW)}),
    ("basic", "", basic(f"ehr:{OLD}")),
    ("basic", "", basic(f"ehr:{NEW}")),
    ("path", f"/~{NEW}", {}),
    ("path", f"/~{OLD}/Appointment/a1", {}),
    ("path", f"/~{NEW}/Appointment/a1/_history/3", {}),
    ("proxied", "", {"X-Client-DN": "CN=ehr.example"}),
]
REFUSED = [
    ("main", "", {}),
    ("main", "", bearer("")),
    ("main", "", bearer(EHR_SECRET + "x")),
    ("main", "", bearer(EHR_SECRET[:-1])),
    ("main", "", bearer(f"{EHR_SECRET}\xe9")),
    ("main", "", {"Authorization": EHR_SECRET}),
    ("main", "", basic(f"ehr:{EHR_SECRET}")),
    ("main", f"/~{EHR_SECRET}", {}),
    ("main", f"?token={EHR_SECRET}", {}),
    ("main", "", {"X-Authorization": f"Bearer {EHR_SECRET}"}),
    ("rotating", "", bearer(EHR_SECRET)),
    ("signed", "", {}),
    ("signed", "", {"X-Signature": mac("another")}),
    ("signed", "", {"X-Signature": mac(NEW, BODY + b" ")}),
    ("signed", "", {"X-Signature": mac(NEW)[:-1]}),
    ("signed", "", {"X-Hub-Signature": "md5=" + mac(NEW, kind="md5")}),
    ("signed", "", {"X-Hub-Signature": "="}),
    ("signed", "", {"X-Signature": "\xff\xfe"}),
    ("named", "", {"X-Hub-Signature-256": "sha256=" + mac(NEW)}),
    ("basic", "", basic(f"another:{NEW}")),
    ("basic", "", basic(f"ehr:{NEW}x")),
    ("basic", "", basic("ehr:")),
    ("basic", "", {"Authorization": "Basic !!!"}),
    ("basic", "", {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()}),
    ("path", "", {}),
    ("path", f"/{NEW}", {}),
    ("path", "/~", {}),
    ("path", "/~wrong/Appointment/a1", {}),
    ("path", f"/Appointment/a1/~{NEW}", {}),
    ("path", "", bearer(NEW)),
    ("proxied", "", {}),
    ("proxied", "", {"X-Client-DN": "CN=somebody.example"}),
    ("proxied", "", {"X_Client_DN": "CN=ehr.example"}),
]


def push(doors: Doors, ehr: str, tail: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    sent = [("Content-Type", "application/fhir+json"), *headers.items()]
    return doors.send("PUT", f"/ehr/{ehr}/appointments{tail}", sent, BODY)


@pytest.mark.parametrize(("ehr", "tail", "headers"), WELCOME)
def test_proof_opens(doors: Doors, ehr: str, tail: str, headers: dict[str, str]) -> None:
    before = len(doors.rows())
    assert push(doors, ehr, tail, headers)[0] == 200
    assert len(doors.rows()) == before + 1


@pytest.mark.parametrize(("ehr", "tail", "headers"), REFUSED)
def test_no_proof_leaves_nothing_but_a_count(doors: Doors, ehr: str, tail: str, headers: dict[str, str]) -> None:
    before, counted = len(doors.rows()), refused(doors, "ehr", ehr)
    status, _, said = push(doors, ehr, tail, headers)
    assert status in (401, 403)
    assert said == b""
    assert len(doors.rows()) == before
    assert refused(doors, "ehr", ehr) == counted + 1


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signature(BODY, "another")},
        {"X-Hub-Signature-256": signature(BODY)[7:]},
        {"X-Hub-Signature-256": signature(BODY + b"\n")},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": "sha256=" + "\xe9" * 64},
        {"X-Hub-Signature": "sha1=" + hmac.new(b"app-secret-of-the-test-app", BODY, hashlib.sha1).hexdigest()},
    ],
)
def test_unsigned_webhook(doors: Doors, sent: dict[str, str]) -> None:
    before, counted = len(doors.rows()), refused(doors, "whatsapp", "hospital")
    status, _, said = doors.send("POST", "/whatsapp/hospital/webhook", list(sent.items()), BODY)
    assert (status, said) == (401, b"")
    assert len(doors.rows()) == before
    assert refused(doors, "whatsapp", "hospital") == counted + 1


def refused(doors: Doors, door: str, key: str) -> int:
    name = f'bridge_unauthenticated_total{{door="{door}",key="{key}"}} '
    return sum(int(line.removeprefix(name)) for line in doors.metrics().splitlines() if line.startswith(name))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ehr/nobody/appointments"),
        ("PUT", "/ehr/main/nothing/Appointment/a1"),
        ("GET", "/ehr/nobody/appointments"),
        ("POST", "/ehr/main"),
        ("POST", "/whatsapp/nobody/webhook"),
        ("GET", "/whatsapp/nobody/webhook?hub.mode=subscribe"),
        ("POST", "/whatsapp/hospital/webhook/more"),
        ("POST", "/"),
        ("GET", "/metrics"),
        ("GET", "/ehr/main/%00"),
        ("GET", "/ehr/main/..%2f..%2fappointments"),
    ],
)
def test_nobody_lives_there(doors: Doors, method: str, path: str) -> None:
    before = len(doors.rows())
    assert doors.send(method, path, list(bearer(EHR_SECRET).items()), BODY)[0] == 404
    assert len(doors.rows()) == before


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tail", ["", "/", "/Appointment/a1", "/~anything"])
def test_probe(doors: Doors, method: str, tail: str) -> None:
    before = len(doors.rows())
    status, _, said = doors.send(method, f"/ehr/main/appointments{tail}")
    assert (status, said) == (200, b"")
    assert len(doors.rows()) == before


def test_handshake_of_the_webhook(doors: Doors) -> None:
    ask = "/whatsapp/hospital/webhook?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    status, headers, said = doors.send("GET", ask + "token-of-the-test")
    assert (status, said) == (200, b"1158201444")
    assert headers["content-type"].startswith("text/plain")
    assert doors.send("GET", ask + "guess")[0] == 403
    assert doors.send("GET", "/whatsapp/hospital/webhook")[0] == 403
    script = "/whatsapp/hospital/webhook?hub.mode=subscribe&hub.verify_token=token-of-the-test&hub.challenge="
    status, headers, _ = doors.send("GET", script + "%3Cscript%3E%0d%0aSet-Cookie:%20a=b")
    assert "set-cookie" not in headers
    assert headers["content-type"].startswith("text/plain")
    assert doors.send("GET", script + "x" * 5000)[0] == 403


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_verbs(doors: Doors, method: str) -> None:
    before = len(doors.rows())
    assert 200 <= doors.send(method, "/ehr/main/appointments", list(bearer(EHR_SECRET).items()), BODY)[0] < 500
    assert len(doors.rows()) == before
