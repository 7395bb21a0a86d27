"""The readers behind the doors, without doors: what must hold for any bytes. For hypothesis, which shrinks, and for atheris.

    python -m bench.fuzz.readers --examples 20000 --seed 7          hypothesis
    uv run --with atheris python -m bench.fuzz.readers --atheris --seconds 600 [CORPUS_FOLDER]

atheris (Apache-2.0) guides bytes by coverage; it is installed for that one run and is no dependency of this project.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz import seeds
from bench.fuzz.mutate import broken, mutated
from bridge.errors import Unusable
from bridge.fhir import notification
from bridge.fhir.dialects import DIALECTS
from bridge.fhir.pieces import parse_piece
from bridge.fhir.shapes import Push
from bridge.inbound.providers import cloud_api
from bridge.ledger.crypto import clear_reference
from bridge.verified import VerifiedBody

FATES = {None, "applied", "merged", "ignored", "unusable"}  # what a door may decide


def read_push(
    body: bytes,
    *,
    method: str = "POST",
    tail: str | None = None,
    headers: dict[str, str] | None = None,
    dialect: str = "generic",
) -> int:
    """Read one push as the door does; the number of its events.

    Raises:
        AssertionError: something that the rest of the engine relies on does not hold.
    """
    sent = headers or {}
    push = Push(method, tail, sent.get("content-type", ""), sent, VerifiedBody(body))
    found = notification.read(push, DIALECTS[dialect])
    pieces = notification.split(found, "Appointment")
    assert pieces, "a push without a row would be acknowledged and lost"
    said = notification.answer(found)
    assert said == b"" or said.startswith(b'{"resourceType"'), "HAPI reads the answer"
    for piece in pieces:
        assert piece.fate in FATES, f"a door decided {piece.fate}"
        assert piece.fate != "unusable" or piece.reason, "unusable without a reason"
        assert piece.reference is None or piece.fate is not None or clear_reference(piece.reference), (
            "a name that no clear column may hold"
        )
        again = parse_piece(piece.body)
        assert (again.kind, again.reference, again.fate) == (piece.kind, piece.reference, piece.fate), (
            "stored and read again it differs"
        )
    return len(pieces)


def read_hook(body: bytes) -> int:
    """Read one webhook as the door does; the number of its updates, 0 for one that is kept whole."""
    try:
        updates = cloud_api.read(VerifiedBody(body))
    except Unusable as error:
        assert str(error), "unusable without a reason"
        return 0
    assert updates
    for update in updates:
        stored = cloud_api.to_stored(update)
        again = cloud_api.update_from_stored(stored)
        assert type(again) is type(update), "stored and read again it is something else"
        assert cloud_api.seen_key(again) == cloud_api.seen_key(update)
        cloud_api.subject(again)
    return len(updates)


class Inputs:
    """Mutants of every seed, for a Random."""

    def __init__(self, corpus: tuple[list[str], list[str]] = ([], [])) -> None:
        self.pushes = seeds.pushes() + [seeds.PushSeed("appointments", "POST", "", text) for text in corpus[0]]
        frame = '{"object":"whatsapp_business_account","entry":[{"id":"1","time":1,"changes":[%s]}]}'
        value = (
            '{"field":"messages","value":{"messaging_product":"whatsapp","metadata":{"phone_number_id":"2"},"%s":[%s]}}'
        )
        self.hooks = [frame % (value % ("messages", one)) for one in seeds.texts(seeds.messages())]
        self.hooks += [frame % (value % ("statuses", one)) for one in seeds.texts(seeds.statuses())]
        self.hooks += [frame % one for one in seeds.texts(seeds.changes())] + corpus[1]

    def push(self, random: Random) -> tuple[bytes, dict[str, Any]]:
        seed = random.choice(self.pushes)
        body = mutated(seed.text, random) if seed.text else b""
        if random.random() < 0.3:
            body = broken(body, random)
        headers = {name.lower(): value for name, value in seed.headers.items()}
        return body, {
            "method": seed.method, "tail": seed.tail or None, "headers": headers, "dialect": random.choice(sorted(DIALECTS)),
        }  # fmt: skip

    def hook(self, random: Random) -> bytes:
        body = mutated(random.choice(self.hooks), random)
        return broken(body, random) if random.random() < 0.3 else body


def by_hypothesis(
    examples: int, seed: int, corpus: tuple[list[str], list[str]] = ([], []), database: Any = None
) -> None:
    """Both readers; a failure is shrunk, printed by hypothesis and raised."""
    from hypothesis import HealthCheck, Phase, given, settings, strategies
    from hypothesis import seed as seeded

    inputs = Inputs(corpus)
    rules = settings(
        max_examples=examples, deadline=None, database=database, print_blob=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    randoms = strategies.randoms(use_true_random=False)

    @rules
    @seeded(seed)
    @given(randoms)
    def pushes(random: Random) -> None:
        body, more = inputs.push(random)
        read_push(body, **more)

    @rules
    @seeded(seed)
    @given(randoms)
    def hooks(random: Random) -> None:
        read_hook(inputs.hook(random))

    pushes()
    hooks()


def many(
    count: int, seed: int, corpus: tuple[list[str], list[str]] = ([], [])
) -> tuple[list[tuple[bytes, str]], list[float]]:
    """As many mutants as asked, by plain chance (hypothesis would take ten times as long): what failed, shrunk, and the
    milliseconds of CPU of each."""
    inputs, failed, times = Inputs(corpus), [], []
    for n in range(count):
        random = Random(f"{seed}:direct:{n}")
        begun = time.thread_time()
        try:
            if n % 2:
                body, more = inputs.push(random)
                begun = time.thread_time()
                read_push(body, **more)
            else:
                body, more = inputs.hook(random), {}
                begun = time.thread_time()
                read_hook(body)
        except Exception as error:  # whatever it is, it is what we look for
            read: Callable[[bytes], Any] = partial(read_push, **more) if n % 2 else read_hook
            failed.append((smaller(body, read, type(error)), f"{type(error).__name__}: {error}"))
        times.append((time.thread_time() - begun) * 1000)
    return failed, times


def smaller(body: bytes, read: Callable[[bytes], Any], kind: type[Exception]) -> bytes:
    """The same failure with fewer bytes: halves, quarters … are left out while it stays."""

    def fails(some: bytes) -> bool:
        try:
            read(some)
        except Exception as error:
            return type(error) is kind
        return False

    size = len(body) // 2
    while size:
        at = 0
        while at < len(body):
            without = body[:at] + body[at + size :]
            if fails(without):
                body = without
            else:
                at += size
        size //= 2
    return body


def by_atheris(seconds: int, folders: Sequence[str]) -> None:
    """Bytes guided by coverage; ends the process."""
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["bridge.fhir", "bridge.inbound.providers"]):
        for name in [name for name in sys.modules if name.startswith(("bridge.fhir", "bridge.inbound"))]:
            del sys.modules[name]
        import importlib

        fresh = (
            importlib.import_module("bridge.fhir.notification"),
            importlib.import_module("bridge.inbound.providers.cloud_api"),
        )
        globals()["notification"], globals()["cloud_api"] = fresh
        globals()["parse_piece"] = fresh[0].parse_piece
        globals()["Push"], globals()["Unusable"] = fresh[0].Push, sys.modules["bridge.errors"].Unusable
        globals()["DIALECTS"] = importlib.import_module("bridge.fhir.dialects").DIALECTS

    def one(data: bytes) -> None:
        if data[:1] < b"\x80":
            read_push(data[1:])
        else:
            read_hook(data[1:])

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=8000", *folders], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("folders", nargs="*", help="atheris: where it keeps what it found")
    given = parser.parse_args()
    corpus = seeds.corpus(given.corpus) if given.corpus else ([], [])
    if not given.atheris:
        by_hypothesis(given.examples, given.seed, corpus)
        print(f"{2 * given.examples:,} examples, nothing found")
        return
    for folder in given.folders[:1]:  # begins with what is valid, so that it has something to change
        Path(folder).mkdir(parents=True, exist_ok=True)
        inputs = Inputs(corpus)
        for at, text in enumerate(
            [*(b"\x00" + p.text.encode() for p in inputs.pushes), *(b"\xff" + h.encode() for h in inputs.hooks)]
        ):
            (Path(folder) / f"seed{at}").write_bytes(text)
    by_atheris(given.seconds, given.folders)


if __name__ == "__main__":
    main()
