"""One file per resource: what the patient was told + what holds now -> what happened, in words a mapping can name.

Every file has the same functions, so the engine asks this table and knows no resource by name. Registration is spelt
out, never a side effect of importing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.mappers.events import appointment, consent, diagnosticreport


class Projection(Protocol):
    """The elements of a resource whose change makes a new revision; equal projections are the same news."""

    @property
    def reference(self) -> str:
        """`Appointment/a1`."""

    @property
    def status(self) -> str:
        """Lower case, as the standard spells it; unknown ones as they came."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What bridge knows of one resource type."""

    name: str
    names: tuple[str, ...]  # every event it can have; a mapping names one of them
    project: Callable[..., Any]  # (resource, fhir_version, *, zone=None, recognise=(), now=None) -> projection
    events: Callable[[Any, Any], tuple[str, ...]]  # (before | None, now) -> event names
    patients: Callable[[Any], tuple[str, ...]]  # "Patient/x"
    to_json: Callable[[Any], dict[str, Any]]
    from_json: Callable[[Mapping[str, Any]], Any]
    gone: Callable[[Any], Any]  # the projection after the EHR deleted it
    seen_by: Callable[
        [Any, str], Any
    ]  # (projection | None, "Patient/x") -> as far as that patient is concerned, or None


RESOURCES: dict[str, Resource] = {
    name: Resource(
        name=name,
        names=module.EVENTS,
        project=module.project,
        events=module.events,
        patients=module.patients,
        to_json=module.to_json,
        from_json=module.from_json,
        gone=module.gone,
        seen_by=module.seen_by,
    )
    for name, module in (
        ("Appointment", appointment),
        ("DiagnosticReport", diagnosticreport),
        ("Consent", consent),
    )
}


def same(a: Projection | None, b: Projection | None) -> bool:
    """Whether two projections say the same; instants count as instants, whatever their offset. None equals nothing."""
    return a is not None and type(a) is type(b) and a == b
