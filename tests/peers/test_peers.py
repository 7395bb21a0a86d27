"""The judge of `bench/peers` names what is put in by hand, and its table says "no" when we lose."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench import bodies
from bench.peers import check, judge, peers, report
from bench.peers.__main__ import arguments, chosen
from bench.peers.scene import Round

PHONES = [bodies.phone(number) for number in range(4)]
FIGURES = {line.name: 1.0 for line in report.LINES}


def post(phone: str) -> dict[str, Any]:
    return {"dir": "in", "effect": "message", "ids": {"to": phone, "wamid": f"wamid.{phone}"}}


def test_a_clean_run_is_clean() -> None:
    verdict = judge.judge(PHONES, PHONES, [post(phone) for phone in PHONES])
    assert (verdict.lost, verdict.doubled, verdict.unasked) == ([], [], [])
    assert (verdict.acknowledged, verdict.accepted) == (4, 4)


def test_a_lost_one_is_named() -> None:
    assert judge.judge(PHONES, PHONES, [post(phone) for phone in PHONES[1:]]).lost == [PHONES[0]]


def test_what_was_never_acknowledged_is_not_lost() -> None:
    assert judge.judge(PHONES[1:], PHONES, [post(phone) for phone in PHONES[1:]]).lost == []


def test_a_doubled_one_is_named_however_its_number_is_written() -> None:
    posts = [*(post(phone) for phone in PHONES), post(f"+{PHONES[2]}")]
    verdict = judge.judge(PHONES, PHONES, posts)
    assert verdict.doubled == [PHONES[2]]
    assert verdict.accepted == 5


def test_a_message_to_a_stranger_is_named() -> None:
    assert judge.judge(PHONES[:3], PHONES[:3], [post(phone) for phone in PHONES]).unasked == [PHONES[3]]


def test_only_acknowledged_reads_count_as_delivered() -> None:
    lines = [
        {"seq": 1, "dir": "out", "ids": {"updates": ["wamid.a|read", "wamid.a|sent"]}},
        {"seq": 2, "dir": "answer", "of": 1, "delivered": True},
        {"seq": 3, "dir": "out", "ids": {"updates": ["wamid.b|read"]}},
        {"seq": 4, "dir": "answer", "of": 3, "delivered": False},
    ]
    assert judge.reads_delivered(lines) == {"wamid.a"}


def one(peer: str, sends: float, cpu: float, **kill: Any) -> Round:
    verdict = judge.Verdict(acknowledged=300, **kill)
    return Round(peer, FIGURES | {"sends_s": sends, "cpu_ms": cpu}, verdict)


@pytest.mark.parametrize(
    ("ours", "expect"),
    [
        (one("bridge", 1000, 1.0), {"sends_s": "yes (2.00x)", "cpu_ms": "yes (0.50x)", "lost": "yes", "doubled": "yes"}),
        (one("bridge", 400, 3.0, lost=["3461"]), {"sends_s": "no (0.80x)", "cpu_ms": "no (1.50x)", "lost": "no"}),
        (one("bridge", 999, 1.1, doubled=["3461"]), {"sends_s": "no (2.00x)", "cpu_ms": "no (0.55x)", "doubled": "no"}),
    ],
)  # fmt: skip
def test_goals(ours: Round, expect: dict[str, str]) -> None:
    """Against the better of both Node-REDs, figure by figure."""
    found = report.medians([ours, one("node-red", 500, 2.5), one("node-red-full", 100, 2.0)])
    assert {name: report.reached(name, found) for name in expect} == expect


def test_rates_are_medians_and_losses_are_sums() -> None:
    rounds = [one("camel", rate, 1.0, lost=["a"], doubled=["b", "c"]) for rate in (10, 900, 30)]
    found = report.medians(rounds)["camel"]
    assert (found["sends_s"], found["lost"], found["doubled"], found["acknowledged"]) == (30, 3, 6, 900)


def test_table_shows_every_peer_and_the_goal() -> None:
    shown = report.table(report.medians([one("bridge", 1000, 1.0), one("node-red", 600, 1.0, doubled=["346"])]))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines()]
    assert rows[0] == ["", "bridge", "node-red", "goal (bridge)", "reached"]
    assert ["kill -9: told twice", "0", "1", "0", "yes"] in rows
    assert len({len(line) for line in shown.splitlines()}) == 1


def test_the_expected_text_is_a_patients() -> None:
    read = check.text(datetime(2026, 11, 25, 8, 5, tzinfo=UTC), 21)
    assert "miércoles, 25 de noviembre de 2026\nHora: 9:05\n" in read
    assert "Lugar: Consulta 1, planta 1" in read


def test_what_is_missing_is_skipped_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers.shutil, "which", lambda command: None)
    assert [peer.name for peer in chosen("bridge,camel,node-red")] == ["bridge"]
    said = capsys.readouterr().out
    assert "SKIPPED camel: this machine has no java and no mvn" in said
    assert "SKIPPED node-red: this machine has no node and no npm" in said


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such peer: hal"):
        chosen("hal")
    assert arguments([]).rounds == 5


def test_what_is_committed_is_what_is_said() -> None:
    lines = (peers.HERE / "starlette/bridge.py").read_text("utf-8").splitlines()
    assert len(lines) <= 120
    ast.parse("\n".join(lines))
    flows = json.loads((peers.HERE / "nodered/flows.json").read_text("utf-8"))
    ids = {node["id"] for node in flows}
    assert {to for node in flows for wires in node.get("wires", []) for to in wires} <= ids
    assert all(Path(peers.HERE / name).exists() for name in ("camel/pom.xml", "nodered/settings.js", "README.md"))
