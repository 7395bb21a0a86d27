"""The witness: every request a pretend server gets and sends, as JSON lines that outlive every kill of the engine.

A line (documented in the package docstring) is handed to the operating system before the answer it tells of leaves,
so a SIGKILL of either side cannot make the journal and the wire disagree in the engine's favour.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

FLUSH_SECONDS = 0.02  # lines nobody waits for (outgoing attempts, notes) share one write

_encode = msgspec.json.encode


def as_json(body: bytes) -> Any:
    """A body as the journal shows it: its own JSON, kept byte for byte on one line; text as text; nothing as None."""
    if not body:
        return None
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
    return parsed if b"\n" in body or b"\r" in body else msgspec.Raw(body)


class Journal:
    """Appends lines to one file. `seq` rises by one a line, also over a restart on the same file."""

    def __init__(self, path: Path, who: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._seq = _last_seq(path)
        self._who = who
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(self, direction: str, *, now: bool = False, **fields: Any) -> int:
        """Append a line and return its seq.

        Args:
            direction: "in" (asked of us, with our answer), "out" (we ask), "answer" (what our `of` was answered), "note".
            now: the line must be with the operating system before this returns, because an answer depends on it.
        """
        self._seq += 1
        line: Mapping[str, Any] = {
            "seq": self._seq,
            "at": round(time.time(), 6),
            "who": self._who,
            "dir": direction,
        } | fields
        self._buffer.append(_encode(line))
        if now:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # before the loop runs: nobody will flush later
                self.flush()
        return self._seq

    def flush(self) -> None:
        """Hand all buffered lines to the operating system, in one write."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._buffer:
            return
        data = b"\n".join(self._buffer) + b"\n"
        self._buffer.clear()
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


def _last_seq(path: Path) -> int:
    if path.stat().st_size == 0:
        return 0
    last = 0
    for line in read_journal(path):
        last = int(line["seq"])
    return last


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a journal, oldest first; a line still being written is left out."""
    lines = []
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            lines.append(msgspec.json.decode(raw))
    return lines
