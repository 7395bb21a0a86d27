"""A gated result between real processes: what a phone shows from "there is a document" to the document, and nothing clinical before."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.sandbox import people
from bridge.sandbox.world import World

ANA = people.ANA_PHONE
PDF = b"%PDF-1.7 invented and harmless"
CLINICAL = ("hemograma", "hemoglobina", "texto cl", "%pdf")
RIGHT, WRONG = "12/3/1985", "13/3/1985"


def ours(world: World) -> list[dict[str, Any]]:
    """What bridge has said on Ana's phone of the result so far; that her consent arrived is told beside it, in its own time."""
    told = [each for each in world.bubbles(ANA) if each["from"] != "patient"]
    return [each for each in told if each.get("template") != "messages_confirmed"]


def wait(world: World, count: int) -> list[dict[str, Any]]:
    def there(_: object) -> bool:
        return len(ours(world)) >= count

    world.whatsapp.wait_for(there, 30)
    return ours(world)


def test_wrong_then_right(tmp_path: Path) -> None:
    site = {"quiet_hours": {"from": "03:00", "to": "03:01"}}
    now = datetime.now(UTC).replace(microsecond=0)
    attached = {"contentType": "application/pdf", "data": base64.b64encode(PDF).decode()}
    with World(tmp_path, polite=True, site=site, extra={"results": {"enabled": True}}) as world:
        world.start_engine()
        world.whatsapp.post("people", wa_id=ANA, name="Ana")
        world.save(people.consent("c1", "Patient/ana", now - timedelta(days=1)))
        asked = people.report("r1", "Patient/ana", now, presentedForm=[attached])
        world.save(asked)
        (bubble,) = wait(world, 1)
        assert bubble["template"] == "result_ready"
        assert [button["title"] for button in bubble["buttons"]] == ["Ver el documento", "Hablar con alguien"]

        world.whatsapp.post("tap", who=ANA, wamid=bubble["wamid"], index=0)
        question = wait(world, 2)[-1]
        assert question["body"].startswith("Para confirmar que es usted, escriba su fecha de nacimiento")

        world.whatsapp.post("say", who=ANA, text=WRONG)
        refused = wait(world, 3)[-1]
        assert refused["kind"] == "text"
        before = json.dumps(ours(world), ensure_ascii=False).lower() + json.dumps(world.accepted()).lower()
        assert [word for word in CLINICAL if word in before] == [], "nothing clinical before the right answer"
        assert [line for line in world.whatsapp.lines(dir="in") if str(line.get("path", "")).endswith("/media")] == []

        world.whatsapp.post("say", who=ANA, text=RIGHT)
        document = wait(world, 4)[-1]
        assert (document["kind"], document["body"]) == (
            "document", "Este es su documento. Si tiene preguntas, escríbalas en este chat.",
        )  # fmt: skip
        assert len([each for each in ours(world) if each["kind"] == "document"]) == 1
        after = json.dumps(ours(world), ensure_ascii=False).lower()
        assert [word for word in CLINICAL if word in after] == [], "the words are in the document alone"
        log = (world.folder / "engine.log").read_text("utf-8")
        assert RIGHT not in log and WRONG not in log
