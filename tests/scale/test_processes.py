"""`bridge serve --roles`: the roles of one site spread over processes, each with the secrets it needs and no other."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.scale.nodes import Node, asked
from bridge.sandbox import people
from bridge.sandbox.world import World, free_port
from tests.stores import store_url

NEEDS = {
    "doors": ("EHR_DOOR_SECRET", "META_APP_SECRET", "META_VERIFY_TOKEN"),
    "apply,pump,write": ("EHR_TOKEN", "META_TOKEN"),
    "send": ("META_TOKEN",),
    "console": ("BRIDGE_SESSION_KEY",),
}


def test_the_roles_of_a_site_in_four_processes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = {"quiet_hours": {"from": "03:00", "to": "03:01"}}
        world = stack.enter_context(World(tmp_path, store=store_url("postgresql", tmp_path), polite=True, site=site))
        nodes = {}
        for roles, names in NEEDS.items():
            secrets = {n: world.environment[n] for n in ("BRIDGE_DATA_KEY", "BRIDGE_INDEX_KEY", *names)}
            health = [] if roles == "console" else ["--health", f"127.0.0.1:{free_port()}"]
            nodes[roles] = Node(tmp_path, world.config, secrets, ["--roles", roles, *health])
            stack.callback(nodes[roles].stop)
        for node in nodes.values():
            node.start()
        twin = Node(tmp_path, world.config, nodes["send"].environment, ["--roles", "send"])
        stack.callback(twin.stop)
        twin.start()
        lying = {path.name for path in (tmp_path / "data").glob("*.sock")}
        assert lying == {
            "engine-doors.sock", "engine-apply-pump-write.sock", "engine-send.sock", "engine-send-2.sock",
            "engine-console.sock",
        }  # fmt: skip

        world.save(people.appointment("a1", datetime.now(UTC) + timedelta(days=9)))
        deadline = time.monotonic() + 20
        while not (shown := world.bubbles(people.ANA_PHONE)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(shown) == 1, world.log_tail()

        everybody = sorted([["doors"], ["apply", "pump", "write"], ["send"], ["send"], ["console"]])
        deadline = time.monotonic() + 10
        while True:  # each node hears of the others at its next beat
            status, told = asked(f"{world.console}/readyz")
            if sorted(each["roles"] for each in told["nodes"]) == everybody or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert (status, told["roles"]) == (200, ["console"])
        assert sorted(each["roles"] for each in told["nodes"]) == everybody
        status, told = asked(f"http://{nodes['doors'].arguments[-1]}/readyz")
        assert (status, told["roles"], told["problems"]) == (200, ["doors"], [])
        assert world.cli("prime", "main", "--json")  # its socket is the one of the process that applies
        assert all(node.stop() == 0 for node in [*nodes.values(), twin])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--roles", "doors,sender"), "no role is called sender; there are doors, apply, pump, send, write, console"),
        (("--roles", "doors"), "SQLite has one engine process"),
        (("--health", "8702"), "--health: give HOST:PORT"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    from tests.engine.harness import ENVIRON, settings_for

    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'bridge.db'}")
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "serve", "--config", str(settings.config_dir / "bridge.yaml"), *arguments],
        env=ENVIRON | {"PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
