"""Who is compared: how each is put into the cache folder, started on the doors of a world, and asked how much it recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers import server
from bridge.sandbox.world import PNID, World

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the comparison.

    `recorded` counts messages whose last status, read, is recorded. `patience`: seconds after a restart in which it may still
    be about to take up again what it had begun (its own configuration says when).
    """

    name: str
    what: str
    needs: tuple[str, ...]  # commands
    patience: float
    recorded: str = "SELECT count(*) FROM status WHERE status = 'read'"

    @property
    def home(self) -> str:
        """Its folder in the cache; both Node-REDs are one installation."""
        return self.name.removesuffix("-full")

    # --- installing ------------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        return [command for command in self.needs if shutil.which(command) is None]

    def install(self) -> None:
        """Into the cache folder; nothing to do when its committed files are those that were installed."""
        home = CACHE / self.home
        mark = home / "installed"
        wanted = self._sources()
        if not wanted or (mark.exists() and mark.read_bytes() == wanted):
            return
        home.mkdir(parents=True, exist_ok=True)
        for command in self._steps(home):
            print(f"{self.name}: {' '.join(command)}", flush=True)
            subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)
        mark.write_bytes(wanted)

    def _sources(self) -> bytes:
        files = {
            "node-red": ["nodered/package.json"],
            "starlette": ["starlette/requirements.txt"],
            "camel": ["camel/pom.xml", *(str(path.relative_to(HERE)) for path in sorted((HERE / "camel/src").rglob("*.*")))],
        }.get(self.home, [])  # fmt: skip
        return b"".join((HERE / name).read_bytes() for name in files)

    def _steps(self, home: Path) -> Sequence[Sequence[str]]:
        match self.home:
            case "node-red":
                shutil.copy(HERE / "nodered/package.json", home)
                # the SQLite driver compiles itself where its prebuilt form cannot be fetched: some minutes, once
                return [["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]]
            case "starlette":
                requirements = str(HERE / "starlette/requirements.txt")
                return [
                    ["uv", "venv", "--quiet", "--clear", "venv"],
                    ["uv", "pip", "install", "--quiet", "--python", "venv/bin/python", "-r", requirements],
                ]
            case _:
                return [["mvn", "-q", "-B", "-f", str(HERE / "camel/pom.xml"), "package"]]

    # --- running ---------------------------------------------------------------------------------------------------

    def store(self, folder: Path) -> str:
        """SQLAlchemy URL of a new store."""
        if self.name in {"bridge", "node-red", "node-red-full"}:
            return f"sqlite:///{folder / 'data' / 'bridge.db'}"
        return f"postgresql+psycopg://postgres@{server.database()}"

    def start(self, world: World) -> None:
        """Start it on the world's doors; returns when the process runs (bridge: when it is ready)."""
        if self.name.startswith("bridge"):
            world.start_engine()
            return
        command, more = self._command(world)
        names = ("EHR_TOKEN", "EHR_DOOR_SECRET", "META_APP_SECRET", "META_TOKEN")
        env = {name: value for name, value in os.environ.items() if not name.startswith("NODE_RED")}
        env |= {name: world.environment[name] for name in names}
        env |= {"PORT": world.doors.rpartition(":")[2], "EHR_URL": world.ehr.url, "WHATSAPP_URL": world.whatsapp.url,
                "PHONE_NUMBER_ID": PNID} | more  # fmt: skip
        with (world.folder / "engine.log").open("a", encoding="utf-8") as log:
            world.engine = subprocess.Popen(command, env=env, stdout=log, stderr=log, text=True, cwd=world.folder)

    def _command(self, world: World) -> tuple[Sequence[str], dict[str, str]]:
        address = world.store.partition("@")[2]
        match self.name:
            case "node-red" | "node-red-full":
                home = world.folder / "node-red"
                home.mkdir(exist_ok=True)
                (world.folder / "data").mkdir(exist_ok=True)
                for name in ("flows.json", "settings.js"):
                    shutil.copy(HERE / "nodered" / name, home)
                script = str(CACHE / "node-red/node_modules/node-red/red.js")
                # production: Express keeps no stack traces for visitors, as Node-RED's guide to running it says
                return ["node", script, "--userDir", str(home)], {
                    "STORE": world.store.removeprefix("sqlite:///"),
                    "SYNCHRONOUS": "FULL" if self.name == "node-red-full" else "NORMAL",
                    "NODE_ENV": "production",
                }
            case "starlette":
                python = str(CACHE / "starlette/venv/bin/python")
                return [
                    python, "-m", "uvicorn", "--app-dir", str(HERE / "starlette"), "bridge:web", "--host", "127.0.0.1",
                    "--port", world.doors.rpartition(":")[2], "--log-level", "warning", "--no-access-log",
                ], {"STORE": f"postgresql://postgres@{address}"}  # fmt: skip
            case _:
                # a quarter of a gigabyte is ample here; without a bound the heap's size would be the machine's, not the work's
                jar = str(HERE / "camel/target/camel-peer-1.jar")
                return ["java", "-Xmx256m", "-jar", jar], {"STORE": f"jdbc:postgresql://{address}"}


_STATES = "SELECT count(*) FROM outbox WHERE state = 'read'"
PEERS = (
    Peer("bridge", "core, SQLite", (), 3, _STATES),
    Peer("node-red", "4.1, SQLite node, survives a kill", ("node", "npm"), 3),
    Peer("node-red-full", "4.1, SQLite node, survives a power cut too", ("node", "npm"), 3),
    Peer("camel", "4.17 on Spring Boot, PostgreSQL", ("java", "mvn"), 4),
    Peer("starlette", "120 lines with Procrastinate, PostgreSQL", ("uv",), 15),
    Peer("bridge-postgresql", "core, PostgreSQL", (), 3, _STATES),
)
