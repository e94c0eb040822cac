"""Ed25519 signing keys, JWK Sets and the two JWS forms that we use.

Why only Ed25519: it is deterministic, so one frame has one signature and one clip one token
(ADR 0004). The algorithm comes from the key, never from the message; header parameters that could
steer verification (`jku`, `x5u`, `jwk`, `crit`, …) are refused.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws as jose
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from sconto.base.canonical import b64url, b64url_decode, canonical, parse_json
from sconto.base.errors import InvalidInputError

#: Bytes of a compact JWS at most; tokens are about 900.
JWS_BYTES_MAX = 16_384
SEED_BYTES = 32
#: Prime of Curve25519, and `y` of a point of order 8.
_P = 2**255 - 19
_Y8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
#: `y` of the points of small order. OpenSSL takes them as keys, although under the first of them
#: one signature fits every message (Chalkias et al., "Taming the many EdDSAs", 2020).
_WEAK_Y = frozenset({1, 0, _P - 1, _Y8, _P - _Y8})
_ED25519 = jose.JWSRegistry(algorithms=["Ed25519"])


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638 thumbprint of a public Ed25519 JWK."""
    required = {name: jwk[name] for name in ("crv", "kty", "x")}
    return b64url(hashlib.sha256(canonical(required)).digest())


def _check_strong(raw: bytes) -> None:
    y = int.from_bytes(raw, "little") % 2**255
    if y >= _P or y in _WEAK_Y:
        raise ValueError("a weak key, or a second spelling of one")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that verifies, with its JWK and its thumbprint as `kid`."""

    jwk: dict[str, str]
    kid: str
    key: Ed25519PublicKey
    jose: OKPKey

    @classmethod
    def from_jwk(cls, jwk: Any, field: str = "jwk") -> "PublicKey":
        """Read a public Ed25519 JWK; anything private, weak or of another kind is refused."""
        if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            raise InvalidInputError("only Ed25519 keys (RFC 8037) are accepted", field=field)
        if "d" in jwk:
            raise InvalidInputError("a private key was sent", field=field)
        try:
            raw = b64url_decode(jwk["x"])
            key = Ed25519PublicKey.from_public_bytes(raw)
            _check_strong(raw)
        except (KeyError, TypeError, ValueError):
            raise InvalidInputError("x is not an Ed25519 public key", field=f"{field}.x") from None
        public = {"crv": "Ed25519", "kty": "OKP", "x": jwk["x"]}
        return cls(public, thumbprint(public), key, OKPKey.import_key(dict(public)))

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature over the data is this key's."""
        try:
            self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its public half."""

    seed: bytes
    private: Ed25519PrivateKey
    public: PublicKey

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """The key of 32 random bytes; the same bytes give the same key."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64url(raw)}
        return cls(seed, private, PublicKey.from_jwk(jwk))

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


class KeySet:
    """The public keys of one server, looked up by exact `kid`."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self.keys = {key.kid: key for key in keys}

    @classmethod
    def from_jwks(cls, jwks: Any, field: str = "keys") -> "KeySet":
        """Read an RFC 7517 `keys[]` list; keys of other kinds are skipped, as RFC 7517 says."""
        if not isinstance(jwks, list):
            raise InvalidInputError("keys must be a list of JWKs", field=field)
        ours = [k for k in jwks if isinstance(k, dict) and k.get("crv") == "Ed25519"]
        return cls(PublicKey.from_jwk(jwk, f"{field}[{i}]") for i, jwk in enumerate(ours))

    def get(self, kid: str) -> PublicKey | None:
        return self.keys.get(kid)


def sign_compact(key: SigningKey, typ: str, claims: Mapping[str, Any]) -> str:
    """Compact JWS of canonical claims; the same claims give the same bytes."""
    return sign_written(key, typ, canonical(claims))


def sign_written(key: SigningKey, typ: str, claims: bytes) -> str:
    """Compact JWS of claims that are written canonically already."""
    return _sign(key, _header_of(key.kid, typ), claims)


def verify_compact(
    keys: KeySet, typ: str, jws: str, what: str, *, max_bytes: int = JWS_BYTES_MAX
) -> dict[str, Any]:
    """Claims of a compact JWS signed by one of `keys`, or InvalidInputError naming what is wrong.

    Checks form, size, `typ`, `alg`, header parameters, key and signature; not one claim.
    """
    header = _header(jws, typ, {"alg", "typ", "kid"}, what, max_bytes=max_bytes)
    return _claims(_verify(_known_key(keys, header, what), jws, None, what), what)


def sign_self(key: SigningKey, typ: str, claims: Mapping[str, Any]) -> str:
    """Compact JWS that carries its public key as `jwk`: what `verify_self_signed` reads."""
    header = {"alg": "Ed25519", "jwk": key.public.jwk, "typ": typ}
    return _sign(key, b64url(msgspec.json.encode(header)), canonical(claims))


def verify_self_signed(typ: str, jws: str, what: str) -> tuple[PublicKey, dict[str, Any]]:
    """Key and claims of a proof that carries its own public `jwk` (RFC 9449, OpenID4VCI).

    It proves only that its maker holds that key; the caller compares the thumbprint.
    """
    header = _header(jws, typ, {"alg", "typ", "jwk"}, what)
    key = PublicKey.from_jwk(header.get("jwk"), f"{what}.header.jwk")
    return key, _claims(_verify(key, jws, None, what), what)


def sign_detached(key: SigningKey, typ: str, payload: bytes) -> str:
    """Detached JWS (RFC 7515 appendix F) over canonical bytes: `header..signature`."""
    return jose.detach_content(_sign(key, _header_of(key.kid, typ), payload))


def verify_detached(keys: KeySet, typ: str, jws: str, payload: bytes, what: str) -> str:
    """The `kid` that signed `payload`, or InvalidInputError naming what is wrong."""
    key = _known_key(keys, _header(jws, typ, {"alg", "typ", "kid"}, what, detached=True), what)
    _verify(key, jws, payload, what)
    return key.kid


@lru_cache(maxsize=64)
def _header_of(kid: str, typ: str) -> str:
    """The protected header of everything of a type that a key signs."""
    return b64url(msgspec.json.encode({"alg": "Ed25519", "kid": kid, "typ": typ}))


def _sign(key: SigningKey, header: str, payload: bytes) -> str:
    """What `joserfc.jws.serialize_compact` gives (the tests compare), in half the time."""
    signed = f"{header}.{b64url(payload)}"
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


def _header(
    jws: str,
    typ: str,
    allowed: set[str],
    what: str,
    *,
    detached: bool = False,
    max_bytes: int = JWS_BYTES_MAX,
) -> dict[str, Any]:
    """Header of a JWS in its one canonical spelling, with nothing in it that could steer us."""
    if len(jws) > max_bytes:
        raise _malformed(what)
    parts = jws.split(".")
    if len(parts) != 3 or (parts[1] == "") != detached:
        raise _malformed(what)
    try:
        head = [b64url_decode(part) for part in parts][0]
    except ValueError:
        raise _malformed(what) from None
    header = parse_json(head, max_bytes=JWS_BYTES_MAX, what=f"{what}.header")
    if not isinstance(header, dict):
        raise _malformed(what)
    if unknown := sorted(set(header) - allowed):
        raise InvalidInputError(
            f"the {what} has the header parameter {unknown[0]!r}, which is not allowed",
            code="signature_invalid",
            field=f"{what}.header",
        )
    if header.get("alg") != "Ed25519":
        raise InvalidInputError(
            f"the {what} must be signed with Ed25519",
            code="algorithm_unsupported",
            field=f"{what}.header.alg",
        )
    if header.get("typ") != typ:
        raise InvalidInputError(
            f"the {what} must have the type {typ}",
            code="signature_invalid",
            field=f"{what}.header.typ",
        )
    return header


def _known_key(keys: KeySet, header: dict[str, Any], what: str) -> PublicKey:
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise InvalidInputError(
            f"the {what} was signed by a key that we do not know",
            code="key_not_found",
            field=f"{what}.header.kid",
            remedy="check that the signer's current key is published at its /.well-known/ucp",
        )
    return key


def _verify(key: PublicKey, jws: str, payload: bytes | None, what: str) -> bytes:
    try:
        return jose.deserialize_compact(jws, key.jose, registry=_ED25519, payload=payload).payload
    except (JoseError, ValueError):
        raise InvalidInputError(
            f"the signature of the {what} is wrong", code="signature_invalid", field=what
        ) from None


def _claims(data: bytes, what: str) -> dict[str, Any]:
    value = parse_json(data, max_bytes=len(data), what=what)  # the JWS was bounded already
    if not isinstance(value, dict):
        raise _malformed(what)
    return value


def _malformed(what: str) -> InvalidInputError:
    return InvalidInputError(
        f"the {what} is not a JWS of header, payload and signature", code="malformed", field=what
    )
