"""Injected misbehaviour of the Graph API: rules that the next matching sends meet. Set through the control API."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# before: nothing was accepted. after: the message is on its way all the same.
BEFORE = {"close", "refuse_body", "html500", "error", "storm"}
AFTER = {"drop_answer", "delay", "unreadable", "html500_after", "fail_status"}


@dataclass(slots=True)
class Rule:
    """One fault.

    - `close`: the connection is reset as soon as the request is seen · `refuse_body`: after its body was read
    - `html500`: a proxy's page, nothing accepted · `html500_after`: the same, but it was accepted
    - `error`: refused with `code` (and `http`) · `storm`: 429 with 130429 and `Retry-After`
    - `drop_answer`: accepted, connection reset without an answer · `delay`: accepted, answered `seconds` later
    - `unreadable`: accepted, 200 with half a JSON · `fail_status`: accepted, then a `failed` status with `code`
    """

    what: str
    times: int = 1  # how many sends meet it; -1 = until cleared
    probability: float = 1.0
    to: str = ""  # wa_id, number as sent, or user_id; "" = anybody
    kind: str = ""  # type of message; "" = any
    template: str = ""
    number: str = ""  # phone_number_id that sends; "" = any of ours
    code: int = 131000
    http: int = 0  # 0: the code's usual one
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.what not in BEFORE | AFTER:
            raise ValueError(f"no such fault: {self.what}; there are {sorted(BEFORE | AFTER)}")

    def meets(self, message: Mapping[str, Any], number: str = "") -> bool:
        template = message.get("template")
        name = template.get("name", "") if isinstance(template, dict) else ""
        to = {str(message.get("to", "")).lstrip("+"), str(message.get("recipient", ""))}
        return (
            self.times != 0
            and (not self.to or self.to.lstrip("+") in to)
            and (not self.kind or self.kind == message.get("type"))
            and (not self.template or self.template == name)
            and (not self.number or self.number == number)
        )


class Faults:
    def __init__(self, rng: random.Random) -> None:
        self.rules: list[Rule] = []
        self._rng = rng

    def early(self) -> Rule | None:
        """A `close` rule for anybody, which acts before the body is read."""
        return self._first(
            lambda rule: rule.what == "close" and not (rule.to or rule.kind or rule.template or rule.number)
        )

    def next(self, message: Mapping[str, Any], number: str = "") -> Rule | None:
        """The first rule this message of that number of ours meets; counts it."""
        return self._first(lambda rule: rule.meets(message, number))

    def _first(self, holds: Any) -> Rule | None:
        for rule in self.rules:
            if holds(rule) and self._rng.random() < rule.probability:
                if rule.times > 0:
                    rule.times -= 1
                    if rule.times == 0:
                        self.rules.remove(rule)
                return rule
        return None
