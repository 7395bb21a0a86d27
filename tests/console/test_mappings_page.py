"""`/console/mappings`: what a mapping's author sees of it; what is written, and by whom it may be asked for."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import expect, sync_playwright
from werkzeug.serving import make_server

from bridge.console import stored
from bridge.console.app import console_app
from bridge.console.drafts import Drafts
from bridge.console.mappings import CSP
from bridge.engine import reload
from bridge.engine.content import load_content
from bridge.engine.reload import Reloader
from bridge.ledger.tables import audit, inbox
from bridge.sandbox import people
from tests.engine.harness import MORNING, Bench

ROOT = Path(__file__).parents[2]
PAGE = "/console/mappings"
BOOKED = f"{PAGE}/appointment-booked"
OURS = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


class Desk:
    """An engine whose site writes its own mappings, and its console."""

    def __init__(self, folder: Path, *, edit: bool) -> None:
        self.bench = Bench(folder, console={"edit": edit})
        config = self.bench.settings.config_dir
        shutil.copytree(ROOT / "config/mappings", config / "mappings")
        self.site = self.bench.site
        self.site.content = load_content(self.bench.settings)
        self.app = console_app(self.site)
        self.client: FlaskClient = self.app.test_client()
        self.folder = config / "mappings"
        self.file = self.folder / "appointment-booked.yaml"
        self.good = self.file.read_text("utf-8")

    @property
    def base(self) -> str:
        held = self.site.content.mappings.get("appointment-booked")
        assert held is not None
        return held.version

    def post(self, verb: str, text: str, headers: dict[str, str] | None = None, **more: Any) -> tuple[int, str]:
        data = {"source": text, "base": self.base} | more
        answer = self.client.post(f"{BOOKED}/{verb}", data=data, headers=OURS if headers is None else headers)
        return answer.status_code, answer.text


Desks = Callable[[bool], Desk]


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Desks]:
    made: list[Desk] = []

    def make(edit: bool) -> Desk:
        made.append(Desk(tmp_path, edit=edit))
        return made[-1]

    yield make
    for desk in made:
        desk.bench.close()


@pytest.fixture
def desk(desks: Desks) -> Desk:
    return desks(False)


def row(page: str, name: str) -> str:
    """The line of one mapping in the list, its tags left out."""
    found = next(each for each in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f'{PAGE}/{name}"' in each)
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_the_list(desk: Desk) -> None:
    paused = desk.folder / "appointment-cancelled.yaml"
    paused.write_text(paused.read_text("utf-8").replace("\nevent:", "\nenabled: false\nevent:", 1), "utf-8")
    (desk.folder / "broken.yaml").write_text("id: broken\nversion: [1\n", "utf-8")
    answer = desk.client.get(PAGE)
    assert (answer.status_code, answer.headers["Content-Security-Policy"]) == (200, CSP)
    assert "unsafe" not in CSP
    assert "<style" not in answer.text and not re.search(r"<script(?! src)|\sstyle=|\son\w+=", answer.text)
    assert row(answer.text, "appointment-booked") == (
        f"appointment-booked Appointment booked appointment.booked enabled {desk.base} good holds this version"
    )
    assert re.search(r"paused \w{12} good holds another: \w{12}$", row(answer.text, "appointment-cancelled"))
    assert re.search(r"refused \w{12} 1 error does not hold it$", row(answer.text, "broken"))


def test_a_fault_stands_at_its_line(desk: Desk) -> None:
    text = desk.good.replace("{path: start, as: time.short}", "{path: strt, as: time.short}", 1)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "path: strt" in each)
    column = text.splitlines()[line - 1].index("strt") + 1
    status, page = desk.post("check", text)
    assert status == 200
    assert f'data-line="{line}" data-column="{column}"' in page
    assert "BR021" in page and "did you mean &#34;start&#34;?" in page
    assert "The preview comes back when the errors are mended." in page
    desk.file.write_text(text, "utf-8")  # in the file too
    assert f'data-line="{line}" data-column="{column}"' in desk.client.get(BOOKED).text
    for broken in ("", "\t", "- a\n- b\n", "id: [\n"):
        assert 'class="error"' in desk.post("check", broken)[1]


def test_the_preview(desk: Desk) -> None:
    assert 'name="example" value="2"' in desk.post("check", "", example="2")[1]  # kept until it can be shown again
    page = desk.client.get(BOOKED).text
    assert page.count('class="phone"') == 3
    for shown in ("Dra. Ruiz", "miércoles, 25 de noviembre de 2026", "Wednesday", "Confirmar"):
        assert shown in page
    assert "<code>%patient.name</code>" in page and "name.given" in page
    assert "✓" in page and "else: appointment is in the past" in page
    assert "No difference." in page

    changed = desk.good.replace("max: 60, default", "max: 4, default", 1)
    shown = desk.post("check", changed)[1]
    assert '<span class="del">-    place: ' in shown and '<span class="add">+    place: ' in shown
    skipped = desk.post("check", desk.good, example="1")[1]
    assert "Nothing is sent: appointment is not booked" in skipped and "✗" in skipped
    guardian = desk.post("check", desk.good, example="2")[1]
    assert "read by the guardian" in guardian and "Mateo" in guardian
    assert "Dra. Ruiz" in desk.post("check", desk.good, example="99")[1]


def test_what_is_typed_reads_no_other_file(desk: Desk, tmp_path: Path) -> None:
    fixture = (desk.folder / "fixtures/appointment-booked.bundle.json").read_text("utf-8")
    (desk.folder.parent / "secret.json").write_text(fixture.replace("Ruiz", "Oculta"), "utf-8")
    for given in ("../secret.json", str(desk.folder.parent / "secret.json"), "fixtures/../../secret.json"):
        page = desk.post("check", desk.good.replace("fixtures/appointment-booked.bundle.json", given))[1]
        assert "Oculta" not in page and "there is no fixture" in page
    for name in (
        "../secret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "fixtures",
        "appointment-booked.yaml/../../x",
        "nobody",
    ):
        assert desk.client.get(f"{PAGE}/{name}").status_code == 404
        assert desk.client.post(f"{PAGE}/{name}/check", data={"source": ""}, headers=OURS).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example", "Origin": "http://rebound.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_another_page_may_not_ask(desks: Desks, headers: dict[str, str]) -> None:
    desk = desks(True)
    changed = desk.good.replace("max: 60", "max: 50")
    for verb in ("check", "save"):
        assert desk.post(verb, changed, headers)[0] == 403
    assert desk.file.read_text("utf-8") == desk.good
    assert desk.post("save", changed)[0] == 303


def test_nothing_is_written_unless_editing_is_on(desk: Desk) -> None:
    page = desk.client.get(BOOKED).text
    assert "<button" not in page and "Tried here, kept nowhere" in page
    status, page = desk.post("save", desk.good.replace("max: 60", "max: 50"))
    assert status == 403 and "console.edit is off" in page
    assert desk.file.read_text("utf-8") == desk.good


def test_what_we_ship_is_never_written_to(desks: Desks) -> None:
    desk = desks(True)
    shutil.rmtree(desk.folder)
    shipped = (ROOT / "config/mappings/appointment-booked.yaml").read_text("utf-8")
    assert desk.post("save", shipped.replace("max: 60", "max: 50"))[0] == 403
    assert (ROOT / "config/mappings/appointment-booked.yaml").read_text("utf-8") == shipped


def test_save_and_reload(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "SETTLED", 0.001)
    desk = desks(True)
    reloader = Reloader(desk.site, lambda _: None)
    status, page = desk.post("save", desk.good.replace("path: start,", "path: strt,"))
    assert status == 422 and "mend the errors first" in page and "path: strt," in page
    status, page = desk.post("save", desk.good.replace("id: appointment-booked", "id: appointment-cancelled"))
    assert status == 422 and "BR046" in page
    assert desk.file.read_text("utf-8") == desk.good

    changed = desk.good.replace("max: 60", "max: 50")
    assert desk.post("save", changed.replace("\n", "\r\n"))[0] == 303  # as a browser sends it
    assert desk.file.read_text("utf-8") == changed
    assert sorted(each.name for each in desk.folder.iterdir()) == sorted(
        each.name for each in (ROOT / "config/mappings").iterdir()
    )
    assert "the running engine holds <code>" in desk.client.get(BOOKED).text
    assert desk.post("save", desk.good)[0] == 409  # it has changed since the page was opened
    assert reloader.look()
    assert "the running engine holds this version" in desk.client.get(BOOKED).text


def test_a_stored_event_is_named_to_all_and_shown_to_who_asks(desk: Desk) -> None:
    bench = desk.bench
    bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    bench.settle()
    event = f"evt_{bench.rows(inbox)[0].id}"
    page = desk.client.get(BOOKED).text
    assert f'<option value="{event}" >Appointment/a1, planned' in page
    before = desk.post("check", desk.good, event=event)[1]
    assert "Appointment/a1" in before and "<b>planned</b>" in before and "Show what it holds" in before
    assert "Hola, Ana" not in before and "consultas" not in before.lower()
    assert "revealed" not in [row.action for row in bench.rows(audit)]

    status, shown = desk.post("reveal", desk.good, event=event)
    assert status == 200 and "Hola, Ana" in shown and "Show what it holds" not in shown
    token = re.findall(r'name="revealed" value="([^"]+)"', shown)[0]
    looked = [row.subject for row in bench.rows(audit) if row.action == "revealed"]
    assert looked == [event]
    changed = desk.good.replace("max: 60", "max: 4")
    typed = desk.post("check", changed, event=event, revealed=token)[1]
    assert "Hola, Ana" in typed and 'class="add"' in typed, "it is looked at once, however much is typed"
    assert [row.subject for row in bench.rows(audit) if row.action == "revealed"] == [event]
    assert "Hola, Ana" not in desk.post("check", changed, event=event, revealed=f"{token}x")[1]
    result = (desk.folder / "result-ready.yaml").read_text("utf-8")
    data = {"source": result, "event": event, "revealed": token}
    assert "is about DiagnosticReport" in desk.client.post(f"{PAGE}/result-ready/check", data=data, headers=OURS).text
    for odd in ("evt_1", "evt_", "msg_1", "evt_99999999999999999999", "'; --"):
        status, page = desk.post("reveal", desk.good, event=odd)
        assert status == 200 and "Hola, Ana" not in page
    assert desk.post("reveal", desk.good, {}, event=event)[0] == 403


def test_what_was_shown_is_hidden_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SHOWN_FOR", 0.0)
    desk.bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    desk.bench.settle()
    event = f"evt_{desk.bench.rows(inbox)[0].id}"
    _, shown = desk.post("reveal", desk.good, event=event)
    assert "Hola, Ana" not in shown and "Show what it holds" in shown


def test_a_save_is_recorded(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desks(True)
    base = desk.base
    desk.post("save", desk.good.replace("path: start,", "path: strt,"))
    assert [row for row in desk.bench.rows(audit) if "saved" in row.action] == []
    assert desk.post("save", desk.good.replace("max: 60", "max: 50"))[0] == 303
    (row,) = [row for row in desk.bench.rows(audit) if "saved" in row.action]
    assert (row.action, row.subject) == ("mapping saved", "mapping appointment-booked")
    now = load_content(desk.bench.settings).mappings.get("appointment-booked")
    assert now is not None and json.loads(row.detail) == {"version": now.version, "before": base}

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Drafts, "save", full)
    assert desk.post("save", desk.good.replace("max: 60", "max: 40"), base=now.version)[0] == 500
    later = [row.action for row in desk.bench.rows(audit) if "saved" in row.action][1:]
    assert later == ["mapping saved", "mapping not saved"]


@pytest.mark.browser
def test_in_a_browser(desks: Desks, tmp_path: Path) -> None:
    desk = desks(True)
    desk.bench.clerk(people.appointment("a1", MORNING + timedelta(days=9)))
    desk.bench.settle()
    event = f"evt_{desk.bench.rows(inbox)[0].id}"
    server = make_server("127.0.0.1", 0, desk.app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: complaints.append(asked.url) if urlsplit(asked.url).netloc != urlsplit(url).netloc else None,
        )

        def shot(name: str, *, whole: bool = False) -> None:
            # with its caret hidden, the fields would be given an inline style, and the page's policy would complain of it
            page.screenshot(path=str(tmp_path / f"{name}.png"), full_page=whole, caret="initial")

        page.goto(url + PAGE)
        shot("list")
        page.get_by_role("link", name="appointment-booked").click()
        source, problems = page.get_by_label("Mapping", exact=True), page.locator("#problems")
        expect(problems).to_have_text("Checks clean.")
        expect(page.locator("#gutter span")).to_have_count(desk.good.count("\n") + 1)
        shot("good")
        boxes = [page.locator(name).bounding_box() for name in (".source", "#shown")]
        assert all(box is not None and box["width"] > 500 and box["height"] > 500 for box in boxes)
        assert page.evaluate("document.documentElement.scrollWidth") == 1280

        source.fill(desk.good.replace("{path: start, as: time.short}", "{path: strt, as: time.short}", 1))
        expect(problems.locator(".error")).to_contain_text('did you mean "start"?')
        line = problems.locator(".error").first.get_attribute("data-line")
        expect(page.locator("#gutter .error")).to_have_text(f"{line}\n")
        expect(page.locator("#marks mark.error").first).to_have_text("strt")
        marked = page.evaluate(
            """() => { const mark = document.querySelector("#marks mark"), pad = source.getBoundingClientRect();
                 const box = mark.getBoundingClientRect(), style = getComputedStyle(source);
                 const row = Math.round((box.top - pad.top - parseFloat(style.paddingTop) + source.scrollTop) / 19);
                 return [row, getComputedStyle(mark).textDecorationStyle, marks.textContent.startsWith(source.value)]; }"""
        )
        assert marked == [int(line or 0) - 1, "wavy", True], "the underline stands under the very word"
        expect(page.locator("#state")).to_contain_text("refused")
        problems.locator(".error").first.click()
        start = "[document.activeElement.id, source.value.slice(source.selectionStart, source.selectionStart + 4)]"
        assert page.evaluate(start) == ["source", "strt"]
        shot("error")

        fixed = desk.good.replace("as: time.short", "as: date.short")
        source.fill(fixed)
        expect(page.locator(".bubble").first).to_contain_text("Hora: 25 nov 2026")
        expect(problems.locator(".error").first).to_contain_text("BR047")  # its own examples say otherwise
        source.fill(desk.good.replace("max: 60", "max: 50"))
        expect(problems).to_have_text("Checks clean.")
        expect(page.locator(".bubble").first).to_contain_text("15:30")
        expect(page.locator(".diff .add").first).to_contain_text("max: 50")
        page.get_by_label("on", exact=True).select_option("a child's guardian")
        expect(page.locator(".bubble").first).to_contain_text("Mateo")
        shot("fixed")
        page.locator("#shown").evaluate("each => each.scrollTo(0, 600)")
        shot("below")
        page.get_by_label("Recent events").select_option(event)
        expect(page.locator(".event")).to_contain_text("Appointment/a1")
        assert "Hola" not in page.locator("#shown").inner_text()
        shot("event")
        page.get_by_role("button", name="Show what it holds").click()
        expect(page.locator(".bubble").first).to_contain_text("Hola, Ana")
        source.fill(desk.good.replace("max: 60", "max: 50").replace("as: time.short", "as: date.short", 1))
        expect(page.locator(".bubble").first).to_contain_text("Hora: 10 dic 2026")
        source.fill(desk.good.replace("max: 60", "max: 50"))
        expect(page.locator(".bubble").first).to_contain_text("Hora: 10:00")
        shot("revealed")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        shot("phone", whole=True)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_contain_text("Saved.")
        browser.close()
    server.shutdown()
    server.server_close()
    assert complaints == []
    assert desk.file.read_text("utf-8") == desk.good.replace("max: 60", "max: 50")
