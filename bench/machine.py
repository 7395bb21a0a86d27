"""What processes cost, from /proc, and what machine this is."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Used:
    """One process at one moment."""

    cpu: float  # seconds, user and system
    rss: float  # MB
    peak: float  # MB


def used(pid: int) -> Used:
    """Raises: FileNotFoundError when there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Vm")
    )
    megabytes = {name: int(value.split()[0]) / 1024 for name, value in status.items()}
    cpu = (int(fields[11]) + int(fields[12])) / _TICK
    return Used(cpu, megabytes.get("VmRSS", 0.0), megabytes.get("VmHWM", 0.0))


def cpu_of_children(parent: int) -> float:
    """Seconds of CPU of a process and its direct children (a PostgreSQL server and its backends)."""
    total = used(parent).cpu
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                total += used(int(path.name)).cpu
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def load() -> float:
    """How busy the machine was over the last minute, ourselves included."""
    return os.getloadavg()[0]


def name() -> str:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")  # fmt: skip
    memory = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{os.cpu_count()} cores ({model}), {memory} GB, {platform.system()} {platform.release()}, Python {platform.python_version()}"
