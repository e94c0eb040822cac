"""What a frame is: the manifest that a merchant signs, and the rules of its form.

A manifest is read in two steps: types and bounds by its Struct, and what types cannot say
(`read_manifest`): safe paths, allowed media types, nothing twice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from sconto.base.canonical import canonical, ni
from sconto.base.documents import Document, from_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import (
    NAMED_DIGEST,
    Digest,
    Identifier,
    Seconds,
    ServerUrl,
)
from sconto.base.ids import FrameId

FRAME_TYP = "promo-frame+jws"
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


def frame_id(manifest_bytes: bytes) -> FrameId:
    """RFC 6920 name of a frame: `ni:///sha-256;` and the digest of its canonical manifest."""
    return FrameId(ni(manifest_bytes))


def frame_key(name: str) -> str:
    """The part of a frame id that stands in URLs: 43 symbols of base64url.

    >>> frame_key("ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
    '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU'
    """
    if not _FRAME_ID.fullmatch(name):
        raise wrong("this is not the id of a frame", "frame_id", "malformed")
    return name.removeprefix(_PREFIX)


def frame_id_of_key(key: str) -> FrameId:
    """The frame id that a URL means; InvalidInputError where the text cannot be one."""
    return FrameId(_PREFIX + frame_key(_PREFIX + key))


def media_type(path: str) -> str:
    """Media type by extension; InvalidInputError for what a frame may not contain."""
    extension = path.rpartition(".")[2]
    if extension not in MEDIA_TYPES:
        raise wrong(
            f"a frame may not contain {path!r}",
            path,
            "resource_type_unsupported",
            remedy="use only files that end in ." + ", .".join(sorted(MEDIA_TYPES)),
        )
    return MEDIA_TYPES[extension]


def signed_bytes(manifest: Any) -> bytes:
    data = canonical(manifest)
    if len(data) > MANIFEST_BYTES_MAX:
        raise wrong(
            "the manifest is too large", "manifest", "too_large", limit_bytes=MANIFEST_BYTES_MAX
        )
    return data


def read_manifest(value: dict[str, Any]) -> Manifest:
    """The manifest of a form that a hub accepts: what Struct types cannot say is checked here."""
    manifest = from_builtins(value, Manifest, what="the manifest", field="manifest")
    if manifest.nbf >= manifest.exp:
        raise wrong("the frame ends before it begins", "manifest.exp", "invalid_input")
    ids = [offer.id for offer in manifest.offers]
    if len(set(ids)) != len(ids):
        raise wrong("two offers have the same id", "manifest.offers", "duplicate")
    promotions = [offer.promotion_id for offer in manifest.offers]
    if len(set(promotions)) != len(promotions):
        raise wrong("a promotion is offered twice", "manifest.offers", "duplicate")
    _check_paths(manifest.resources)
    return manifest


def _check_paths(resources: Sequence[Resource]) -> None:
    """Safe as a URL and as a file name anywhere: no dot files, no `..`, no case twins."""
    seen: set[str] = set()
    for i, resource in enumerate(resources):
        field = f"manifest.resources[{i}]"
        if not _PATH.fullmatch(resource.path):
            raise wrong(
                f"{resource.path!r} is not a safe path",
                f"{field}.path",
                "resource_path_unsafe",
                remedy="use letters, digits, '-', '_' and '.', no name that begins with '.'",
            )
        if resource.type != media_type(resource.path):
            raise wrong(
                f"{resource.path} must have the type {media_type(resource.path)}",
                f"{field}.type",
                "resource_type_unsupported",
            )
        if resource.path.lower() in seen:
            raise wrong(f"{resource.path} is listed twice", f"{field}.path", "duplicate")
        seen.add(resource.path.lower())
    for i, resource in enumerate(resources):
        parents = resource.path.lower().split("/")[1:-1]
        if any("/" + "/".join(parents[: n + 1]) in seen for n in range(len(parents))):
            raise wrong(
                f"{resource.path} lies below a file",
                f"manifest.resources[{i}].path",
                "resource_path_unsafe",
            )
    if ENTRY_PATH not in {resource.path for resource in resources}:
        raise wrong(f"the frame has no {ENTRY_PATH}", "manifest.resources", "resource_missing")


def wrong(
    message: str, field: str, code: str, *, remedy: str | None = None, **figures: Any
) -> InvalidInputError:
    return InvalidInputError(message, field=field, code=code, remedy=remedy, **figures)
