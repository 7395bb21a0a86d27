"""What is read from the EHR, outside any transaction: coalesced, a few at a time, and kept for a short while.

A loop asks with `need`; what is not at hand is fetched by the pool, which rings the bell when it is there. What is asked for
inside `gathered` goes out together, many reads in one request where the EHR takes that. A read knows when it *began*: only
one begun after a push arrived may answer that push.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from bridge.engine.together import Together
from bridge.errors import BridgeError, EhrRefused, EhrUnreachable
from bridge.fhir.client import Deleted, EhrClient, Missing, Resource

log = logging.getLogger(__name__)

FRESH = 30.0  # seconds an answer serves several messages of one moment
KEEP = 2_000  # answers held in memory, those used last: about 5 kB each, and twice as many as wait to be used at once
WORKERS = 8  # of each EHR
UNAUTHORIZED = 401
FAILED_FOR = 1.0  # seconds: a failure answers everybody who asks within it


@dataclass(frozen=True, slots=True)
class Found:
    """One answer. `value`: raw JSON; a list for a search; None when the EHR says there is none (or no more)."""

    begun_at: int  # machine time
    value: Any
    state: Literal["found", "missing", "deleted", "refused"]
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The EHR cannot be read now."""

    reason: str


Key = tuple[str, str]  # (EHR, "Patient/p1" | "RelatedPerson?patient=Patient/p1")
Ask = tuple[str, int]  # what, and when it was begun


class Reader:
    """Reads for all loops of one engine."""

    def __init__(self, clients: Mapping[str, EhrClient], machine: Callable[[], int], ring: Callable[[], None]) -> None:
        self._clients = clients
        self._machine = machine
        self._ring = ring
        self._lock = threading.Lock()
        self._answers: OrderedDict[Key, tuple[float, Found]] = OrderedDict()
        self._failures: dict[Key, tuple[float, Failed]] = {}
        self._flying: dict[Key, int] = {}
        # one pool an EHR: a slow one must not keep the others' events waiting
        self._pools: dict[str, Executor] = {
            ehr: ThreadPoolExecutor(WORKERS, thread_name_prefix=f"read-{ehr}") for ehr in clients
        }
        self._together = {ehr: Together() for ehr in clients}
        self._stale: dict[tuple[str, str], int] = {}  # (EHR, type) -> searches begun before this say nothing any more
        self._here = threading.local()  # `asked`: what this thread gathers, by EHR

    def stop(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def can_read(self, ehr: str) -> bool:
        return ehr in self._clients

    def flying(self) -> int:
        with self._lock:
            return len(self._flying)

    def awaited(self, ehr: str, whats: Iterable[str]) -> bool:
        """Whether any of these is on its way; what failed, or came and was dropped since, is not."""
        with self._lock:
            return any((ehr, what) in self._flying for what in whats)

    def get(self, ehr: str, what: str, *, begun_after: int = 0) -> Found | Failed | None:
        """The answer at hand, a recent failure, or None."""
        key = (ehr, what)
        with self._lock:
            held = self._answers.get(key)
            if (
                held is not None
                and held[1].begun_at >= max(begun_after, self._since(key))
                and (begun_after or time.monotonic() - held[0] < FRESH)
            ):
                self._answers.move_to_end(key)
                return held[1]
            failure = self._failures.get(key)
            if failure is not None:
                if time.monotonic() - failure[0] < FAILED_FOR:
                    return failure[1]
                del self._failures[key]
        return None

    def need(self, ehr: str, whats: Iterable[str], *, begun_after: int = 0) -> Literal["ready", "pending"] | Failed:
        """Make sure answers are at hand, fetching what is not."""
        pending = False
        for what in whats:
            answer = self.get(ehr, what, begun_after=begun_after)
            if isinstance(answer, Failed):
                return answer
            if answer is None:
                pending = True
                self._fetch((ehr, what), begun_after)
        return "pending" if pending else "ready"

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What this thread asks for inside goes out at its end, together."""
        asked: dict[str, list[Ask]] = {}
        self._here.asked = asked
        try:
            yield
        finally:
            self._here.asked = None
            for ehr, asks in asked.items():
                with self._lock:
                    parts = self._together[ehr].parts(asks)
                for part in parts:
                    if len(part) == 1:
                        self._pools[ehr].submit(self._run, (ehr, part[0][0]), part[0][1])
                    else:
                        self._pools[ehr].submit(self._run_together, ehr, part)

    def outdate(self, ehr: str, kind: str, at: int) -> None:
        """Some resource of this type changed, and was known to have by `at`: what a search found before is not believed."""
        with self._lock:
            self._stale[(ehr, kind)] = max(at, self._stale.get((ehr, kind), 0))

    def _since(self, key: Key) -> int:
        kind, search, _ = key[1].partition("?")
        return self._stale.get((key[0], kind), 0) if search else 0

    def forget(self, ehr: str, what: str) -> None:
        """Somebody said that it changed."""
        with self._lock:
            self._answers.pop((ehr, what), None)

    def put(self, ehr: str, what: str, found: Found) -> None:
        """An answer that came another way: the EHR's reply to our own write, a resource included in a push."""
        with self._lock:
            self._keep((ehr, what), found)

    def _keep(self, key: Key, found: Found) -> None:
        held = self._answers.get(key)
        if held is not None and held[1].begun_at > found.begun_at:
            return  # two reads crossed: the one that was begun later knows better
        self._answers[key] = (time.monotonic(), found)
        self._answers.move_to_end(key)
        while len(self._answers) > KEEP:
            self._answers.popitem(last=False)

    def _fetch(self, key: Key, begun_after: int) -> None:
        with self._lock:
            if self._flying.get(key, -1) >= max(begun_after, self._since(key)):
                return
            self._flying[key] = begun = self._machine()
        asked = getattr(self._here, "asked", None)
        if asked is not None:
            asked.setdefault(key[0], []).append((key[1], begun))
        else:
            self._pools[key[0]].submit(self._run, key, begun)

    def _run_together(self, ehr: str, asks: Sequence[Ask]) -> None:
        """One request for many. What it does not answer is read singly; so is everything when it fails and a single read
        does not."""
        begun = time.monotonic()
        refused = False
        try:
            told = self._clients[ehr].together([what for what, _ in asks])
        except EhrUnreachable as error:
            if not error.unknown:  # it did not even arrive, or the EHR asks us to wait
                self._landed([((ehr, what), at, Failed(f"the EHR cannot be read: {error}")) for what, at in asks])
                return
            told = [None] * len(asks)
        except EhrRefused:
            told, refused = [None] * len(asks), True
        except Exception as error:  # a thread of the pool must say what happened, whatever it was
            log.exception("reading together failed")
            told, refused = [None] * len(asks), not isinstance(error, BridgeError)
        with self._lock:
            self._together[ehr].took(time.monotonic() - begun)
            if any(one is not None for one in told):
                self._together[ehr].worked()
        self._landed([
            ((ehr, what), at, Found(at, one.value, "found", one.etag))
            for (what, at), one in zip(asks, told, strict=True)
            if one is not None
        ])  # fmt: skip
        left = [ask for ask, one in zip(asks, told, strict=True) if one is None]
        if len(left) == len(asks):
            first, at = left.pop(0)
            answer = self._run((ehr, first), at)
            if isinstance(answer, Failed):
                self._landed([((ehr, what), at, answer) for what, at in left])
                return
            if refused or answer.state == "found":
                with self._lock:
                    off = self._together[ehr].failed(refused=refused)
                if off:
                    log.info("this EHR answers no batch of reads: they go one by one", extra={"ehr": ehr})
        for what, at in left:
            self._pools[ehr].submit(self._run, (ehr, what), at)

    def _run(self, key: Key, begun: int) -> Found | Failed:
        """One read; returns what came of it."""
        ehr, what = key
        try:
            found: Found | Failed = self._read(self._clients[ehr], what, begun)
        except EhrUnreachable as error:
            found = Failed(f"the EHR cannot be read: {error}")
        except EhrRefused as error:
            log.warning("the EHR refused a read", extra={"ehr": ehr, "type": what.split("/")[0].split("?")[0]})
            if error.status == UNAUTHORIZED:  # a credential that a person can mend: the rows wait, nothing is lost
                found = Failed("the EHR does not accept our credentials (401)")
            else:
                found = Found(begun, None, "refused")
        except BridgeError as error:
            found = Failed(str(error))
        except Exception as error:  # a thread of the pool must say what happened, whatever it was
            log.exception("a read failed")
            found = Failed(type(error).__name__)
        self._landed([(key, begun, found)])
        return found

    def _landed(self, results: Sequence[tuple[Key, int, Found | Failed]]) -> None:
        if not results:
            return
        with self._lock:
            for key, begun, found in results:
                if self._flying.get(key) == begun:
                    del self._flying[key]
                if isinstance(found, Found):
                    self._keep(key, found)
                    self._failures.pop(key, None)
                else:
                    self._failures[key] = (time.monotonic(), found)
        self._ring()

    @staticmethod
    def _read(client: EhrClient, what: str, begun: int) -> Found:
        if "?" in what:
            kind, _, query = what.partition("?")
            pairs = [tuple(part.split("=", 1)) for part in query.split("&") if "=" in part]
            matches = [found.resource for found in client.search(kind, pairs)]  # type: ignore[arg-type]
            return Found(begun, matches, "found")
        answer = client.read(what)
        if isinstance(answer, Resource):
            return Found(begun, answer.resource, "found", answer.etag)
        if isinstance(answer, Deleted):
            return Found(begun, None, "deleted")
        assert isinstance(answer, Missing)
        return Found(begun, None, "missing")
