"""Verify a frame that came over the wire.

It runs in this order, and stops at the first thing wrong:

1. the bundle is strict JSON of the known shape (`decode_bundle`);
2. the signature is by a key of the expected merchant: nothing unsigned is interpreted;
3. the manifest has the right form, safe paths and allowed types;
4. issuer, audience, id, validity and sequence;
5. every listed resource is there with its size and digest, and no other.

That the promotions in `offers` exist, and that the frame was not withdrawn, is the hub's check:
both need its store.
"""

from collections.abc import Mapping, Sequence

from sconto.base.canonical import digest
from sconto.base.clock import MS_PER_SECOND
from sconto.base.keys import KeySet, verify_detached
from sconto.frames.bundle import Bundle
from sconto.frames.model import (
    FRAME_TYP,
    Frame,
    Resource,
    frame_id,
    read_manifest,
    signed_bytes,
    wrong,
)


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
    data = signed_bytes(bundle.manifest)
    verify_detached(keys, FRAME_TYP, bundle.signature, data, "frame")
    manifest = read_manifest(bundle.manifest)
    check_parties(manifest.iss, manifest.aud, issuer, audience, "manifest")
    if expected_id is not None and expected_id != frame_id(data):
        raise wrong(
            f"the bundle is the frame {frame_id(data)}, not the one that the address names",
            "frame_id",
            "frame_id_mismatch",
        )
    if at_ms >= manifest.exp * MS_PER_SECOND:
        raise wrong("the frame's time is over", "manifest.exp", "frame_expired")
    if at_ms < manifest.nbf * MS_PER_SECOND:
        raise wrong("the frame's time has not come", "manifest.nbf", "frame_not_yet_valid")
    check_sequence(manifest.seq, last_sequence, "manifest")
    _check_resources(manifest.resources, bundle.resources)
    ordered = {resource.path: bundle.resources[resource.path] for resource in manifest.resources}
    return Frame(frame_id(data), manifest, data, bundle.signature, ordered)


def check_parties(iss: str, aud: str, issuer: str, audience: str, what: str) -> None:
    if iss != issuer:
        raise wrong(f"the {what} was issued by another", f"{what}.iss", "issuer_mismatch")
    if aud != audience:
        raise wrong(
            f"the {what} is for {aud}, not for {audience}", f"{what}.aud", "audience_mismatch"
        )


def check_sequence(sequence: int, at_least: int | None, what: str) -> None:
    if at_least is not None and sequence < at_least:
        raise wrong(
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
            raise wrong(f"{resource.path} is not in the bundle", field, "resource_missing")
        if len(data) != resource.size:
            raise wrong(
                f"{resource.path} has {len(data)} bytes, not {resource.size}",
                field,
                "size_mismatch",
            )
        if digest(data) != resource.digest:
            raise wrong(
                f"{resource.path} was changed after it was signed", field, "digest_mismatch"
            )
    if unlisted := sorted(set(resources) - {resource.path for resource in listed}):
        raise wrong(
            f"{unlisted[0]!r} is not in the manifest",
            f"resources.{unlisted[0]}",
            "resource_unlisted",
        )
