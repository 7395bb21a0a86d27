"""What an authenticated sender may never break: hostile bodies at running doors, alone and inside batches of good ones."""

from __future__ import annotations

import gc
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from bridge.cli.serve import few_arenas
from tests.corpus.running import Doors, running
from tests.doors.hostile import (
    GOOD_ONES,
    MEMBERS,
    WHOLE,
    appointment,
    batch_with,
    message,
    notification,
    webhook,
    webhook_with,
)

JSON = (("Content-Type", "application/fhir+json"),)
SOON = 0.1  # seconds
TRIES = 10
CORES = len(os.sched_getaffinity(0))
BIG = {
    "4 MB string": appointment("s1", '"x":"' + "a" * 4_000_000 + '"'),
    "100,000 entries": b'{"resourceType":"Bundle","type":"history","entry":[' + b",".join([b"{}"] * 100_000) + b"]}",
    "100,000 entries beside an event": notification([appointment("b0")])[:-2] + b",{}" * 100_000 + b"]}",
    "100,000 events": notification([]).replace(b'Event": []', b'Event": [' + b",".join([b"{}"] * 100_000) + b"]"),
    "a Bundle in a Bundle in a Bundle": b'{"resourceType":"Bundle","type":"message","entry":[{"resource":' * 300 + b"1",
}
BIG_WEBHOOKS = {
    "2.9 MB string": webhook([json.dumps(message("s1") | {"x": "a" * 2_900_000}).encode()]),
    "100,000 items": webhook([b"{}"] * 100_000),
    "100,000 statuses": webhook([b'{"id":"a"}'] * 100_000, "statuses"),
    "100,000 entries": b'{"object":"whatsapp_business_account","entry":[' + b",".join([b"{}"] * 100_000) + b"]}",
}


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    with running() as found:
        found.push("PUT", "Appointment/first", appointment("first"), JSON)  # imports and caches are paid for here
        yield found


def fates(doors: Doors, since: int) -> list[str | None]:
    return [row.fate for row in doors.settled(since)]


Answer = tuple[int, dict[str, str], bytes]


def kept_waiting() -> float:
    """Seconds that threads of this process could have run and had no core (Linux; elsewhere nothing is excused)."""
    total = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # it has just ended
            total += int(path.read_text().split()[1])
    return total / 1e9


@dataclass
class Sent:
    """A request and whether its answer came soon: engine and client are this one process."""

    send: Callable[[], Answer]
    answer: Answer = field(init=False)
    took: str = field(init=False)

    def __post_init__(self) -> None:
        self.in_time = self._once()

    def _once(self) -> bool:
        """On a machine that others keep busy a try counts too if all it lacked was a core, and the work of this process, the
        client's and the background's with it, was no more than its cores can do in that time."""
        waited, cpu, begun = kept_waiting(), time.process_time(), time.monotonic()
        self.answer = self.send()
        wall, cpu = time.monotonic() - begun, time.process_time() - cpu
        waited = kept_waiting() - waited
        self.took = f"{wall:.3f} s, of it {waited:.3f} s without a core; {cpu:.3f} s of CPU"
        assert self.answer[0] == 200
        return wall < SOON or (cpu < SOON * CORES and wall - waited < SOON)

    def soon(self) -> None:
        """Best of ten: asked when the rows of the first have been looked at."""
        assert self.in_time or any(self._once() for _ in range(TRIES - 1)), self.took


@pytest.mark.parametrize("name", [*WHOLE, *BIG])
def test_whole_push(doors: Doors, name: str) -> None:
    since, body = len(doors.rows()), {**WHOLE, **BIG}[name]
    sent = Sent(lambda: doors.push("POST", "", body, JSON))
    _, headers, said = sent.answer
    assert headers["content-type"] == "application/fhir+json"
    assert said == b"" or json.loads(said)["resourceType"] == "Bundle"
    (row,) = doors.rows()[since:]
    # An empty body is a poke: it names nothing, and says that something happened. A long string hurts nobody.
    usable = {"blank": "hint", "4 MB string": "notification"}
    assert row.kind == usable.get(name, "notification")
    assert (row.fate == "unusable") == (name not in usable)
    Sent(lambda: doors.push("PUT", f"Appointment/after{since}", appointment(f"after{since}"), JSON)).soon()
    sent.soon()


@pytest.mark.parametrize("name", [*WHOLE, *BIG_WEBHOOKS])
def test_whole_webhook(doors: Doors, name: str) -> None:
    since, body = len(doors.rows()), {**WHOLE, **BIG_WEBHOOKS}[name]
    sent = Sent(lambda: doors.webhook(body))
    assert sent.answer[2] == b""
    (row,) = doors.rows()[since:]
    assert row.fate == ("unusable" if name != "2.9 MB string" else row.fate)
    if row.fate == "unusable":
        assert row.body == body
    assert row.reason is None or len(row.reason) <= 200
    sent.soon()


@pytest.mark.parametrize("name", MEMBERS)
def test_one_bad_resource(doors: Doors, name: str) -> None:
    since = len(doors.rows())
    body = appointment("m1")[:-1] + b"," + MEMBERS[name] + b"}"
    sent = Sent(lambda: doors.push("PUT", "Appointment/m1", body, JSON))
    assert fates(doors, since) == ["unusable"]
    sent.soon()


@pytest.mark.parametrize("name", MEMBERS)
def test_one_bad_resource_among_200_good_ones(name: str) -> None:
    with running() as doors:
        sent = Sent(lambda: doors.push("POST", "", batch_with(MEMBERS[name]), JSON))
        found = fates(doors, 0)
        assert len(found) == GOOD_ONES + 1
        assert found.count("unusable") == 1
        assert None not in found
        assert "failed" not in found
        sent.soon()


@pytest.mark.parametrize("name", MEMBERS)
def test_one_bad_item_among_200_good_ones(doors: Doors, name: str) -> None:
    since = len(doors.rows())
    sent = Sent(lambda: doors.webhook(webhook_with(MEMBERS[name], name)))
    rows = doors.rows()[since:]
    assert len(rows) == GOOD_ONES + 1
    bad = [row for row in rows if row.fate == "unusable"]
    assert len(bad) == 1
    assert all(row.kind == "message" for row in rows if row not in bad)
    sent.soon()


def test_good_ones_of_a_broken_batch_are_applied() -> None:
    with running() as doors:
        doors.webhook(webhook_with(MEMBERS["lone surrogate"], "applied"))
        found = fates(doors, 0)
        assert found.count("applied") == GOOD_ONES
        assert found.count("unusable") == 1


@pytest.mark.parametrize("length", [5 * 1024 * 1024 + 1, 10 * 1024 * 1024, 10**12])
def test_too_large_for_the_ehrs_door_before_it_is_read(doors: Doors, length: int) -> None:
    assert head_only(doors, "/ehr/main/appointments", length) == 413


@pytest.mark.parametrize("length", [3 * 1024 * 1024 + 1, 10**12])
def test_too_large_for_whatsapps_door_before_it_is_read(doors: Doors, length: int) -> None:
    assert head_only(doors, "/whatsapp/hospital/webhook", length) == 413


def head_only(doors: Doors, path: str, length: int) -> int:
    """The answer to a head that announces a body of which nothing is ever sent."""
    before = len(doors.rows())
    connection = doors.connect()
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    status = int(connection.recv(4096).split(b" ")[1])
    connection.close()
    assert len(doors.rows()) == before
    return status


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/ehr/main/appointments", 5 * 1024 * 1024), ("/whatsapp/hospital/webhook", 3 * 1024 * 1024)],
)
def test_too_large_in_chunks(doors: Doors, path: str, limit: int) -> None:
    """Nobody says how long it is: it is cut off as soon as it goes over, not collected to its end."""
    before = len(doors.rows())
    connection = doors.connect()
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    sent = 0
    try:
        while sent < 4 * limit:
            connection.sendall(chunk)
            sent += 65_536
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        said = connection.recv(4096)
    except ConnectionResetError:
        said = b""
    connection.close()
    assert said.startswith(b"HTTP/1.1 413") or sent < 2 * limit
    assert len(doors.rows()) == before


def test_as_large_as_may_be(doors: Doors) -> None:
    since = len(doors.rows())
    assert doors.push("POST", "", b"a" * (5 * 1024 * 1024), JSON)[0] == 200
    assert fates(doors, since) == ["unusable"]
    assert doors.webhook(b"a" * (3 * 1024 * 1024))[0] == 200
    assert fates(doors, since) == ["unusable", "unusable"]


def sizes_over_rounds(rounds: int) -> list[int]:
    """Memory in MB after each round of 40 MB that nobody can use; runs in a process of its own, set up as `serve` is."""
    few_arenas()
    process, sizes = psutil.Process(), []
    with running() as doors:
        for _ in range(rounds):
            for body in (*BIG.values(), *WHOLE.values()):
                doors.push("POST", "", body, JSON)
            for body in (*BIG_WEBHOOKS.values(), *WHOLE.values()):
                doors.webhook(body)
            gc.collect()
            sizes.append(process.memory_info().rss >> 20)
    return sizes


def test_memory_stays() -> None:
    with get_context("forkserver").Pool(1) as pool:
        sizes = pool.apply(sizes_over_rounds, (4,))
        pool.close()
        pool.join()
    assert max(sizes[1:]) - sizes[0] <= 20 + 10, sizes  # 20 MB (TI7), and what an allocator may round up


def test_sent_again_has_no_second_effect(doors: Doors) -> None:
    body = webhook([json.dumps(message("again")).encode()])
    since = len(doors.rows())
    assert [doors.webhook(body)[0] for _ in range(3)] == [200, 200, 200]
    assert len(doors.rows()) == since + 1  # a wamid is unique: it went into `seen`
    push = appointment("again", '"meta":{"versionId":"1","lastUpdated":"2026-11-24T10:00:00Z"}')
    since = len(doors.rows())
    assert [doors.push("PUT", "Appointment/again", push, JSON)[0] for _ in range(3)] == [200, 200, 200]
    found = doors.settled(since)
    assert [row.fate for row in found[1:]] == ["merged", "merged"]


@pytest.mark.parametrize(
    ("method", "tail", "body", "expected"),
    [
        ("PUT", "Appointment/r1", appointment("r1"), b""),
        ("DELETE", "Appointment/r1", b"", b""),
        ("POST", "", b"", b""),
        ("POST", "", appointment("r1"), b""),
        ("POST", "", notification([appointment("b0")]), b'{"resourceType":"Bundle","type":"transaction-response"}'),
    ],
)
def test_answers(doors: Doors, method: str, tail: str, body: bytes, expected: bytes) -> None:
    status, headers, said = doors.push(method, tail, body, JSON)
    assert (status, headers["content-type"], said) == (200, "application/fhir+json", expected)


@pytest.mark.parametrize(
    "tail",
    [
        "Appointment/" + "a" * 3_000,
        "Appointment/..%2f..%2fetc",
        "Appointment/a%00b",
        "Appointment/%ff%fe",
        "Appointment/%F0%9F%98%80",
        "Appointment/a1/_history/2",
        "~x/~y/~z",
        "Appointment",
    ],
)
def test_odd_paths(doors: Doors, tail: str) -> None:
    since = len(doors.rows())
    assert doors.push("PUT", tail, b"", JSON)[0] == 200
    assert len(doors.rows()) == since + 1


def test_a_path_sets_no_header(doors: Doors) -> None:
    status, headers, said = doors.push("PUT", "Appointment/a1%0d%0aSet-Cookie:%20a=b", b"", JSON)
    assert status in (200, 404)
    assert "set-cookie" not in headers
    assert b"Set-Cookie" not in said


@pytest.mark.parametrize(
    "kind", ["", "application/json; charset=utf-16", "multipart/form-data", "text/html", "a" * 2_000, "application/xml"]
)
def test_odd_content_types(doors: Doors, kind: str) -> None:
    since = len(doors.rows())
    status, _, _ = doors.push("PUT", f"Appointment/k{since}", appointment(f"k{since}"), (("Content-Type", kind),))
    assert status == 200
    assert doors.rows()[since].fate != "unusable"


def test_compressed_as_its_header_says(doors: Doors) -> None:
    """Read; what is not what its header says, or swells beyond what a body may be, is kept as it came."""
    packed = (*JSON, ("Content-Encoding", "gzip"))
    for name, body, fate in (
        ("z1", gzip.compress(appointment("z1")), None),
        ("z2", appointment("z2"), None),
        ("z3", gzip.compress(appointment("z3"))[:-9], "unusable"),
        ("z4", gzip.compress(appointment("z4", '"x":"' + "a" * 6_000_000 + '"')), "unusable"),
    ):
        before = len(doors.rows())
        sent = Sent(lambda name=name, body=body: doors.push("PUT", f"Appointment/{name}", body, packed))  # type: ignore[misc]
        [row] = doors.settled(before)
        assert (row.fate == "unusable") is (fate == "unusable"), name
        sent.soon()


@pytest.mark.parametrize(
    ("kind", "fate", "reason"),
    [
        (None, None, None),
        ("message", None, None),
        ("call", "ignored", "the status of a call"),
        ("payment", "ignored", "not the status of a message"),
    ],
)
def test_statuses_that_are_not_of_a_message(
    doors: Doors, kind: str | None, fate: str | None, reason: str | None
) -> None:
    item = {"id": f"wamid.of{kind}", "status": "delivered", "recipient_id": "34600000001", "timestamp": "1764572400"}
    since = len(doors.rows())
    assert doors.webhook(webhook([json.dumps(item | ({"type": kind} if kind else {})).encode()], "statuses"))[0] == 200
    (row,) = doors.rows()[since:]
    if fate:
        assert (row.fate, row.reason) == (fate, reason)
    else:
        assert row.kind == "status"
        assert row.fate != "ignored"
