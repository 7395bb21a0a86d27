"""Counters that `/metrics` shows. Labels are config keys and fixed words, never anything from outside."""

from __future__ import annotations

import threading
from collections import Counter


class Counters:
    """Counts by name and fixed label."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, label: str = "", by: int = 1) -> None:
        with self._lock:
            self._counts[(name, label)] += by

    def refused(self, door: str, key: str) -> None:
        """Somebody could not prove who they are."""
        self.add("bridge_unauthenticated_total", f'door="{door}",key="{key}"')

    def text(self) -> str:
        """Prometheus' text format."""
        with self._lock:
            items = sorted(self._counts.items())
        return "".join(
            f"{name}{{{label}}} {value}\n" if label else f"{name} {value}\n" for (name, label), value in items
        )


counters = Counters()
