"""References to other servers: `https://other.example/fhir/Patient/7` is not this EHR's `Patient/7`, whatever it is called.

Read as ours, it would be somebody else who gets the message. What is absolute and not under the configured base names
nobody here (reference/fhir.md §15.8: else reject); its display stays. Without a base nothing can be compared, and only
patients that come with the notification are written to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Local = Callable[[str], str | None]  # reference as written -> Type/id, None for another server's (`EhrClient.local`)


def without_foreign(resource: Mapping[str, Any], local: Local | None) -> Mapping[str, Any]:
    """The resource without references to patients of other servers; the same object where there are none."""
    if local is None:
        return resource
    changed: dict[str, Any] = {}
    for name in ("subject", "patient"):
        if (kept := _kept(resource.get(name), local)) is not resource.get(name):
            changed[name] = kept
    there = resource.get("participant")
    several = there if isinstance(there, list) else [there]
    kept_ones = [_participant(one, local) for one in several]
    if any(kept is not one for kept, one in zip(kept_ones, several, strict=True)):
        changed["participant"] = kept_ones if isinstance(there, list) else kept_ones[0]
    return {**resource, **changed} if changed else resource


def _participant(one: Any, local: Local) -> Any:
    if not isinstance(one, Mapping):
        return one
    actor = _kept(one.get("actor"), local)
    return one if actor is one.get("actor") else {**one, "actor": actor}


def _kept(element: Any, local: Local) -> Any:
    written = element.get("reference") if isinstance(element, Mapping) else None
    if not isinstance(written, str) or "://" not in written or "Patient/" not in written:
        return element
    if local(written) is not None:
        return element
    return {name: value for name, value in element.items() if name != "reference"}
