"""`docs/states.md`, written from `states.py`: `python -m bridge.ledger.states_doc > docs/states.md`. A test holds it current."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

from bridge.ledger import states

GROUPS = {  # drawn as one box where a state may become every one of them
    "arriving": ("accepted", "sent", "delivered", "read", "played"),
    "dropped": ("superseded", "cancelled", "suppressed", "expired"),
}

MEANS = {
    "planned": "not due yet: a reminder, quiet hours, a back-off, the brake",
    "ready": "queues in its conversation's lane",
    "sending": "fenced: the POST may begin, or has; it cannot be recalled",
    "doubt": "nobody knows whether the POST arrived; never tried again by bridge itself",
    "held": "waits for a person: `bridge doubts`",
    "accepted": "WhatsApp answered with a wamid, or a status proved it",
    "sent": "WhatsApp passed it on: one tick",
    "delivered": "on a phone: two ticks",
    "read": "opened",
    "played": "a voice message was listened to",
    "failed": "refused for good, or undeliverable; a tick of another device may still come",
    "superseded": "newer news of the same resource took its place before it left",
    "cancelled": "called off before it left",
    "suppressed": "may not leave; the reason says which rule",
    "expired": "too late to be useful",
    "closed": "a person left a doubt at that; a later status settles it all the same",
}

FATES = {
    "planned": "messages came of it; `planned` says how many",
    "applied": "a status, reply, consent, handshake, heartbeat or hint that did its work",
    "merged": "says what is known already, or was overtaken before it was applied",
    "suppressed": "nobody is told; the reason in the mapping author's words",
    "ignored": "nothing here is interested: foreign number, stale without read access, …",
    "unusable": "authenticated, and nothing we can read",
    "failed": "could not be applied; an alarm was raised, the lane goes on",
}

WRITES = {
    "asked": "waits for its turn, or for its next try",
    "sending": "leased by a node that speaks with the EHR",
    "done": "the EHR said 2xx",
    "merged": "the EHR holds it already, or nobody wants it any more",
    "refused": "the EHR, or a second look, said no; the patient was told",
    "held": "waits for a person",
}


def page() -> str:
    """The whole of `docs/states.md`."""
    return "\n".join([
        "# States",
        "",
        "Generated from `bridge/ledger/states.py` by `python -m bridge.ledger.states_doc`; do not edit.",
        "Every change of state is an `UPDATE` conditioned on the states it may come from.",
        "",
        "## A message",
        "",
        *_diagram(states.MESSAGE),
        "",
        *_table(states.MESSAGE, MEANS, states.TERMINAL),
        "",
        "A status moves a message forward only:",
        f"{' < '.join(states.RANK)}. `failed` ends it only while nothing was delivered.",
        "",
        f"Classes, most urgent first: {', '.join(f'`{name}`' for name in states.CLASSES)}.",
        "",
        "## A write to the EHR",
        "",
        *_diagram(states.WRITE),
        "",
        *_table(states.WRITE, WRITES, frozenset(states.WRITE_FATES)),
        "",
        "## An event",
        "",
        "It waits, then gets exactly one fate, in the transaction that applied it.",
        "",
        "| fate | means |",
        "|---|---|",
        *(f"| `{fate}` | {FATES[fate]} |" for fate in states.EVENT_FATES),
        "",
    ])  # fmt: skip


def _diagram(machine: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", f"  [*] --> {next(iter(machine))}"]
    inside = {state: group for group, members in GROUPS.items() for state in members if state in machine}
    for group in dict.fromkeys(inside.values()):
        members = GROUPS[group]
        lines.append(f"  state {group} {{")
        if any(target in members for state in members for target in machine[state]):
            lines += [f"    {a} --> {b}" for a, b in pairwise(members)]
        else:
            lines += [f"    {state}" for state in members]
        lines.append("  }")
    for state, targets in machine.items():
        left = list(targets)
        for group in dict.fromkeys(inside.values()):
            if inside.get(state) != group and set(GROUPS[group]) <= set(left):
                left = [target for target in left if target not in GROUPS[group]]
                lines.append(f"  {state} --> {group}")
        drawn = [t for t in left if inside.get(state) is None or inside.get(t) != inside[state]]
        lines += [f"  {state} --> {target}" for target in drawn]
        if not targets and state not in inside:
            lines.append(f"  {state} --> [*]")
    return [*lines, "```"]


def _table(machine: Mapping[str, Sequence[str]], means: Mapping[str, str], ends: frozenset[str]) -> list[str]:
    rows = ["| state | means | may become |", "|---|---|---|"]
    for state, targets in machine.items():
        end = " (an end)" if state in ends else ""
        rows.append(f"| `{state}`{end} | {means[state]} | {', '.join(targets) or 'nothing'} |")
    return rows


if __name__ == "__main__":
    sys.stdout.write(page())
