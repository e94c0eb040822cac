"""Website frames: a merchant generates and signs one, a hub verifies it and shows offers in it.

In: files, offers and a signing key (to build); the bytes of a bundle and the merchant's public
keys (to verify). Out: a `Frame`, or InvalidInputError naming the part that is wrong. Knows no
folder, no network and no clock.

A frame is immutable. Its *manifest* lists every resource with its digest; the *frame id* is the
SHA-256 of the manifest's canonical bytes (RFC 8785, RFC 6920), and the signature is a detached
JWS (RFC 7515 appendix F) over those bytes. Ed25519 is deterministic, so a frame has one id and
one signature, and a token that names the id corresponds to exactly this frame.

Read `model.py` first, then `build.py` and `verify.py`.
"""

from sconto.frames.build import build_frame
from sconto.frames.bundle import Bundle, decode_bundle, encode_bundle
from sconto.frames.lint import FrameWarning, lint_files
from sconto.frames.model import (
    BUNDLE_BYTES_MAX,
    ENTRY_PATH,
    FRAME_TYP,
    MEDIA_TYPES,
    Frame,
    FrameOffer,
    Manifest,
    Resource,
    frame_id,
    frame_id_of_key,
    frame_key,
    media_type,
)
from sconto.frames.serve import CONNECTION_ALLOWLIST, content_type, frame_csp
from sconto.frames.verify import verify_frame
from sconto.frames.withdrawal import (
    WITHDRAWAL_TYP,
    Withdrawal,
    sign_withdrawal,
    verify_withdrawal,
)

__all__ = [
    "BUNDLE_BYTES_MAX",
    "CONNECTION_ALLOWLIST",
    "ENTRY_PATH",
    "FRAME_TYP",
    "MEDIA_TYPES",
    "WITHDRAWAL_TYP",
    "Bundle",
    "Frame",
    "FrameOffer",
    "FrameWarning",
    "Manifest",
    "Resource",
    "Withdrawal",
    "build_frame",
    "content_type",
    "decode_bundle",
    "encode_bundle",
    "frame_csp",
    "frame_id",
    "frame_id_of_key",
    "frame_key",
    "lint_files",
    "media_type",
    "sign_withdrawal",
    "verify_frame",
    "verify_withdrawal",
]
