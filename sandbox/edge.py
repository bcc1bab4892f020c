"""What stands in front of a static host's members' pages, as an edge function would: it checks the token by the JWKS,
knows no secret, and asks nobody else."""

import base64
import json
import time
from typing import Any

import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

ROOMS = {
    "course": {"title": "The course", "text": "Hour one: a table, a function, and a webhook that comes once."},
    "workshop": {"title": "The workshop", "text": "This month: what a dead letter is, and how to read one."},
}
"""For who has a level."""
_KEYS_KEPT = 300
"""Seconds."""


class Gate:
    """`issuer` is the API's address, `audience` the site that this stands in front of."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer, self._audience = issuer, audience
        self._keys: dict[str, ec.EllipticCurvePublicKey] = {}
        self._read_at = 0.0

    def levels(self, authorization: str) -> set[str]:
        """Of whoever shows a token that counts; none for everybody else."""
        scheme, _, token = authorization.partition(" ")
        try:
            claims = self._claims(token) if scheme.lower() == "bearer" else {}
        except (ValueError, KeyError, TypeError, InvalidSignature):
            return set()
        return set(claims.get("levels", []))

    def _claims(self, token: str) -> dict[str, Any]:
        """Raises what its parts raise when it is no token of this issuer for this audience that still counts."""
        head, body, signature = token.split(".")
        header, raw = json.loads(_bytes(head)), _bytes(signature)
        if header["alg"] != "ES256" or len(raw) != 64:  # whatever else a header asks for is no business of ours
            raise ValueError
        r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
        signed, der = f"{head}.{body}".encode(), utils.encode_dss_signature(r, s)
        self._key(header["kid"]).verify(der, signed, ec.ECDSA(hashes.SHA256()))
        claims: dict[str, Any] = json.loads(_bytes(body))
        if claims["iss"] != self._issuer or self._audience not in claims["aud"] or claims["exp"] <= time.time():
            raise ValueError
        return claims

    def _key(self, kid: str) -> ec.EllipticCurvePublicKey:
        """Of the issuer's JWKS and nowhere else: a `jwk` or `jku` in a header would be the caller's own."""
        if time.monotonic() - self._read_at > _KEYS_KEPT or not self._keys:
            answer = requests.get(f"{self._issuer}/.well-known/jwks.json", timeout=5).json()
            self._keys = {key["kid"]: _public(key) for key in answer["keys"]}
            self._read_at = time.monotonic()
        return self._keys[kid]


def _public(key: dict[str, str]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(_bytes(key[name]), "big") for name in "xy")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
