"""A wallet says that it showed a frame's offers to a shopper."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError, NotAuthenticatedError
from sconto.base.fields import Identifier, NamedDigest
from sconto.ledger import Entry
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.hub.catalogue import day_in
from sconto.servers.hub.gallery import live_frame
from sconto.store import frames
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

SHOWN = "sconto.frame.shown.v1"
EXAMPLE_FRAME = "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"

#: When something happened, if not now; needs the scope `replay`.
Moment = Annotated[datetime, Meta(tz=True)]


class Impression(Document):
    """A frame was shown to a shopper. Nobody can verify that; it is counted apart."""

    frame_id: NamedDigest
    promotion_ids: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=500)]
    #: When, if not now; needs the scope `replay`.
    at: Moment | None = None


@endpoint(
    "POST",
    "/v1/impressions",
    scope="wallet",
    summary="Say that a frame's offers were shown to a shopper",
    accepts=Impression,
    accepts_example={"frame_id": EXAMPLE_FRAME, "promotion_ids": ["oaty-10"]},
    status=204,
)
async def record_impression(hub: "Hub", call: Call) -> None:
    """Once per Idempotency-Key."""
    signing_wallet(call)
    shown: Impression = call.document
    at_ms = call.at_ms(shown.at)

    def command(tx: Tx) -> None:
        frame = live_frame(tx.connection, shown.frame_id, at_ms)
        offered = {
            o.promotion_id: o
            for o in frames.offers_of(tx.connection, [frame.frame_id])[frame.frame_id]
        }
        entries = []
        for i, promotion_id in enumerate(dict.fromkeys(shown.promotion_ids)):
            offer = offered.get(promotion_id)
            if offer is None:
                raise not_offered(promotion_id, f"promotion_ids[{i}]")
            terms = hub.catalogue.promised(tx.connection, offer.terms_digest)
            entries.append(
                Entry(
                    kind="shown",
                    promotion_id=promotion_id,
                    merchant=frame.issuer,
                    at_ms=at_ms,
                    day=day_in(terms, at_ms),
                    terms_digest=offer.terms_digest,
                    frame_id=frame.frame_id,
                )
            )
        for entry in entries:
            tx.record(entry)
            tx.send(
                frame.issuer,
                SHOWN,
                frame.frame_id,
                {
                    "frame_id": frame.frame_id,
                    "promotion_id": entry.promotion_id,
                    "at": rfc3339(at_ms),
                },
            )

    await hub.base.store.write(call.once(command))


ENDPOINTS = (record_impression,)


def signing_wallet(call: Call) -> str:
    """The wallet server that signed the request."""
    if call.principal.peer_url is None:
        raise NotAuthenticatedError(
            "only a registered wallet server may do this, by a signed request",
            code="signature_missing",
            field="Signature",
        )
    return call.principal.peer_url


def not_offered(promotion_id: str, field: str) -> InvalidInputError:
    return InvalidInputError(
        f"the frame does not offer {promotion_id}", code="not_offered", field=field
    )
