"""HTTP message signatures between servers: RFC 9421 as UCP profiles it, RFC 9530 digests.

A request covers `@method`, `@authority`, `@path`, `@query` where there is one, `ucp-agent`, for an
unsafe method `idempotency-key`, and with a body `content-digest` and `content-type`. `UCP-Agent`
names the signer's profile, where its keys are; `keyid` names one of them. There is no `alg`: the
algorithm comes from the key.

The verifier builds authority and path from the *configured* public URL and the raw request
target, never from `Host`: whoever can choose `Host` must not choose what was signed. Freshness:
`created` is at most five minutes old and at most one minute ahead. A signature that was good once
stays good for that long; let `ReplayGuard` remember `SignedBy.signature_id`.

Order of checks: presence; form; key; signature and coverage; digest of the body; time.

There are two readers. Our own servers write the signature in one spelling, and for that the
signature base is put together here (`_plain_base`), four times as fast. Every other spelling that
RFC 9421 allows goes through `http-message-signatures`, which is also the tests' oracle for ours.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import http_sf
from http_message_signatures import (
    ContentDigest,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from sconto.base.canonical import b64url, digest
from sconto.base.errors import InvalidInputError
from sconto.base.keys import PublicKey, SigningKey

PROFILE_PATH = "/.well-known/ucp"
#: Seconds that a signature may be old.
SIGNATURE_AGE_S = 300
#: Seconds that the signer's clock may be ahead of ours.
SKEW_S = 60
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SIGNED_FIELDS = frozenset(
    "signature signature-input ucp-agent idempotency-key content-digest content-type".split()
)
_FIELD_BYTES_MAX = 4096
_NEVER_S = 2**53

# RFC 3986: what a request target is made of, nothing to be decoded or repaired.
_TARGET = re.compile(
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)"
    r"(\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_BASE_URL = re.compile(r"https?://[a-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]+)?")
_PLAIN_FIELD = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_PLAIN_AGENT = re.compile(r'profile="(https?://[!#-\[\]-~]+)"')
_PLAIN_INPUT = re.compile(
    r'sig1=(\(("[a-z@-]+"(?: "[a-z@-]+")*)\);created=([1-9][0-9]{0,11});keyid="([A-Za-z0-9_-]+)"'
    r'(?:;nonce="[A-Za-z0-9_-]{1,64}")?)'
)
_PLAIN_SIGNATURE = re.compile(r"sig1=:([A-Za-z0-9+/]{86}==):")

KeyLookup = Callable[[str, str], PublicKey | None]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who signed a request."""

    profile_url: str
    kid: str
    created_s: int
    #: The same for the same signature only: what a ReplayGuard remembers.
    signature_id: str

    @property
    def peer_url(self) -> str:
        """Public base URL of the signer, which is its id."""
        return self.profile_url.removesuffix(PROFILE_PATH)


def sign_request(
    key: SigningKey,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    profile_url: str,
    created_s: int,
    idempotency_key: str | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """The headers to send: the given ones and those that sign them.

    `url` is absolute, percent-encoded as it goes over the wire, without a fragment. A body needs a
    `Content-Type`, an unsafe method an idempotency key (at least 128 random bits, or a name that
    says what is done). `nonce` (at most 64 symbols of base64url) makes the signature one of a kind:
    without it the same request twice in one second is signed alike and taken for a replay. Raises
    InvalidInputError for a request that no peer would accept.
    """
    scheme, _, rest = url.partition("://")
    host, slash, target = rest.partition("/")
    signed = dict(headers)
    signed["UCP-Agent"] = f'profile="{profile_url}"'
    if idempotency_key is not None:
        signed["Idempotency-Key"] = idempotency_key
    if body:
        signed["Content-Digest"] = digest(body)
    components = _components(method, has_query="?" in url, has_body=bool(body))
    covered = " ".join(f'"{name}"' for name in components)
    params = f'({covered});created={created_s};keyid="{key.kid}"'
    if nonce is not None:
        params += f';nonce="{nonce}"'
    request = _Request(method, f"{scheme}://{host}", slash + target or "/", _fields(signed))
    base = _plain_base(request, components, params)
    if base is None:
        raise InvalidInputError(
            "the request cannot be signed",
            remedy="give an upper-case method, an absolute encoded URL, a Content-Type with a body"
            " and an Idempotency-Key with an unsafe method",
        )
    signature = base64.b64encode(key.sign(base)).decode()
    return signed | {"Signature-Input": f"sig1={params}", "Signature": f"sig1=:{signature}:"}


def verify_request(
    method: str,
    public_base_url: str,
    raw_path_and_query: str,
    headers: Headers,
    body: bytes,
    keys: KeyLookup,
    *,
    now_s: int,
    max_age_s: int = SIGNATURE_AGE_S,
) -> SignedBy:
    """Who signed the request, or InvalidInputError with one of UCP's codes.

    `raw_path_and_query` is the request target as it was received, still percent-encoded, below the
    base URL; `headers` all of them, a repeated one repeated. `keys(profile_url, kid)` gives the key
    that the profile publishes, None where there is no such key; it decides whether to trust the
    profile, and may raise.

    Codes: `signature_missing`, `signature_invalid`, `signature_expired`, `key_not_found` (401),
    `algorithm_unsupported`, `digest_mismatch` (400).
    """
    fields = _fields(headers)
    for name in ("Signature-Input", "Signature", "UCP-Agent"):
        if name.lower() not in fields:
            raise InvalidInputError(
                f"the request has no {name}",
                code="signature_missing",
                field=name,
                remedy="sign the request as RFC 9421 and UCP say",
            )
    profile_url = _profile_url(fields["ucp-agent"])
    kid, created_s, expires_s = _parameters(fields["signature-input"])
    key = keys(profile_url, kid)
    if key is None:
        raise InvalidInputError(
            "the signer's profile does not publish this key",
            code="key_not_found",
            field="Signature-Input",
            remedy=f"publish it at {profile_url}",
        )
    has_body = bool(body) or "content-digest" in fields
    request = _Request(method, public_base_url, raw_path_and_query, fields)
    components = _components(method, has_query="?" in raw_path_and_query, has_body=has_body)
    signature = _verify_plain(request, components, key)
    if signature is None:
        signature = _verify_any(request, components, key, kid)
    if has_body:
        _check_digest(fields["content-digest"], body)
    if not max(created_s - SKEW_S, 0) <= now_s <= min(created_s + max_age_s, expires_s):
        raise InvalidInputError(
            f"the signature must be at most {max_age_s} seconds old",
            code="signature_expired",
            field="Signature-Input",
            remedy="sign again; check the clock",
            created_s=created_s,
            now_s=now_s,
        )
    # Neither label nor spelling of the field is signed, so the id is that of the bytes.
    return SignedBy(profile_url, kid, created_s, b64url(hashlib.sha256(signature).digest()))


@dataclass(frozen=True, slots=True)
class _Request:
    """What a signature can be about."""

    method: str
    base_url: str
    #: Path and query, percent-encoded.
    target: str
    fields: dict[str, str]


def _components(method: str, *, has_query: bool, has_body: bool) -> tuple[str, ...]:
    """What a request's signature must cover (UCP, signatures)."""
    return (
        "@method",
        "@authority",
        "@path",
        *(("@query",) if has_query else ()),
        "ucp-agent",
        *(("idempotency-key",) if method in _UNSAFE else ()),
        *(("content-digest", "content-type") if has_body else ()),
    )


def _plain_base(request: _Request, components: tuple[str, ...], params: str) -> bytes | None:
    """Signature base (RFC 9421 section 2.5), or None where anything in it is unusual."""
    target = _TARGET.fullmatch(request.target)
    if target is None or request.method not in _UNSAFE | _SAFE:
        return None
    authority, prefix = _authority(request.base_url)
    values = {
        "@method": request.method,
        "@authority": authority,
        "@path": prefix + target[1],
        "@query": target[2],
        **request.fields,
    }
    lines = []
    for name in components:
        value = values.get(name)
        if value is None or not _PLAIN_FIELD.fullmatch(value):
            return None
        lines.append(f'"{name}": {value}\n')
    return f'{"".join(lines)}"@signature-params": {params}'.encode()


@lru_cache(maxsize=1024)
def _authority(base_url: str) -> tuple[str | None, str]:
    """`@authority` (RFC 9421 section 2.2.3: no default port) and path prefix of a base URL."""
    if not _BASE_URL.fullmatch(base_url):
        return None, ""
    parts = urlsplit(base_url)
    default = ":443" if parts.scheme == "https" else ":80"
    return parts.netloc.removesuffix(default), parts.path


def _verify_plain(request: _Request, components: tuple[str, ...], key: PublicKey) -> bytes | None:
    """The signature's bytes, when it holds; None where anything has another spelling than ours."""
    params = _PLAIN_INPUT.fullmatch(request.fields["signature-input"])
    signature = _PLAIN_SIGNATURE.fullmatch(request.fields["signature"])
    if params is None or signature is None:
        return None
    if params[2] != " ".join(f'"{name}"' for name in components):
        return None
    base = _plain_base(request, components, params[1])
    if base is None:
        return None
    data = base64.b64decode(signature[1])
    if not key.verify(data, base):
        raise _invalid("the request is not the one that was signed", "Signature")
    return data


def _verify_any(request: _Request, components: tuple[str, ...], key: PublicKey, kid: str) -> bytes:
    """The signature's bytes, when it holds by RFC 9421; InvalidInputError with the reason else."""
    if not request.target.startswith("/"):
        raise _invalid("the request target must be a path", None)
    verifier = _Verifier(signature_algorithm=algorithms.ED25519, key_resolver=_OneKey(kid, key))
    message = SimpleNamespace(
        method=request.method, url=request.base_url + request.target, headers=request.fields
    )
    try:
        verifier.verify(message, max_age=None, require_components=components)
    except HTTPMessageSignaturesException as error:
        raise _invalid(f"the request's signature does not hold: {error}", "Signature") from None
    signature: bytes = next(iter(_dictionary(request.fields["signature"], "Signature").values()))[0]
    return signature


class _Verifier(HTTPMessageVerifier):
    """The library's verifier without its clock: `verify_request` checks the time itself."""

    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        return


class _OneKey(HTTPSignatureKeyResolver):
    """Exactly one key, under exactly one id."""

    def __init__(self, kid: str, key: PublicKey) -> None:
        self._kid, self._key = kid, key

    def resolve_public_key(self, key_id: str) -> Any:
        return self._key.key if key_id == self._kid else None


def _fields(headers: Headers) -> dict[str, str]:
    """The fields that a signature can be about; each at most once, in printable ASCII."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    fields: dict[str, str] = {}
    for name, value in pairs:
        lower = name.lower()
        if lower not in _SIGNED_FIELDS:
            continue
        if lower in fields:
            raise _invalid(f"{name} stands twice in the request", name)
        if len(value) > _FIELD_BYTES_MAX or not value.isascii() or not value.isprintable():
            raise _invalid(f"{name} is too long or not printable ASCII", name)
        fields[lower] = value.strip(" ")
    return fields


def _profile_url(field: str) -> str:
    """`profile` of `UCP-Agent`: the signer's base URL and the well-known path."""
    plain = _PLAIN_AGENT.fullmatch(field)
    url = plain[1] if plain else _dictionary(field, "UCP-Agent").get("profile", (None, {}))[0]
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise _invalid('UCP-Agent must have profile="https://…"', "UCP-Agent")
    if not url.endswith(PROFILE_PATH):
        raise _invalid(f"the profile's address must end with {PROFILE_PATH}", "UCP-Agent")
    return url


def _parameters(field: str) -> tuple[str, int, int]:
    """`keyid`, `created` and `expires` of the one signature."""
    if plain := _PLAIN_INPUT.fullmatch(field):
        return plain[4], int(plain[3]), _NEVER_S
    members = _dictionary(field, "Signature-Input")
    if len(members) != 1:
        raise _invalid("the request must have exactly one signature", "Signature-Input")
    _, parameters = next(iter(members.values()))
    if "alg" in parameters:
        raise InvalidInputError(
            "the signature must not name an algorithm: it comes from the key",
            code="algorithm_unsupported",
            field="Signature-Input",
        )
    kid, created_s = parameters.get("keyid"), parameters.get("created")
    expires_s = parameters.get("expires", _NEVER_S)
    if not isinstance(kid, str) or type(created_s) is not int or type(expires_s) is not int:
        raise _invalid("the signature needs keyid and created", "Signature-Input")
    return kid, created_s, expires_s


def _check_digest(field: str, body: bytes) -> None:
    """RFC 9530: every digest of the field is right, and there is one that we know."""
    if field == digest(body):
        return
    try:
        ContentDigest.verify(field, body)
    except HTTPMessageSignaturesException:
        raise InvalidInputError(
            "the body is not the one that was signed",
            code="digest_mismatch",
            field="Content-Digest",
            remedy="send the sha-256 digest of the raw body",
        ) from None


def _dictionary(field: str, name: str) -> dict[str, Any]:
    """Members of a dictionary (RFC 9651), each with its parameters."""
    try:
        value: Any = http_sf.parse(field.encode(), tltype="dictionary")
    except ValueError:
        raise _invalid(f"{name} is not a structured field (RFC 9651)", name) from None
    return dict(value)


def _invalid(message: str, field: str | None) -> InvalidInputError:
    return InvalidInputError(message, code="signature_invalid", field=field)
