"""Carrying a patient's decision into the EHR without overwriting anybody.

`carry_out` reads, decides (`decisions`), writes with If-Match and, when somebody was faster, reads and decides again. A
patient decides about a visit as they saw it: if it has moved since, nothing is written.

Source: https://hl7.org/fhir/R4/http.html#concurrency, reference/fhir.md §7 and §11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from bridge.errors import EhrRefused, EhrUnreachable
from bridge.fhir import rawjson
from bridge.fhir.client import Conflict, Deleted, Missing, NotModified, Resource, Written
from bridge.fhir.decisions import (
    AlreadySo,
    Change,
    Expected,
    JsonPatch,
    Refusal,
    Verb,
    cancel,
    confirm,
    decide_on,
)

__all__ = [
    "AlreadySo",
    "Change",
    "Done",
    "Expected",
    "Held",
    "Refusal",
    "Refused",
    "Verb",
    "cancel",
    "carry_out",
    "confirm",
]

TEST_FAILED: Final = frozenset({400, 422})  # HAPI answers 400 to a failed `test`: read and decide again
CREDENTIALS: Final = frozenset({401, 403})  # not the patient's fault, and a person can mend it
TRIES: Final = 3  # then a person looks: somebody else keeps writing to this visit


@dataclass(frozen=True, slots=True)
class Done:
    """The EHR's 2xx (or its own copy) says so. `resource` is the EHR's answer, else what we sent."""

    etag: str | None
    resource: Mapping[str, Any]
    written: bool  # False: it held so before this call wrote anything


@dataclass(frozen=True, slots=True)
class Refused:
    """Final: the patient is told that it did not work."""

    reason: str
    # whether the visit itself is still the one that was decided about
    visit: Literal["as it was", "another", "gone"] = field(default="as it was", compare=False)
    held: Mapping[str, Any] | None = field(default=None, compare=False)  # the EHR's copy of one that is another now


@dataclass(frozen=True, slots=True)
class Held:
    """Neither done nor impossible: a person must look."""

    reason: str


class Ehr(Protocol):
    """What `carry_out` needs of `client.EhrClient`."""

    def local(self, reference: str) -> str | None: ...
    def read(self, reference: str, etag: str | None = None) -> Resource | NotModified | Missing | Deleted: ...
    def update(self, reference: str, body: bytes, if_match: str | None) -> Written | Conflict: ...
    def patch(self, reference: str, ops: JsonPatch, if_match: str | None) -> Written | Conflict: ...


def carry_out(
    client: Ehr,
    verb: Verb,
    reference: str,
    patient: str,
    actor: str,
    *,
    mode: Literal["put", "patch"] = "put",
    expected: Expected | None = None,
    fhir_version: str = "R4",
    about_to_write: Callable[[Mapping[str, Any]], None] | None = None,
) -> Done | Refused | Held:
    """Make the EHR hold the decision; blocks on the network, so no transaction may be open.

    Args:
        client: the EHR's client.
        verb: which decision.
        reference: "Appointment/a1".
        patient: whose visit.
        actor: who decided.
        mode: how this EHR takes updates: the whole resource, or JSON Patch.
        expected: the visit as the patient saw it.
        fhir_version: R4, R4B or R5, for the name of the reason.
        about_to_write: called with the wanted resource before every write, so that its notification, which often comes
            before the answer, is recognised as ours (the echo).

    Raises:
        EhrUnreachable: nothing is known to be written; the row waits. The same call later finds out what holds.
    """
    sent = False
    refused: Refused | None = None
    for _ in range(TRIES):
        try:
            held = client.read(reference)
            if not isinstance(held, Resource):
                return Refused("the visit is not in the EHR any more", "gone")
            change = decide_on(
                held.resource, verb, patient, actor, expected, local=client.local, fhir_version=fhir_version
            )
            if isinstance(change, AlreadySo):
                return Done(held.etag, held.resource, written=sent)
            if isinstance(change, Refusal):
                return Refused(change.reason, "another", held.resource)
            if held.etag is None:
                return Held("the EHR gives no version, so a write could overwrite somebody else's")
            if about_to_write is not None:
                about_to_write(change.resource)
            if mode == "patch":
                outcome = client.patch(reference, change.ops, held.etag)
            else:
                outcome = client.update(reference, rawjson.dumps(change.resource), held.etag)
        except EhrUnreachable as lost:
            if not lost.unknown:
                raise
            sent = True  # it may have arrived: read and compare; If-Match keeps a second one harmless
        except EhrRefused as no:
            if no.status in CREDENTIALS:
                return Held(f"the EHR does not accept our credentials for this ({no.status})")
            refused = Refused(f"the EHR refused it ({', '.join(no.codes) or no.status})")
            if mode != "patch" or no.status not in TEST_FAILED:
                return refused
        else:
            refused = None
            if isinstance(outcome, Written):
                return Done(outcome.etag, outcome.resource or change.resource, written=True)
    if sent:
        raise EhrUnreachable(f"{reference}: no answer to {verb} that tells what holds", unknown=True)
    return refused or Held(f"somebody else wrote first, {TRIES} times in a row")
