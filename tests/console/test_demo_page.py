"""The demo's page in a real browser: what a visitor presses and sees, at a desk's width and at a phone's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, expect, sync_playwright

import bridge.sandbox.demo

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WAIT = 25_000  # milliseconds


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a running `bridge demo`."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    command = [sys.executable, "-m", "bridge", "demo", "--no-browser", "--keep", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        too_long = threading.Timer(90, demo.kill)
        too_long.start()
        found = re.search(r"http://\S+", demo.stdout.readline())
        too_long.cancel()
        assert found is not None
        yield found[0]
        demo.terminate()
        assert demo.wait(30) == 0


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, url: str) -> Iterator[Page]:
    """A fresh page; it fails the test when the browser complains, or asks any other host for anything."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(WAIT)
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if strange(asked.url, url) else None)
    yield page
    page.close()
    assert complaints == []


def strange(asked: str, url: str) -> bool:
    return urlsplit(asked).netloc != urlsplit(url).netloc


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def reads(page: Page, text: str | re.Pattern[str]) -> None:
    """The phone shows it."""
    expect(page.locator(".bubble.theirs").filter(has_text=text).first).to_be_visible(timeout=WAIT)


def traced(page: Page, text: str) -> None:
    expect(page.locator(".event").filter(has_text=text).first).to_be_visible(timeout=WAIT)


@pytest.mark.browser
def test_book_confirm_stop(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.get_by_text("DEMO – no real data")).to_be_visible()
    boxes = [page.locator(f".column.{name}").bounding_box() for name in ("ehr", "trace", "phone")]
    assert all(box is not None and box["width"] > 300 and box["height"] > 400 for box in boxes)
    edges = [(box["x"], box["x"] + box["width"]) for box in boxes if box is not None]
    assert edges[0][1] <= edges[1][0] and edges[1][1] <= edges[2][0] and edges[2][1] <= 1280  # side by side

    press(page, "Book")
    reads(page, "Su cita quedó reservada")
    press(page, "Confirmar")
    reads(page, "está confirmada")
    expect(page.locator("mark").filter(has_text="accepted")).to_be_visible()
    expect(page.locator(".column.ehr h3").filter(has_text="version 2, by bridge")).to_be_visible()
    traced(page, "confirm the visit in the EHR")
    expect(page.locator(".column.ehr .row").filter(has_text="Confirmar")).to_be_visible()

    page.get_by_label("Message").fill("BAJA")
    page.keyboard.press("Enter")
    reads(page, "no le enviaremos más mensajes")
    expect(page.get_by_label("Message")).to_have_value("")
    assert page.evaluate("document.activeElement.name") == "text"  # ready for the next line
    expect(page.locator(".column.ehr .pill.bad").filter(has_text="deny")).to_be_visible()
    bubbles = page.locator(".bubble.theirs").count()
    press(page, "Book")
    traced(page, "the patient stopped messages on this phone")
    assert page.locator(".bubble.theirs").count() == bubbles


@pytest.mark.browser
def test_move_clock_and_languages(page: Page, url: str) -> None:
    page.goto(f"{url}?who=beatriz")  # first: later it may be night in São Paulo
    press(page, "Book")
    reads(page, re.compile(r"Hora: 11:30.*Clínica Paulista", re.DOTALL))
    page.get_by_role("link", name="Lucía").click()
    press(page, "Português")
    expect(page.locator("button.chip.on")).to_have_text("Português")
    press(page, "Book")
    reads(page, "Sua consulta está marcada")
    press(page, "Move")
    reads(page, "O hospital mudou sua consulta")
    press(page, "▸ next reminder")
    reads(page, "Lembramos da sua próxima consulta")


@pytest.mark.browser
def test_what_breaks(page: Page, url: str) -> None:
    page.goto(f"{url}?who=mateo")
    press(page, "Book")
    reads(page, "Mateo")
    press(page, "EHR down")
    expect(page.locator(".lamp.bad")).to_have_text("EHR down")
    press(page, "Confirmar")
    reads(page, "Le avisaremos aquí cuando quede registrada")
    traced(page, "the EHR cannot be reached")
    press(page, "EHR up")
    reads(page, "está confirmada")
    press(page, "Duplicate webhook")
    traced(page, "already handled")
    press(page, "WhatsApp 429")
    expect(page.locator(".lamp.bad")).to_contain_text("429")
    press(page, "Move")
    traced(page, "code 130429")
    reads(page, "El hospital cambió la cita")
    press(page, "Quiet hours")
    expect(page.locator(".now")).to_contain_text("22:0")
    press(page, "Book")
    traced(page, "quiet hours")


@pytest.mark.browser
def test_on_a_phone(page: Page, url: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{url}?who=beatriz")
    for name in ("ehr", "trace", "phone"):
        page.locator(f"label[for=tab-{name}]").click()
        for other in ("ehr", "trace", "phone"):
            expect(page.locator(f".column.{other}")).to_be_visible(visible=other == name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.get_by_label("Message")).to_be_in_viewport()


def test_polls_cheaply_and_obeys_only_itself(url: str) -> None:
    assert requests.get(f"{url}pane/phone?who=nobody", timeout=10).status_code == 404
    first = requests.get(f"{url}pane/ehr?who=lucia", timeout=10)
    again = requests.get(f"{url}pane/ehr?who=lucia", headers={"If-None-Match": first.headers["ETag"]}, timeout=10)
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert "script-src 'self'" in first.headers["Content-Security-Policy"]
    assert "unsafe" not in first.headers["Content-Security-Policy"]
    foreign = requests.post(
        f"{url}do/book", data={"who": "ana"}, headers={"Origin": "https://elsewhere.example"}, timeout=10
    )
    assert foreign.status_code == 403


def test_nothing_is_loaded_from_elsewhere() -> None:
    root = Path(__file__).parents[2]
    demo = Path(bridge.sandbox.demo.__file__).parent
    templates = [*demo.glob("templates/*.html"), *(root / "bridge/console/templates").rglob("*.html")]
    assert templates
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"""(src|href|action)=["'](https?:)?//""", text), template.name
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", text), template.name
    checked = subprocess.run([sys.executable, str(root / "tools/vendor_assets.py"), "--check"], check=False)
    assert checked.returncode == 0
