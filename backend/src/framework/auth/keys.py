"""The keys that verify signatures, and the algorithms that fit each (RFC 7518, 8037, 9864)."""

from dataclasses import dataclass
from typing import Any

import jwt
from jwt.algorithms import Algorithm, OKPAlgorithm, get_default_algorithms

_OKP = OKPAlgorithm()
for _name in ("Ed25519", "Ed448"):  # RFC 9864 §2.2; PyJWT has only the older name of both
    jwt.register_algorithm(_name, _OKP)

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

# By `kty` and `crv`. An RSA key has no `crv`.
_FITTING: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
    ("OKP", "Ed448"): ("EdDSA", "Ed448"),
}
_READERS: dict[str, Algorithm] = get_default_algorithms()


@dataclass(frozen=True, slots=True, eq=False)
class VerifyingKey:
    """A key, and the only algorithms that it verifies with, whatever a token says."""

    id: str | None
    algorithms: tuple[str, ...]
    value: Any


def public_key(document: dict[str, Any]) -> VerifyingKey | None:
    """Read a public signature key (RFC 7517); None for any other document."""
    try:
        kind, stated, key_id = document["kty"], document.get("alg"), document.get("kid")
        fitting = _FITTING[kind, None if kind == "RSA" else document["crv"]]
        uses = document.get("use") or "sig", document.get("key_ops") or ["verify"]
        if "d" in document or uses[0] != "sig" or "verify" not in uses[1]:
            return None
        value = _READERS[fitting[0]].from_jwk(document)
    except Exception:  # an unreadable key must not discard the others
        return None
    if not isinstance(key_id, str | None) or (stated is not None and stated not in fitting):
        return None
    if stated is None or kind == "OKP":  # an OKP key has one algorithm, with two names
        return VerifyingKey(key_id, fitting, value)
    return VerifyingKey(key_id, (stated,), value)
