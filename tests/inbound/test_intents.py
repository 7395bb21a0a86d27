"""Precedence, and that each wish is recognised by its own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from talk import reply, situation

from bridge.inbound import intents
from bridge.inbound.intents import INTENTS, recognise

CASES = sorted((Path(__file__).parent / "testdata/intents").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recognise(path: Path) -> None:
    """`expect`: the intent that decides, and all that recognise something, in the order of precedence."""
    case = json.loads(path.read_text("utf-8"))
    here, said = situation(case["situation"]), reply(case["reply"])
    found = [intent.__module__.rpartition(".")[2] for intent in INTENTS if intent(here, said) is not None]
    assert found == case["expect"]
    assert type(recognise(here, said)).__name__ == case["wish"]


def test_cases_are_found() -> None:
    assert CASES


def test_opting_out_comes_first() -> None:
    names = [intent.__module__.rpartition(".")[2] for intent in INTENTS]
    assert names[:2] == ["stop_messages", "start_messages"]
    assert names.index("tap_elsewhere") < min(names.index("confirm_appointment"), names.index("cancel_appointment"))


def test_every_file_is_registered() -> None:
    folder = Path(intents.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "wishes"}
    assert files == {intent.__module__.rpartition(".")[2] for intent in INTENTS}
