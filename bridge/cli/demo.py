"""`bridge demo`: the engine between a pretend EHR and a pretend phone, offline, with invented people. The only verb that
may import the sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli import DONE, FAILED, REFUSED, JsonOption

ALL = "0,1,2,3,4,6,7,12,13,14"
LANGUAGES = ("es", "en", "pt")
PARTS = ("mappings", "templates", "replies", "words.yaml")


def demo(
    steps: Annotated[
        str,
        typer.Argument(
            metavar="[STEPS]", help="With --script: which steps, like 0,1,2,3; what they need is played too."
        ),
    ] = ALL,
    script: Annotated[
        bool, typer.Option("--script", help="Play the steps without a page; exit 4 when a ✓ fails.")
    ] = False,
    lang: Annotated[str, typer.Option("--lang", help="What Ana and Lucía read: es, en or pt.")] = "es",
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep configuration, ledger, journals and log in this new folder.")
    ] = None,
    content: Annotated[
        Path | None,
        typer.Option("--content", help="A folder whose mappings, templates, replies and words it runs, like config."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where the page listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Its port; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """The engine between a pretend EHR and a pretend phone."""
    if lang not in LANGUAGES:
        _refuse(f"--lang is one of {', '.join(LANGUAGES)}")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        _refuse(f"--keep wants a new or empty folder; {keep} is not")
    if content is not None and not (content / "mappings").is_dir():
        _refuse(f"--content wants a folder with mappings in it; {content} has none")
    for name in (signal.SIGTERM, signal.SIGINT):  # a shell starts what runs in its background with SIGINT ignored
        signal.signal(name, _interrupt)
    with ExitStack() as stack:
        folder = keep.absolute() if keep is not None else Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-demo-", ignore_cleanup_errors=True))
        )  # fmt: skip
        if content is not None:
            _copy_content(content, folder / "config")
        try:
            code = (
                _script(folder, steps, lang, as_json=as_json)
                if script
                else _page(folder, lang, host, port, browser=browser)
            )
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            code = DONE if not script else FAILED
    raise typer.Exit(code)


def _script(folder: Path, steps: str, lang: str, *, as_json: bool) -> int:
    from bridge.sandbox.demo.script import chosen, play

    try:
        playing = chosen([int(number) for number in steps.split(",")])
    except ValueError as error:
        _refuse(f"--script {steps}: {error}")
    begun = time.monotonic()

    def say(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    say("DEMO – no real data: pretend EHR, pretend WhatsApp, the real engine. Every ✓ is what those two saw.\n")
    results = play(folder, playing, lang=lang, say=say)
    if as_json:
        print(json.dumps(results, ensure_ascii=False, indent=1))
    checks = [check["ok"] for result in results for check in result["checks"]]
    say(f"\n{sum(checks)} of {len(checks)} ✓ in {time.monotonic() - begun:.0f} s")
    return DONE if all(checks) else FAILED


def _page(folder: Path, lang: str, host: str, port: int, *, browser: bool) -> int:
    from bridge.sandbox.demo.desk import Desk
    from bridge.sandbox.demo.page import serve
    from bridge.sandbox.demo.stage import stage

    with stage(folder, lang=lang, polite=True) as on, _keys() as keys:
        on.open()
        _hand_out(on.world.environment, folder)
        desk = Desk(on)
        server = serve(desk, host, port)
        url = f"http://{host}:{server.server_port}/"
        print(
            f"DEMO – no real data.  {url}\nPress b to book, r to remind, q to quit; Ctrl-C ends everything.", flush=True
        )
        if browser:
            import webbrowser

            webbrowser.open(url)
        try:
            for key in keys:
                with desk.lock:
                    if key == "b":
                        desk.book("ana")
                        print("booked a visit for Ana", flush=True)
                    elif key == "r":
                        desk.push_to_due("ana")
                        print(f"it is {desk.stage.now():%A %d %B %Y, %H:%M} UTC now", flush=True)
        finally:
            server.shutdown()
            server.server_close()
    return DONE


def _copy_content(source: Path, target: Path) -> None:
    """What the engine of this demo reads, and the pretend WhatsApp has approved."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part)
        elif (source / part).is_file():
            shutil.copy(source / part, target)


def _hand_out(environment: Mapping[str, str], folder: Path) -> None:
    """The demo's own secrets beside its config, so that `bridge trigger` and `bridge tail` can be tried from a second
    terminal; they last as long as the demo and protect invented people."""
    handle = os.open(folder / ".env", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in environment.items())


@contextmanager
def _keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed, until q; without a terminal, nothing until somebody stops us."""
    if not sys.stdin.isatty():
        yield _none()
        return
    import termios
    import tty

    held = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)
        yield iter(lambda: sys.stdin.read(1).lower().replace("q", ""), "")
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, held)


def _none() -> Iterator[str]:
    while True:
        time.sleep(3600)
        yield " "


def _refuse(why: str) -> None:
    print(why, file=sys.stderr)
    raise typer.Exit(REFUSED)


def _interrupt(*_: object) -> None:
    """SIGTERM ends every process of the demo as Ctrl-C does."""
    raise KeyboardInterrupt
