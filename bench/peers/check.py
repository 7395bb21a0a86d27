"""Does it do the work at all? Asked from outside before anything is measured; a peer that fails is not measured."""

from __future__ import annotations

import json
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from bench import bodies
from bench.peers.stage import NotDone, Stage
from bridge.sandbox.world import post

DAYS = ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo")
MONTHS = ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
          "diciembre")  # fmt: skip
TWICE = 2.0  # seconds in which a second message would have left


def text(start: datetime, number: int) -> str:
    """What patient `number` of `bodies` must read."""
    at = start.astimezone(ZoneInfo("Europe/Madrid"))
    room = number % bodies.PLACES
    return "\n".join((
        f"Hola, {bodies.GIVEN[number % 10]}. Su cita quedó reservada.",
        f"Día: {DAYS[at.weekday()]}, {at.day} de {MONTHS[at.month - 1]} de {at.year}",
        f"Hora: {at.hour}:{at.minute:02}",
        "Con: Dra. Ruiz Salvat",  # prefix and family: a name's `text` is the EHR's, not the patient's
        f"Lugar: Consulta {room}, planta {room % 4}",
        "Use los botones para confirmarla o cambiarla.",
    ))  # fmt: skip


def conforms(stage: Stage, number: int) -> None:
    """Use up patient `number`.

    Raises:
        NotDone: naming what it does otherwise.
    """
    name, body = bodies.appointments("check", number, 1, stage.start_of_visits)[0]
    who = stage.peer.name

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise NotDone(f"{who} does not do the work: {what}")

    need(stage.push(name, body, secret="wrong") in {401, 403}, "a wrong secret is not refused")
    forged = json.dumps({"object": "whatsapp_business_account", "entry": []}).encode()
    headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64, "Content-Type": "application/json"}
    answer = post(f"{stage.world.doors}/whatsapp/hospital/webhook", forged, headers).status_code
    need(answer in {400, 401, 403}, f"a wrong signature is answered {answer}")
    need(stage.accepted() == 0, "something was sent before anything was asked")
    # its door may be open a moment before its tables are there
    stage.until(lambda: stage.push(name, body) == 200, "a notification acknowledged", 30)
    need(stage.push(name, body) == 200, "the same notification is not acknowledged again")
    stage.until(lambda: stage.accepted() >= 1, "the message of one notification", 30)
    need(stage.push(name, body) == 200, "a notification already told is not acknowledged")
    time.sleep(TWICE)
    need(stage.accepted() == 1, f"one version, sent three times, became {stage.accepted()} messages")
    read = stage.world.bubbles(bodies.phone(number))[0]["body"]
    wanted = text(stage.start_of_visits, number)
    need(read == wanted, f"the patient reads {read!r} for {wanted!r}")
    stage.until(lambda: stage.recorded() == 1, "the statuses of one message recorded", 30)
