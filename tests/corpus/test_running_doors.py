"""Recorded notifications and webhooks through real engines' doors: a cross-section here, every file in `make corpus`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.corpus.__main__ import main
from tests.corpus.cases import Case, altered, cases, play
from tests.corpus.fhir_expect import CORPUS

FOUND = list(cases(CORPUS)) if CORPUS.is_dir() else []
EVERY = 1 if os.environ.get("BRIDGE_CORPUS_ALL") else 10
SAMPLE = [case for place, case in enumerate(FOUND) if place % EVERY == 0 or case.ambiguous or case.statuses != (200,)]
pytestmark = pytest.mark.skipif(not FOUND, reason="no ../shared/corpus beside this checkout")


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_as_expected(case: Case) -> None:
    outcome = play(case)
    assert not outcome.failed, (outcome.problems, outcome.got)


@pytest.mark.parametrize("case", SAMPLE[::6], ids=lambda case: case.name)
def test_one_wrong_word_is_noticed(case: Case) -> None:
    outcome = play(altered(case))
    assert outcome.failed
    assert outcome.problems


def test_the_command_says_which_file_differs(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(CORPUS), "--only", "hapi/r4-create", "--jobs", "1"]
    assert main([*arguments, "--alter", "r4-create-full.json"]) == 1
    said = capsys.readouterr().out
    assert "ok        hapi/r4-create-empty.json" in said
    assert "DIFFERS   hapi/r4-create-full.json" in said
    assert "class: expected 'bundle', got 'resource'" in said
    assert "2 files: 1 as expected, 1 not" in said


def test_a_folder_without_corpus_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "nothing to send" in capsys.readouterr().out
