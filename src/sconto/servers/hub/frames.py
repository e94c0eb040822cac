"""Frames come in: a merchant distributes one, or withdraws one.

A frame is verified completely before anything of it is stored: by `sconto.frames` for itself, then
here against what the hub knows: each offer is a promotion that is active, whose terms are known,
that tokens are issued for, and that this merchant takes part in.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from sconto.base.documents import Document
from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
)
from sconto.frames import (
    BUNDLE_BYTES_MAX,
    Bundle,
    Frame,
    Manifest,
    decode_bundle,
    frame_id_of_key,
    frame_key,
    verify_frame,
    verify_withdrawal,
)
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.hub.gallery import check_not_withdrawn, not_active
from sconto.store import frames as store
from sconto.store import offers
from sconto.store.writer import Tx
from sconto.terms.model import TokenAccess

if TYPE_CHECKING:
    from sconto.servers.hub import Hub


class BundleDocument(Document):
    """A frame on the wire; see `sconto.frames.encode_bundle`."""

    manifest: dict[str, Any]
    #: Detached JWS of type promo-frame+jws over the canonical manifest.
    signature: str
    #: Path to base64.
    resources: dict[str, str]


class FrameReceipt(Document):
    """What the hub says of a frame that it has."""

    frame_id: str
    sequence: int
    #: active or withdrawn
    status: str
    gallery_url: str


class Withdraw(Document):
    """A compact JWS of type promo-frame-withdrawal+jws."""

    withdrawal: str


@endpoint(
    "PUT",
    "/v1/frames/{key:str}",
    scope="frames:write",
    summary="Distribute a frame to this hub",
    accepts=BundleDocument,
    read=decode_bundle,
    returns=FrameReceipt,
    status=201,
    max_bytes=BUNDLE_BYTES_MAX,
    is_about_document=True,
)
async def put_frame(hub: "Hub", call: Call) -> Answer | FrameReceipt:
    """`key` is the base64url part of the frame's id. The same frame again: 200, nothing changes."""
    merchant = _merchant(call)
    frame_id = frame_id_of_key(call.params["key"])
    bundle: Bundle = call.document
    with hub.base.store.read() as connection:
        known = store.get(connection, frame_id)
        least = _least_sequence(connection, hub, merchant)
    frame = await asyncio.to_thread(
        verify_frame,
        bundle,
        hub.base.directory.known_keys(merchant),
        issuer=merchant,
        audience=hub.base.home.url,
        at_ms=call.now_ms,
        last_sequence=None if known else least,
        expected_id=frame_id,
    )

    def command(tx: Tx) -> Answer | FrameReceipt:
        known = store.get(tx.connection, frame.frame_id)
        if known is not None:
            check_not_withdrawn(known)
            return Answer(msgspec.json.encode(_receipt(hub, known)))
        _check_sequence(frame, _least_sequence(tx.connection, hub, merchant))
        _check_offers(hub, tx.connection, merchant, frame.manifest)
        return _receipt(hub, store.save(tx, frame))

    received: Answer | FrameReceipt = await hub.base.store.write(command)
    return received


@endpoint(
    "POST",
    "/v1/frames/withdrawals",
    scope="frames:write",
    summary="Withdraw a frame: it is not shown and nothing is clipped in it any more",
    accepts=Withdraw,
    returns=FrameReceipt,
    is_about_document=True,
)
async def withdraw_frame(hub: "Hub", call: Call) -> FrameReceipt:
    """Tokens that were clipped in it keep their right. Again: the same answer."""
    merchant = _merchant(call)
    withdrawal = verify_withdrawal(
        call.document.withdrawal,
        hub.base.directory.known_keys(merchant),
        issuer=merchant,
        audience=hub.base.home.url,
        last_sequence=None,
    )

    def command(tx: Tx) -> FrameReceipt:
        known = store.get(tx.connection, withdrawal.withdraws)
        if known is None or known.issuer != merchant:
            raise NotFoundError("there is no such frame", field="withdrawal.withdraws")
        if known.status == "active":
            least = _least_sequence(tx.connection, hub, merchant) or 0
            if withdrawal.seq < least:
                raise _sequence_too_low("withdrawal.seq", withdrawal.seq, least)
            store.withdraw(tx, known, withdrawal.seq)
        return _receipt(hub, known._replace(status="withdrawn"))

    withdrawn: FrameReceipt = await hub.base.store.write(command)
    return withdrawn


ENDPOINTS = (put_frame, withdraw_frame)


def _merchant(call: Call) -> str:
    """The merchant server that signed the request."""
    peer_url = call.principal.peer_url
    if peer_url is None:
        raise NotAuthenticatedError(
            "only the merchant's own server may do this, by a signed request",
            code="signature_missing",
            field="Signature",
        )
    if call.principal.tenant_kind != "merchant":
        raise ForbiddenError(f"{peer_url} is not a merchant", field="UCP-Agent")
    return peer_url


def _least_sequence(connection: sa.Connection, hub: "Hub", merchant: str) -> int | None:
    last = store.last_sequence(connection, merchant, hub.base.home.url)
    return None if last is None else last + 1


def _check_sequence(frame: Frame, least: int | None) -> None:
    if least is not None and frame.manifest.seq < least:
        raise _sequence_too_low("manifest.seq", frame.manifest.seq, least)


def _sequence_too_low(field: str, sequence: int, least: int) -> InvalidInputError:
    return InvalidInputError(
        f"sequence {sequence} is too low; at least {least} is needed",
        code="sequence_too_low",
        field=field,
        remedy="sign with a higher sequence",
        needed=least,
    )


def _check_offers(hub: "Hub", connection: sa.Connection, merchant: str, manifest: Manifest) -> None:
    ids = [offer.promotion_id for offer in manifest.offers]
    standing = offers.standing(connection, ids)
    accepted = offers.accepted_by(connection, merchant, ids)
    owners = offers.promotion_of_terms(connection, [o.terms_digest for o in manifest.offers])
    for i, offer in enumerate(manifest.offers):
        field = f"manifest.offers[{i}].promotion_id"
        promotion = standing.get(offer.promotion_id)
        if promotion is None or promotion.status == "draft":
            raise InvalidInputError(
                f"this hub has no promotion {offer.promotion_id}",
                code="promotion_unknown",
                field=field,
            )
        if promotion.status != "active":
            raise not_active(promotion, field)
        if owners.get(offer.terms_digest) != offer.promotion_id:
            raise InvalidInputError(
                f"these are not terms of {offer.promotion_id}",
                code="terms_unknown",
                field=f"manifest.offers[{i}].terms_digest",
                remedy="build the frame again with the current terms",
            )
        if offer.promotion_id not in accepted:
            raise ConflictError(
                f"{merchant} does not take part in {offer.promotion_id}",
                code="promotion_not_accepted",
                field=field,
                remedy="accept it first; the hub must have heard of it",
            )
        terms = hub.catalogue.promised(connection, offer.terms_digest)
        if not isinstance(terms.access, TokenAccess):
            raise InvalidInputError(
                f"no tokens are issued for {offer.promotion_id}",
                code="access_not_token",
                field=field,
            )


def _receipt(hub: "Hub", frame: store.StoredFrame) -> FrameReceipt:
    return FrameReceipt(
        frame_id=frame.frame_id,
        sequence=frame.sequence,
        status=frame.status,
        gallery_url=f"{hub.base.home.url}/gallery/{frame_key(frame.frame_id)}",
    )
