"""Encryption of columns and blind indexes of what may not stand in clear.

AES-256-GCM, a fresh 96-bit nonce per value, additional data = table, column, row id: a value moved to another row or
column does not decrypt. The index key is separate: rotating data keys leaves every index as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridge.errors import Undecryptable

_NONCE = 12
_REFERENCE = re.compile(r"[A-Za-z]+/[A-Za-z0-9.-]{1,64}")


class Crypto:
    """Encrypts with the last of `data_keys`, decrypts with all, indexes with `index_key`."""

    def __init__(self, data_keys: Mapping[str, bytes], index_key: bytes) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in data_keys.items()}
        self.key_id = list(data_keys)[-1]
        self._index = hmac.new(index_key, digestmod=hashlib.sha256)

    def encrypt(self, value: bytes, table: str, column: str, row: int | str, key_id: str | None = None) -> bytes:
        """`value` under the current key, to be stored with its id beside it; or under `key_id`, for one more column of a
        row that was written before the current key came: a row has one key."""
        nonce = os.urandom(_NONCE)
        cipher = self._ciphers[key_id or self.key_id]
        return nonce + cipher.encrypt(nonce, value, f"{table}.{column}.{row}".encode())

    def decrypt(self, blob: bytes | None, key_id: str, table: str, column: str, row: int | str) -> bytes:
        """Raises: Undecryptable, naming table, row and key id, never a byte of the value."""
        if blob is None:
            raise Undecryptable(f"{table} {row}: {column} was emptied")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise Undecryptable(f"{table} {row}: no data key {key_id!r}")
        try:
            return cipher.decrypt(blob[:_NONCE], blob[_NONCE:], f"{table}.{column}.{row}".encode())
        except (InvalidTag, ValueError):  # ValueError: too short to be one
            raise Undecryptable(f"{table} {row}: {column} does not decrypt with key {key_id!r}") from None

    def index16(self, value: str) -> bytes:
        """HMAC-SHA256 of `value`, first 16 bytes: equal values meet, nobody reads them."""
        mac = self._index.copy()
        mac.update(value.encode("utf-8", "surrogatepass"))
        return mac.digest()[:16]

    def index(self, value: str) -> str:
        """`index16` in hex, for text columns."""
        return self.index16(value).hex()

    def mac8(self, value: str) -> str:
        """Eight bytes in hex, for button tokens."""
        return self.index16("token|" + value)[:8].hex()


def clear_reference(reference: str) -> str | None:
    """The reference if its form cannot hide a name or a number in clear text, else None."""
    return reference if _REFERENCE.fullmatch(reference) else None
