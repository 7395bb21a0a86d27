"""A resource of ours in the EHR (Communication, Consent) brought to the state it must come to hold; only the last counts.

The create is searched before it is tried again when an earlier answer was lost, and an existing one is changed in place:
what the EHR or somebody there added to it stays.

Source: https://hl7.org/fhir/R4/http.html#ccreate, reference/fhir.md §11 ("A command is not a projection").
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, Protocol

from bridge.errors import EhrUnreachable
from bridge.fhir import rawjson
from bridge.fhir.client import Conflict, Deleted, Missing, NotModified, Resource, Written

TRIES: Final = 3
CHANGES: Final = ("identifier", "status", "statusReason", "sent", "received", "payload", "provision")


class Ehr(Protocol):
    """What `project` needs of `client.EhrClient`."""

    def read(self, reference: str, etag: str | None = None) -> Resource | NotModified | Missing | Deleted: ...
    def update(self, reference: str, body: bytes, if_match: str | None) -> Written | Conflict: ...
    def create(self, resource_type: str, body: bytes, identifier: tuple[str, str] | None = None) -> Written: ...
    def find_by_identifier(self, resource_type: str, system: str, value: str) -> Resource | None: ...


def project(
    client: Ehr, wanted: Mapping[str, Any], *, known: str | None = None, look_first: bool = False
) -> Written | Missing:
    """Create `wanted`, or bring the one that is there to it. One call per identifier at a time.

    Args:
        client: the EHR's client.
        wanted: as `build` made it; its first identifier is ours.
        known: "Communication/c1" when an earlier call told.
        look_first: an earlier create's answer was lost (`EhrUnreachable.unknown`): search before trying again.

    Returns:
        What the EHR holds now; `Missing` when somebody deleted it there, which is theirs to decide.

    Raises:
        EhrUnreachable: the row waits; with `unknown` the next call must `look_first`.
        EhrRefused: for good.
    """
    kind = wanted["resourceType"]
    identifier = (wanted["identifier"][0]["system"], wanted["identifier"][0]["value"])
    for _ in range(TRIES):
        held: object = None
        if known:
            held = client.read(known)
            if isinstance(held, Missing | Deleted):
                return Missing()
        elif look_first:
            held = client.find_by_identifier(kind, *identifier)
        if not isinstance(held, Resource):
            written = client.create(kind, rawjson.dumps(wanted), identifier)
            if written.created:
                return written
            known = written.reference  # If-None-Exist found an earlier one, perhaps in an earlier state
            continue
        now = brought_to(held.resource, wanted)
        if now == held.resource:
            return Written(held.reference, held.etag, held.version, held.resource)
        outcome = client.update(held.reference, rawjson.dumps(now), held.etag)
        if isinstance(outcome, Written):
            return outcome
        known = held.reference
    raise EhrUnreachable(f"{kind}: somebody else wrote first, {TRIES} times in a row")


def brought_to(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The EHR's JSON with our changing elements as wanted. A text we have purged meanwhile stays in the EHR."""
    now = copy.deepcopy(dict(held))
    for name in CHANGES:
        if name in wanted:
            now[name] = wanted[name]
        elif name == "statusReason":
            now.pop(name, None)
    if "identifier" in wanted:
        ours = wanted["identifier"]
        theirs = held.get("identifier")
        extra = [one for one in theirs if one not in ours] if isinstance(theirs, list) else []
        now["identifier"] = [*ours, *extra]
    return now
