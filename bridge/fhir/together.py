"""Reads and searches that are asked together, as one batch Bundle of GETs: half a millisecond of CPU a request is more than
what it brings.

An entry is believed only where it says exactly what a GET of its own would have said; every other one (an absence, a refusal,
several pages, a server that mixes up its answers) is for the caller to ask by itself.

Source: https://hl7.org/fhir/R4/http.html#transaction (entries of a batch are answered in their order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bridge.fhir.answers import dicts, etag_of, version_of


@dataclass(frozen=True, slots=True)
class Told:
    """What one GET of the batch found. `value`: a resource, or a list of them for a search."""

    value: Any
    etag: str | None = None


def entry(what: str) -> dict[str, Any]:
    """The Bundle entry that asks for `Patient/p1` or `Consent?patient=Patient/p1`."""
    return {"request": {"method": "GET", "url": quote(what, safe="/?=&|:,.-_~$")}}


def told(what: str, answer: Mapping[str, Any]) -> Told | None:
    """The answer to one entry; None when it has to be asked by itself."""
    response, resource = answer.get("response"), answer.get("resource")
    if not isinstance(response, dict) or not isinstance(resource, dict):
        return None
    if not str(response.get("status", "")).startswith("200"):
        return None
    if "?" not in what:
        etag = response.get("etag")
        return Told(resource, etag_of(etag if isinstance(etag, str) else None, version_of(resource)))
    if resource.get("resourceType") != "Bundle" or any(
        one.get("relation") == "next" for one in dicts(resource.get("link"))
    ):
        return None
    found = [one for part in dicts(resource.get("entry")) for one in dicts([part.get("resource")])]
    return Told([one for one in found if one.get("resourceType") not in (None, "OperationOutcome")])


def mixed_up(whats: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a read was answered with another resource than the one asked for: then none of them can be believed."""
    for what, answer in zip(whats, answers, strict=True):
        resource = answer.get("resource")
        if "?" in what or not isinstance(resource, dict) or resource.get("resourceType") == "OperationOutcome":
            continue
        if f"{resource.get('resourceType')}/{resource.get('id')}" != what:
            return True
    return False
