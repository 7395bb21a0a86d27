"""The state machines as tables. `docs/states.md` is generated from here."""

from __future__ import annotations

CLASSES = ("nurse", "answer", "urgent", "news", "reminder", "campaign")
NURSE, ANSWER, URGENT, NEWS, REMINDER, CAMPAIGN = range(6)

_PROVED = ("accepted", "sent", "delivered", "read", "played")

# state -> the states it may become. Every change is an UPDATE conditioned on these. A row `planned` or `ready` may have
# an earlier attempt whose acceptance is proved late.
MESSAGE: dict[str, tuple[str, ...]] = {
    "planned": ("ready", "superseded", "cancelled", "suppressed", "expired", "failed", *_PROVED),
    "ready": ("sending", "planned", "superseded", "cancelled", "suppressed", "expired", "failed", "held", *_PROVED),
    "sending": (*_PROVED, "ready", "planned", "failed", "doubt"),
    "doubt": (*_PROVED, "failed", "held", "ready", "closed"),
    "held": (*_PROVED, "failed", "ready", "closed"),
    "accepted": ("sent", "delivered", "read", "played", "failed"),
    "sent": ("delivered", "read", "played", "failed"),
    "delivered": ("read", "played"),
    "read": ("played",),
    "played": (),
    "failed": ("delivered", "read", "played"),  # one device failed, another showed it
    "superseded": (),
    "cancelled": (),
    "suppressed": (),
    "expired": (),
    "closed": _PROVED,
}

TERMINAL = frozenset({"read", "played", "failed", "superseded", "cancelled", "suppressed", "expired", "closed"})
SETTLED = TERMINAL | {"delivered"}  # nothing more is expected, though a later tick may still come
LIVE = frozenset(MESSAGE) - SETTLED - {"accepted", "sent"}
RECALLABLE = ("planned", "ready")  # not gone yet: newer news supersedes them
TOLD = ("sending", "doubt", "held", "accepted", "sent", "delivered", "read", "played", "closed")  # cannot be recalled

# What a status says, in the order in which it overrides; failed only while nothing was delivered.
RANK = {"accepted": 1, "sent": 2, "delivered": 3, "read": 4, "played": 5}

EVENT_FATES = ("planned", "applied", "merged", "suppressed", "ignored", "unusable", "failed")

WRITE: dict[str, tuple[str, ...]] = {
    "asked": ("sending", "merged", "held", "refused"),
    "sending": ("asked", "done", "merged", "refused", "held"),
    "done": (),
    "merged": (),
    "refused": (),
    "held": ("asked", "refused"),
}
WRITE_FATES = ("done", "merged", "refused", "held")


def may_become(target: str) -> tuple[str, ...]:
    """The states that `target` may be reached from."""
    return tuple(state for state, targets in MESSAGE.items() if target in targets)


def merge_status(current: str, status: str) -> str | None:
    """The state a message is in after `status`, or None where the status changes nothing.

    Forward only; `failed` ends a message only while nothing was delivered; a proof of acceptance settles `sending`,
    `doubt`, `held`, a later try still `planned` or `ready`, and even what a person had closed.
    """
    if status == "failed":
        return "failed" if current in {"sending", "doubt", "held", "accepted", "sent"} else None
    if status not in RANK:
        return None
    if current in RANK:
        return status if RANK[status] > RANK[current] else None
    if current == "failed":  # one device failed, another showed it
        return status if RANK[status] >= RANK["delivered"] else None
    return status if current in {"sending", "doubt", "held", "ready", "planned", "closed"} else None
