"""The people behind the pretend numbers: who they are to the business, what their phones show, and Meta's limits on them."""

from __future__ import annotations

import base64
import hashlib
import random
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from bridge.sandbox.whatsapp.checks import Button, Content
from bridge.sandbox.whatsapp.denials import Denied

WINDOW_SECONDS = 24 * 3600
COUNTRIES = {"34": "ES", "55": "BR", "351": "PT", "52": "MX", "54": "AR", "57": "CO", "44": "GB", "1": "US"}


@dataclass(slots=True, eq=False)
class Person:
    wa_id: str  # "" for somebody the business never had a number of
    user_id: str  # business-scoped: "ES.…"
    name: str = "WhatsApp user"
    shows_number: bool = True  # False: a user with a username; webhooks leave wa_id, from and recipient_id out
    exists: bool = True  # False: no WhatsApp on that number; accepted, then failed 131026
    blocked: bool = False  # blocked the business: accepted, then failed 131026, nothing shown
    wrote_at: float | None = None  # sandbox clock; opens the customer service window
    pair_free_at: float = 0.0  # GCRA of the pair rate
    bubbles: list[Bubble] = field(default_factory=list)

    def contact(self) -> dict[str, Any]:
        """`contacts[]` of a webhook: always with `user_id`, with the number only if this person shows it."""
        number = {"wa_id": self.wa_id} if self.shows_number and self.wa_id else {}
        return {"profile": {"name": self.name}, **number, "user_id": self.user_id}


@dataclass(slots=True, eq=False)
class Bubble:
    wamid: str
    person: Person
    mine: bool  # True: the patient wrote it
    at: float
    kind: str
    body: str
    phone_number_id: str
    buttons: tuple[Button, ...] = ()
    template: str = ""
    language: str = ""
    category: str = "service"
    status: str = "accepted"  # accepted | sent | delivered | read | failed
    shown: bool = True  # False: accepted, but it never reached the phone
    callback: str | None = None
    context: str | None = None
    header: str = ""  # of a template, as the phone shows it above the body

    def show(self) -> dict[str, Any]:
        return {
            "wamid": self.wamid, "from": "patient" if self.mine else "business", "at": self.at, "kind": self.kind,
            "header": self.header or None, "body": self.body, "template": self.template or None, "language": self.language or None,
            "buttons": [{"index": at, "title": button.title, "payload": button.payload or None, "id": button.id or None}
                        for at, button in enumerate(self.buttons)],
            "status": self.status, "shown": self.shown, "callback": self.callback, "context": self.context,
            "phone_number_id": self.phone_number_id,
        }  # fmt: skip


@dataclass(slots=True)
class Limits:
    throughput: float = 80.0  # messages a second of one number, in and out together -> 130429; 0 = none
    pair_seconds: float = 6.0  # one message to one person each so many seconds -> 131056; 0 = none
    pair_burst: int = 45  # that many at once, borrowed from the future
    tier: int = 0  # unique people outside the window in 24 h -> 131048; 0 = unlimited
    window: bool = True  # free-form text outside 24 h -> 131047


class Phones:
    def __init__(self, rng: random.Random, limits: Limits) -> None:
        self.rng, self.limits = rng, limits
        self.by_number: dict[str, Person] = {}
        self.by_user_id: dict[str, Person] = {}
        self.bubbles: dict[str, Bubble] = {}
        self._recent: dict[str, deque[float]] = {}
        self._reached: OrderedDict[str, float] = (
            OrderedDict()
        )  # user_id -> first reached outside the window, 24 h rolling

    def person(self, number: str | None, user_id: str | None = None) -> Person:
        """Whoever a number or a business-scoped id names; a number never seen becomes somebody.

        Raises:
            Denied: a business-scoped id that was never issued.
        """
        if not number:
            if user_id not in self.by_user_id:
                raise Denied(131026, "recipient is not a user this business knows")
            return self.by_user_id[user_id]
        wa_id = canonical(number)
        if wa_id not in self.by_number:
            self.add(Person(wa_id, issue_user_id(wa_id)))
        return self.by_number[wa_id]

    def find(self, name: str) -> Person:
        """By wa_id, number or user_id; somebody new if it is a number."""
        return self.by_user_id[name] if name in self.by_user_id else self.person(name)

    def add(self, person: Person) -> Person:
        if person.wa_id:
            self.by_number[person.wa_id] = person
        self.by_user_id[person.user_id] = person
        return person

    def wamid(self) -> str:
        """Unique; base64, so `+`, `/` and `=` occur as in real ones."""
        return "wamid.HBgL" + base64.b64encode(self.rng.randbytes(26)).decode()

    def window_open(self, person: Person, now: float) -> bool:
        return person.wrote_at is not None and now - person.wrote_at < WINDOW_SECONDS

    def admit(self, person: Person, content: Content, number: str, now: float, machine: float) -> None:
        """Meta's limits, in the order it meets them; counts the message when it passes.

        Args:
            now: the sandbox's clock, which a demo may push. machine: the monotonic one, for rates.

        Raises:
            Denied: 130429, 131056, 131047 or 131048.
        """
        limits = self.limits
        recent = self._recent.setdefault(number, deque())
        while recent and machine - recent[0] >= 1.0:
            recent.popleft()
        if limits.throughput and len(recent) >= limits.throughput:
            raise Denied(130429, "Cloud API message throughput has been reached.")
        free_at = max(person.pair_free_at, machine)
        if limits.pair_seconds and free_at - machine > limits.pair_seconds * (limits.pair_burst - 1):
            raise Denied(131056, "Too many messages sent from the sender phone number to the same recipient")
        inside = self.window_open(person, now)
        if limits.window and content.kind != "template" and not inside:
            raise Denied(
                131047, "More than 24 hours have passed since the recipient last replied to the sender number."
            )
        if not inside and limits.tier:
            while self._reached and now - next(iter(self._reached.values())) >= WINDOW_SECONDS:
                self._reached.popitem(last=False)
            if person.user_id not in self._reached:
                if len(self._reached) >= limits.tier:
                    raise Denied(131048, "Messaging limit of the portfolio reached")
                self._reached[person.user_id] = now
        recent.append(machine)
        person.pair_free_at = free_at + limits.pair_seconds

    def count_inbound(self, number: str, machine: float) -> None:
        self._recent.setdefault(number, deque()).append(machine)

    def show(self, person: Person, now: float) -> dict[str, Any]:
        """What the phone's screen has, oldest first, and what is known of its owner."""
        return {
            "wa_id": person.wa_id or None, "user_id": person.user_id, "name": person.name, "shows_number": person.shows_number,
            "blocked": person.blocked, "window_open": self.window_open(person, now),
            "bubbles": [bubble.show() for bubble in person.bubbles if bubble.shown],
        }  # fmt: skip


def canonical(number: str) -> str:
    """The wa_id WhatsApp makes of a number: digits; Brazil's ninth digit dropped outside the south-east, Mexico's 1 added."""
    digits = "".join(char for char in number if char.isdigit())
    if digits.startswith("55") and len(digits) == 13 and digits[2:4] >= "31":
        return digits[:4] + digits[5:]
    if digits.startswith("52") and len(digits) == 12:
        return "521" + digits[2:]
    return digits


def issue_user_id(seed: str) -> str:
    """A stable business-scoped id for a number; it holds nothing of the number."""
    country = next((code for prefix, code in COUNTRIES.items() if seed.startswith(prefix)), "US")
    return f"{country}.{int(hashlib.sha256(seed.encode()).hexdigest()[:16], 16)}"
