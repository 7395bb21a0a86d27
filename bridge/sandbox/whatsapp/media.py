"""Media held by the pretend WhatsApp: what patients send and what the engine uploads."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from bridge.sandbox.whatsapp.denials import Denied

FIRST_ID = 2754859441498128


@dataclass(slots=True)
class File:
    mime_type: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Base64, as webhooks and GET have it (older payloads: hex)."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


class Media:
    def __init__(self) -> None:
        self.known: dict[str, File] = {}

    def add(self, mime_type: str, content: bytes) -> str:
        media_id = str(FIRST_ID + len(self.known))
        self.known[media_id] = File(mime_type, content)
        return media_id

    def info(self, media_id: str, base: str) -> dict[str, Any]:
        file = self.known[media_id]
        return {"messaging_product": "whatsapp", "url": f"{base}/_media/{media_id}", "mime_type": file.mime_type, "sha256": file.sha256,
                "file_size": str(len(file.content)), "id": media_id}  # fmt: skip

    def content(self, media_id: str) -> bytes:
        if media_id not in self.known:
            raise Denied(100, "media is gone", http=404, subcode=33)
        return self.known[media_id].content

    def upload(self, content_type: str, body: bytes) -> str:
        """Take a multipart upload: `messaging_product`, `type` and `file`.

        Raises:
            Denied: no multipart, or a part is missing.
        """
        boundary = re.search(r'boundary="?([^";]+)', content_type)
        if boundary is None:
            raise Denied(100, "an upload is multipart/form-data")
        parts: dict[str, bytes] = {}
        file_type = ""
        for chunk in body.split(b"--" + boundary.group(1).encode()):
            head, gap, content = chunk.partition(b"\r\n\r\n")
            name = re.search(rb'name="([^"]+)"', head)
            if not gap or name is None:
                continue
            parts[name.group(1).decode()] = content[: -len(b"\r\n")]
            if name.group(1) == b"file" and (kind := re.search(rb"(?i)content-type: *([^\r\n]+)", head)):
                file_type = kind.group(1).decode()
        if parts.get("messaging_product") != b"whatsapp" or "file" not in parts:
            raise Denied(100, "messaging_product and file are required")
        return self.add(parts.get("type", b"").decode() or file_type, parts["file"])
