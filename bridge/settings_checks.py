"""What no schema can say of bridge.yaml: zones, URLs, keys, and names that must exist elsewhere in it.

Tolerant on purpose: what the schema refused already is passed over, so that both report in one go.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import phonenumbers

from bridge.mappers.document import Document, Problem, closest

REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
RESOURCES = ("Appointment", "DiagnosticReport", "Consent", "Patient")  # what bridge reads; others are only recorded
KEY_BYTES = 32  # AES-256
KEY_TEXT = 22  # characters: 128 bits in base64

Step = tuple[str | int, ...]


def _get(data: Any, *path: str | int) -> Any:
    for step in path:
        inside = step in data if isinstance(data, dict) else isinstance(data, list) and step in range(len(data))
        if not inside:
            return None
        data = data[step]
    return data


def _items(data: Any, *path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = _get(data, *path)
    if isinstance(found, dict):
        yield from ((key, value) for key, value in found.items() if isinstance(value, dict))


def beyond_schema(doc: Document, data: Any) -> Iterator[Problem]:
    """What a schema cannot say. Tolerant: parts that the schema refused are passed over."""
    yield from _site(doc, data)
    yield from _places(doc, data)
    yield from _keys(doc, data)
    for key, ehr in _items(data, "ehrs"):
        yield from _ehr(doc, ("ehrs", key), ehr)
    yield from _numbers(doc, data)
    yield from _consent(doc, data)
    if _get(data, "pilot", "enabled") is True and not (
        _get(data, "pilot", "locations") or _get(data, "pilot", "patients")
    ):
        yield doc.problem(("pilot", "enabled"), "BR036", "a pilot needs a cohort: name locations or patients")


def _zone(doc: Document, path: Step, value: Any) -> Iterator[Problem]:
    if isinstance(value, str) and value not in (zones := available_timezones()):
        near = difflib.get_close_matches(value, zones, n=1, cutoff=0.6)
        meant = f'; did you mean "{near[0]}"?' if near else ""
        yield doc.problem(path, "BR033", f'"{value}" is no time zone{meant}', hint="IANA names, like Europe/Madrid")


def _site(doc: Document, data: Any) -> Iterator[Problem]:
    yield from _zone(doc, ("site", "zone"), _get(data, "site", "zone"))
    region = _get(data, "site", "region")
    if isinstance(region, str) and region not in phonenumbers.SUPPORTED_REGIONS:
        yield doc.problem(("site", "region"), "BR033", f'"{region}" is no ISO 3166 country')
    quiet = _get(data, "site", "quiet_hours")
    if isinstance(quiet, dict) and quiet.get("from") == quiet.get("to") is not None:
        yield doc.problem(
            ("site", "quiet_hours", "to"), "BR036", "quiet hours that end when they begin; leave them out for none"
        )
    own, minor = _get(data, "site", "own_voice_from"), _get(data, "site", "minor_under")
    if isinstance(own, int) and isinstance(minor, int) and own > minor:
        yield doc.problem(("site", "own_voice_from"), "BR036", "own_voice_from is later than minor_under")


def _url(doc: Document, path: Step, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str) or REFERENCE.search(value):  # a reference left: reported by name already
        return
    wrong = ""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        parts, wrong = urlsplit(""), "is no URL"
    if not wrong and (parts.scheme not in {"http", "https"} or not parts.hostname):
        wrong = "must begin with https:// or http:// and a host"
    elif not wrong and (parts.query or parts.fragment):
        wrong = "must be a base: no query and no fragment"
    elif not wrong and (parts.username or parts.password):
        wrong = "must not hold a user or password"
    if wrong:
        yield doc.problem(path, "BR034", f"this {wrong}", secret="@" in value)


def _places(doc: Document, data: Any) -> Iterator[Problem]:
    for name in ("doors", "console"):
        where = _get(data, "listen", name)
        if isinstance(where, str) and (port := where.rpartition(":")[2]).isdigit() and int(port) > 65535:
            yield doc.problem(("listen", name), "BR034", f"{port} is no port: at most 65535")
    doors = _get(data, "listen", "doors")
    if isinstance(doors, str) and doors == _get(data, "listen", "console") and not doors.endswith(":0"):
        yield doc.problem(("listen", "console"), "BR036", "doors and console need a port each")
    yield from _url(doc, ("listen", "public_url"), _get(data, "listen", "public_url"))
    url = _get(data, "store", "url")
    if not isinstance(url, str) or REFERENCE.fullmatch(url):
        return
    if not re.match(r"sqlite:///.|postgresql(\+psycopg)?://", url) or ":memory:" in url:
        message = "a store is sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        yield doc.problem(("store", "url"), "BR034", message, secret=True)
    elif re.search(r"//[^/@:\s]*:(?!\$\{)[^/@\s]+@|[?&]password=(?!\$\{)", str(_get(doc.data, "store", "url"))):
        message = "a password is written as ${env:NAME} or ${file:path}, never as it is"
        yield doc.problem(("store", "url"), "BR030", message, secret=True)


def _keys(doc: Document, data: Any) -> Iterator[Problem]:
    keys = _get(data, "security", "data_keys")
    for name, value in keys.items() if isinstance(keys, dict) else ():
        if isinstance(value, str) and not REFERENCE.search(value) and key_bytes(value) is None:
            message = f"{_source(doc, 'security', 'data_keys', name)} must hold {KEY_BYTES} bytes in base64"
            hint = "make one: head -c 32 /dev/urandom | base64"
            yield doc.problem(("security", "data_keys", name), "BR035", message, hint=hint)
    for name in ("index_key", "session_key"):
        value = _get(data, "security", name)
        if isinstance(value, str) and not REFERENCE.search(value) and len(value) < KEY_TEXT:
            message = f"{_source(doc, 'security', name)} must hold at least {KEY_TEXT} characters"
            hint = "make one: head -c 32 /dev/urandom | base64"
            yield doc.problem(("security", name), "BR035", message, hint=hint)


def _source(doc: Document, *path: str) -> str:
    """Where a secret comes from, by name: the value itself is never repeated."""
    found = REFERENCE.fullmatch(str(_get(doc.data, *path)))
    return found.group(2) if found else "this"


def key_bytes(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(
            text.strip().replace("-", "+").replace("_", "/") + "=" * (-len(text.strip()) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == KEY_BYTES else None


def _ehr(doc: Document, path: Step, ehr: dict[str, Any]) -> Iterator[Problem]:
    yield from _url(doc, (*path, "base_url"), ehr.get("base_url"))
    yield from _url(doc, (*path, "auth", "token_url"), _get(ehr, "auth", "token_url"))
    yield from _zone(doc, (*path, "zone"), ehr.get("zone"))
    for key, subscription in _items(ehr, "subscriptions"):
        resource = subscription.get("resource")
        if isinstance(resource, str) and resource not in RESOURCES and closest(resource, RESOURCES):
            where = (*path, "subscriptions", key, "resource")
            yield doc.problem(where, "BR012", f'"{resource}" is not allowed here{closest(resource, RESOURCES)}')
    writeback = ehr.get("writeback")
    writes = [name for name, how in writeback.items() if how != "none"] if isinstance(writeback, dict) else []
    if writes and "base_url" not in ehr:
        yield doc.problem((*path, "writeback"), "BR036", "nothing can be written back without base_url", key=True)
    if ehr.get("prime", "required") == "required" and "base_url" not in ehr:
        hint = "set base_url, or prime: none and nothing that the EHR already holds is known"
        yield doc.problem(path, "BR036", "prime: required needs base_url, it reads the EHR", key=True, hint=hint)


def _numbers(doc: Document, data: Any) -> Iterator[Problem]:
    apps = [key for key, _ in _items(data, "apps")]
    seen: dict[str, str] = {}
    for key, number in _items(data, "numbers"):
        path = ("numbers", key)
        app = number.get("app")
        if isinstance(app, str) and app not in apps:
            meant = closest(app, apps) or f"; there {'are' if apps else 'is'} {', '.join(sorted(apps)) or 'none'}"
            yield doc.problem((*path, "app"), "BR012", f'no app "{app}" in apps{meant}')
        yield from _url(doc, (*path, "base_url"), number.get("base_url"))
        phone = str(number.get("phone_number_id"))
        if phone in seen and "phone_number_id" in number:
            yield doc.problem((*path, "phone_number_id"), "BR036", f"{seen[phone]} has this phone_number_id already")
        seen.setdefault(phone, key)
        host = urlsplit(str(number.get("base_url", "https://graph.facebook.com"))).hostname or ""
        if _get(data, "clock", "adjustable") is True and host.endswith("facebook.com"):
            message = f"a clock that can be pushed would send real messages at the wrong time: {key} is a real number"
            yield doc.problem(("clock", "adjustable"), "BR036", message)


def _consent(doc: Document, data: Any) -> Iterator[Problem]:
    purposes = [key for key, _ in _items(data, "consent", "purposes")]
    for key, purpose in _items(data, "consent", "purposes"):
        if purpose.get("without_decision") == "send" and "basis" not in purpose:
            path = ("consent", "purposes", key)
            yield doc.problem(path, "BR013", 'missing key "basis": sending without a decision needs one', key=True)
    rules = _get(data, "consent", "recognise")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        named = _get(rule, "purposes")
        for place, purpose in enumerate(named if isinstance(named, list) else ()):
            if isinstance(purpose, str) and purpose not in purposes:
                path_ = ("consent", "recognise", index, "purposes", place)
                meant = closest(purpose, purposes)
                yield doc.problem(path_, "BR012", f'no purpose "{purpose}" in consent.purposes{meant}')
