"""Bodies that nobody should send, for an EHR's door and for WhatsApp's: alone, and as one part of a batch of good ones."""

from __future__ import annotations

import json
from typing import Any

GOOD_ONES = 200
APPOINTMENT = {
    "resourceType": "Appointment",
    "status": "booked",
    "start": "2026-12-01T09:30:00Z",
    "participant": [{"actor": {"reference": "Patient/p1"}, "status": "needs-action"}],
}
PHONE, ACCOUNT = "106540352242922", "102290129340398"


def appointment(ident: str, extra: str = "") -> bytes:
    text = json.dumps(APPOINTMENT | {"id": ident})
    return (text[:-1] + ("," + extra if extra else "") + "}").encode()


# What stands inside one resource or one item: JSON text of one more member.
MEMBERS: dict[str, bytes] = {
    "deep": b'"x":' + b"[" * 10_000 + b"]" * 10_000,
    "duplicate keys": b'"status":"booked","status":"cancelled"',
    "NaN": b'"x":NaN',
    "infinity": b'"x":-Infinity',
    "NUL": b'"x":"a\\u0000b"',
    "lone surrogate": b'"x":"\\ud83d"',
    "over-long key": b'"' + b"k" * 70_000 + b'":1',
    "latin-1": b'"x":"Jos\xe9"',
    "huge number": b'"x":' + b"9" * 5_000,
}

# Whole bodies.
WHOLE: dict[str, bytes] = {
    "not JSON": b"hello",
    "HTML": b"<html><body>502 Bad Gateway</body></html>",
    "truncated": appointment("t1")[:-9],
    "UTF-16": appointment("t2").decode().encode("utf-16"),
    "UTF-16 without a mark": appointment("t3").decode().encode("utf-16-be"),
    "deep alone": b"[" * 10_000 + b"]" * 10_000,
    "a million brackets": b"[" * 1_000_000,
    "a million empty lists": b'{"entry":[' + b"[]," * 999_999 + b"[]]}",
    "NUL bytes": b"\x00" * 1_000,
    "a string": b'"Appointment/a1"',
    "null": b"null",
    "blank": b" \n\t ",
    "infinity where a change would stand": b'{"entry":[{"id":null,"changes":[],"time":[[Infinity]]}]}',
    "gzip": b"\x1f\x8b\x08\x00" + b"\xff" * 200,
}


def notification(parts: list[bytes]) -> bytes:
    """An R4B full-resource notification with one event per part; each part is an Appointment of its own."""
    names = [f"Appointment/b{n}" for n in range(len(parts))]
    events = [{"eventNumber": str(n + 1), "focus": {"reference": name}} for n, name in enumerate(names)]
    status = {
        "resourceType": "SubscriptionStatus",
        "status": "active",
        "type": "event-notification",
        "subscription": {"reference": "Subscription/1"},
        "notificationEvent": events,
    }
    entries = [b'{"resource":' + json.dumps(status).encode() + b"}"]
    entries += [
        b'{"fullUrl":"https://ehr.example/' + name.encode() + b'","resource":' + part + b"}"
        for name, part in zip(names, parts, strict=True)
    ]
    return b'{"resourceType":"Bundle","type":"history","entry":[' + b",".join(entries) + b"]}"


def batch_with(member: bytes) -> bytes:
    """200 good events and one whose resource holds this member, in the middle."""
    parts = [appointment(f"b{n}") for n in range(GOOD_ONES + 1)]
    middle = GOOD_ONES // 2
    parts[middle] = parts[middle][:-1] + b"," + member + b"}"
    return notification(parts)


def message(ident: str) -> dict[str, Any]:
    return {
        "from": "34600000001",
        "id": f"wamid.{ident}",
        "timestamp": "1764572400",
        "type": "text",
        "text": {"body": "hola"},
    }


def webhook(items: list[bytes], kind: str = "messages") -> bytes:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "34910000000", "phone_number_id": PHONE},
        kind: [],
    }
    frame = {
        "object": "whatsapp_business_account",
        "entry": [{"id": ACCOUNT, "changes": [{"field": "messages", "value": value}]}],
    }
    return json.dumps(frame).encode().replace(b"[]", b"[" + b",".join(items) + b"]")


def webhook_with(member: bytes, prefix: str) -> bytes:
    items = [json.dumps(message(f"{prefix}{n}")).encode() for n in range(GOOD_ONES + 1)]
    middle = GOOD_ONES // 2
    items[middle] = items[middle][:-1] + b"," + member + b"}"
    return webhook(items)
