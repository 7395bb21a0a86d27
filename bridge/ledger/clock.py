"""Two clocks. Business time is an argument that demo and tests push; machine time moves by itself. Neither moves the other."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000  # microseconds: the unit of every stored time


def to_us(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def from_us(value: int) -> datetime:
    """The inverse of `to_us`, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


class Clock:
    """Business time: the wall clock plus what was pushed. Pushing goes forward only."""

    def __init__(self, at: datetime | None = None) -> None:
        self._lock = threading.Lock()
        self._offset = timedelta(0) if at is None else at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def now_us(self) -> int:
        return to_us(self.now())

    def push(self, by: timedelta) -> datetime:
        """Move business time ahead; machine time (leases, rates, back-off) does not move."""
        with self._lock:
            self._offset += max(by, timedelta(0))
            return self.now()

    @property
    def offset(self) -> timedelta:
        return self._offset


class MachineClock:
    """Wall time anchored to the monotonic clock at start: a step of the system clock moves nothing here."""

    def __init__(self) -> None:
        self._anchor = time.time_ns() // 1000 - time.monotonic_ns() // 1000

    def now_us(self) -> int:
        return self._anchor + time.monotonic_ns() // 1000


EPOCH = 1_735_689_600_000  # ms: 2025-01-01, where ids begin


def first_id(at: int) -> int:
    """The smallest id that can have been drawn at a time (µs) or later."""
    return max(0, at // 1000 - EPOCH) << 22


class Ids:
    """Time-ordered 63-bit integers without a round trip: 41 bits of milliseconds, 10 of process, 12 of sequence."""

    def __init__(self, process: int | None = None) -> None:
        self._process = (int.from_bytes(os.urandom(2), "big") if process is None else process) & 0x3FF
        self._lock = threading.Lock()
        self._last = 0
        self._sequence = 0

    def __call__(self) -> int:
        with self._lock:
            now = time.time_ns() // 1_000_000 - EPOCH
            if now <= self._last:
                self._sequence += 1
                if self._sequence > 0xFFF:  # 4,096 in one millisecond: borrow the next
                    self._last, self._sequence = self._last + 1, 0
            else:
                self._last, self._sequence = now, 0
            return (self._last << 22) | (self._process << 12) | self._sequence
