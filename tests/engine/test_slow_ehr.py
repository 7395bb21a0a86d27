"""One EHR that is slow keeps no other EHR's patients waiting."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

from bridge.engine.reads import WORKERS, Reader
from bridge.fhir.client import EhrClient, Resource


class Answering:
    """An EHR that answers when it is let."""

    def __init__(self, may: threading.Event) -> None:
        self._may = may

    def read(self, reference: str) -> Resource:
        assert self._may.wait(30)
        kind, _, name = reference.partition("/")
        return Resource({"resourceType": kind, "id": name}, None, None, None, b"")


def test_reads() -> None:
    slow, quick = threading.Event(), threading.Event()
    quick.set()
    clients = cast("Any", {"slow": Answering(slow), "quick": Answering(quick)})
    came = threading.Event()
    reader = Reader(cast("dict[str, EhrClient]", clients), time.monotonic_ns, came.set)
    try:
        many = [f"Patient/p{i}" for i in range(5 * WORKERS)]
        assert reader.need("slow", many) == "pending"
        assert reader.need("quick", ["Patient/p1"]) == "pending"
        assert came.wait(5)
        assert reader.need("quick", ["Patient/p1"]) == "ready"
        assert reader.need("slow", many) == "pending"
    finally:
        slow.set()
        reader.stop()
