"""Request n of a run: mutated items in a valid frame, a mutated frame, a broken body, a wrong proof; now and then a good one.

An *input* is one mutated item: an event of a notification, a resource, an item or change of a webhook. A request carries
one of them or up to a hundred, because that is how both sides batch, and because a million requests would take a day.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from bench import bodies
from bench.fuzz import seeds
from bench.fuzz.mutate import broken, mutated
from bridge.sandbox import people

HOOK_ITEMS = 100  # of one webhook; Meta's most is 1,000
PUSH_EVENTS = 40  # of one notification
SENDERS = 20_000  # people who write
KNOWN = 0.6  # of the statuses are of messages that left, once some have
GOOD_FIRST = 1_000  # number of the first patient whom no mutant knows
LIMITS = {"push": 5 * 1024 * 1024, "hook": 3 * 1024 * 1024}
WHOLE = (  # bodies of TI7 that a mutation would meet once in a blue moon; each at least once in some thousand requests
    b"[" * 10_000 + b"]" * 10_000,
    b'{"resourceType":"Bundle","type":"history","entry":[' + b",".join([b"{}"] * 100_000) + b"]}",
    b'{"object":"whatsapp_business_account","entry":[' + b",".join([b"{}"] * 100_000) + b"]}",
    b'{"resourceType":"Appointment","id":"big","x":"' + b"a" * 2_900_000 + b'"}',
    b'{"resourceType":"Appointment","id":"k","' + b"k" * 70_000 + b'":1}',
    b'\xff\xfe{\x00}\x00', b"hello", b"NaN", b"\x00" * 5_000, b"[" * 1_000_000, b'{"a":' * 100_000,
)  # fmt: skip
_NAMES = re.compile(rb'([/"])([vrcp])(\d)(?=["/])')
_JUNK_TAILS = (
    "Appointment",
    "Appointment/",
    "Appointment/a%00b",
    "%2e%2e/%2e%2e",
    "Appointment/a/b/c",
    "Patient/p1",
    "~wrong/Appointment/v1",
    "é",
)
_CONTENT_TYPES = (
    "",
    "text/plain",
    "application/xml",
    "application/fhir+json;charset=utf-16",
    "application/json",
    "multipart/form-data",
    '"',
    "a" * 4_000,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, ready to be written, and what must be answered."""

    wire: bytes
    inputs: int  # mutated items in it
    expect: frozenset[int]  # statuses; 0: the door may hang up
    kind: str
    good: tuple[str, str] | None = None  # (wa_id, what its phone must show in the end)
    body: bytes = field(default=b"", repr=False)  # what is kept when it fails
    push: bool = False  # at the EHR's door


class Maker:
    """Requests by number. The same seed gives the same requests, but for times of day."""

    def __init__(
        self,
        seed: int,
        port: int,
        environment: Mapping[str, str],
        good_every: int,
        corpus: tuple[list[str], list[str]] = ([], []),
    ) -> None:
        self.seed, self._good_every = seed, good_every
        self._host = f"127.0.0.1:{port}"
        self._bearer, self._app_secret = environment["EHR_DOOR_SECRET"], environment["META_APP_SECRET"]
        self._pushes = seeds.pushes() + [seeds.PushSeed("appointments", "POST", "", text) for text in corpus[0]]
        self._resources = seeds.texts(
            [one for one in seeds.resources() if one["resourceType"] in ("Appointment", "DiagnosticReport", "Consent")]
        )
        self._people = seeds.texts(
            [one for one in seeds.resources() if one["resourceType"] in ("Patient", "RelatedPerson")]
        )
        self._messages, self._statuses = seeds.texts(seeds.messages()), seeds.texts(seeds.statuses())
        self._changes, self._hooks = seeds.texts(seeds.changes()), _harmless(corpus[1])
        self.sent: list[
            tuple[str, str, str]
        ] = []  # (wamid, callback data, wa_id) of messages that left, as the watch learns them
        self._inputs = 0  # so far
        self._next_good, self._goods = good_every, 0
        self._updated = seeds.NOW - timedelta(days=1)

    def make(self, n: int) -> Asked:
        random = Random(f"{self.seed}:{n}")
        good = None
        if self._inputs >= self._next_good:
            self._next_good += self._good_every
            good, self._goods = self._goods, self._goods + 1
        asked = self._one(n, random, good)
        self._inputs += asked.inputs
        return asked

    def _one(self, n: int, random: Random, good: int | None) -> Asked:
        if good is not None:
            kinds = (self._good_push, self._push_batch, self._hook_batch)
            return kinds[good % 3](n, random, good)
        chance = random.random()
        if chance < 0.42:
            return self._hook_batch(n, random, None)
        if chance < 0.57:
            return self._push_batch(n, random, None)
        if chance < 0.77:
            return self._push_single(random)
        if chance < 0.92:
            return self._hook_single(n, random)
        if chance < 0.95:
            return self._wrong(n, random)
        if chance < 0.97:
            return self._wire(n, random)
        return self._whole(random)

    # --- WhatsApp --------------------------------------------------------------------------------------------------

    def _item(self, n: int, at: int, random: Random, *, beside_good: bool) -> tuple[str, bytes]:
        """(messages or statuses, one mutated item)."""
        of = "messages" if random.random() < 0.1 else "statuses"
        pool = self._messages if of == "messages" else self._statuses
        seed = random.choice(pool)
        written = mutated(seed, random, tame=True, shallow=beside_good)
        if not beside_good and random.random() < 0.01:
            written = broken(written, random)
        if of == "statuses" and self.sent and random.random() < KNOWN:  # of a message that really left
            wamid, callback, who = random.choice(self.sent)
            for name, value in (("@wamid@", wamid), ("@who@", who), ("b1.1.1", callback), ("b1.2.1", callback)):
                written = written.replace(name.encode(), value.encode())
        return of, self._named(written, f"wamid.f{self.seed}.{n}.{at}", random)

    def _named(self, written: bytes, wamid: str, random: Random) -> bytes:
        who = f"3462{random.randrange(SENDERS):07d}"
        now = str(int(datetime.now(UTC).timestamp()))
        return (
            written.replace(b"@who@", who.encode()).replace(b"@wamid@", wamid.encode()).replace(b"@at@", now.encode())
        )

    def _hook_batch(self, n: int, random: Random, good: int | None) -> Asked:
        items: dict[str, list[bytes]] = {"messages": [], "statuses": []}
        count = random.choice((2, 20, HOOK_ITEMS, HOOK_ITEMS, HOOK_ITEMS))
        for at in range(count):
            of, written = self._item(n, at, random, beside_good=good is not None)
            items[of].append(written)
        told = None
        if good is not None:
            who = bodies.phone(GOOD_FIRST + good)
            one = {
                "from": who,
                "id": f"wamid.good.{self.seed}.{n}",
                "timestamp": "@at@",
                "type": "text",
                "text": {"body": "BAJA"},
            }
            written = self._named(json.dumps(one).encode(), "", random)
            items["messages"].insert(random.randint(0, len(items["messages"])), written)
            told = (who, "stopped")
        changes = [_change(of, held) for of, held in items.items() if held]
        if random.random() < 0.3:
            changes.append(mutated(random.choice(self._changes), random, tame=True, shallow=good is not None))
            count += 1
        body = (
            b'{"object":"whatsapp_business_account","entry":[{"id":"'
            + bodies.WABA.encode()
            + b'","time":1764572400,"changes":['
        )
        body += b",".join(changes) + b"]}]}"
        if good is None and random.random() < 0.02:
            body = broken(body, random)
        return self._hook(body, count, "hook batch", random, told)

    def _hook_single(self, n: int, random: Random) -> Asked:
        chance = random.random()
        if self._hooks and chance < 0.2:
            body = mutated(random.choice(self._hooks), random)
        elif chance < 0.4:
            change = random.choice(self._changes)
            body = mutated(_hook_of(change), random)
        else:
            of = "messages" if chance < 0.7 else "statuses"
            pool = self._messages if of == "messages" else self._statuses
            change = _change(of, [random.choice(pool).encode()]).decode()
            body = mutated(_hook_of(change), random)
        body = self._named(body, f"wamid.f{self.seed}.{n}", random)
        if random.random() < 0.25:
            body = broken(body, random)
        return self._hook(body, 1, "hook", random)

    def _hook(self, body: bytes, inputs: int, kind: str, random: Random, told: tuple[str, str] | None = None) -> Asked:
        signed = "sha256=" + hmac.new(self._app_secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": signed, "Content-Type": "application/json"}
        if random.random() < 0.03:
            headers["Content-Type"] = random.choice(_CONTENT_TYPES)
        wire = bodies.request("POST", "/whatsapp/hospital/webhook", self._host, body, headers)
        return Asked(wire, inputs, _answer(body, "hook"), kind, told, body)

    # --- EHR -------------------------------------------------------------------------------------------------------

    def _renamed(self, written: bytes, random: Random) -> bytes:
        """Other patients and resources of the mutants' pool, and a time of change that is a little later each time."""
        k = random.randrange(seeds.POOL)
        self._updated += timedelta(milliseconds=7)

        def name(found: re.Match[bytes]) -> bytes:
            kind, digit = found[2], int(found[3])
            return found[1] + (b"p%d" % ((digit + k) % seeds.POOL) if kind == b"p" else b"%s%d-%d" % (kind, digit, k))

        return _NAMES.sub(name, written).replace(b"@updated@", self._updated.isoformat().encode())

    def _push_batch(self, n: int, random: Random, good: int | None) -> Asked:
        """A notification with many events, each resource of its own mutated, sometimes its event or entry as well."""
        shape = random.choice(("r4", "r4b", "r5"))
        count = random.choice((1, 5, PUSH_EVENTS, PUSH_EVENTS))
        whole, names, parts = random.random() < 0.8, [], []
        for _ in range(count):
            pool = self._people if random.random() < 0.05 else self._resources
            text = random.choice(pool)
            value = json.loads(text)
            names.append(f"{value['resourceType']}/{value['id']}")
            if good is None and random.random() < 0.01:
                written = broken(text.encode(), random)
            else:
                written = mutated(text, random, tame=True, shallow=good is not None)
            parts.append(self._renamed(written, random) if whole else b"")
            names[-1] = (
                self._renamed(f'"{names[-1]}"'.encode(), random).decode().strip('"')
                if random.random() < 0.1
                else _spoken(parts[-1], names[-1])
            )
        told = None
        if good is not None:
            told, name, one = self._good(n, good)
            at = random.randint(0, len(names))
            names.insert(at, name)
            parts.insert(at, one)
        status = json.dumps(seeds.status("event-notification", names, shape=shape, counted=n))
        entries = [b'{"resource":' + status.encode() + b"}"]
        for name, part in zip(names, parts, strict=True):
            url = json.dumps(f"{seeds.BASE}/{name}").encode()
            request = b'"request":{"method":"PUT","url":' + json.dumps(name).encode() + b"}"
            entries.append(b'{"fullUrl":' + url + b"," + request + (b',"resource":' + part if part else b"") + b"}")
        kind = b"subscription-notification" if shape == "r5" else b"history"
        body = b'{"resourceType":"Bundle","type":"' + kind + b'","entry":[' + b",".join(entries) + b"]}"
        if good is None and random.random() < 0.02:
            body = broken(body, random)
        return self._push(
            "POST", random.choice(("appointments", "results", "consents")), "", body, count, "push batch", random, told
        )

    def _push_single(self, random: Random) -> Asked:
        seed = random.choice(self._pushes)
        body = mutated(seed.text, random) if seed.text else b""
        if random.random() < 0.25:
            body = broken(body or b"{}", random)
        body = self._renamed(body, random)
        tail, method = seed.tail, seed.method
        if tail and random.random() < 0.9:
            tail = (
                self._renamed(f'"{tail}"'.encode(), random).decode().strip('"')
                if random.random() < 0.3
                else _spoken(body, tail)
            )
        if random.random() < 0.05:
            tail = random.choice(_JUNK_TAILS)
        if random.random() < 0.03:
            method = random.choice(("PUT", "POST", "DELETE"))
        return self._push(method, seed.subscription, tail, body, 1, "push", random, headers=seed.headers)

    def _push(
        self, method: str, subscription: str, tail: str, body: bytes, inputs: int, kind: str, random: Random,
        told: tuple[str, str] | None = None, headers: Mapping[str, str] = seeds.FHIR_JSON,
    ) -> Asked:  # fmt: skip
        sent = dict(headers) | {"Authorization": f"Bearer {self._bearer}"}
        if random.random() < 0.03:
            sent["Content-Type"] = random.choice(_CONTENT_TYPES)
        if random.random() < 0.02:
            sent["Content-Encoding"] = random.choice(("gzip", "deflate", "br", "identity"))
        path = f"/ehr/main/{subscription}" + (f"/{tail}" if tail else "")
        wire = bodies.request(
            method, "".join(c if " " < c < "\x7f" else "%C3%A9" for c in path), self._host, body, sent
        )
        return Asked(wire, inputs, _answer(body, "push"), kind, told, body, push=True)

    # --- good ones, and what is no mutation of a document ------------------------------------------------------------

    def _good(self, n: int, good: int) -> tuple[tuple[str, str], str, bytes]:
        number = GOOD_FIRST + good
        name = f"Appointment/good{self.seed}-{n}"
        start = datetime.now(UTC) + timedelta(hours=20)
        whole = people.appointment(name.partition("/")[2], start, patient=f"Patient/p{number}", place="Location/room1")
        whole["participant"][1]["actor"]["reference"] = "Practitioner/doc1"
        whole["meta"] = {"versionId": "1", "lastUpdated": datetime.now(UTC).isoformat()}
        return (bodies.phone(number), "booked"), name, json.dumps(whole).encode()

    def _good_push(self, n: int, random: Random, good: int) -> Asked:
        told, name, body = self._good(n, good)
        headers = seeds.FHIR_JSON | {"Authorization": f"Bearer {self._bearer}"}
        wire = bodies.request("PUT", f"/ehr/main/appointments/{name}", self._host, body, headers)
        return Asked(wire, 0, frozenset({200}), "good", told, body, push=True)

    def _wrong(self, n: int, random: Random) -> Asked:
        """A good body with a proof that is missing, of another key, or of another body. Its patient must hear nothing."""
        _, name, body = self._good(n, -1 - random.randrange(50))
        if random.random() < 0.5:
            headers = seeds.FHIR_JSON | random.choice(
                (
                    {},
                    {"Authorization": "Bearer wrong"},
                    {"Authorization": self._bearer[:-1]},
                    {"Authorization": "Basic eDp5"},
                )
            )
            return Asked(
                bodies.request("PUT", f"/ehr/main/appointments/{name}", self._host, body, headers),
                1,
                frozenset({401, 403}),
                "wrong proof",
            )
        other = hmac.new(random.choice((b"wrong", b"")), body, hashlib.sha256).hexdigest()
        real = hmac.new(self._app_secret.encode(), body + b" ", hashlib.sha256).hexdigest()
        signed = random.choice(
            (f"sha256={other}", f"sha256={real}", f"sha1={real}", real, "sha256=", "sha256=" + "é" * 64)
        )
        headers = {
            "Content-Type": "application/json",
            **random.choice(({}, {"X-Hub-Signature-256": signed}, {"X-Hub-Signature-256": signed})),
        }
        return Asked(
            bodies.request("POST", "/whatsapp/hospital/webhook", self._host, body, headers),
            1,
            frozenset({401, 403}),
            "wrong proof",
        )

    def _wire(self, n: int, random: Random) -> Asked:
        """The body is mutated, and so is the way it comes: in chunks, cut off, with sizes that lie."""
        asked = self._push_single(random) if random.random() < 0.5 else self._hook_single(n, random)
        head, _, body = asked.wire.partition(b"\r\n\r\n")
        length = f"Content-Length: {len(body)}".encode()
        may = frozenset({0, 400, 408, 411, 413})
        match random.randrange(4):
            case 0:  # in chunks, as HTTP allows
                size = random.choice((1, 7, 1_000)) if len(body) < 5_000 else 5_000
                chunks = b"".join(
                    b"%x\r\n%s\r\n" % (len(body[i : i + size]), body[i : i + size]) for i in range(0, len(body), size)
                )
                wire, expect = (
                    head.replace(length, b"Transfer-Encoding: chunked") + b"\r\n\r\n" + chunks + b"0\r\n\r\n",
                    asked.expect,
                )
            case 1:  # granian takes a chunk without a size for the end of the body: an empty one, signed by nobody
                may |= {200} if asked.push else {401}
                wire, expect = head.replace(length, b"Transfer-Encoding: chunked") + b"\r\n\r\nzz\r\n" + body, may
            case 2:  # it says more than it sends, and goes: nothing is stored
                wire, expect = (
                    head.replace(length, b"Content-Length: %d" % (len(body) + 9)) + b"\r\n\r\n" + body,
                    frozenset({0, 400, 408}),
                )
            case _:
                wire, expect = (
                    head.replace(length, b"Content-Length: " + random.choice((b"-1", b"x", b"9" * 30)))
                    + b"\r\n\r\n"
                    + body,
                    may,
                )
        return Asked(wire, 1, expect, "wire", None, body, push=asked.push)

    def _whole(self, random: Random) -> Asked:
        body = (
            random.choice(WHOLE) if random.random() < 0.25 else broken(random.choice(self._resources).encode(), random)
        )
        if random.random() < 0.5:
            return self._push("POST", "appointments", "", body, 1, "whole", random)
        return self._hook(body, 1, "whole", random)


def _change(of: str, items: Sequence[bytes]) -> bytes:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": bodies.DISPLAY, "phone_number_id": bodies.PNID},
        of: [],
    }
    text = json.dumps({"field": "messages", "value": value}, separators=(",", ":")).encode()
    return text.replace(b"[]", b"[" + b",".join(items) + b"]")


def _harmless(hooks: Sequence[str]) -> list[str]:
    """Those about messages: a recorded ban of the account would rightly stop the good ones too."""
    return [text for text in hooks if '"field": "messages"' in text and text.count('"field"') == 1]


def _hook_of(change: str) -> str:
    return f'{{"object":"whatsapp_business_account","entry":[{{"id":"{bodies.WABA}","time":1,"changes":[{change}]}}]}}'


def _answer(body: bytes, door: str) -> frozenset[int]:
    return frozenset({413} if len(body) > LIMITS[door] else {200})


def _spoken(body: bytes, name: str) -> str:
    """The name that the body gives its resource, as senders repeat it in the path or the focus."""
    kind, _, ident = name.partition("/")
    found = re.search(rb'"id":"(' + ident.encode() + rb'-?\w*|p\d+)"', body)
    return f"{kind}/{found[1].decode()}" if found else name


def broken_values(asked: Asked) -> Any:
    """For the folder of failures: what a person needs to see it again."""
    return {
        "kind": asked.kind,
        "expected": sorted(asked.expect),
        "head": asked.wire.partition(b"\r\n\r\n")[0].decode("latin-1"),
    }
