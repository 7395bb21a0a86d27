"""Batch and transaction Bundles: entries go through the same interactions; a transaction holds whole or not at all.

Source: https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from bridge.sandbox.ehr.service import Answer, Service, outcome
from bridge.sandbox.ehr.store import Refusal

HEADERS = {"ifMatch": "if-match", "ifNoneMatch": "if-none-match", "ifNoneExist": "if-none-exist"}
ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}  # the order a transaction is processed in

_encode = msgspec.json.encode


class _Entry(msgspec.Struct, rename="camel"):
    request: dict[str, Any]
    resource: msgspec.Raw = msgspec.Raw(b"")
    full_url: str = ""


class _Bundle(msgspec.Struct, rename="camel"):
    resource_type: str
    type: str
    entry: list[_Entry] = []


def perform(service: Service, body: bytes) -> Answer:
    """Answer a POST to the base. Entries of a batch fail singly; one bad entry of a transaction undoes all of it."""
    try:
        bundle = msgspec.json.decode(body, type=_Bundle)
    except msgspec.DecodeError as error:
        return outcome(Refusal(400, "invalid", f"Not a batch or transaction Bundle: {error}"))
    if bundle.resource_type != "Bundle" or bundle.type not in {"batch", "transaction"}:
        return outcome(Refusal(400, "not-supported", f"A Bundle of type {bundle.type!r} cannot be processed"))
    if bundle.type == "batch":
        answers = [_one(service, entry, {}) for entry in bundle.entry]
    else:
        order = sorted(
            range(len(bundle.entry)), key=lambda at: ORDER.get(bundle.entry[at].request.get("method", ""), 9)
        )
        made: dict[int, Answer] = {}
        names: dict[str, str] = {}
        service.begin()
        for at in order:
            entry = bundle.entry[at]
            answer = _one(service, entry, names)
            if answer.status >= 400:
                service.rollback()
                return answer
            made[at] = answer
            if entry.full_url.startswith("urn:") and (location := answer.headers.get("Content-Location")):
                names[entry.full_url] = "/".join(location.split("/_history/")[0].split("/")[-2:])
        service.commit()
        answers = [made[at] for at in range(len(bundle.entry))]
    entries = [_response(answer, bare=service.as_hapi) for answer in answers]
    written = [reference for answer in answers for reference in answer.written]
    text = _encode({"resourceType": "Bundle", "type": f"{bundle.type}-response", "entry": entries})
    return Answer(200, text, {}, written)


def _one(service: Service, entry: _Entry, names: dict[str, str]) -> Answer:
    headers = {HEADERS[key]: str(value) for key, value in entry.request.items() if key in HEADERS}
    body = bytes(entry.resource)
    for urn, reference in names.items():  # an entry may point at one made before it in the same transaction
        body = body.replace(_encode(urn), _encode(reference))
    if entry.request.get("method") == "PATCH":  # a patch travels in a Binary, for a Bundle holds resources only
        headers["content-type"] = "application/json-patch+json"
        body = base64.b64decode(msgspec.json.decode(body or b"{}").get("data", ""))
    url = str(entry.request.get("url", "")).removeprefix(service.base())
    return service.perform(str(entry.request.get("method", "")), url, headers, body)


def _response(answer: Answer, *, bare: bool) -> dict[str, Any]:
    response: dict[str, Any] = {"status": str(answer.status)}
    if etag := answer.headers.get("ETag"):
        response["etag"] = etag.removeprefix('W/"').rstrip('"') if bare else etag
    if location := answer.headers.get("Location"):
        response["location"] = location
    if answer.status >= 400:
        return {"response": response | {"outcome": msgspec.Raw(answer.body)}}
    return {"response": response} | ({"resource": msgspec.Raw(answer.body)} if answer.body else {})
