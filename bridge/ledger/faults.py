"""Named fault points: `BRIDGE_FAULT=name[:n]` kills the process with SIGKILL at the n-th passing (default the first).

They cost one dictionary look-up where nothing is set. The list below is what `make faults` walks through.
"""

from __future__ import annotations

import os
import signal
import threading

POINTS = (
    "door_before_commit",
    "door_in_commit",
    "after_commit_before_answer",
    "apply_before_commit",
    "apply_after_commit",
    "claim_after_commit",
    "fence_before_commit",
    "after_fence_before_post",
    "during_post",
    "after_post_before_record",
    "record_after_commit",
    "status_before_commit",
    "status_after_commit",
    "reply_before_commit",
    "reply_after_commit",
    "write_after_claim",
    "write_after_call_before_record",
    "pump_before_commit",
)

_lock = threading.Lock()
_name, _, _count = os.environ.get("BRIDGE_FAULT", "").partition(":")
_left = int(_count or 1)


def point(name: str) -> None:
    """Die here if the environment says so."""
    global _left  # noqa: PLW0603
    if name != _name:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
