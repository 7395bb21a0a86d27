"""Trust as a type: parsers take `VerifiedBody`, so the type checker refuses bytes that nobody verified."""

from typing import NewType

VerifiedBody = NewType("VerifiedBody", bytes)
