"""`bridge templates lint`: the texts, their lengths, and what the mappings make of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.cli import main

ROOT = Path(__file__).parents[2]
Lint = Callable[..., tuple[int, str]]


@pytest.fixture
def lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lint:
    """The verb over a copy of the shipped config with one text replaced; replacements are (file, old, new)."""
    shutil.copytree(ROOT / "config", tmp_path / "config")

    def run(*options: str, change: tuple[str, str, str] | None = None) -> tuple[int, str]:
        if change is not None:
            file = tmp_path / "config" / change[0]
            text = file.read_text("utf-8")
            assert change[1] in text
            file.write_text(text.replace(change[1], change[2], 1), "utf-8")
        with pytest.raises(SystemExit) as caught:
            main(["templates", "lint", *options, "--config", str(tmp_path / "config/bridge.yaml")])
        return int(caught.value.code or 0), capsys.readouterr().out

    return run


def test_what_we_ship_is_good(lint: Lint) -> None:
    code, printed = lint()
    assert code == 0
    assert printed.endswith("15 templates: good\n")
    assert re.search(
        r"^appointment_booked +pt_BR +\d+ of 1024 characters, buttons: Confirmar · ", printed, re.MULTILINE
    )


def test_lengths_are_those_of_the_text_with_its_samples(lint: Lint) -> None:
    code, printed = lint("--json")
    told: dict[str, Any] = json.loads(printed)
    assert code == 0 and told["ok"] is True and told["problems"] == []
    booked = next(each for each in told["templates"] if each["name"] == "appointment_booked")
    assert booked["used_by"] == ["appointment-booked"]
    spanish = next(each for each in booked["languages"] if each["language"] == "es")
    text = (
        "Hola, Ana. Su cita quedó reservada.\nDía: miércoles, 25 de noviembre de 2026\nHora: 15:30\nCon: Dra. Ruiz\n"
        "Lugar: Consultas externas, planta 2\nUse los botones para confirmarla o cambiarla."
    )
    assert (spanish["length"], spanish["limit"]) == (len(text), 1024)
    caregiver = next(each for each in told["templates"] if each["name"] == "caregiver_booked")
    assert caregiver["used_by"] == ["appointment-booked"], "a guardian's text is used by the mapping too"


WRONG = {
    "a clinical word": ("templates/appointment_booked.yaml", "Su cita quedó", "Su cita de oncología quedó", "BR055"),
    "advertising": ("templates/appointment_booked.yaml", "appointment is booked.", "appointment is booked. A gift waits.", "BR054"),
    "a variable first": ("templates/appointment_booked.yaml", "Olá, {{patient_name}}", "{{patient_name}}", "BR050"),
    "a parameter that the text lacks": ("mappings/appointment-booked.yaml", "    doctor: ", "    dr: ", "BR041"),
    "a button that the template lacks": ("mappings/appointment-booked.yaml", "{id: confirm,", "{id: confirmar,", "BR042"),
    "a template that is not there": ("mappings/result-ready.yaml", "template: result_ready", "template: result_redy", "BR040"),
    "a text that does not load": ("templates/result_ready.yaml", "category: utility", "category: utilities", "BR012"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told(case: str, lint: Lint) -> None:
    file, old, new, expected = WRONG[case]
    code, printed = lint("--json", change=(file, old, new))
    told = json.loads(printed)
    assert code == 2 and told["ok"] is False
    assert {each["code"] for each in told["problems"]} == {expected}
    assert all(each["file"].endswith(file) for each in told["problems"])


def test_what_is_a_mapping_s_alone_is_left_to_check(lint: Lint) -> None:
    code, printed = lint(change=("mappings/appointment-booked.yaml", "status = 'booked'", "statsu = 'booked'"))
    assert code == 0, printed
