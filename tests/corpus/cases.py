"""One corpus file as a request to a running door, and how what the engine stored differs from its `expect`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge.errors import Unusable
from bridge.fhir.notification import parse_piece
from bridge.inbound.providers.cloud_api import update_from_stored
from bridge.inbound.routes import FOREIGN
from tests.corpus import fhir_expect, whatsapp_expect
from tests.corpus.running import Doors, Stored, running, signature

ABOUT_THE_ROW = fhir_expect.NOT_COMPARED | {"http"}
EHR_DOOR = "/ehr/main/appointments"
NOT_REPLAYED = {"authorization", "host", "content-length", "connection", "transfer-encoding", "accept-encoding"}


@dataclass(frozen=True)
class Case:
    """A request, and what must become of it."""

    name: str  # "hapi/r4-create-full.json"
    expect: Mapping[str, Any]
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    statuses: tuple[int, ...]  # any of them
    ambiguous: str | None = None  # why
    accept: Sequence[Sequence[Mapping[str, Any]]] = ()
    numbers: tuple[tuple[str, str], ...] = (("106540352242922", "102290129340398"),)

    @property
    def whatsapp(self) -> bool:
        return self.name.startswith("whatsapp/")


@dataclass(frozen=True)
class Outcome:
    """What came of a case. `failed` is what counts; `problems` of an ambiguous FHIR row are only reported."""

    case: Case
    expected: str
    got: str
    problems: tuple[str, ...]
    failed: bool


def cases(corpus: Path) -> Iterator[Case]:
    """Every notification and webhook of a corpus folder; parts that are not there are left out."""
    for row in fhir_expect.rows(corpus):
        door = row.expect.get("door", 200)
        kept = tuple((name, value) for name, value in row.headers if name.lower() not in NOT_REPLAYED)
        tail = f"/{row.tail}" if row.tail else ""
        yield Case(
            name=row.name,
            expect=row.expect,
            method=row.method,
            path=f"{EHR_DOOR}{tail}",
            headers=kept,
            body=row.body,
            statuses=tuple(door) if isinstance(door, list) else (door,),
            ambiguous=row.ambiguous,
        )
    folder = corpus / "whatsapp"
    for entry in whatsapp_expect.rows(folder) if (folder / "index.json").exists() else ():
        expect = entry["expect"]
        yield Case(
            name=f"whatsapp/{entry['file']}",
            expect=expect,
            method="POST",
            path="/whatsapp/hospital/webhook",
            headers=(("Content-Type", "application/json"),),
            body=whatsapp_expect.body_of(entry, folder),
            statuses=(expect.get("http", 200),),
            ambiguous=entry.get("why", "said so") if entry.get("ambiguous") else None,
            accept=entry.get("accept", ()),
            numbers=_ours(expect),
        )


def _ours(expect: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Every phone number id and every account of a file, as numbers of this site."""
    phones, accounts = (
        [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
        for value in (expect.get("phone_number_id"), expect.get("waba_id"))
    )
    accounts = accounts or ["no-account"]
    own = [(phone, accounts[0]) for phone in phones]
    own += [(f"any-number-of-{account}", account) for account in accounts if not own or account != accounts[0]]
    return tuple(own)


def quiet() -> None:
    """The engines' log lines stay out of the table."""
    logging.disable(logging.CRITICAL)


def play(case: Case) -> Outcome:
    """Send it to an engine with an empty store, and compare the rows."""
    with running(case.numbers) as doors:
        return _play(case, doors)


def _play(case: Case, doors: Doors) -> Outcome:
    if case.whatsapp:
        own: tuple[tuple[str, str], ...] = (("X-Hub-Signature-256", signature(case.body)),)
        status, _, _ = doors.send(case.method, case.path, (*case.headers, *own), case.body)
    else:
        status, _, _ = doors.push(case.method, case.path.removeprefix(EHR_DOOR).lstrip("/"), case.body, case.headers)
    expected = _compact(case.expect)
    if status not in case.statuses:
        wrong = f"door: expected {case.statuses}, got {status}"
        return Outcome(case, expected, f"HTTP {status}", (wrong,), failed=True)
    if status != 200:
        return Outcome(case, expected, f"HTTP {status}", (), failed=False)
    rows = doors.settled()
    if not rows:
        return Outcome(case, expected, "no row", ("answered 200, and nothing is stored",), failed=True)
    got, differing = (_whatsapp if case.whatsapp else _fhir)(case, rows)
    lost = _of_the_rows(case, rows)
    tolerated = case.ambiguous is not None and not case.whatsapp  # fhir/index.json: reported, and cannot fail
    return Outcome(case, expected, got, (*differing, *lost), failed=bool(lost or (differing and not tolerated)))


def _of_the_rows(case: Case, rows: Sequence[Stored]) -> list[str]:
    """What no reading excuses: an event without a fate, one that the engine broke on, one called foreign."""
    found = [f"row {n}: no fate and no reason" for n, row in enumerate(rows) if row.fate is None and row.reason is None]
    found += [f"row {n}: failed({row.reason})" for n, row in enumerate(rows) if row.fate == "failed"]
    if case.whatsapp:
        found += [f"row {n}: {FOREIGN}" for n, row in enumerate(rows) if row.reason == FOREIGN]
    return found


def _fhir(case: Case, rows: Sequence[Stored]) -> tuple[str, list[str]]:
    seen = fhir_expect.observe_pieces([parse_piece(row.body) for row in rows])
    found = fhir_expect.differences(case.expect, seen)
    settled = {row.fate for row in rows}
    if seen["class"] == "unusable" and settled != {"unusable"}:
        found.append(f"fate: expected unusable, got {settled}")
    if seen["class"] in {"bundle", "not-for-the-door"} and settled != {"ignored"}:
        found.append(f"fate: expected ignored, got {settled}")
    return _compact({key: seen.get(key) for key in case.expect if key not in ABOUT_THE_ROW}), found


def _whatsapp(case: Case, rows: Sequence[Stored]) -> tuple[str, list[str]]:
    updates = []
    whole = False
    for row in rows:
        try:
            updates.append(update_from_stored(row.body))
        except Unusable:
            whole = True  # kept as it came: one unusable event
    found = whatsapp_expect.compare(case.expect, updates, case.accept)
    if whole and (len(rows), rows[0].fate, rows[0].body) != (1, "unusable", case.body):
        found.append("a body kept whole is one row, unusable and unchanged")
    readings = [list(reading) for reading in case.accept]
    if whole != bool(case.expect.get("unusable")) and not (whole and [] in readings):
        found.append(f"unusable: expected {bool(case.expect.get('unusable'))}, got {whole}")
    wanted = case.expect.get("updates", [])
    shown = [_in_order(whatsapp_expect.described(update), *wanted[n : n + 1]) for n, update in enumerate(updates)]
    return _compact({"unusable": True} if whole else {"updates": shown}), found


def _in_order(seen: Mapping[str, Any], like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields in the order of the expectation above it, so that the eye finds what differs."""
    names = [name for name in like or () if name in seen]
    return {name: seen[name] for name in (*names, *(name for name in seen if name not in names))}


def altered(case: Case) -> Case:
    """The same case with one wrong word in its `expect`: a check that cannot tell must not exist."""
    expect = json.loads(json.dumps(dict(case.expect)))
    if not case.whatsapp:
        expect["class"] = "bundle" if expect["class"] != "bundle" else "resource"
    elif expect.get("updates"):
        expect["updates"][0]["kind"] += "-altered"
    else:
        expect["updates"] = [{"kind": "message"}]
    return replace(case, expect=expect, ambiguous=None, accept=())


def _compact(value: Mapping[str, Any]) -> str:
    kept = {key: inner for key, inner in value.items() if key not in ABOUT_THE_ROW}
    return json.dumps(kept, ensure_ascii=True, separators=(",", ":"), default=list)
