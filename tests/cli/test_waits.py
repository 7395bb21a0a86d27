"""bench/cli.py measures on a site that is good; the goals themselves are for a machine that does nothing else."""

from __future__ import annotations

from pathlib import Path

from bench.cli import many, once, waits
from bridge.cli.check import SECRETS, look


def test_the_site_with_many_mappings_is_good(tmp_path: Path) -> None:
    report = look(many(tmp_path, 14), {})
    assert [each for each in report.problems if each.code not in SECRETS] == []
    assert report.counts["mappings"] == 14


def test_each_wait_ends_well(tmp_path: Path) -> None:
    for wait in waits(many(tmp_path, 6)):
        took, spent = once(wait)  # SystemExit if it ends otherwise
        assert spent > 0 and took > 0
