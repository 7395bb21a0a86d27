"""FHIR search over the store, and the same test for one resource against a Subscription's criteria.

An unknown parameter is refused, as HAPI does: a server that ignores one answers with far too much, and nobody notices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from bridge.sandbox.ehr.store import Refusal, Store, Version, identifiers, references

Query = Sequence[tuple[str, str]]

DEFAULT_COUNT = 50
# what each search parameter of type date reads, first element that is there
DATES: dict[str, tuple[str, ...]] = {
    "date": ("start", "effectiveDateTime", "dateTime", "date", "issued", "recorded"),
    "start": ("start",),
    "sent": ("sent",),
    "received": ("received",),
    "issued": ("issued",),
    "birthdate": ("birthDate",),
    "created": ("created",),
}
TOKENS: dict[str, str] = {
    "status": "status", "category": "category", "code": "code", "service-type": "serviceType", "type": "type",
    "medium": "medium", "scope": "scope", "active": "active", "gender": "gender", "relationship": "relationship",
    "language": "communication",
}  # fmt: skip
REFERENCES: dict[str, str] = {  # parameter -> type meant by a bare id ("" = the value names it)
    "patient": "Patient", "subject": "Patient", "actor": "", "practitioner": "Practitioner", "location": "Location",
    "recipient": "", "sender": "", "slot": "Slot", "schedule": "Schedule", "appointment": "Appointment", "based-on": "",
    "part-of": "", "encounter": "Encounter", "supporting-info": "", "about": "", "organization": "Organization",
    "in-response-to": "Communication",
}  # fmt: skip
CONTROL = {
    "_count",
    "_sort",
    "_include",
    "_revinclude",
    "_total",
    "_format",
    "_summary",
    "_elements",
    "_offset",
    "_pretty",
}


def split(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def candidates(store: Store, resource_type: str, query: Query) -> Iterable[Version]:
    """The smallest set an index gives; `matches` decides."""
    for name, value in query:
        bare = name.split(":")[0]
        if bare == "_id":
            found = [store.current(resource_type, id) for id in value.split(",")]  # noqa: A001
            return [version for version in found if version is not None and not version.deleted]
        if bare == "identifier" and "," not in value and not value.endswith("|"):
            return store.identified(resource_type, value)
        if bare in REFERENCES and "," not in value:
            return store.referring(resource_type, _reference(name, value))
    return store.all(resource_type)


def matches(version: Version, query: Query) -> bool:
    """Whether a resource meets every parameter.

    Raises:
        Refusal: 400 for a parameter this server does not know.
    """
    return all(_one(version, name, value) for name, value in query)


def search(store: Store, resource_type: str, query: Query) -> list[Version]:
    found = [version for version in candidates(store, resource_type, query) if matches(version, query)]
    for name, value in query:
        if name == "_sort":
            key, descending = value.lstrip("-"), value.startswith("-")
            found.sort(key=_sort_key(key), reverse=descending)
    return found


def included(store: Store, found: Sequence[Version], query: Query) -> list[Version]:
    """What `_include` adds: the resources the matches refer to, each once."""
    wanted = [value.split(":") for name, value in query if name.split(":")[0] == "_include"]
    if not wanted:
        return []
    types: set[str] = set()
    for parts in wanted:
        parameter = parts[1] if len(parts) > 1 else "*"
        types.add(parts[2] if len(parts) > 2 else REFERENCES.get(parameter, "") or "*")
    seen = {version.reference for version in found}
    extra = []
    for version in found:
        for reference in references(version.data):
            resource_type, _, id = reference.partition("/")  # noqa: A001
            if reference in seen or not ({"*", resource_type} & types):
                continue
            target = store.current(resource_type, id)
            if target is not None and not target.deleted:
                seen.add(reference)
                extra.append(target)
    return extra


def _one(version: Version, name: str, value: str) -> bool:
    bare, _, modifier = name.partition(":")
    data = version.data
    if bare in CONTROL:
        return True
    if bare == "_id":
        return version.reference.split("/")[1] in value.split(",")
    if bare == "_lastUpdated":
        return _date_matches(version.updated, value)
    if bare == "identifier":
        held = {
            token
            for system, text in identifiers(data)
            for token in (text, f"|{text}", f"{system}|{text}", f"{system}|")
        }
        return bool(held & set(value.split(",")))
    if bare in DATES:
        text = next((data[element] for element in DATES[bare] if element in data), None)
        return isinstance(text, str) and _date_matches(text, value)
    if bare in REFERENCES:
        held = set(references(data))
        return any(_reference(name, each) in held for each in value.split(","))
    if bare in TOKENS:
        held = set(_tokens(data.get(TOKENS[bare])))
        return bool(held & set(value.split(","))) is not (modifier == "not")
    if bare in {"phone", "telecom"}:
        wanted = _digits(value.rsplit("|", maxsplit=1)[-1])
        return any(_digits(str(item.get("value", ""))) == wanted for item in data.get("telecom", ()))
    if bare in {"name", "family", "given"}:
        return any(text.casefold().startswith(value.casefold()) for text in _names(data, bare))
    if bare in {"url", "criteria"}:
        return bool(data.get(bare) == value)
    raise Refusal(400, "processing", f"Unknown search parameter {bare!r}")


def _reference(name: str, value: str) -> str:
    """A search value as "Type/id": bare ids take the parameter's type, absolute URLs lose their base."""
    bare, _, modifier = name.partition(":")
    if "/" in value:
        return "/".join(value.split("/")[-2:])
    return f"{modifier or REFERENCES.get(bare, '') or 'Patient'}/{value}"


def _tokens(node: Any) -> Iterable[str]:
    """Codes, booleans, Codings and CodeableConcepts as the tokens a search may name."""
    if isinstance(node, bool):
        yield str(node).lower()
    elif isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _tokens(item)
    elif isinstance(node, dict):
        if isinstance(code := node.get("code"), str):
            system = node.get("system", "")
            yield from (code, f"|{code}", f"{system}|{code}", f"{system}|")
        for key in ("coding", "concept", "language"):
            yield from _tokens(node.get(key, []))


def _names(data: Mapping[str, Any], parameter: str) -> Iterable[str]:
    names = data.get("name") or []
    for name in names if isinstance(names, list) else [names]:
        if isinstance(name, str):
            yield name
            continue
        if parameter in {"name", "family"}:
            yield str(name.get("family", ""))
        if parameter in {"name", "given"}:
            yield from name.get("given", ())


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _sort_key(parameter: str) -> Callable[[Version], Any]:
    if parameter == "_lastUpdated":
        return lambda version: version.updated
    elements = DATES.get(parameter, ())
    return lambda version: _span(next((version.data[e] for e in elements if e in version.data), "0001-01-01"))[0]


def _date_matches(text: str, wanted: str) -> bool:
    for each in wanted.split(","):
        prefix, value = (each[:2], each[2:]) if each[:2].isalpha() else ("eq", each)
        start, end = _span(text)
        low, high = _span(value)
        holds = {
            "eq": low <= start and end <= high,
            "ne": not (low <= start and end <= high),
            "gt": end > high,
            "lt": start < low,
            "ge": end > high or (low <= start and end <= high) or start >= low,
            "le": start < low or (low <= start and end <= high) or end <= high,
            "sa": start >= high,
            "eb": end <= low,
        }.get(prefix)
        if holds is None:
            raise Refusal(400, "processing", f"Unknown date prefix {prefix!r}")
        if holds:
            return True
    return False


def _span(text: str) -> tuple[datetime, datetime]:
    """The instants a FHIR date covers: a day, a month, a year, a second, or a point in time."""
    text = text.strip().replace(" ", "+")  # a "+" of the offset that the query string turned into a blank
    try:
        if len(text) == 4:
            start = datetime(int(text), 1, 1, tzinfo=UTC)
            return start, start.replace(year=start.year + 1)
        if len(text) == 7:
            start = datetime(int(text[:4]), int(text[5:]), 1, tzinfo=UTC)
            return start, (start + timedelta(days=32)).replace(day=1)
        if len(text) == 10:
            day = date.fromisoformat(text)
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            return start, start + timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refusal(400, "processing", f"Not a date: {text!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment, moment + (timedelta(0) if "." in text else timedelta(seconds=1))
