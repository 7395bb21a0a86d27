"""`bridge init FOLDER`: what a new site edits, keeps in git and starts from. Nothing that exists is written over."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

import typer

from bridge import __version__
from bridge.cli import DONE, REFUSED
from bridge.settings import shipped_config

DOORS = "0.0.0.0:8700"  # inside its container; what is published is compose.yaml's to say
POSTGRESQL = "postgresql+psycopg://bridge:${env:BRIDGE_DB_PASSWORD}@db/bridge"
SQLITE = "sqlite:////data/bridge.db"  # on the container's volume


def init(
    folder: Annotated[Path | None, typer.Argument(help="A new folder, or an empty one.", show_default=False)] = None,
    from_demo: Annotated[
        bool, typer.Option("--from-demo", help="As the demo runs: one process with SQLite, on this machine only.")
    ] = False,
    name: Annotated[str, typer.Option(help="The name patients know.")] = "Hospital Demo",
    zone: Annotated[str, typer.Option(help="Where visits name no time zone of their own.")] = "Europe/Madrid",
    region: Annotated[str, typer.Option(help="How national phone numbers are read: an ISO 3166 country.")] = "ES",
    language: Annotated[str, typer.Option(help="For patients whose language is unknown: es, en or pt.")] = "es",
    keys: Annotated[
        bool, typer.Option("--keys", help="Print fresh secrets, for .env or a vault; no file is written with them.")
    ] = False,
) -> None:
    """A new site's folder: config, mappings, templates, replies, compose.yaml, and .env.example with every secret's name."""
    if folder is None and not keys:
        _refuse("name a folder, or ask for --keys alone")
    if zone not in available_timezones():
        _refuse(f"{zone} is no time zone: an IANA name, like Europe/Madrid")
    shipped = sorted(file.stem for file in (shipped_config() / "replies").glob("*.yaml"))
    if language not in shipped:
        _refuse(f"texts come in {', '.join(shipped)}; for another language add it to the files later")
    spoken = [language, *(each for each in shipped if each != language)]
    config = site_config(name=name, zone=zone, region=region.upper(), languages=spoken, from_demo=from_demo)
    if folder is not None:
        _write(folder, config, from_demo=from_demo)
        typer.echo(_next_steps(folder, from_demo), err=keys)  # beside keys on stdout, so that these can go to a file
    if keys:
        print(fresh_keys(config), end="")
    raise typer.Exit(DONE)


def site_config(*, name: str, zone: str, region: str, languages: Sequence[str], from_demo: bool) -> str:
    """The shipped bridge.yaml with a site's own values in it; its comments stay."""
    text = (shipped_config() / "bridge.yaml").read_text("utf-8")
    changes = {
        r"^  name: .*?(?=\s+#)": f"  name: {json.dumps(name, ensure_ascii=False)}",
        r"^  zone: \S+": f"  zone: {zone}",
        r"^  region: \S+": f"  region: {region}",
        r"^  languages: \[[^]]*\]": f"  languages: [{', '.join(languages)}]",
    }
    if not from_demo:
        changes |= {
            r'^  url: "sqlite[^"]*" +# or .*$': f'  url: "{POSTGRESQL}"   # or {SQLITE}',
            r'^  doors: "[^"]*"': f'  doors: "{DOORS}"',
        }
    for pattern, value in changes.items():
        text, count = re.subn(pattern, lambda _, value=value: value, text, count=1, flags=re.MULTILINE)  # type: ignore[misc]
        assert count == 1, f"the shipped bridge.yaml has no line {pattern}"
    return text


def fresh_keys(config: str) -> str:
    """NAME=value of each secret that is a site's to invent."""
    from bridge.mappers.document import load_document
    from bridge.settings_secrets import fresh, named_secrets, origin_of

    made = [(each.name, origin_of(each).maker) for each in named_secrets(load_document(config, "bridge.yaml"))]
    return "".join(f"{name}={fresh(maker)}\n" for name, maker in made if maker is not None)


def env_example(config: str) -> str:
    """Every secret's name, and where it is had."""
    from bridge.mappers.document import load_document
    from bridge.settings_secrets import named_secrets, origin_of

    lines = ["# Copy to .env and fill in; .env stays out of git. `bridge doctor` says what is missing."]
    for each in named_secrets(load_document(config, "bridge.yaml")):
        origin = origin_of(each)
        lines += ["", f"# {each.key}: {origin.told}", f"{each.name}="]
    return "\n".join(lines) + "\n"


def _write(folder: Path, config: str, *, from_demo: bool) -> None:
    """Everything, or nothing where something of it is there already."""
    texts = {
        "config/bridge.yaml": config,
        ".env.example": env_example(config),
        ".gitignore": ".env\ndata/\nsecrets/\n",
        "compose.yaml": COMPOSE_DEMO if from_demo else COMPOSE,
        "README.md": README.replace("{store}", STORE_DEMO if from_demo else STORE),
    }
    there = [name for name in ("config", *texts) if (folder / name).exists()]
    if there:
        _refuse(f"{folder} holds {there[0]} already; nothing was written")
    try:
        shutil.copytree(shipped_config(), folder / "config", ignore=shutil.ignore_patterns("bridge.yaml", ".*"))
        for name, text in texts.items():
            (folder / name).write_text(text.replace("{version}", __version__), "utf-8")
    except OSError as error:
        _refuse(f"{folder} cannot be written: {type(error).__name__}")


def _refuse(told: str) -> None:
    typer.echo(told, err=True)
    raise typer.Exit(REFUSED)


def _next_steps(folder: Path, from_demo: bool) -> str:
    run = "bridge serve" if from_demo else "docker compose up -d"
    return (
        f"{folder}: a site's folder, its mappings and templates ready to be edited.\n"
        f"Next: cd {folder} && bridge check --no-secrets\n"
        "      cp .env.example .env, fill it in (bridge init --keys makes what is yours to invent)\n"
        f"      set -a; . ./.env; set +a; bridge doctor; {run}"
    )


COMPOSE = """\
# bridge and its database. Build the image once from the checkout: docker build -t fhir-whatsapp-bridge:{version} .
# `docker compose up -d`, then `docker compose exec bridge bridge doctor`.
services:
  bridge:
    image: fhir-whatsapp-bridge:{version}
    env_file: .env
    volumes:
      - ./config:/config:ro
      - bridge:/data
    ports:
      - "127.0.0.1:8700:8700"   # the doors, for the TLS proxy of listen.public_url
    read_only: true
    tmpfs: [/tmp]
    restart: unless-stopped
    stop_grace_period: 40s      # what is leaving leaves, and the leases are freed
    depends_on:
      db: {condition: service_healthy}
  db:
    image: postgres:17
    environment:
      POSTGRES_USER: bridge
      POSTGRES_DB: bridge
      POSTGRES_PASSWORD: ${BRIDGE_DB_PASSWORD:?set it in .env}
    volumes:
      - database:/var/lib/postgresql/data
    restart: unless-stopped
    healthcheck:
      test: [CMD-SHELL, pg_isready -U bridge]
      interval: 5s
      retries: 20
volumes:
  bridge:
  database:
"""

COMPOSE_DEMO = """\
# One process and its SQLite file, on this machine's own addresses (Linux). For a database of its own and a network of
# its own: bridge init FOLDER, without --from-demo.
# Build the image once from the checkout: docker build -t fhir-whatsapp-bridge:{version} .
services:
  bridge:
    image: fhir-whatsapp-bridge:{version}
    network_mode: host
    env_file: .env
    working_dir: /
    volumes:
      - ./config:/config:ro
      - bridge:/data            # store.url is data/bridge.db
    read_only: true
    tmpfs: [/tmp]
    restart: unless-stopped
    stop_grace_period: 40s
volumes:
  bridge:
"""

STORE = """\
The store is the PostgreSQL of `compose.yaml`. To run bridge outside it, name another database in `store.url`, or
`sqlite:///data/bridge.db`."""
STORE_DEMO = "The store is one SQLite file, `data/bridge.db`; it belongs to one engine process."

README = """\
# Our bridge

Visits and results of the EHR become WhatsApp messages, and what patients answer goes back. This folder is the site's
configuration: keep it in git. Secrets are in `.env`, which is not.

| file | what it says |
| --- | --- |
| `config/bridge.yaml` | the site, its EHRs, its WhatsApp numbers, its rules |
| `config/mappings/` | which event becomes which message; each with examples that `bridge check` runs |
| `config/templates/` | the texts, as approved by Meta |
| `config/replies/`, `config/words.yaml` | what bridge answers, and the words it takes for STOP, YES, ... |
| `.env.example` | every secret by name, and where it is had |
| `compose.yaml` | how it runs in containers |

{store}

## Before the first start

1. Change what is invented in `config/bridge.yaml`: `public_url`, `base_url`, `waba_id`, `phone_number_id`.
2. `bridge check --no-secrets` must be green; it reads every file here.
3. `cp .env.example .env` and fill it in. `bridge init --keys` prints fresh values for those that are yours to invent.
4. `set -a; . ./.env; set +a`, then `bridge doctor`: each red line says what to do.

## Start

```
docker compose up -d
docker compose exec bridge bridge doctor
docker compose exec bridge bridge prime main
```

Nothing is sent for an EHR before `bridge prime` has read what it already holds.
"""
