"""Website frames: a merchant generates and signs one, a hub verifies it and shows offers in it.

In: files, offers and a signing key (to build); the bytes of a bundle and the merchant's public
keys (to verify). Out: a `Frame`, or InvalidInputError naming the part that is wrong. Knows no
folder, no network and no clock.

A frame is immutable. Its *manifest* lists every resource with its digest; the *frame id* is the
SHA-256 of the manifest's canonical bytes (RFC 8785, RFC 6920), and the signature is a detached
JWS (RFC 7515 appendix F) over those bytes. Ed25519 is deterministic, so a frame has one id and
one signature, and a token that names the id corresponds to exactly this frame.

Verification runs in this order, and stops at the first thing wrong:

1. the bundle is strict JSON of the known shape;
2. the signature is by a key of the expected merchant: nothing unsigned is interpreted;
3. the manifest has the right form, safe paths and allowed types;
4. issuer, audience, id, validity and sequence;
5. every listed resource is there with its size and digest, and no other.

That the promotions in `offers` exist, and that the frame was not withdrawn, is the hub's check:
both need its store.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sconto.base.canonical import canonical, digest, ni, parse_json
from sconto.base.clock import MS_PER_SECOND
from sconto.base.documents import Document, from_builtins, to_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import (
    NAMED_DIGEST,
    Digest,
    Identifier,
    NamedDigest,
    Seconds,
    ServerUrl,
)
from sconto.base.ids import FrameId
from sconto.base.keys import (
    KeySet,
    SigningKey,
    sign_compact,
    sign_detached,
    verify_compact,
    verify_detached,
)

FRAME_TYP = "promo-frame+jws"
WITHDRAWAL_TYP = "promo-frame-withdrawal+jws"
BUNDLE_BYTES_MAX = 8 * 2**20
MANIFEST_BYTES_MAX = 96 * 2**10
RESOURCE_BYTES_MAX = 2 * 2**20
RESOURCES_MAX = 200
PATH_MAX = 200
OFFERS_MAX = 500

#: What a frame may consist of, by extension. Nothing here can be executed outside a browser.
MEDIA_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "woff2": "font/woff2",
}
#: The page that the hub loads into the iframe.
ENTRY_PATH = "/index.html"

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_PATH = re.compile(rf"(?:/{_NAME})+", re.ASCII)
_PREFIX = "ni:///sha-256;"
_FRAME_ID = re.compile(NAMED_DIGEST)

Sequence53 = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class FrameOffer(Document, frozen=True):
    """One promotion that can be clipped in the frame."""

    #: Name of the offer inside this frame, for the frame's own script.
    id: Identifier
    promotion_id: Identifier
    #: The exact version of the terms that the frame shows.
    terms_digest: Digest
    title: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class Resource(Document, frozen=True):
    """One file of the frame."""

    #: Absolute inside the frame: `/index.html`, `/img/milk.webp`.
    path: Annotated[str, Meta(max_length=PATH_MAX)]
    #: Media type; follows from the extension.
    type: str
    #: Bytes.
    size: Annotated[int, Meta(ge=0, le=RESOURCE_BYTES_MAX)]
    digest: Digest


class Manifest(Document, frozen=True):
    """What a merchant signs. Field names are the JWT ones; times are seconds since 1970 UTC."""

    v: Literal[1]
    #: The merchant.
    iss: ServerUrl
    #: The one hub that may show the frame.
    aud: ServerUrl
    #: Valid from, inclusive.
    nbf: Seconds
    #: Valid until, exclusive.
    exp: Seconds
    #: Rises with every publication and withdrawal of this merchant at this hub.
    seq: Sequence53
    offers: Annotated[tuple[FrameOffer, ...], Meta(min_length=1, max_length=OFFERS_MAX)]
    resources: Annotated[tuple[Resource, ...], Meta(min_length=1, max_length=RESOURCES_MAX)]
    #: A content security policy on top of the hub's; it can only restrict further.
    csp: Annotated[str, Meta(pattern=r"^[ -~]{1,2000}$(?!\n)")] | None = None
    #: Where tokens clipped in this frame are redeemed.
    redeem: Annotated[str, Meta(pattern=r"^https?://[!-~]{1,500}$(?!\n)")] | None = None


class Withdrawal(Document, frozen=True):
    """The merchant's word that a frame must no longer be shown."""

    v: Literal[1]
    iss: ServerUrl
    aud: ServerUrl
    #: Above the sequence of the frame that it withdraws.
    seq: Sequence53
    withdraws: NamedDigest


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that was built here or verified: everything in it belongs together."""

    frame_id: FrameId
    manifest: Manifest
    #: Canonical bytes: what the id names and the signature covers.
    manifest_bytes: bytes
    signature: str
    #: Path to bytes, in the order of the manifest.
    resources: dict[str, bytes]

    def offer(self, promotion_id: str) -> FrameOffer | None:
        """The offer of a promotion in this frame."""
        return next((o for o in self.manifest.offers if o.promotion_id == promotion_id), None)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A frame as it came over the wire: well-formed, believed in nothing."""

    manifest: dict[str, Any]
    signature: str
    resources: dict[str, bytes]


def build_frame(
    key: SigningKey,
    *,
    merchant: str,
    hub: str,
    not_before_s: int,
    expires_s: int,
    sequence: int,
    offers: Sequence[FrameOffer],
    files: Mapping[str, bytes],
    csp: str | None = None,
    redeem: str | None = None,
) -> Frame:
    """Generate and sign a frame from files by relative path; their bytes stay untouched.

    The same arguments give the same bytes, id and signature, whatever the order of `files`.
    Raises InvalidInputError for a path, type or size that a hub would refuse, with the file's path
    as `field`, and for a form that a hub would refuse.
    """
    listed = {"/" + path: data for path, data in sorted(files.items())}
    manifest = {
        "v": 1,
        "iss": merchant,
        "aud": hub,
        "nbf": not_before_s,
        "exp": expires_s,
        "seq": sequence,
        "offers": [to_builtins(offer) for offer in offers],
        "resources": [
            {"path": path, "type": media_type(path), "size": len(data), "digest": digest(data)}
            for path, data in listed.items()
        ],
    }
    optional = {"csp": csp, "redeem": redeem}
    manifest |= {name: value for name, value in optional.items() if value is not None}
    for path, data in listed.items():
        if len(data) > RESOURCE_BYTES_MAX:
            raise _invalid("a file is too large", path, "too_large", limit_bytes=RESOURCE_BYTES_MAX)
    checked = _manifest(manifest)
    data = _manifest_bytes(manifest)
    frame = Frame(frame_id(data), checked, data, sign_detached(key, FRAME_TYP, data), listed)
    size = len(encode_bundle(frame))
    if size > BUNDLE_BYTES_MAX:
        raise InvalidInputError(
            f"the frame's bundle has {size} bytes; at most {BUNDLE_BYTES_MAX} are allowed",
            code="too_large",
            field="resources",
            limit_bytes=BUNDLE_BYTES_MAX,
        )
    return frame


def frame_id(manifest_bytes: bytes) -> FrameId:
    """RFC 6920 name of a frame: `ni:///sha-256;` and the digest of its canonical manifest."""
    return FrameId(ni(manifest_bytes))


def frame_key(name: str) -> str:
    """The part of a frame id that stands in URLs: 43 symbols of base64url.

    >>> frame_key("ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
    '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU'
    """
    if not _FRAME_ID.fullmatch(name):
        raise _invalid("this is not the id of a frame", "frame_id", "malformed")
    return name.removeprefix(_PREFIX)


def frame_id_of_key(key: str) -> FrameId:
    """The frame id that a URL means; InvalidInputError where the text cannot be one."""
    return FrameId(_PREFIX + frame_key(_PREFIX + key))


def media_type(path: str) -> str:
    """Media type by extension; InvalidInputError for what a frame may not contain."""
    extension = path.rpartition(".")[2]
    if extension not in MEDIA_TYPES:
        raise _invalid(
            f"a frame may not contain {path!r}",
            path,
            "resource_type_unsupported",
            remedy="use only files that end in ." + ", .".join(sorted(MEDIA_TYPES)),
        )
    return MEDIA_TYPES[extension]


def encode_bundle(frame: Frame) -> bytes:
    """The frame on the wire: one JSON object; the same frame gives the same bytes."""
    resources = {path: base64.b64encode(data).decode() for path, data in frame.resources.items()}
    return msgspec.json.encode(
        {
            "manifest": msgspec.Raw(frame.manifest_bytes),
            "signature": frame.signature,
            "resources": resources,
        }
    )


def decode_bundle(body: bytes) -> Bundle:
    """Read a bundle of at most 8 MiB; believes nothing yet (that is `verify_frame`'s part)."""
    value = parse_json(body, max_bytes=BUNDLE_BYTES_MAX, what="bundle")
    if not isinstance(value, dict):
        raise _invalid("a bundle is a JSON object", "bundle", "malformed")
    for name, kind in {"manifest": dict, "signature": str, "resources": dict}.items():
        if not isinstance(value.get(name), kind):
            raise _invalid(f"the bundle needs {name!r}", name, "malformed")
    if unknown := sorted(set(value) - {"manifest", "signature", "resources"}):
        raise _invalid(f"the bundle has the unknown field {unknown[0]!r}", unknown[0], "malformed")
    if len(value["resources"]) > RESOURCES_MAX:
        raise _invalid(f"a bundle has at most {RESOURCES_MAX} resources", "resources", "too_large")
    resources = {path: _resource(path, text) for path, text in value["resources"].items()}
    return Bundle(value["manifest"], value["signature"], resources)


def verify_frame(
    bundle: Bundle,
    keys: KeySet,
    *,
    issuer: str,
    audience: str,
    at_ms: int,
    last_sequence: int | None,
    expected_id: str | None = None,
) -> Frame:
    """The frame of a bundle, if all of it holds; else InvalidInputError with a stable code.

    `keys` are the published keys of the merchant `issuer`; `last_sequence` is the highest sequence
    that this hub took from that merchant (a frame with the same number is accepted, a lower one is
    not); `expected_id` is the id that the request names. Ask the store first whether the id is
    known: publishing a stored frame again is answered from there, whatever its sequence.
    """
    data = _manifest_bytes(bundle.manifest)
    verify_detached(keys, FRAME_TYP, bundle.signature, data, "frame")
    manifest = _manifest(bundle.manifest)
    _check_parties(manifest.iss, manifest.aud, issuer, audience, "manifest")
    if expected_id is not None and expected_id != frame_id(data):
        raise _invalid(
            f"the bundle is the frame {frame_id(data)}, not the one that the address names",
            "frame_id",
            "frame_id_mismatch",
        )
    if at_ms >= manifest.exp * MS_PER_SECOND:
        raise _invalid("the frame's time is over", "manifest.exp", "frame_expired")
    if at_ms < manifest.nbf * MS_PER_SECOND:
        raise _invalid("the frame's time has not come", "manifest.nbf", "frame_not_yet_valid")
    _check_sequence(manifest.seq, last_sequence, "manifest")
    _check_resources(manifest.resources, bundle.resources)
    ordered = {resource.path: bundle.resources[resource.path] for resource in manifest.resources}
    return Frame(frame_id(data), manifest, data, bundle.signature, ordered)


def sign_withdrawal(key: SigningKey, withdrawal: Withdrawal) -> str:
    """Compact JWS of a withdrawal."""
    return sign_compact(key, WITHDRAWAL_TYP, to_builtins(withdrawal))


def verify_withdrawal(
    jws: str, keys: KeySet, *, issuer: str, audience: str, last_sequence: int | None
) -> Withdrawal:
    """A merchant's withdrawal, if its signature, parties and sequence hold.

    `last_sequence` as for `verify_frame`: a withdrawal must be above it, so that an old frame, sent
    again by somebody on the way, cannot come back.
    """
    claims = verify_compact(keys, WITHDRAWAL_TYP, jws, "withdrawal")
    withdrawal = from_builtins(claims, Withdrawal, what="the withdrawal", field="withdrawal")
    _check_parties(withdrawal.iss, withdrawal.aud, issuer, audience, "withdrawal")
    above = None if last_sequence is None else last_sequence + 1
    _check_sequence(withdrawal.seq, above, "withdrawal")
    return withdrawal


def content_type(resource: Resource) -> str:
    """The `Content-Type` to serve a resource with: text is UTF-8, whatever a page says."""
    text = resource.type.startswith("text/") or resource.type == "image/svg+xml"
    return resource.type + ("; charset=utf-8" if text else "")


def frame_csp(manifest: Manifest, *, served_at: str, frame_ancestors: str) -> str:
    """The `Content-Security-Policy` to serve every resource of the frame with.

    `served_at` is the absolute URL of the folder, `https://frames.hub.example/frames/<key>/`;
    `frame_ancestors` the origins that may embed it, separated by spaces. `sandbox` stands in the
    header as well, so that the frame keeps its opaque origin when somebody opens it directly.

    Scripts are the frame's own files, by place or by digest; inline script does not run. Inline
    style does: it is signed, static, and there is no network that it could tell anything to. The
    merchant's own `csp` follows as a second policy: a browser enforces both, so it cannot loosen.
    """
    scripts = [r for r in manifest.resources if r.type == "text/javascript"]
    by_digest = " ".join(f"'sha256-{r.digest[9:-1]}'" for r in scripts)
    policy = "; ".join(
        (
            "sandbox allow-scripts",
            "default-src 'none'",
            f"script-src {served_at} {by_digest}".rstrip() if scripts else "script-src 'none'",
            f"style-src 'unsafe-inline' {served_at}",
            f"img-src {served_at} data:",
            f"font-src {served_at}",
            "form-action 'none'",
            "base-uri 'none'",
            f"frame-ancestors {frame_ancestors}",
        )
    )
    return policy if manifest.csp is None else f"{policy}, {manifest.csp}"


def _manifest_bytes(manifest: Any) -> bytes:
    data = canonical(manifest)
    if len(data) > MANIFEST_BYTES_MAX:
        raise _invalid(
            "the manifest is too large", "manifest", "too_large", limit_bytes=MANIFEST_BYTES_MAX
        )
    return data


def _manifest(value: dict[str, Any]) -> Manifest:
    """The manifest of a form that a hub accepts: what Struct types cannot say is checked here."""
    manifest = from_builtins(value, Manifest, what="the manifest", field="manifest")
    if manifest.nbf >= manifest.exp:
        raise _invalid("the frame ends before it begins", "manifest.exp", "invalid_input")
    ids = [offer.id for offer in manifest.offers]
    if len(set(ids)) != len(ids):
        raise _invalid("two offers have the same id", "manifest.offers", "duplicate")
    promotions = [offer.promotion_id for offer in manifest.offers]
    if len(set(promotions)) != len(promotions):
        raise _invalid("a promotion is offered twice", "manifest.offers", "duplicate")
    _check_paths(manifest.resources)
    return manifest


def _check_paths(resources: Sequence[Resource]) -> None:
    """Safe as a URL and as a file name anywhere: no dot files, no `..`, no case twins."""
    seen: set[str] = set()
    for i, resource in enumerate(resources):
        field = f"manifest.resources[{i}]"
        if not _PATH.fullmatch(resource.path):
            raise _invalid(
                f"{resource.path!r} is not a safe path",
                f"{field}.path",
                "resource_path_unsafe",
                remedy="use letters, digits, '-', '_' and '.', no name that begins with '.'",
            )
        if resource.type != media_type(resource.path):
            raise _invalid(
                f"{resource.path} must have the type {media_type(resource.path)}",
                f"{field}.type",
                "resource_type_unsupported",
            )
        if resource.path.lower() in seen:
            raise _invalid(f"{resource.path} is listed twice", f"{field}.path", "duplicate")
        seen.add(resource.path.lower())
    for i, resource in enumerate(resources):
        parents = resource.path.lower().split("/")[1:-1]
        if any("/" + "/".join(parents[: n + 1]) in seen for n in range(len(parents))):
            raise _invalid(
                f"{resource.path} lies below a file",
                f"manifest.resources[{i}].path",
                "resource_path_unsafe",
            )
    if ENTRY_PATH not in {resource.path for resource in resources}:
        raise _invalid(f"the frame has no {ENTRY_PATH}", "manifest.resources", "resource_missing")


def _check_parties(iss: str, aud: str, issuer: str, audience: str, what: str) -> None:
    if iss != issuer:
        raise _invalid(f"the {what} was issued by another", f"{what}.iss", "issuer_mismatch")
    if aud != audience:
        raise _invalid(
            f"the {what} is for {aud}, not for {audience}", f"{what}.aud", "audience_mismatch"
        )


def _check_sequence(sequence: int, at_least: int | None, what: str) -> None:
    if at_least is not None and sequence < at_least:
        raise _invalid(
            f"sequence {sequence} is too low; at least {at_least} is needed",
            f"{what}.seq",
            "sequence_too_low",
            remedy="publish with a higher sequence",
            needed=at_least,
        )


def _check_resources(listed: Sequence[Resource], resources: Mapping[str, bytes]) -> None:
    for resource in listed:
        field = f"resources.{resource.path}"
        data = resources.get(resource.path)
        if data is None:
            raise _invalid(f"{resource.path} is not in the bundle", field, "resource_missing")
        if len(data) != resource.size:
            raise _invalid(
                f"{resource.path} has {len(data)} bytes, not {resource.size}",
                field,
                "size_mismatch",
            )
        if digest(data) != resource.digest:
            raise _invalid(
                f"{resource.path} was changed after it was signed", field, "digest_mismatch"
            )
    if unlisted := sorted(set(resources) - {resource.path for resource in listed}):
        raise _invalid(
            f"{unlisted[0]!r} is not in the manifest",
            f"resources.{unlisted[0]}",
            "resource_unlisted",
        )


def _resource(path: str, text: Any) -> bytes:
    field = f"resources.{path[:PATH_MAX]}"
    if len(path) > PATH_MAX:
        raise _invalid(f"a path has at most {PATH_MAX} symbols", field, "resource_path_unsafe")
    if not isinstance(text, str):
        raise _invalid("a resource is base64 text", field, "malformed")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("the resource is not base64", field, "malformed") from None
    if base64.b64encode(data).decode() != text:
        raise _invalid("the resource is not canonical base64", field, "malformed")
    return data


def _invalid(
    message: str, field: str, code: str, *, remedy: str | None = None, **figures: Any
) -> InvalidInputError:
    return InvalidInputError(message, field=field, code=code, remedy=remedy, **figures)
