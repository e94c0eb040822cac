"""Writing off what a silent merchant holds, by an operator's decision.

Nothing becomes free by it: what the merchant has redeemed of its parts, and does redeem, unaware,
is honoured from what was written off, and nobody else ever gets it.
"""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.documents import Document
from sconto.base.errors import NotFoundError
from sconto.base.fields import Identifier
from sconto.servers.endpoint import Call, endpoint
from sconto.store import ledger, requests
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub


class WriteOff(Document):
    """What to write off: parts of these promotions; none named: of all."""

    promotion_ids: Annotated[tuple[Identifier, ...], Meta(max_length=1000)] = ()


class WrittenOff(Document):
    """One part, and what was left of it."""

    allotment_id: str
    promotion_id: str
    merchant: str
    uses: int
    amount_minor: int
    #: Of a limit that merchants share; empty: of the promotion itself.
    counter: str = ""


class WriteOffDocument(Document):
    """What this request has written off; nothing, where it was done before."""

    written_off: tuple[WrittenOff, ...]


@endpoint(
    "POST",
    "/v1/merchants/{tenant_id:str}/write-offs",
    scope="admin",
    summary="Write off what a silent merchant holds of promotions' budgets",
    accepts=WriteOff,
    accepts_example={"promotion_ids": ["oaty-10"]},
    returns=WriteOffDocument,
    status=201,
)
async def write_off(hub: "Hub", call: Call) -> WriteOffDocument:
    """It cannot be undone. Late reports are still honoured, and nothing of it is granted again."""
    asked: WriteOff = call.document
    tenant_id = call.params["tenant_id"]
    merchants = [
        peer.url for peer in hub.base.directory.of_kind("merchant") if peer.tenant_id == tenant_id
    ]
    if not merchants:
        raise NotFoundError(f"no merchant has the tenant {tenant_id[:64]}", field="tenant_id")

    def command(tx: Tx) -> WriteOffDocument:
        ended = []
        for merchant in merchants:
            for part in ledger.open_of(tx.connection, merchant):
                if asked.promotion_ids and part.promotion_id not in asked.promotion_ids:
                    continue
                left = ledger.write_off(tx, part.allotment_id)
                requests.forget(tx, part.promotion_id, merchant)
                ended.append(
                    WrittenOff(
                        allotment_id=part.allotment_id,
                        promotion_id=part.promotion_id,
                        merchant=merchant,
                        uses=left.uses,
                        amount_minor=left.minor,
                        counter=part.counter,
                    )
                )
        return WriteOffDocument(written_off=tuple(ended))

    done: WriteOffDocument = await hub.base.store.write(call.once(command))
    return done


ENDPOINTS = (write_off,)
