"""Our HAPI dialect against what a real HAPI FHIR 8.8.0 was seen sending, member by member."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.sandbox.ehr.notifications import Dialect, Request, criteria_request, topic_request
from bridge.sandbox.ehr.store import Change, Version
from bridge.sandbox.ehr.subscriptions import Standing

TOPICS = [
    f"{version}-topic-{content}-{event}"
    for version in ("r4", "r4b", "r5")
    for content in ("empty", "id-only", "full-resource")
    for event in ("create", "update", "delete")
]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAMED = {"if-match", "if-none-exist", "content-type", "authorization"}


def recorded(corpus: Path, name: str) -> dict[str, Any]:
    return json.loads((corpus / f"hapi/{name}.json").read_text("utf-8"))


def version(number: int, resource: dict[str, Any], at: str, method: str) -> Version:
    reference = f"{resource['resourceType']}/{resource['id']}"
    raw = b"" if method == "DELETE" else json.dumps(resource).encode()
    return Version(reference, str(number), at, method, raw, {} if method == "DELETE" else resource)


def change(number: int, resource: dict[str, Any], at: str = "2026-11-23T13:00:00.000+00:00") -> Change:
    method = {1: "POST", 2: "PUT", 3: "DELETE"}[number]
    return Change(
        version(number, resource, at, method), None if number == 1 else version(1, resource, at, "POST"), "client"
    )


def without_uuids(body: str | bytes) -> Any:
    return json.loads(UUID.sub("uuid", body if isinstance(body, str) else body.decode()))


def headers(pairs: list[list[str]] | list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in pairs if name.lower() in NAMED)


@pytest.mark.parametrize("name", TOPICS)
def test_topics(corpus: Path, name: str) -> None:
    seen = recorded(corpus, name)
    fhir, content, event = re.fullmatch(r"(r4b?|r5)-topic-(.*)-(create|update|delete)", name).groups()
    body = json.loads(seen["body"])
    status, *entries = body["entry"]
    number = ("create", "update", "delete").index(event) + 1
    subscription = re.search(r"Subscription/(\d+)", seen["body"]).group(0).split("/")[1]
    resources = [entry["resource"] for entry in entries if "resource" in entry]
    focus = next((each for each in resources if each["resourceType"] == "Appointment"), None)
    if focus is None:
        named = re.search(r"Appointment/([^/\"]+)", seen["body"])
        focus = {"resourceType": "Appointment", "id": named.group(1) if named else "1"}
    included = [version(1, each, "", "POST") for each in resources if each["resourceType"] != "Appointment"]
    standing = Standing(
        subscription, "r5" if fhir == "r5" else "backport", "http://x/door", "Appointment", content=content,
        topic="http://example.org/topics/appointment-any", headers=[("Authorization", "Bearer x")], status="active", delivered=number - 1,
    )  # fmt: skip
    made = topic_request(
        standing,
        "event-notification",
        [change(number, focus)],
        Dialect("hapi", fhir.upper()),
        at="now",
        included=included,
    )
    assert without_uuids(made.body) == without_uuids(seen["body"])
    assert headers(made.headers) == headers(seen["headers"])
    assert made.method == seen["method"]
    assert status["resource"]["resourceType"] in {"Parameters", "SubscriptionStatus"}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("r4-create-full", 1),
        ("r4-update-full", 2),
        ("r4-ext-strip", 1),
        ("r4-create-empty", 1),
        ("r4-update-empty", 2),
        ("r4-delete-with-extension", 3),
    ],
)
def test_criteria(corpus: Path, name: str, number: int) -> None:
    seen = recorded(corpus, name)
    path = seen["path"].removesuffix("/").split("/")
    resource = json.loads(seen["body"]) if seen["body"] else {"resourceType": "Appointment", "id": path[-1]}
    full = resource | {"meta": resource.get("meta", {}) | {"versionId": str(number)}}
    base = f"http://127.0.0.1:19090/{path[1]}"
    standing = Standing(
        "1",
        "criteria",
        base,
        "Appointment",
        headers=[("Authorization", "Bearer x")],
        strip_version=name == "r4-ext-strip",
    )
    standing.payload = "" if name.endswith("empty") else standing.payload
    made: Request = criteria_request(standing, change(number, full), Dialect("hapi", "R4"))
    assert (made.method, made.url.removeprefix("http://127.0.0.1:19090")) == (seen["method"], seen["path"])
    assert headers(made.headers) == headers(seen["headers"])
    assert (json.loads(made.body) if made.body else "") == (json.loads(seen["body"]) if seen["body"] else "")
