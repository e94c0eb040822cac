"""Frames at the merchant: kept in its datastore and distributed to the hub that they are for."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from sconto.base.clock import MS_PER_SECOND
from sconto.base.documents import Document
from sconto.base.errors import (
    ConflictError,
    InvalidInputError,
    PeerError,
    UnavailableError,
    WireError,
)
from sconto.base.fields import NamedDigest, ServerUrl
from sconto.base.keys import KeySet
from sconto.frames import (
    BUNDLE_BYTES_MAX,
    Bundle,
    Withdrawal,
    decode_bundle,
    frame_key,
    sign_withdrawal,
    verify_frame,
)
from sconto.servers.endpoint import Call, endpoint
from sconto.store import frames as store
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


class PublishedFrame(Document):
    """A frame that the hub has accepted."""

    frame_id: str
    hub: str
    sequence: int
    gallery_url: str | None = None


class WithdrawalRequest(Document):
    """Take a frame back; tokens that were clipped from it keep their promise."""

    hub: ServerUrl
    frame_id: NamedDigest
    #: Higher than any before.
    sequence: Annotated[int, Meta(ge=1, le=2**53 - 1)]


@endpoint(
    "POST",
    "/v1/frames",
    scope="frames:write",
    summary="Keep a signed frame and distribute it to the hub that it is for",
    accepts=dict[str, Any],
    accepts_example={
        "manifest": {"v": 1, "iss": "https://shop.example", "aud": "https://hub.example"},
        "signature": "eyJhbGciOiJFZDI1NTE5In0..c2lnbmF0dXJl",
        "resources": {"/index.html": "PHA+TWlsazwvcD4="},
    },
    read=decode_bundle,
    returns=PublishedFrame,
    status=201,
    max_bytes=BUNDLE_BYTES_MAX,
    is_about_document=True,
)
async def publish_frame(server: "Merchant", call: Call) -> PublishedFrame:
    """The body is the bundle that `sconto merchant frame build` made. Safe to repeat."""
    home = server.base.home
    bundle: Bundle = call.document
    hub, not_before_s = bundle.manifest.get("aud"), bundle.manifest.get("nbf")
    if not isinstance(hub, str) or not isinstance(not_before_s, int):
        raise InvalidInputError("the manifest names no hub or no start", field="manifest.aud")
    frame = verify_frame(
        bundle,
        KeySet(key.public for key in home.keys),
        issuer=home.url,
        audience=hub,
        at_ms=not_before_s * MS_PER_SECOND,
        last_sequence=None,
    )

    def keep(tx: Tx) -> None:
        if store.get(tx.connection, frame.frame_id) is not None:
            return
        last = store.last_sequence(tx.connection, home.url, hub)
        if last is not None and frame.manifest.seq <= last:
            raise ConflictError(
                f"the sequence {frame.manifest.seq} is taken; the last one was {last}",
                code="sequence_too_low",
                field="manifest.seq",
                remedy="build the frame with a higher sequence",
                needed=last + 1,
            )
        store.save(tx, frame)

    server.base.directory.trusted(hub)
    await server.base.store.write(keep)
    answer = await _at_hub(server, hub, "PUT", f"/v1/frames/{frame_key(frame.frame_id)}", call.body)
    return PublishedFrame(
        frame_id=frame.frame_id,
        hub=hub,
        sequence=frame.manifest.seq,
        gallery_url=answer.get("gallery_url"),
    )


@endpoint(
    "POST",
    "/v1/frames/withdrawals",
    scope="frames:write",
    summary="Withdraw a frame from its hub",
    accepts=WithdrawalRequest,
    accepts_example={
        "hub": "https://hub.example",
        "frame_id": "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "sequence": 8,
    },
    returns=dict[str, Any],
)
async def withdraw_frame(server: "Merchant", call: Call) -> dict[str, Any]:
    request: WithdrawalRequest = call.document
    home = server.base.home
    server.base.directory.trusted(request.hub)
    withdrawal = Withdrawal(
        v=1, iss=home.url, aud=request.hub, seq=request.sequence, withdraws=request.frame_id
    )
    body = msgspec.json.encode({"withdrawal": sign_withdrawal(home.key, withdrawal)})
    await _at_hub(server, request.hub, "POST", "/v1/frames/withdrawals", body)

    def keep(tx: Tx) -> None:
        frame = store.get(tx.connection, request.frame_id)
        if frame is not None and frame.status == "active":
            store.withdraw(tx, frame, request.sequence)

    await server.base.store.write(keep)
    return {"frame_id": request.frame_id, "status": "withdrawn"}


ENDPOINTS = (publish_frame, withdraw_frame)


async def _at_hub(
    server: "Merchant", hub: str, method: str, path: str, body: bytes
) -> dict[str, Any]:
    """Call the hub; its refusal is told as the hub's, an absence as something to try again."""
    try:
        answer: dict[str, Any] = await server.base.client.call(method, hub, path, body=body)
    except WireError as error:
        raise UnavailableError(
            f"{error.message}; the frame is kept here",
            code="hub_unreachable",
            remedy="publish it again later",
            retry_after_s=10,
        ) from None
    except PeerError as error:
        status = error.figures.get("status", 500)
        if status >= 500:
            raise  # the hub's own mistake, not the frame's
        raise ConflictError(
            error.message,
            code="hub_refused",
            field=error.figures.get("peer_field"),
            peer_code=error.figures.get("peer_code"),
        ) from None
    return answer
