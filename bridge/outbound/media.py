"""Uploading a document to WhatsApp before it is sent: an upload reaches no patient, so it may be tried again.

Source: https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media
"""

from __future__ import annotations

from typing import Any, Protocol

import requests

from bridge.errors import MediaRefused, MediaUnreachable

TIMEOUT = (5.0, 60.0)  # s: to connect, between two packets of the answer
MOST = 100 * 1024 * 1024  # bytes of a document
# what WhatsApp takes as a document
TYPES = frozenset({
    "application/pdf", "text/plain", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
})  # fmt: skip


class Number(Protocol):
    """What of a configured number this needs."""

    @property
    def base_url(self) -> str: ...
    @property
    def api_version(self) -> str: ...
    @property
    def phone_number_id(self) -> str: ...
    @property
    def access_token(self) -> str: ...


def upload(number: Number, content: bytes, mime: str, filename: str) -> str:
    """Hand WhatsApp the bytes; returns its id of them, good for 30 days.

    Raises:
        MediaUnreachable: no answer, or one that says to come again.
        MediaRefused: WhatsApp does not want it.
    """
    url = f"{number.base_url.rstrip('/')}/{number.api_version}/{number.phone_number_id}/media"
    try:
        answer = requests.post(
            url,
            headers={"Authorization": f"Bearer {number.access_token}"},
            data={"messaging_product": "whatsapp", "type": mime},
            files={"file": (filename, content, mime)},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as exc:  # its text may hold the address; its kind says enough
        raise MediaUnreachable(f"an upload got no answer: {type(exc).__name__}") from None
    if answer.status_code == 429 or answer.status_code >= 500:
        raise MediaUnreachable(f"an upload was answered with HTTP status {answer.status_code}")
    if answer.status_code != 200:
        raise MediaRefused(f"an upload was refused with HTTP status {answer.status_code}")
    try:
        found: Any = answer.json()
    except ValueError:
        found = None
    media = found.get("id") if isinstance(found, dict) else None
    if not isinstance(media, str) or not media:
        raise MediaUnreachable("an upload was answered without an id")
    return media
