"""`ledger`: a new migrated store, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger import kit
from tests.stores import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledgers")


@pytest.fixture
def ledger(kind: str, tmp_path: Path, session_folder: Path) -> Iterator[kit.Ledger]:
    found = kit.ledger(kind, tmp_path, session_folder)
    yield found
    found.close()


@pytest.fixture
def pg(tmp_path: Path, session_folder: Path) -> Iterator[kit.Ledger]:
    """PostgreSQL only: what needs two writers at once."""
    found = kit.ledger("postgresql", tmp_path, session_folder)
    yield found
    found.close()
