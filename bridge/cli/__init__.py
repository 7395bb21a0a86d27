"""The `bridge` command: a line per verb here, a file per group of verbs beside it.

A verb's module is imported only when the verb runs, so that `bridge --help` and a typing mistake answer at once. What a
line names is a function with typer's annotations, or a `typer.Typer` for a verb with verbs of its own.
Exit codes: 0 done, 2 usage or refused config, 3 nothing sent (reason printed), 4 failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge import __version__
from bridge.errors import BridgeError, Refused, StoreUnreachable

DONE, REFUSED, NOTHING_SENT, FAILED = 0, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Verb:
    """One word after `bridge`."""

    name: str
    where: str  # "bridge.cli.check:check": module and function, or Typer of a group
    help: str


VERBS = (
    Verb("demo", "bridge.cli.demo:demo", "Try it: the engine between a pretend EHR and a pretend phone, offline."),
    Verb(
        "init", "bridge.cli.init:init", "A new site's folder: config, mappings, templates, compose.yaml, .env.example."
    ),
    Verb("serve", "bridge.cli.serve:serve", "Run the engine: doors, loops, console."),
    Verb(
        "doctor",
        "bridge.cli.doctor:doctor",
        "Configuration, secrets, clock, store, EHR, WhatsApp: good, or what to do.",
    ),
    Verb("trigger", "bridge.cli.trigger:trigger", "Push an invented event to the running engine, and follow it."),
    Verb("prime", "bridge.cli.prime:prime", "Read what an EHR holds already; no message, reminders armed."),
    Verb("show", "bridge.cli.show:show", "One event or message, hop by hop."),
    Verb("why", "bridge.cli.why:tell", "Which messages a patient got or did not get, and why, in sentences."),
    Verb("tail", "bridge.cli.tail:tail", "Events, sends and replies as they happen, ids only."),
    Verb("replay", "bridge.cli.replay:replay", "Decide a stored event again; sends only with --really-send."),
    Verb("doubts", "bridge.cli.doubts:app", "Messages whose outcome nobody knows: list, resend, close."),
    Verb("reminders", "bridge.cli.reminders:app", "What is planned, by time; release or cancel the brake."),
    Verb("ledger", "bridge.cli.ledger:ledger", "Does the ledger balance? Exits 4 unless it does."),
    Verb("retention", "bridge.cli.retention:sweep", "Empty what is older than the site keeps."),
    Verb("migrate", "bridge.cli.ledger:bring_up", "Bring the store's schema up to date."),
    Verb("check", "bridge.cli.check:check", "Check config, mappings, templates and replies; all problems at once."),
    Verb("preview", "bridge.cli.preview:preview", "What a mapping would say: bubble, values, conditions; never sends."),
    Verb("templates", "bridge.cli.templates:app", "Lint the texts under config/templates/ before Meta sees them."),
    Verb("explain", "bridge.cli.explain:explain", "What a code means and what to do: BR011, wa:131047, StoreLocked."),
    Verb("bench", "bridge.cli.bench:bench", "How fast this checkout is on this machine, on both stores."),
)

ConfigOption = Annotated[
    Path, typer.Option("--config", envvar="BRIDGE_CONFIG", help="The bridge.yaml to use.", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
DEFAULT_CONFIG = Path("config/bridge.yaml")


def program(verbs: Sequence[Verb] = VERBS) -> typer.Typer:
    """The command line over these verbs."""
    app = typer.Typer(
        name="bridge",
        help="EHR events become WhatsApp messages, and what patients answer goes back into the EHR.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,  # its tracebacks print local variables: patients' data
    )

    @app.callback(invoke_without_command=True)
    def options(
        context: typer.Context,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
        config: Annotated[Path | None, typer.Option("--config", help="The bridge.yaml to use.")] = None,
    ) -> None:
        if version:
            print(f"bridge {__version__}")
            raise typer.Exit(DONE)
        if config is not None:
            os.environ["BRIDGE_CONFIG"] = str(config)  # the verbs take it from there
        if context.invoked_subcommand is None:
            print(context.get_help(), file=sys.stderr)
            raise typer.Exit(REFUSED)

    untouched = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    for verb in verbs:
        app.command(verb.name, help=verb.help, add_help_option=False, context_settings=untouched)(_runner(verb))
    return app


def _runner(verb: Verb) -> Any:
    def run(context: typer.Context) -> None:
        module, _, name = verb.where.partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            function = found
            found = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            found.command(help=verb.help)(function)
        typer.main.get_command(found).main(args=list(context.args), prog_name=f"bridge {verb.name}")

    return run


def main(args: Sequence[str] | None = None) -> None:
    """What the `bridge` script calls."""
    try:
        program()(args=args)
    except Refused as exc:
        print(exc, file=sys.stderr)
        sys.exit(REFUSED)
    except BridgeError as exc:
        print(f"{type(exc).__name__}: {exc}\n{exc.remedy}", file=sys.stderr)
        sys.exit(FAILED)
    except BrokenPipeError:  # `bridge tail | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    except Exception as exc:
        from sqlalchemy.exc import OperationalError  # late: a verb that needs no database does not load it

        if not isinstance(exc, OperationalError):
            raise
        # its own words may hold the URL
        print(f"StoreUnreachable: {type(exc.orig).__name__}\n{StoreUnreachable.remedy}", file=sys.stderr)
        sys.exit(FAILED)
