"""Generate a frame: from files, offers and a key to something that a hub will accept."""

from collections.abc import Mapping, Sequence

from sconto.base.canonical import digest
from sconto.base.documents import to_builtins
from sconto.base.keys import SigningKey, sign_detached
from sconto.frames.bundle import encode_bundle
from sconto.frames.model import (
    BUNDLE_BYTES_MAX,
    FRAME_TYP,
    RESOURCE_BYTES_MAX,
    Frame,
    FrameOffer,
    frame_id,
    media_type,
    read_manifest,
    signed_bytes,
    wrong,
)


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
            raise wrong("a file is too large", path, "too_large", limit_bytes=RESOURCE_BYTES_MAX)
    checked = read_manifest(manifest)
    data = signed_bytes(manifest)
    frame = Frame(frame_id(data), checked, data, sign_detached(key, FRAME_TYP, data), listed)
    size = len(encode_bundle(frame))
    if size > BUNDLE_BYTES_MAX:
        raise wrong(
            f"the frame's bundle has {size} bytes; at most {BUNDLE_BYTES_MAX} are allowed",
            "resources",
            "too_large",
            limit_bytes=BUNDLE_BYTES_MAX,
        )
    return frame
