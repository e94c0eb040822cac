"""Releasing a token that its holder moves to another merchant: given up first, only then said.

From the release on the token is refused here (`token_moved`), for good; the hub issues another one
elsewhere for the uses that were left. It is kept while an order holds a use of it, so that nothing
is lost when that order is released. Where it goes this merchant is not told.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from sconto.base.documents import from_builtins
from sconto.base.errors import PeerError
from sconto.servers.merchant.offers import TokenIssued
from sconto.store import coupons, moves
from sconto.store.coupons import Coupon
from sconto.store.moves import Move
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

RELEASED = "sconto.token.released.v1"
REFUSED = "sconto.token.release_refused.v1"


class _ReleaseRequested(TokenIssued, kw_only=True):
    """The coupon information again: a token that this merchant was not told of is refused too."""

    move_id: Annotated[str, Meta(pattern=r"^[!-~]{1,100}$(?!\n)")]
    #: To be given back with the release.
    proof: Annotated[str, Meta(max_length=64)]


def release_requested(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Give up a token and say so, or say why not; the same request again gets the same answer.

    `is_moved`: this merchant has released it before; nobody waits for an answer.
    """
    event = from_builtins(data, _ReleaseRequested, what="event")
    coupon = coupons.get(tx.connection, event.token_id)
    if coupon is not None and coupon.hub != source:
        raise PeerError("there is no such coupon information", field="token_id")
    known = moves.get(tx.connection, event.token_id, event.move_id)
    if known is None:
        told = event.coupon(source, tx.now_ms)
        if coupon is None:
            coupons.add(tx, told)
        known = _decide(tx, coupon or told, event)
        moves.add(tx, known)
        if known.state == "moved":
            coupons.release(tx, coupon or told)
    if event.is_moved:
        return
    answer: dict[str, Any] = {"token_id": event.token_id, "move_id": event.move_id}
    if known.state == "moved":
        answer |= {"uses": known.uses, "proof": event.proof}
        tx.send(source, RELEASED, event.token_id, answer)
    else:
        tx.send(source, REFUSED, event.token_id, answer | {"reason": known.reason})


def _decide(tx: Tx, coupon: Coupon, event: _ReleaseRequested) -> Move:
    """Whether a token is released, with its uses, or why it is kept."""
    if event.is_moved:
        reason = None
    elif coupon.is_revoked:
        was_moved = moves.in_state(tx.connection, coupon.token_id, "moved") is not None
        reason = "token_moved" if was_moved else "token_revoked"
    elif coupons.is_reserved(tx.connection, coupon.token_id):
        reason = "token_reserved"
    else:
        reason = None if coupon.uses_left else "token_used"
    state, uses = ("moved", coupon.uses_left) if reason is None else ("refused", None)
    return Move(coupon.token_id, event.move_id, None, state, tx.now_ms, reason=reason, uses=uses)


EVENT_HANDLERS = {"sconto.token.release_requested.v1": release_requested}
