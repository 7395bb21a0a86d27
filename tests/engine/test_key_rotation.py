"""A data key is rotated while reminders wait: what was written under the old key still goes out, nothing is stuck."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.sandbox import people
from bridge.sandbox.world import World

ANA = "34612000101"
REMINDER = "appointment_reminder"
DAY = 86_400


def test_what_was_planned_under_the_old_key_leaves_under_the_new_one(tmp_path: Path) -> None:
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    with World(tmp_path, polite=True, site={"quiet_hours": {"from": "03:00", "to": "03:01"}}) as world:
        world.environment["NEW_DATA_KEY"] = key
        world.start_engine()
        visit = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=4, hours=2)
        world.save(people.appointment("a1", visit))
        world.whatsapp.wait_for(lambda _: world.bubbles(ANA), 15)
        assert world.stop_engine() == 0

        text = world.config.read_text("utf-8")
        old = '"k1": "${env:BRIDGE_DATA_KEY}"'
        assert old in text
        world.config.write_text(text.replace(old, f'{old}, "k2": "${{env:NEW_DATA_KEY}}"'), "utf-8")
        world.start_engine()
        world.push_clock(DAY + 3 * 3600)
        world.whatsapp.wait_for(lambda _: any(b["template"] == REMINDER for b in world.bubbles(ANA)), 20)

        bubble = world.bubbles(ANA)[0]
        world.whatsapp.post("tap", who=ANA, wamid=bubble["wamid"], index=0)
        world.ehr.wait_for(lambda _: world.held("Appointment/a1")["participant"][0]["status"] == "accepted", 20)
