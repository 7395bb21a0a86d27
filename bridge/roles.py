"""What one process of a site does. All of it by default; on PostgreSQL the roles may spread over processes and machines.

Names are those of the rooms' work: a process without a role neither runs its loop nor needs its secrets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

ROLES = {
    "doors": "takes what EHRs and WhatsApp send, and acknowledges it",
    "apply": "decides what every event means; reads the EHR; `bridge prime`",
    "pump": "moves what is due; doubts that waited long; documents; the calendar",
    "send": "fences and POSTs to WhatsApp",
    "write": "writes to the EHR",
    "console": "health, metrics, pages, the API",
}
ALL = frozenset(ROLES)
READS_EHR = frozenset({"apply", "pump", "write"})

# Where a secret stands in bridge.yaml -> who needs it. "*": any key. What is not listed, every process needs.
_NEEDS: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = (
    (("security", "session_key"), frozenset({"console"})),
    (("ehrs", "*", "door"), frozenset({"doors"})),
    (("ehrs", "*", "auth", "private_key"), READS_EHR | {"doors"}),  # its public half stands at /.well-known/jwks.json
    (("ehrs", "*", "auth"), READS_EHR),
    (("apps",), frozenset({"doors"})),
    (("numbers", "*", "access_token"), frozenset({"send", "pump"})),  # the pump hands documents to WhatsApp
)


def parse(text: str) -> frozenset[str]:
    """`doors,apply` as roles.

    Raises: ValueError, with the sentence to show.
    """
    named = [each.strip() for each in text.split(",") if each.strip()]
    unknown = sorted(set(named) - ALL)
    if unknown or not named:
        what = f"no role is called {', '.join(unknown)}" if unknown else "name at least one role"
        raise ValueError(f"{what}; there are {', '.join(ROLES)}")
    return frozenset(named)


def ordered(roles: Collection[str]) -> list[str]:
    """In the way the data flows."""
    return [role for role in ROLES if role in roles]


def needed(path: Iterable[str | int], roles: Collection[str]) -> bool:
    """Whether a process with these roles needs the secret that stands at this place of bridge.yaml."""
    steps = [str(step) for step in path]
    for pattern, who in _NEEDS:
        if len(steps) >= len(pattern) and all(p in ("*", s) for p, s in zip(pattern, steps, strict=False)):
            return bool(who & set(roles))
    return True
