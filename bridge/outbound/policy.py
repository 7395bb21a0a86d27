"""May it leave now? Pure: facts in, a verdict with its reason out. Asked in the fence's transaction, nowhere else counts.

The order is the design's (§5): block, person, number, consent, revision, expiry, quiet hours, window, template, pilot,
health of our number. Every "no" is a sentence that `bridge why` can print.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Facts:
    """What the fence read under lock. Times are microseconds; `now` is business time."""

    now: int
    is_template: bool
    cls: int
    answers: bool  # answers something the patient wrote: allowed to somebody who stopped
    blocked: bool
    refusal: str | None  # of the person addressed or the patient it is about
    link_ended: bool
    identity_current: bool
    purpose: str | None  # None: needs no consent (answers, nurses)
    consent: Literal["permit", "deny"] | None
    without_decision: Literal["send", "block"]
    revision: int | None
    current_revision: int | None
    not_after: int | None
    quiet_until: int | None  # end of the quiet hours we are in, where the message respects them
    window_until: int
    template_status: str | None  # as Meta says; None = never heard
    in_pilot: bool
    number_paused: str | None
    optout: bool = False  # stopped marketing messages inside WhatsApp, and Meta has refused this template as one
    missing: str | None = None  # what the mapping wants without a consent: "ask" the patient, "inbox": for a person


@dataclass(frozen=True, slots=True)
class Leave:
    """Yes, now."""


@dataclass(frozen=True, slots=True)
class Later:
    """Not yet: back to `planned` until a business time, or to be asked again soon (None)."""

    reason: str
    until: int | None


@dataclass(frozen=True, slots=True)
class Never:
    """Ends as `state` with its reason."""

    state: Literal["suppressed", "expired", "superseded", "failed", "held"]
    reason: str


Verdict = Leave | Later | Never


def may_leave(facts: Facts) -> Verdict:
    """The verdict for one message."""
    if facts.blocked and not facts.answers:
        return Never("suppressed", "the patient stopped messages on this phone")
    if facts.refusal is not None and not facts.answers:
        return Never("suppressed", facts.refusal)
    if facts.link_ended and not facts.answers:
        return Never("suppressed", "this guardian asked us to stop")
    if not facts.identity_current:
        return Never("suppressed", "the number no longer belongs to this person in the EHR")
    if facts.purpose is not None and facts.purpose != "consent-confirmation":
        if facts.consent == "deny":
            return Never("suppressed", f"the patient does not want messages about {facts.purpose}")
        if facts.consent is None and facts.without_decision == "block":
            late = facts.not_after is not None and facts.now >= facts.not_after
            if facts.missing == "ask" and not late:
                return Never("held", f"no consent to messages about {facts.purpose} is known: the patient is asked")
            if facts.missing == "inbox" and not late:
                return Never("held", f"no consent to messages about {facts.purpose} is known: a person asks for it")
            return Never("suppressed", f"no consent to messages about {facts.purpose} is known")
    if facts.optout:
        return Never(
            "suppressed", "the patient stopped marketing messages in WhatsApp, and Meta counts this one as such"
        )
    if facts.revision is not None and facts.current_revision is not None and facts.revision != facts.current_revision:
        return Never("superseded", "the resource changed since this was written")
    if facts.not_after is not None and facts.now >= facts.not_after:
        return Never("expired", "too late to be useful: its expiry passed before it could leave")
    if facts.quiet_until is not None:
        return Later("quiet hours", facts.quiet_until)
    if not facts.is_template and facts.now >= facts.window_until:
        return Never("failed", "the 24 h window closed before it could leave: only a template may go now")
    if facts.is_template and facts.template_status in _UNUSABLE_TEMPLATE:
        return Later(f"the template is {facts.template_status} at Meta", None)
    if not facts.in_pilot:
        return Never("suppressed", "not in the pilot")
    if facts.number_paused is not None:
        return Later(f"our number is on hold: {facts.number_paused}", None)
    return Leave()


_UNUSABLE_TEMPLATE = frozenset({
    "PAUSED", "DISABLED", "REJECTED", "DELETED", "PENDING_DELETION", "ARCHIVED",
    "RECATEGORISED",  # our word for one that Meta has made marketing
})  # fmt: skip
