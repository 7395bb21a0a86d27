"""What an error code of WhatsApp asks of us: one table, whether the code came as the answer to a POST or in a failed status.

Source: whatsapp.md §9; https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes
Key is `error.code`; the HTTP status is 400 for nearly all of them and says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "backoff",  # try again after `seconds`, doubling with jitter
    "retry_after",  # try again after `seconds`, at most `tries` times
    "unsure",  # it may have been sent: never POSTed again by itself
    "permanent",  # this message is over
    "optout",  # record that the person does not want these; this message is over
    "alarm_stop",  # a person must act; `scope` stands still and keeps its queue
    "pair",  # this recipient only: wait `seconds` to the power of the try
    "window",  # customer service window closed: as a template if one is mapped, else over
    "hold_template",  # the template stands still until its state changes; its queue is kept
]
Scope: TypeAlias = Literal["message", "number", "recipient", "template"]

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do, for how long and to what; the words of `reason` are fixed ones and safe to show and log."""

    kind: Kind
    seconds: int
    scope: Scope
    reason: str
    alarm: bool = False  # somebody has to look, whatever else happens
    tries: int | None = None  # at most so many more; None: until the message expires
    fallback: bool = False  # another channel would serve this person better

    @property
    def final(self) -> bool:
        """Whether this message is over: nothing that we or time can do sends it."""
        return self.kind in ("permanent", "optout", "window")


def _permanent(reason: str, scope: Scope = "message", *, alarm: bool = False, fallback: bool = False) -> Reaction:
    return Reaction("permanent", 0, scope, reason, alarm=alarm, fallback=fallback)


def _stop(reason: str, scope: Scope = "number") -> Reaction:
    return Reaction("alarm_stop", 0, scope, reason, alarm=True)


def _unsure(reason: str) -> Reaction:
    return Reaction("unsure", 0, "message", reason)


# (codes, reaction): a code, several, or a span with both ends in it. The first row that names a code counts.
TABLE: tuple[tuple[tuple[int | range, ...], Reaction], ...] = (
    ((0, 190, 102), _stop("access token is bad or expired")),
    ((3, 10, range(200, 300), 131005), _stop("permission is missing")),
    ((1, 2, 131000, 133004), _unsure("unknown error or service down")),
    ((4,), Reaction("backoff", 60, "number", "app call rate")),
    ((33,), _stop("number deleted or wrong id")),
    ((100,), _permanent("invalid or missing parameter", alarm=True)),
    ((130403,), _permanent("business blocked the user", "recipient")),
    ((130429,), Reaction("backoff", 2, "number", "throughput of the number")),
    ((130472,), _permanent("user is in an experiment")),
    ((130497,), _permanent("business may not message that country", "recipient", alarm=True)),
    ((131008, 131009, 131021, 135000), _permanent("bad payload", alarm=True)),
    ((131016,), _unsure("service unavailable")),
    ((131020, 131041, 131059, range(131201, 131216)), _permanent("group error", alarm=True)),
    (
        (131026,),
        _permanent("undeliverable: no WhatsApp, old app, terms not accepted or blocked", "recipient", fallback=True),
    ),
    ((131030,), _stop("recipient is not in the test number's allow-list")),
    ((131031, 368), _stop("account locked or blocked for policy")),
    ((131037,), _stop("display name not approved")),
    ((131042,), _stop("payment problem")),
    ((131044,), _stop("calling payment problem")),
    ((131045, 133006, 133010, 136024), _stop("number not registered or its certificate is wrong")),
    ((131047,), Reaction("window", 0, "message", "customer service window is closed")),
    (
        (131048,),
        _permanent("spam limit of the number", "number", alarm=True),
    ),  # no retry: it would make the quality worse
    ((131049,), Reaction("retry_after", DAY, "recipient", "ecosystem limit of this user", tries=1, fallback=True)),
    ((131050,), Reaction("optout", 0, "recipient", "user stopped marketing messages")),
    ((131051,), _permanent("unsupported message type")),
    ((131052,), Reaction("retry_after", MINUTE, "message", "inbound media could not be fetched", tries=1)),
    (
        (131053,),
        Reaction("retry_after", 5, "message", "outbound media could not be fetched or its type is wrong", tries=1),
    ),
    (
        (131055, 131063, 134100, 134101, 134102),
        Reaction("retry_after", 10 * MINUTE, "number", "marketing message API", alarm=True),
    ),
    ((131056,), Reaction("pair", 4, "recipient", "pair rate")),
    ((131057,), Reaction("retry_after", MINUTE, "number", "maintenance or throughput upgrade")),
    ((131060,), _permanent("inbound message unavailable")),
    ((131062,), _permanent("business-scoped user id is not possible for this message: use the phone", "recipient")),
    ((131064,), _stop("limit from misclassified templates")),
    ((132000, 132012, 132018), _permanent("template parameters: count, format or content", alarm=True)),
    ((132001,), Reaction("hold_template", 0, "template", "template or language missing or not approved", alarm=True)),
    ((132005,), _permanent("text too long after filling", alarm=True)),
    ((132007,), _permanent("content policy", alarm=True)),
    ((132008,), _permanent("parameter value invalid", alarm=True)),
    ((132015,), Reaction("hold_template", 3 * HOUR, "template", "template paused", alarm=True)),
    ((132016,), Reaction("hold_template", 0, "template", "template disabled", alarm=True)),
    ((132021,), _permanent("direct send name clash")),
    ((132068,), _stop("flow blocked", "template")),
    ((132069,), Reaction("retry_after", HOUR, "template", "flow throttled", alarm=True)),
    ((133000, 133005, 133008, 133009, 133015, 133016), _stop("registration or PIN of the number")),
    ((134011,), _stop("payment terms not accepted")),
    ((137000,), _permanent("identity key changed: verify the person again", "recipient", alarm=True)),
    ((613,), Reaction("backoff", 60, "number", "call rate")),
    ((range(138000, 138022),), _permanent("calling is not available")),
    ((range(139000, 139005), range(139100, 139104), 139200), _permanent("flow, block list or direct send", alarm=True)),
    ((range(147001, 147008),), _permanent("username management")),
    ((range(2388000, 2389000),), _permanent("template creation")),
    ((2494100,), Reaction("backoff", 60, "number", "maintenance mode")),
    ((80007,), Reaction("backoff", 5 * MINUTE, "number", "rate of the business account")),
)

UNKNOWN_CODE = Reaction("backoff", 30, "message", "error code not in the table", alarm=True, tries=3)
SERVER_ERROR = _unsure("server error: it may have been sent")

# Answers without a readable code come from something in front of Graph: a proxy, a firewall, a wrong address.
BY_HTTP: Mapping[int, Reaction] = {
    401: _stop("not authenticated"),
    403: _stop("forbidden, without a code of WhatsApp"),
    404: _stop("address unknown: base_url, api_version or phone_number_id"),
    405: _stop("address does not take messages: base_url"),
    407: _stop("a proxy asks for credentials"),
    408: _unsure("request timed out at the other side"),
    413: _permanent("too large", alarm=True),
    425: Reaction("backoff", 5, "number", "too early"),
    429: Reaction("backoff", 60, "number", "too many requests"),
}
REDIRECTED = _stop("the address answers with a redirect: base_url")
REFUSED = Reaction("backoff", 30, "message", "refused without a readable code", alarm=True, tries=3)


def _expand() -> dict[int, Reaction]:
    found: dict[int, Reaction] = {}
    for codes, reaction in TABLE:
        for code in codes:
            for each in code if isinstance(code, range) else (code,):
                found.setdefault(each, reaction)
    return found


BY_CODE: Mapping[int, Reaction] = _expand()


def react(code: int | None, http: int | None = None, *, retry_after: float | None = None) -> Reaction:
    """What to do about an error.

    Args:
        code: `error.code`, None where the answer had none that can be read.
        http: status of the answer, None for a failed status. 5xx is always "unsure", whatever the code claims.
        retry_after: seconds that the answer's Retry-After asks for; only ever lengthens a wait.
    """
    if http is not None and http >= 500:
        return SERVER_ERROR
    if code is not None:
        found = BY_CODE.get(code, UNKNOWN_CODE)
    elif http is not None and 300 <= http < 400:
        found = REDIRECTED
    else:
        found = BY_HTTP.get(http or 0, REFUSED)
    if retry_after is not None and found.kind in ("backoff", "retry_after") and retry_after > found.seconds:
        return replace(found, seconds=int(min(retry_after, DAY)))
    return found
