"""The main job against a real FHIR server: booked in HAPI, told on the (pretend) phone, confirmed by a tap, held by HAPI.

The engine runs as a process of its own, `bridge serve --config FILE`; every check looks at HAPI or at the phone, never at
the engine's tables.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from bridge.fhir import build, rawjson
from bridge.fhir.client import EhrClient, Resource, Written
from bridge.sandbox import people
from bridge.sandbox.launch import Running, start_whatsapp

from .proxy import Proxy

pytestmark = pytest.mark.hapi

CONFIG = Path(__file__).parents[2] / "config"
SECRETS = {
    "BRIDGE_DATA_KEY": base64.b64encode(b"d" * 32).decode(),
    "BRIDGE_INDEX_KEY": base64.b64encode(b"i" * 32).decode(),
    "BRIDGE_SESSION_KEY": base64.b64encode(b"s" * 32).decode(),
    "EHR_DOOR_SECRET": "door-secret-of-the-test",
    "META_APP_SECRET": "app-secret-of-the-test",
    "META_VERIFY_TOKEN": "verify-token-of-the-test",
    "META_TOKEN": "meta-token-of-the-test",
}
CONFIRM, CANCEL = 0, 2  # buttons of the template
NUMBER, WABA = "200000000000001", "100000000000001"
YAML = """\
version: 1
site: {{name: Hospital Demo, zone: Europe/Madrid, region: ES, languages: [es, en, pt], emergency_number: "112",
       minor_under: 18, own_voice_from: 16}}
store: {{url: "sqlite:///{data}/bridge.db"}}
listen: {{doors: "127.0.0.1:{doors}", console: "127.0.0.1:{console}", public_url: "https://bridge.hospital.example"}}
security: {{data_keys: {{k1: "${{env:BRIDGE_DATA_KEY}}"}}, index_key: "${{env:BRIDGE_INDEX_KEY}}",
           session_key: "${{env:BRIDGE_SESSION_KEY}}"}}
ehrs:
  main:
    base_url: {ehr}
    fhir_version: R4
    dialect: generic
    auth: {{kind: none}}
    door: {{kind: bearer, secrets: ["${{env:EHR_DOOR_SECRET}}"]}}
    prime: none
    subscriptions: {{appointments: {{resource: Appointment}}}}
    writeback: {{appointment: {mode}, communication: create, consent: create}}
apps:
  hospital: {{app_secrets: ["${{env:META_APP_SECRET}}"], verify_token: "${{env:META_VERIFY_TOKEN}}"}}
numbers:
  front_desk: {{provider: cloud_api, app: hospital, base_url: "{graph}", api_version: v23.0, waba_id: "{waba}",
               portfolio: hospital, phone_number_id: "{number}", access_token: "${{env:META_TOKEN}}", rate: 70}}
consent:
  purposes: {{appointments: {{without_decision: send, basis: care contract}}, results: {{without_decision: block}}}}
  recognise: [{{category: "http://loinc.org|89057-4", purposes: [appointments, results]}}]
delivery: {{brake: 500, doubt_wait: 30m}}
reminders: {{unconfirmed: send}}
results: {{enabled: false}}
pilot: {{enabled: false}}
retention: {{bodies: 90d}}
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def until(holds: Callable[[], Any], what: str, within: float = 30.0) -> Any:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {within} s: {what}")


@contextmanager
def running(folder: Path, ehr: str, mode: str = "put") -> Iterator[tuple[str, Running]]:
    """The engine and the pretend WhatsApp; gives the engine's doors and the WhatsApp."""
    doors, console = free_port(), free_port()
    base = f"http://127.0.0.1:{doors}"
    shutil.copytree(CONFIG, folder / "config")
    (folder / "data").mkdir()
    with start_whatsapp(
        folder / "whatsapp.jsonl",
        webhook_url=f"{base}/whatsapp/hospital/webhook",
        app_secret=SECRETS["META_APP_SECRET"],
        token=SECRETS["META_TOKEN"],
        verify_token=SECRETS["META_VERIFY_TOKEN"],
        phone_number_ids=[NUMBER],
        waba_id=WABA,
        templates=CONFIG / "templates",
        polite=True,
    ) as whatsapp:
        config = folder / "config" / "bridge.yaml"
        config.write_text(
            YAML.format(
                data=folder / "data",
                doors=doors,
                console=console,
                ehr=ehr,
                mode=mode,
                graph=whatsapp.url,
                waba=WABA,
                number=NUMBER,
            )
        )
        with (folder / "engine.log").open("w") as log:
            engine = subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--config", str(config)],
                env=os.environ | SECRETS,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until(lambda: engine.poll() is not None or ready(console), "the engine is ready")
            assert engine.poll() is None, (folder / "engine.log").read_text()
            yield base, whatsapp
        finally:
            engine.terminate()
            try:
                engine.wait(20)
            except subprocess.TimeoutExpired:
                engine.kill()
                engine.wait()


def ready(console: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{console}/readyz", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def put(client: EhrClient, resource: dict[str, Any]) -> str:
    reference = f"{resource['resourceType']}/{resource['id']}"
    assert isinstance(client.update(reference, rawjson.dumps(resource), None), Written)
    return reference


@pytest.fixture
def somebody(client: EhrClient) -> tuple[str, str]:
    """A Patient of this test alone, and her phone."""
    for one in (people.organization(), people.location(), people.practitioner()):
        put(client, one)
    phone = f"346120{uuid.uuid4().int % 100000:05d}"
    return put(client, people.patient(f"p-{uuid.uuid4().hex[:8]}", "Ana", "Inventada", phone)), phone


@contextmanager
def subscribed(client: EhrClient, doors: str) -> Iterator[None]:
    """Our Subscription at HAPI, active; switched off afterwards."""
    wanted = build.subscription(
        criteria="Appointment?",
        endpoint=f"{doors}/ehr/main/appointments",
        reason="WhatsApp messages",
        headers=[("Authorization", f"Bearer {SECRETS['EHR_DOOR_SECRET']}")],
    )
    made = client.create("Subscription", rawjson.dumps(wanted)).reference
    until(lambda: read(client, made).resource["status"] == "active", "the Subscription is active")
    try:
        yield
    finally:
        held = read(client, made)
        client.update(made, rawjson.dumps({**held.resource, "status": "off"}), held.etag)


def read(client: EhrClient, reference: str) -> Resource:
    held = client.read(reference)
    assert isinstance(held, Resource)
    return held


def visit(patient: str) -> dict[str, Any]:
    start = (datetime.now(UTC) + timedelta(days=5)).replace(microsecond=0)
    # what a model's round trip would lose: an unknown extension, decimals with their zeros, order
    extension = [{"url": "https://hospital.example/fee", "valueDecimal": rawjson.Literal("8.10")}]
    made = people.appointment("x", start, patient=patient, extension=extension)
    del made["id"]
    return made


def text_without_meta(held: Resource) -> str:
    return re.sub(r'"meta":\{[^}]*\},', "", held.body.decode())


def bubbles(whatsapp: Running, phone: str, sender: str = "business") -> list[dict[str, Any]]:
    return [one for one in whatsapp.get(f"phone/{phone}")["bubbles"] if one["from"] == sender]


def answers(held: Resource, patient: str) -> list[str]:
    return [one["status"] for one in held.resource["participant"] if one["actor"].get("reference") == patient]


def communications(client: EhrClient, patient: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Out and in, as HAPI holds them."""
    held = [one.resource for one in client.search("Communication", {"subject": patient})]
    outward = [one for one in held if one.get("recipient", [{}])[0].get("reference") == patient]
    inward = [one for one in held if one.get("sender", {}).get("reference") == patient]
    assert len(outward) + len(inward) == len(held)
    return outward, inward


def book_and_tap(
    client: EhrClient, whatsapp: Running, patient: str, phone: str, index: int = CONFIRM
) -> tuple[str, Resource]:
    """Book in HAPI, wait for the phone, tap."""
    appointment = client.create("Appointment", rawjson.dumps(visit(patient))).reference
    before = read(client, appointment)
    (bubble,) = until(lambda: bubbles(whatsapp, phone), "the phone has the message")
    assert "Ana" in bubble["body"]
    whatsapp.post("tap", who=phone, wamid=bubble["wamid"], index=index)
    return appointment, before


def test_booked_told_confirmed_and_held_by_the_ehr(hapi, client, somebody, tmp_path):
    patient, phone = somebody
    with running(tmp_path, hapi.base) as (doors, whatsapp), subscribed(client, doors):
        appointment, before = book_and_tap(client, whatsapp, patient, phone)
        after = until(
            lambda: (held := read(client, appointment)).version == "2" and held, "HAPI holds the patient's answer"
        )
        assert answers(after, patient) == ["accepted"]
        assert before.body.decode().count("needs-action") == 1  # hers: the only word that may differ
        assert text_without_meta(after) == text_without_meta(before).replace("needs-action", "accepted")
        assert "8.10" in text_without_meta(after)

        def both() -> Any:
            outward, inward = communications(client, patient)
            return outward and inward and outward[0]["status"] == "completed" and (outward, inward)

        outward, inward = until(both, "HAPI holds both Communications", within=60)
        assert (len(outward), len(inward)) == (1, 1)
        assert outward[0]["about"] == inward[0]["about"] == [{"reference": appointment}]
        assert outward[0]["identifier"][0]["system"] == build.MESSAGE
        assert inward[0]["payload"] == [{"contentString": "Confirmar"}]
        until(lambda: len(bubbles(whatsapp, phone)) == 2, "the phone has been told that it is confirmed")
        whatsapp.idle()
        time.sleep(1)  # HAPI's notification of our own write has come: nothing new is told, nothing more is written
        assert len(bubbles(whatsapp, phone)) == 2
        assert read(client, appointment).version == "2"


@pytest.mark.parametrize("mode", ["put", "patch"])
def test_a_second_writer_between_our_read_and_our_write_loses_nothing(hapi, client, somebody, tmp_path, mode):
    patient, phone = somebody

    def second_writer(_method: str, path: str) -> None:
        reference = path.removeprefix("/fhir/")
        held = read(client, reference)
        theirs = {**held.resource, "comment": "traiga las placas"}
        assert isinstance(client.update(reference, rawjson.dumps(theirs), held.etag), Written)

    with (
        Proxy(hapi.base, second_writer) as proxy,
        running(tmp_path, proxy.base, mode) as (doors, whatsapp),
        subscribed(client, doors),
    ):
        appointment, _ = book_and_tap(client, whatsapp, patient, phone)
        after = until(
            lambda: answers(held := read(client, appointment), patient) == ["accepted"] and held,
            "HAPI holds the answer",
        )
        assert after.resource["comment"] == "traiga las placas"
        assert after.version == "3"
        assert [(match, status) for _, _, match, status in proxy.writes] == [('W/"1"', 409), ('W/"2"', 200)]
        until(lambda: len(bubbles(whatsapp, phone)) == 2, "the phone has been told that it is confirmed")


def test_a_visit_that_moves_between_our_read_and_our_write_is_not_confirmed(hapi, client, somebody, tmp_path):
    patient, phone = somebody

    def second_writer(_method: str, path: str) -> None:
        reference = path.removeprefix("/fhir/")
        held = read(client, reference)
        start = datetime.fromisoformat(held.resource["start"]) + timedelta(days=1)
        moved = {"start": start.isoformat(), "end": (start + timedelta(minutes=30)).isoformat()}
        assert isinstance(client.update(reference, rawjson.dumps({**held.resource, **moved}), held.etag), Written)

    with (
        Proxy(hapi.base, second_writer) as proxy,
        running(tmp_path, proxy.base) as (doors, whatsapp),
        subscribed(client, doors),
    ):
        appointment, before = book_and_tap(client, whatsapp, patient, phone)
        until(lambda: len(bubbles(whatsapp, phone)) == 3, "the phone reads that it did not work, and the new time")
        told = [one["body"] for one in bubbles(whatsapp, phone)]
        assert sum("template" in one["kind"] for one in bubbles(whatsapp, phone)) == 2, told
        after = read(client, appointment)
        assert after.version == "2"
        assert after.resource["start"] != before.resource["start"]
        assert answers(after, patient) == ["needs-action"]
        assert len(proxy.writes) == 1


def test_cancelled_by_the_patient_is_not_told_back_as_the_hospitals_doing(hapi, client, somebody, tmp_path):
    patient, phone = somebody
    with running(tmp_path, hapi.base) as (doors, whatsapp), subscribed(client, doors):
        appointment, _ = book_and_tap(client, whatsapp, patient, phone, CANCEL)
        until(lambda: len(bubbles(whatsapp, phone)) == 2, "the phone has the question")
        assert read(client, appointment).version == "1"
        question = bubbles(whatsapp, phone)[1]
        whatsapp.post("tap", who=phone, wamid=question["wamid"], index=0)
        after = until(
            lambda: (held := read(client, appointment)).version == "2" and held, "HAPI holds the cancellation"
        )
        assert after.resource["status"] == "cancelled"
        assert after.resource["cancelationReason"]["coding"][0]["code"] == "pat"
        assert answers(after, patient) == ["declined"]
        until(lambda: len(bubbles(whatsapp, phone)) == 3, "the phone has been told that it is cancelled")
        time.sleep(3)  # HAPI's notification of our own write has come and gone
        told = bubbles(whatsapp, phone)
        assert [one["kind"] for one in told].count("template") == 1, [one["body"] for one in told]
        assert len(told) == 3
        assert read(client, appointment).version == "2"
