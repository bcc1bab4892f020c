"""JSON Web Tokens (RFC 7519), signed with ES256 by a key that never leaves KMS, and that key's public half as a JWKS.

No crypto library: KMS makes the signature, and two encodings are taken apart by hand.
Nothing here reads a token: who holds one shows it to servers that check it by the JWKS.
"""

import base64
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from payments import aws

KEY_ARN = os.environ["MEMBER_KEY_ARN"]
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" + "04")
"""What stands before the two coordinates of a point of P-256 in a SubjectPublicKeyInfo (RFC 5480), uncompressed."""
_SIZE = 32
"""Bytes of a coordinate, and of each half of a signature."""

_kms: Any = aws.client("kms")


class UnknownEncoding(Exception):
    """KMS answered with something that is no key or signature of P-256: the key's spec must be ECC_NIST_P256."""


def sign(claims: Mapping[str, Any]) -> str:
    """A token with these claims; `kid` in its header is the key's in the JWKS. KMS signs up to 4 kB, more than fits a
    header of a request."""
    header = {"alg": "ES256", "typ": "JWT", "kid": public_key()["kid"]}
    signed = f"{_segment(header)}.{_segment(claims)}"
    asked = {"KeyId": KEY_ARN, "Message": signed.encode(), "MessageType": "RAW", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = _kms.sign(**asked)["Signature"]
    return f"{signed}.{_base64url(_both_halves(signature))}"


@functools.cache
def public_key() -> dict[str, str]:
    """As a JWK (RFC 7517); `kid` is its thumbprint (RFC 7638). Asked for once: a key's own does not change."""
    spki = _kms.get_public_key(KeyId=KEY_ARN)["PublicKey"]
    point = spki.removeprefix(_SPKI)
    if len(point) != 2 * _SIZE or len(spki) != len(_SPKI) + len(point):
        raise UnknownEncoding
    key = {"crv": "P-256", "kty": "EC", "x": _base64url(point[:_SIZE]), "y": _base64url(point[_SIZE:])}
    thumbprint = hashlib.sha256(json.dumps(key, separators=(",", ":"), sort_keys=True).encode()).digest()
    return {**key, "alg": "ES256", "use": "sig", "kid": _base64url(thumbprint)}


def _both_halves(der: bytes) -> bytes:
    """r and s of a DER ECDSA signature (RFC 3279, 2.2.3), side by side as JOSE has them (RFC 7518, 3.4)."""
    if der[:1] != b"\x30" or len(der) < 2 or der[1] != len(der) - 2:
        raise UnknownEncoding
    r, rest = _integer(der[2:])
    s, rest = _integer(rest)
    if rest:
        raise UnknownEncoding
    return r + s


def _integer(der: bytes) -> tuple[bytes, bytes]:
    """The first integer of an encoding, and what comes behind it."""
    if der[:1] != b"\x02" or len(der) < 2 or len(der) < 2 + der[1]:
        raise UnknownEncoding
    number = der[2 : 2 + der[1]].lstrip(b"\0")
    if len(number) > _SIZE:
        raise UnknownEncoding
    return number.rjust(_SIZE, b"\0"), der[2 + der[1] :]


def _segment(content: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(content, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
