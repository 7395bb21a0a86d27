"""The send cycle: claim lanes → choose → fence → POST at its slot → record. One thread with an event loop of its own.

Database work runs in one helper thread, so that answers are read while it commits; claims and records share one
transaction, the fence has its own, and no POST begins before its fence is committed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import Undecryptable
from bridge.ledger import audit, faults, lanes, outbox
from bridge.ledger.clock import SECOND, Clock, Ids
from bridge.ledger.crypto import Crypto
from bridge.ledger.lanes import Claimed
from bridge.ledger.rounds import Rounds
from bridge.ledger.states import URGENT
from bridge.ledger.store import MAX_DRIFT, Store
from bridge.ledger.words import Words
from bridge.outbound.carrier import Answer, Carrier, NotSent
from bridge.outbound.content import Content, outgoing
from bridge.outbound.fence import Fence, Fenced, QuietUntil
from bridge.outbound.limits import Pace
from bridge.outbound.providers import cloud_api
from bridge.outbound.record import Recorder, Result, orphans, to_doubt
from bridge.settings import Settings

log = logging.getLogger(__name__)

IN_FLIGHT = 256  # POSTs at once, over all numbers
BATCH = 128  # lanes of one cycle
START_WITHIN = 1.0  # seconds: a POST that has not begun by then is taken back
LEASE_LEFT = 25.0  # seconds of lease a POST needs: its time-out is 20
DRIFT_LOOK = 10.0  # seconds between two looks at the database's clock
ROUND = 0.02  # seconds between the beginnings of two cycles: some thirty statements, however many answers they record
IDLE = 0.05  # seconds between two looks when nothing woke us


_DUE = Words(
    "SELECT id FROM lane WHERE kind = 'conversation' AND next_at <= :now AND lease_until <= :now AND number IN :numbers LIMIT 1"
)
_READY = Words(
    "SELECT lane_id, cls, ready_at, id, content, key_id, number, revision FROM outbox "
    "WHERE lane_id IN :lanes AND state = 'ready' ORDER BY lane_id, cls, ready_at, id"
)


@dataclass(slots=True)
class _Shot:
    fenced: Fenced
    url: str
    headers: dict[str, str]
    body: bytes
    fenced_monotonic: float  # when its fence had committed
    slot_monotonic: float
    lease_monotonic: float  # when the lane's lease ends
    number: str


class Sender:
    """Sends what is ready. `settled` is called after a commit that may interest others (write-backs, told outcomes)."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        crypto: Crypto,
        ids: Ids,
        clock: Clock,
        node: str,
        quiet_until: QuietUntil,
        learned: Callable[[Sequence[Result]], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._crypto = crypto
        self._clock = clock
        self._node = node
        self._fence = Fence(settings, crypto, node, quiet_until)
        self._ids = ids
        self._recorder = Recorder(crypto, ids)
        self._learned = learned
        self._results: deque[Result] = deque()
        self._aloft: dict[int, int] = {}  # message -> lane, from its fence until what became of it is recorded
        self._unsure = (
            False  # a commit failed or its answer was lost: what the store holds of ours may be more than we know
        )
        self._paces = {key: Pace(number.rate) for key, number in settings.numbers.items()}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awake: asyncio.Event | None = None
        self._stopping = False
        self._next_due = 0.0
        self._clock_checked = -DRIFT_LOOK  # monotonic
        self._off = False  # this node's clock is too far off the database's
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sender-db")
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self.beat: Callable[[], None] = lambda: None  # called each round

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may be ready; callable from any thread."""
        if self._loop is not None and self._awake is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._awake.set)

    def stop(self, timeout: float = 22.0) -> None:
        """Claim nothing more, let POSTs in flight end, record them."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        async with Carrier(limit=IN_FLIGHT) as carrier:
            tasks: set[asyncio.Task[None]] = set()
            rounds = Rounds(ROUND)
            while not (self._stopping and not tasks and not self._results):
                await asyncio.sleep(rounds.wait())
                rounds.begin()
                self.beat()
                self._awake.clear()
                try:
                    shots = await self._loop.run_in_executor(self._executor, self._cycle)
                    rounds.end()
                except SQLAlchemyError as error:
                    self._unsure = True
                    log.warning("send cycle met a database error", extra={"error": type(error).__name__})
                    await asyncio.sleep(0.2)
                    continue
                except Exception:
                    self._unsure = True
                    log.exception("send cycle failed")
                    await asyncio.sleep(1)
                    continue
                for shot in shots:
                    task = asyncio.create_task(self._post(carrier, shot))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                if not shots and not self._results:
                    await self._sleep()
        self._executor.shutdown(wait=False)

    async def _sleep(self) -> None:
        assert self._awake is not None
        try:
            await asyncio.wait_for(self._awake.wait(), IDLE)
        except TimeoutError:
            return

    # --- one POST --------------------------------------------------------------------------------------------------

    async def _post(self, carrier: Carrier, shot: _Shot) -> None:
        fenced = shot.fenced
        if (ahead := shot.slot_monotonic - time.monotonic()) > 0:  # the number's rate, as the ledger shares it
            await asyncio.sleep(ahead)
        while (ahead := self._paces[shot.number].wait(time.monotonic())) > 0:
            await asyncio.sleep(ahead)
        faults.point("after_fence_before_post")
        begins = time.monotonic()
        late = begins - max(shot.fenced_monotonic, shot.slot_monotonic)
        if late > START_WITHIN or shot.lease_monotonic - begins < LEASE_LEFT:
            self._done(fenced, Result(fenced.message, fenced.n, "taken_back", reason="could not start in time"))
            return
        answer = await carrier.post(shot.url, shot.headers, shot.body, written=_during_post)
        faults.point("after_post_before_record")
        self._done(fenced, self._result(fenced, answer))

    @staticmethod
    def _result(fenced: Fenced, answer: object) -> Result:
        if isinstance(answer, NotSent):
            return Result(fenced.message, fenced.n, "taken_back", reason=f"not sent: {answer.reason}", unreachable=True)
        if not isinstance(answer, Answer):
            reason = getattr(answer, "reason", "no answer")
            return Result(fenced.message, fenced.n, "doubt", reason=f"the answer was lost: {reason}")
        receipt = cloud_api.receipt(answer.status, answer.body, answer.retry_after)
        if isinstance(receipt, cloud_api.Accepted):
            return Result(
                fenced.message, fenced.n, "accepted", http=answer.status, wamid=receipt.wamid, user_id=receipt.user_id
            )
        if isinstance(receipt, cloud_api.Refused):
            return Result(
                fenced.message, fenced.n, "refused", http=answer.status, code=receipt.code,
                reaction=receipt.reaction, reason=receipt.reaction.reason,
            )  # fmt: skip
        return Result(
            fenced.message,
            fenced.n,
            "doubt",
            http=answer.status,
            reason=f"the answer could not be read: {receipt.reason}",
        )

    def _done(self, fenced: Fenced, result: Result) -> None:
        self._results.append(replace(result, lane_id=fenced.lane.id, epoch=fenced.lane.epoch))
        self.wake()

    # --- database half ---------------------------------------------------------------------------------------------

    def _cycle(self) -> list[_Shot]:
        if self._unsure:
            self._reconcile()
        want = 0 if self._stopping or self._astray() else min(BATCH, IN_FLIGHT - len(self._aloft))
        results = [self._results.popleft() for _ in range(len(self._results))]
        leased = time.monotonic()  # before the claim: the lease in the store ends later than the one we count on
        try:
            claimed, rows = self._record_and_claim(results, want)
        except BaseException:
            self._results.extendleft(reversed(results))
            raise
        for result in results:
            self._aloft.pop(result.message, None)
        if results:
            faults.point("record_after_commit")
            self._tell(results)
        if not claimed:
            return []
        faults.point("claim_after_commit")
        chosen, ready, broken = self._choose(claimed, rows)
        with self._store.write() as connection:
            now = self._store.now(connection)
            at = time.monotonic()
            self._give_up(connection, broken, now)
            outcome = self._fence.run(connection, chosen, now=now, business=self._clock.now_us())
            busy = {c.id for c, _ in chosen}
            lanes.release(connection, self._node, {c.id: c.epoch for c in claimed if c.id not in busy}, now)
            faults.point("fence_before_commit")
        # What the fence asked holds until here: its rows were locked. Counted from its beginning, a database that takes a
        # second for it would have every message taken back and fenced again, for ever.
        committed = time.monotonic()
        self._aloft.update({fenced.message: fenced.lane.id for fenced in outcome.fenced})
        shots = []
        for fenced in outcome.fenced:
            content, number, revision = ready[fenced.message]
            sender = self._settings.numbers[number]
            try:
                body = cloud_api.payload(outgoing(content, self._crypto, fenced.message, revision, fenced.n))
            except Exception:  # one that cannot be put into bytes must not stop the others
                log.exception("message cannot be sent", extra={"message_id": f"msg_{fenced.message}"})
                self._done(
                    fenced, Result(fenced.message, fenced.n, "refused", reason="it cannot be put into a request")
                )
                continue
            slot = at + max(0, fenced.slot - now) / SECOND
            shots.append(
                _Shot(
                    fenced,
                    cloud_api.endpoint(sender),
                    dict(cloud_api.headers(sender)),
                    body,
                    committed,
                    slot,
                    leased + lanes.LEASE / SECOND,
                    number,
                )
            )
        return shots

    def _reconcile(self) -> None:
        """After a commit that failed, or whose answer was lost: what the store says is ours and we know nothing of never
        became a POST, for a POST begins only after its commit was confirmed. It is taken back; its lanes are freed."""
        with self._store.write() as connection:
            now = self._store.now(connection)
            left = orphans(connection, self._node, self._aloft.keys())
            lost = [Result(row.message, row.n, "taken_back", reason="its fence was not confirmed") for row in left]
            self._recorder.run(connection, lost, now=now, business=self._clock.now_us())
            lanes.forget_node(connection, self._node, keep=self._aloft.values())
            lanes.wake(connection, {row.lane_id for row in left}, now)
        self._unsure = False

    def _give_up(self, connection: Connection, broken: Sequence[int], now: int) -> None:
        """What does not decrypt never will: it ends, a person is told, and its lane goes on."""
        reason = "its row does not decrypt"
        for message in sorted(outbox.move(connection, broken, "failed", now, reason=reason, only_from=("ready",))):
            audit.record(
                connection,
                row=self._ids(),
                at=now,
                action=audit.ALARM,
                subject=f"msg_{message}",
                detail={"why": reason},
            )

    def _tell(self, results: Sequence[Result]) -> None:
        """What answers taught us beside their outcome; the outcomes are recorded already, whatever happens here."""
        try:
            self._learned(results)
        except SQLAlchemyError as error:
            log.warning("learning from answers met a database error", extra={"error": type(error).__name__})

    def _astray(self) -> bool:
        """Whether this node's clock is too far off the database's to promise a slot or a lease; looked at now and then."""
        if time.monotonic() - self._clock_checked >= DRIFT_LOOK:
            drift = self._store.drift()
            self._clock_checked = time.monotonic()
            if (abs(drift) > MAX_DRIFT) != self._off:
                self._off = not self._off
                if self._off:
                    log.error("this node's clock is off the database's: it claims nothing")
                else:
                    log.warning("this node's clock is right again")
        return self._off

    def _record_and_claim(
        self, results: Sequence[Result], want: int
    ) -> tuple[list[Claimed], list[tuple[int, int, int, int, bytes, str, str, int | None]]]:
        room = self._room_for_due(want) if want > 0 else {}
        if not results and not room:
            return [], []
        with self._store.write() as connection:
            now = self._store.now(connection)
            woken = self._recorder.run(connection, results, now=now, business=self._clock.now_us())
            mine = {r.lane_id: r.epoch for r in results if r.lane_id is not None and r.epoch is not None}
            lanes.release(connection, self._node, mine, now)
            lanes.wake(connection, woken - mine.keys(), now)
            claimed = lanes.claim(connection, self._node, now, room)
            if not claimed:
                return [], []
            to_doubt(
                connection, [c.id for c in claimed], now, reason="the node that was sending it died before it could say"
            )
            rows = _READY.rows(connection, lanes=[c.id for c in claimed])
            doubted = lanes.doubted(connection, [c.id for c in claimed], now)
            return claimed, [row for row in rows if row.cls <= URGENT or row.lane_id not in doubted]

    def _room_for_due(self, want: int) -> dict[str, int]:
        """Numbers that have due lanes and room for a slot now; empty: there is nothing to claim, and nothing is locked."""
        with self._store.read() as connection:
            now = self._store.now(connection)
            room = {name: free for name, free in self._fence.room(connection, now, want).items() if free > 0}
            if not room:
                return {}
            due = _DUE.first(connection, now=now, numbers=sorted(room))
            return room if due is not None else {}

    def _choose(
        self, claimed: Sequence[Claimed], rows: Sequence[tuple[int, int, int, int, bytes, str, str, int | None]]
    ) -> tuple[list[tuple[Claimed, int]], dict[int, tuple[Content, str, int | None]], list[int]]:
        """The first ready message of each lane, decrypted; rows that do not decrypt must not stop their lane."""
        by_lane = {c.id: c for c in claimed}
        chosen: list[tuple[Claimed, int]] = []
        ready: dict[int, tuple[Content, str, int | None]] = {}
        broken: list[int] = []
        taken: set[int] = set()
        for lane_id, _, _, message, blob, key_id, number, revision in rows:
            if lane_id in taken:
                continue
            try:
                plain = self._crypto.decrypt(blob, key_id, "outbox", "content", message)
                ready[message] = (Content.from_bytes(plain), number, revision)
            except (Undecryptable, ValueError):
                log.exception("message does not decrypt", extra={"message_id": f"msg_{message}"})
                broken.append(message)
                continue
            taken.add(lane_id)
            chosen.append((by_lane[lane_id], message))
        chosen.sort(key=lambda pair: (pair[0].cls, pair[0].id))
        return chosen, ready, broken


def _during_post() -> None:
    """The request is on the wire, its answer is not here."""
    faults.point("during_post")
