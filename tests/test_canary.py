"""Unique names, numbers, words and secrets through every path, errors included; then they are looked for where they may
not be: logs at debug level, metrics, error pages, URLs that were asked for, and the bytes of the database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.cli.serve import set_up_logging
from bridge.sandbox import people
from bridge.sandbox.world import PNID, World

PHONE, SECOND, GUARDIAN, STRANGER = "34699887701", "34699887702", "34699887703", "34699887704"
NATIONAL = [phone.removeprefix("34") for phone in (PHONE, SECOND, GUARDIAN, STRANGER)]
WORDS = {
    name: f"{name}kanarienvogel"
    for name in ("Given", "Family", "Other", "Doctor", "Room", "Reason", "Said", "Profile", "Raw", "Header", "Agent", "Child", "Guard")
}  # fmt: skip
FORBIDDEN = [*WORDS.values(), *NATIONAL, "kanarienvogel"]


class Found(list[str]):
    """Where a canary was seen; never the canary beside it, only its place in the list above."""


def look(where: str, content: bytes, needles: list[str], found: Found) -> None:
    low = content.lower()
    for n, needle in enumerate(needles):
        text = needle.lower()
        forms = {text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")}
        at = next((low.find(form) for form in forms if form in low), -1)
        if at >= 0:
            found.append(f"{where} has needle {n} at {at}: …{content[max(0, at - 60) : at]!r}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("canary")
    quiet = {"from": "03:00", "to": "03:01"}
    with World(folder, polite=True, site={"quiet_hours": quiet}, environment={"BRIDGE_LOG": "DEBUG"}) as made:
        made.start_engine()
        yield made


def seed(world: World) -> None:
    world.save(people.patient("k1", WORDS["Given"], WORDS["Family"], PHONE, zone="Europe/Madrid"))
    world.save(people.patient("k2", WORDS["Other"], WORDS["Family"], SECOND, zone="Europe/Madrid"))
    world.save(people.patient("k3", WORDS["Child"], WORDS["Family"], None, birth_date="2019-01-01"))
    world.save(
        people.mateo_father()
        | {
            "id": "k4",
            "patient": {"reference": "Patient/k3"},
            "name": [{"use": "official", "family": WORDS["Family"], "given": [WORDS["Guard"]]}],
            "telecom": [{"system": "phone", "value": f"+{GUARDIAN}", "use": "mobile"}],
        }
    )
    world.save(people.practitioner() | {"id": "k5", "name": [{"family": WORDS["Doctor"], "prefix": ["Dra."]}]})
    world.save(people.location() | {"id": "k6", "name": WORDS["Room"]})


def visit(name: str, patient: str, days: int = 7) -> dict[str, Any]:
    made = people.appointment(
        name,
        datetime.now(UTC).replace(microsecond=0) + timedelta(days=days),
        patient=patient,
        place="Location/k6",
        description=WORDS["Reason"],
        comment=WORDS["Reason"],
        patientInstruction=WORDS["Reason"],
    )
    made["participant"][1]["actor"] = {"reference": "Practitioner/k5", "display": WORDS["Doctor"]}
    return made


def wait(world: World, who: str, count: int) -> list[dict[str, Any]]:
    world.whatsapp.wait_for(lambda _: len(bubbles(world, who)) >= count, 20)
    return bubbles(world, who)


def bubbles(world: World, who: str) -> list[dict[str, Any]]:
    try:
        return [bubble for bubble in world.bubbles(who) if bubble["from"] != "patient"]
    except requests.HTTPError:
        return []
    except Exception as error:
        if "phone" in str(error) or "404" in str(error) or "400" in str(error):
            return []
        raise


def signed(world: World, body: bytes) -> dict[str, str]:
    digest = hmac.new(world.environment["META_APP_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def talk(world: World) -> None:
    """Booking, tap, words, voice, STOP and START; a guardian; somebody nobody knows."""
    world.whatsapp.post("people", wa_id=PHONE, name=WORDS["Profile"])
    world.save(visit("v1", "Patient/k1"))
    first = wait(world, PHONE, 1)[0]
    world.whatsapp.post("tap", who=PHONE, wamid=first["wamid"], index=0)
    world.ehr.wait_for(lambda _: world.held("Appointment/v1")["participant"][0]["status"] == "accepted", 20)
    world.whatsapp.post("say", who=PHONE, text=f"me duele, {WORDS['Said']}")
    world.whatsapp.post("send", who=PHONE, kind="voice")
    world.save(visit("v3", "Patient/k3"))
    wait(world, GUARDIAN, 1)
    world.whatsapp.post("say", who=STRANGER, text=f"hola, soy {WORDS['Said']}")
    wait(world, STRANGER, 1)
    world.whatsapp.post("say", who=PHONE, text="BAJA")
    wait(world, PHONE, 4)
    world.whatsapp.post("say", who=PHONE, text="ALTA")
    world.save(visit("v1", "Patient/k1", days=9))


def break_things(world: World) -> None:
    """The EHR down between tap and write and as HTML, WhatsApp refusing and answering nonsense, and what nobody can read."""
    world.save(visit("v2", "Patient/k2"))
    offered = wait(world, SECOND, 1)[0]
    for down in ("html", "503", "close"):
        world.ehr.post("faults", down=down)
        world.whatsapp.post("tap", who=SECOND, wamid=offered["wamid"], index=0)
        time.sleep(0.8)
    world.ehr.post("faults", down="")
    world.ehr.post("faults", conflict={"status": 412, "times": 2, "reference": ""})
    rules = [{"what": "html500"}, {"what": "error", "code": 131026}, {"what": "error", "code": 132000},
             {"what": "storm"}, {"what": "unreadable"}, {"what": "fail_status", "code": 131049}]  # fmt: skip
    world.whatsapp.post("faults", rules)
    for n in range(8):
        world.save(visit(f"w{n}", "Patient/k2", days=3 + n))
    push_poison(world)
    time.sleep(4)


def push_poison(world: World) -> None:
    raw = WORDS["Raw"]
    good = json.dumps(visit("p1", "Patient/k1"))
    bodies = [
        f'{{"resourceType":"Appointment","{raw}":1,"{raw}":2}}',
        good[:-20],
        good[:-1] + f',"x":"{raw}\\u0000"}}',
        good[:-1] + f',"{raw * 40}":1}}',
        f"<html>{raw} {PHONE}</html>",
        raw,
        json.dumps(visit("p2", "Patient/k1") | {"start": raw, "status": raw}),
        json.dumps(visit("p3", f"Patient/{raw} {PHONE}")),
        json.dumps(visit("p4", "Patient/k1") | {"participant": raw}),
        json.dumps({"resourceType": "Patient", "id": "k1", "name": raw, "telecom": PHONE, "birthDate": raw}),
        json.dumps({"resourceType": "Consent", "id": "c9", "patient": {"reference": raw}, "dateTime": raw}),
    ]
    bearer = {"Authorization": f"Bearer {world.environment['EHR_DOOR_SECRET']}", "X-Canary": WORDS["Header"], "User-Agent": WORDS["Agent"]}  # fmt: skip
    for body in bodies:
        assert (
            requests.post(f"{world.doors}/ehr/main/appointments", body, headers=bearer, timeout=20).status_code == 200
        )
        assert requests.post(f"{world.doors}/ehr/main/patients", body, headers=bearer, timeout=20).status_code == 200
    assert requests.put(f"{world.doors}/ehr/main/appointments/Appointment/{raw} {PHONE}", "{}", headers=bearer, timeout=20).status_code == 200  # fmt: skip
    for body in [*bodies, *webhooks(raw)]:
        sent = body.encode()
        answer = requests.post(
            f"{world.doors}/whatsapp/hospital/webhook", sent, headers=signed(world, sent), timeout=20
        )
        assert answer.status_code == 200


def webhooks(raw: str) -> list[str]:
    def of(item: dict[str, Any], kind: str = "messages", **more: Any) -> str:
        value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": PNID}, kind: [item]} | more
        return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]})  # fmt: skip

    return [
        of({"from": PHONE, "id": raw, "type": raw, raw: raw}),
        of({"from": f"{raw}{PHONE}", "id": f"{raw}2", "type": "text", "text": {"body": raw}, "timestamp": raw}),
        of({"from": PHONE, "id": f"{raw}3", "type": "button", "button": {"payload": raw, "text": raw}}),
        of({"id": raw, "status": raw, "recipient_id": PHONE, "errors": [{"code": raw, "title": raw}]}, "statuses"),
        of(
            {"id": f"{raw}4", "status": "failed", "recipient_id": PHONE, "errors": [{"code": 1, "title": raw}]},
            "statuses",
        ),
        of({"from": PHONE, "id": "x" * 999 + raw}),
        of({}, "groups").replace('"field": "messages"', f'"field": "group_{raw}"'),
        of({}, "event")
        .replace('"field": "messages"', f'"field": "{raw} {PHONE}"')
        .replace('"event": [{}]', f'"event": "{raw}"'),
        of({}, "event")
        .replace('"field": "messages"', '"field": "account_update"')
        .replace('"event": [{}]', f'"event": "{raw} {PHONE}"'),
        of({}, "nothing", metadata={"phone_number_id": f"{raw}{PHONE}"}),
    ]


def pages(world: World) -> Iterator[tuple[str, bytes]]:
    """What an unauthenticated or mistaken caller is shown, and what machines read."""
    raw = WORDS["Raw"]
    for base in (world.doors, world.console):
        for path in ("/", f"/ehr/{raw}/x", f"/ehr/main/{raw}", f"/whatsapp/{raw}/webhook", f"/{raw}?q={PHONE}", "/ehr/main/appointments"):  # fmt: skip
            for method in ("GET", "POST", "PATCH"):
                answer = requests.request(method, base + path, data=raw, timeout=20)
                assert answer.status_code < 500
                yield f"{method} {path.replace(raw, '<raw>')}", answer.content + str(answer.headers).encode()
    for path in ("/metrics", "/healthz", "/readyz"):
        yield path, requests.get(world.console + path, timeout=20).content


# What a verb prints of a patient, because that is what it was asked for: the bubble with its values, the words behind an id.
# That somebody looked at a stored event is recorded. Their stderr is searched like everybody's.
SHOWS = {"preview": WORDS["Given"], "show --reveal": WORDS["Reason"]}


def verbs(world: World) -> Iterator[tuple[str, bytes, bytes]]:
    """(verb, stdout, stderr) of what an engineer types about these patients, mistakes and an EHR that is down included."""
    event = event_about(world, "Appointment/v1")
    asked = {
        "preview": ("preview", "appointment-booked", "Appointment/v1", "--payload"),
        "why": ("why", "Patient/k1"),
        "why --json": ("why", "Patient/k2", "--json"),
        "replay": ("replay", event),
        "trigger": ("trigger", "appointment.booked", "--patient", "Patient/k1", "--really", "--wait", "5"),
        "tail": ("tail", "--no-follow", "--last", "1000"),
        "tail --json": ("tail", "--no-follow", "--last", "1000", "--json"),
        "show": ("show", event),
        "show --reveal": ("show", event, "--reveal"),
        "doctor": ("doctor", "--json"),
    }
    for name, arguments in asked.items():
        done = run_verb(world, *arguments)
        yield name, done.stdout, done.stderr
    world.ehr.post("faults", down="html")
    for arguments in (("preview", "appointment-booked", "Appointment/v1"), ("replay", event), ("doctor",)):
        done = run_verb(world, *arguments)
        yield f"{arguments[0]}, the EHR down", b"" if arguments[0] == "preview" else done.stdout, done.stderr
    world.ehr.post("faults", down="")


def run_verb(world: World, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **world.environment, "BRIDGE_CONFIG": str(world.config)}
    command = [sys.executable, "-m", "bridge", *arguments]
    return subprocess.run(command, env=environment, cwd=world.folder, capture_output=True, timeout=90, check=False)


def event_about(world: World, reference: str) -> str:
    """The newest stored event of a resource, as `bridge tail` names it."""
    lines = run_verb(world, "tail", "--no-follow", "--last", "1000", "--ref", reference, "--json").stdout.splitlines()
    hops = [json.loads(line) for line in lines]
    return [str(hop["id"]) for hop in hops if str(hop["id"]).startswith("evt_")][-1]


def test_no_canary_where_it_may_not_be(world: World) -> None:
    seed(world)
    talk(world)
    break_things(world)
    found = Found()
    secrets = [value for name, value in world.environment.items() if name != "BRIDGE_LOG"]
    for where, content in pages(world):
        look(where, content, [*FORBIDDEN, *secrets], found)
    for name, out, err in verbs(world):
        look(f"bridge {name}, stderr", err, [*FORBIDDEN, *secrets], found)
        if name in SHOWS:
            assert SHOWS[name].lower().encode() in out.lower(), f"bridge {name} was to show the patient: {err[-300:]!r}"
            look(f"bridge {name}", out, [*NATIONAL, *secrets] if name == "preview" else secrets, found)
        else:
            look(f"bridge {name}", out, [*FORBIDDEN, *secrets], found)
        assert out or err, name
    said = bubbles(world, PHONE)
    assert any(WORDS["Given"] in json.dumps(bubble) for bubble in said), "the canaries did go through"
    shown = Path(world.folder / "data")
    database = {path.name: path.read_bytes() for path in shown.iterdir() if path.is_file()}
    world.kill()  # what a dead process leaves behind
    database |= {f"{path.name} after the kill": path.read_bytes() for path in shown.iterdir() if path.is_file()}
    world.start_engine()
    time.sleep(1)
    world.stop_engine()
    database |= {f"{path.name} at the end": path.read_bytes() for path in shown.iterdir() if path.is_file()}
    assert any("wal" in name for name in database)
    assert sum(map(len, database.values())) > 100_000
    for name, content in database.items():
        look(name, content, [*FORBIDDEN, *secrets], found)
    log = (world.folder / "engine.log").read_bytes()
    assert b"engine started" in log
    look("engine.log", log, [*FORBIDDEN, *secrets], found)
    for running in (world.ehr, world.whatsapp):
        for line in running.lines(dir="in"):
            asked = {key: line[key] for key in line if key in ("path", "query", "url")}
            assert asked
            look(f"a URL at {running.name}", json.dumps(asked).encode(), [*FORBIDDEN, *secrets], found)
    assert not found, "\n".join(found)


def test_a_log_line_has_no_words_but_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Exceptions, libraries' arguments and dying threads: their own words stay out, where it happened does not."""
    before = (logging.root.handlers[:], logging.root.level, threading.excepthook, sys.unraisablehook)
    secret = WORDS["Said"]
    try:
        set_up_logging()
        try:
            {}[secret]
        except KeyError:
            logging.getLogger("bridge.engine.apply").exception("an event could not be decided")
            logging.getLogger("bridge.doors").exception("Exception on %s [%s]", f"/ehr/main/x/~{secret}", "PUT")
        logging.getLogger("asyncio").error(f"Task exception was never retrieved\nKeyError({secret})")
        logging.getLogger("somebody.else").warning("cannot parse %s", secret)
        logging.getLogger("bridge.x").warning("a phrase", extra={"body": secret, "cause": "evt_1"})
        dying = threading.Thread(target=lambda: {}[secret])
        dying.start()
        dying.join()
    finally:
        logging.root.handlers[:], logging.root.level, threading.excepthook, sys.unraisablehook = before
    said = capsys.readouterr().err
    assert secret not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["message"] for line in lines] == [
        "an event could not be decided", "Exception on %s [%s]", "Task exception was never retrieved",
        "cannot parse %s", "a phrase", "something died",
    ]  # fmt: skip
    assert (lines[0]["exception"], lines[5]["exception"], lines[4]["cause"]) == ("KeyError", "KeyError", "evt_1")


def test_the_search_finds_what_is_there() -> None:
    found = Found()
    look("here", f"x{WORDS['Said'].upper()}y".encode("utf-16-le"), FORBIDDEN, found)
    look("there", b"nothing", FORBIDDEN, found)
    assert found
    assert all(place.startswith("here") for place in found)
