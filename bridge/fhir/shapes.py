"""What a push is and what it was read as: plain frozen values, shared by reading, splitting and the door. Pure.

Raw resources stay `dict` because the ledger stores them as they came; nobody outside a mapper's `project` looks inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.verified import VerifiedBody

Resource = Mapping[str, Any]
Klass = Literal["notification", "resource", "bundle", "resources", "delete", "poke", "not-for-the-door", "unusable"]

CLINICAL = frozenset({"Appointment", "DiagnosticReport", "Consent"})  # what mappings are written about
PEOPLE = frozenset({"Patient", "RelatedPerson"})  # no event of their own, but they change who may be told
READ = CLINICAL | PEOPLE

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63})/([^/?#|\s]{1,512})(?:/_history/[^/?#]*)?/?(?:[?#|].*)?$")


@dataclass(frozen=True, slots=True)
class Push:
    """One authenticated request at `/ehr/<ehr>/<subscription>[/<Type>/<id>]`."""

    method: str  # POST, PUT or DELETE
    tail: str | None  # "Appointment/a1": the path after the subscription, path token taken off
    content_type: str  # as sent; two headers joined by ", "
    headers: Mapping[str, str]  # names in lower case
    body: VerifiedBody


@dataclass(frozen=True, slots=True)
class Identifier:
    """A logical reference: the sender names the resource by a business identifier and no FHIR URL exists."""

    system: str | None
    value: str
    type: str | None = None  # "Appointment"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as far as the sender says."""

    focus: str | None  # "Appointment/a1"
    number: str | None = None  # digits; restarts on several servers, so never an identity
    additional: tuple[str, ...] = ()  # "Patient/p1"
    resource: Resource | None = None  # only when the sender put the focus itself in
    version: str | None = None  # meta.versionId of `resource`
    deleted: bool = False
    event_id: str | None = None  # only where the dialect guarantees it
    identifier: Identifier | None = None
    timestamp: str | None = None  # as sent: HAPI sends a day
    unusable: str | None = None  # why this one cannot be used; its neighbours go on
    raw: bytes = b""  # what came, where it could not even be read


@dataclass(frozen=True, slots=True)
class Notification:
    """What one push was read as; `content` is what it really carries, not what the Subscription promised."""

    klass: Klass
    method: str
    dialect: str | None = None  # "r4-backport" | "r4b" | "r4b-draft" | "r5" | "rest-hook"
    type: str | None = None  # NotificationType; Bundle.type of a bundle; resource type of a resource
    status: str | None = None  # of the Subscription, or of the resource
    subscription: str | None = None  # "Subscription/123"
    topic: str | None = None
    content: str | None = None  # "full-resource" | "id-only" | "empty"
    events: tuple[Event, ...] = ()
    events_since_start: str | None = None
    included: Mapping[str, Resource] = field(default_factory=dict)  # other resources in it, by "Type/id"
    resources: tuple[str, ...] = ()  # of a bundle that is no notification
    wrapped: str | None = None  # "message"
    what: str | None = None  # not-for-the-door: "Subscription", "JSON Patch"
    reason: str | None = None  # unusable and not-for-the-door: what to do
    raw: bytes = b""  # the body as it came


def is_id(text: str) -> bool:
    """https://hl7.org/fhir/R4/datatypes.html#id"""
    return _ID.fullmatch(text) is not None


def is_type(value: object) -> bool:
    """Could it be the name of a resource type? Known or not: newer versions have types we never heard of."""
    return isinstance(value, str) and _TYPE.fullmatch(value) is not None


def reduce(reference: object) -> str | None:
    """Any way of writing a literal reference -> "Type/id"; None for urn:, contained (#) and display-only ones.

    Host, version and query are dropped: we only ever read from the configured base, so a foreign host cannot lead us
    astray. The last Type/id wins, because older HAPI wrote `Appointment/Appointment/12`. The id may break FHIR's
    pattern (see `is_id`).
    """
    if not isinstance(reference, str) or len(reference) > 2048:
        return None
    found = _REFERENCE.search(reference.strip())
    return f"{found.group(1)}/{found.group(2)}" if found else None


def text(value: object) -> str | None:
    """A string or a number as text: R5 counters are strings, HAPI's are numbers. bool is neither."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def mapping(value: object) -> Mapping[str, Any]:
    """The object itself, or an empty one where the sender wrote something else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; some senders write a single object where FHIR wants a list."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def name_of(resource: Resource) -> str | None:
    """ "Type/id" of a resource, None without either."""
    kind, ident = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{ident}" if is_type(kind) and isinstance(ident, str) and ident else None


def version_id(resource: Resource | None) -> str | None:
    """meta.versionId; a number from a careless sender is taken as text."""
    return text(mapping(mapping(resource).get("meta")).get("versionId"))


def bad_id(reference: str) -> str | None:
    """Why this "Type/id" cannot be read back from the EHR, None when it can."""
    ident = reference.partition("/")[2]
    return None if is_id(ident) else "the id breaks FHIR's pattern [A-Za-z0-9-.]{1,64}, so it cannot be read back"
