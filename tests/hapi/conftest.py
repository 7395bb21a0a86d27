"""One HAPI for all tests here; the marker `hapi` (tests/conftest.py) says when they run at all."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bridge.fhir.client import EhrClient
from bridge.settings import Auth

from .server import Hapi, tools


@pytest.fixture(scope="session")
def hapi() -> Iterator[Hapi]:
    missing = tools()
    if missing:
        pytest.skip(missing)
    with Hapi() as server:
        yield server


@pytest.fixture
def client(hapi: Hapi) -> Iterator[EhrClient]:
    made = EhrClient(SimpleNamespace(key="hapi", base_url=hapi.base, auth=Auth("none")))
    yield made
    made.close()
