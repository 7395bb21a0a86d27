"""SMART Backend Services: the signed assertion that stands for a client secret, and our public keys. Pure.

Source: https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html, RFC 7518 (RS384, ES384), RFC 7638.
"""

from __future__ import annotations

import base64
import json
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

ASSERTION_LIFETIME: Final = 240  # s: at most 300 are allowed
ES384_HALF: Final = 48  # bytes of r and of s
MIN_RSA_BITS: Final = 2048

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def signing_key(pem: str | None) -> SigningKey:
    """The private key of a PEM text.

    Raises:
        ValueError: not a PEM, or a key that neither RS384 nor ES384 can use. The message holds nothing of it.
    """
    try:
        key = serialization.load_pem_private_key((pem or "").encode(), password=None)
    except (ValueError, TypeError):
        raise ValueError("auth.private_key: not an unencrypted PEM private key") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise ValueError("auth.private_key: needs RSA with 2048 bits or more (RS384), or P-384 (ES384)")


def assertion(
    key: SigningKey,
    *,
    client_id: str,
    audience: str,
    now: float,
    jti: str,
    key_id: str | None,
) -> str:
    """The signed JWT that stands for a client secret; good for four minutes and for one request (`jti`)."""
    header = {"alg": _alg(key), "typ": "JWT", "kid": key_id or kid(key)}
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + ASSERTION_LIFETIME,
        "jti": jti,
    }
    signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA384())
    else:
        r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA384())))
        signature = r.to_bytes(ES384_HALF, "big") + s.to_bytes(ES384_HALF, "big")
    return f"{signed}.{_b64(signature)}"


def jwk(key: SigningKey, key_id: str | None = None) -> dict[str, str]:
    """The public half, for `/.well-known/jwks.json`."""
    return {**_public(key), "kid": key_id or kid(key), "use": "sig", "alg": _alg(key)}


def kid(key: SigningKey) -> str:
    """RFC 7638 thumbprint: a new key gets a new id by itself, so no id is ever used twice."""
    canonical = json.dumps(dict(sorted(_public(key).items())), separators=(",", ":")).encode()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(canonical)
    return _b64(digest.finalize())


def _alg(key: SigningKey) -> str:
    return "RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384"


def _public(key: SigningKey) -> dict[str, str]:
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _b64_int(numbers.n), "e": _b64_int(numbers.e)}
    point = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-384",
        "x": _b64(point.x.to_bytes(ES384_HALF, "big")),
        "y": _b64(point.y.to_bytes(ES384_HALF, "big")),
    }


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _b64_int(number: int) -> str:
    return _b64(number.to_bytes((number.bit_length() + 7) // 8, "big"))
