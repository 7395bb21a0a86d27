"""What may leave at once: a number's messages a second, and a portfolio's different people in 24 hours.

A number's rate is shared out by the ledger in slots (`free_at`, see the fence); `Pace` keeps what a process really begins
to it. All numbers of a portfolio share the tier and the set of users (whatsapp.md §4), so both stand in the ledger under
the portfolio's name; `business_capability_update` tells the tier, and until it has, no limit is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, func, select

from bridge.ledger.clock import SECOND
from bridge.ledger.tables import portfolio_user
from bridge.ledger.words import Words

_TIERS = Words("SELECT key, tier FROM portfolio WHERE key IN :keys")
_NOTE = Words(
    "INSERT INTO portfolio_user (portfolio, key, at) VALUES (:name, :user, :at) "
    "ON CONFLICT (portfolio, key) DO UPDATE SET at = excluded.at"
)
DAY = 24 * 3600 * SECOND
LOOK_AGAIN = 60 * SECOND  # the oldest user of the last 24 h drops out when they do

PACE = 0.97  # of the rate: what the wire squeezes together stays within the rate, and the average above 95 % of it


def interval(rate: float) -> int:
    """Microseconds between two slots of a number that may send `rate` messages a second."""
    return int(SECOND / (rate * PACE))


class Pace:
    """What this process has begun to send for one number: a second never sees more than its rate, however late a loop that
    was held up wakes those whose slots have passed. What it was late with goes as soon as that allows."""

    def __init__(self, rate: float) -> None:
        most = max(1, int(rate))
        self._stretch = most / (rate * PACE)  # seconds in which at most so many begin
        self._begun: deque[float] = deque(maxlen=most)

    def wait(self, now: float) -> float:
        """Seconds of monotonic time until one more may begin; 0: it begins now, and counts."""
        if len(self._begun) == self._begun.maxlen and (ahead := self._begun[0] + self._stretch - now) > 0:
            return ahead
        self._begun.append(now)
        return 0.0


class Tiers:
    """What each portfolio may still do, for one fence transaction."""

    def __init__(self, connection: Connection, wanted: Mapping[str, Iterable[str]], business: int) -> None:
        """`wanted`: portfolio -> keys of the people this batch would write to."""
        self._left: dict[str, int] = {}
        self._known: dict[str, set[str]] = {}
        for row in _TIERS.rows(connection, keys=sorted(wanted)):
            if row.tier is None:
                continue
            recent = (portfolio_user.c.portfolio == row.key, portfolio_user.c.at > business - DAY)
            used = connection.execute(select(func.count()).where(*recent)).scalar_one()
            self._left[row.key] = max(0, row.tier - int(used))
            those = select(portfolio_user.c.key).where(*recent, portfolio_user.c.key.in_(list(wanted[row.key])))
            self._known[row.key] = set(connection.execute(those).scalars())

    def take(self, name: str, user: str) -> bool:
        """Whether this person may be written to now; a new one uses up one of the day's."""
        left = self._left.get(name)
        if left is None or user in self._known[name]:
            return True
        if left == 0:
            return False
        self._left[name] = left - 1
        self._known[name].add(user)
        return True


def note(connection: Connection, users: Iterable[tuple[str, str]], business: int) -> None:
    """Remember whom each portfolio has written to now."""
    _NOTE.many(connection, [{"name": name, "user": user, "at": business} for name, user in sorted(set(users))])
