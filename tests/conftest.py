"""What every test may ask for, and what is skipped where it cannot run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline is wall time: it would make each property a timed test, and speed is shown under bench/, never by a test. What an
# example costs is still looked at by hypothesis' health checks.
settings.register_profile("bridge", deadline=None)
settings.load_profile("bridge")

ROOT = Path(__file__).parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by marker, with the reason in the report: what could not run is said, not hidden."""
    reasons = {
        "hapi": "" if os.environ.get("BRIDGE_TEST_HAPI") else "make test-hapi runs it, where java and mvn are",
        "browser": "" if any(map(shutil.which, CHROMIUM)) else "needs Debian's chromium",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded notifications and webhooks beside the checkout; never part of the repository."""
    folder = Path(os.environ.get("BRIDGE_CORPUS", ROOT.parent / "shared/corpus"))
    if not folder.is_dir():
        pytest.skip("no ../shared/corpus beside this checkout")
    return folder
