"""Moving a token to another merchant that takes part: only when the first one has released it.

A token names one merchant, so that its use can be counted there while the network is down. To move
it, its holder asks the hub; the hub asks the merchant; the merchant gives the token up for good and
says how many uses were left; then the hub issues a *successor* with so many uses for the other one.

1. Until the release the token is good at the first merchant, from then on nowhere, and the
   successor at the other one from when it is issued: at no moment at both.
2. Holder, promotion, terms, frame, clip and end stay; it is no second clip, and counts under the
   limits by shopper and in the circulation as it did.
3. A move is known by the token and the holder's `move_id`, and never asked for twice with another
   end. A token has one pending move. It cannot be called off: the merchant may have released it.
4. The successor's id follows from token and move, and the merchant's answer carries our own proof
   of what we asked: a hub that was restored comes to the same token again.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from sconto.base.documents import Document, from_builtins
from sconto.base.errors import ConflictError, InvalidInputError, NotFoundError
from sconto.base.fields import ServerUrl
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.hub import catalogue, codes
from sconto.servers.hub.allotments import check_merchant
from sconto.servers.hub.catalogue import shopper_limits, uses_of, uses_of_token
from sconto.servers.hub.gallery import not_active
from sconto.servers.hub.issuing import ISSUED, information, make
from sconto.servers.hub.status import refuse_move
from sconto.store import moves, offers, promotions, reports, tokens
from sconto.store.moves import Move
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.terms.counting import counted
from sconto.tokens import STATUS_LIST_SIZE, verify_proof
from sconto.tokens.issue import USES_MAX
from sconto.wallet import claims_of

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

RELEASE_REQUESTED = "sconto.token.release_requested.v1"
MOVED = "sconto.token.moved.v1"

MoveId = Annotated[str, Meta(pattern=r"^[!-~]{1,100}$(?!\n)")]
_JwsText = Annotated[str, Meta(min_length=20, max_length=16_384)]


class NewMove(Document):
    """A holder wants to use a token at another merchant."""

    #: Made by the holder; the same id again is the same move.
    move_id: MoveId
    #: Where to: a merchant that takes part in the promotion.
    merchant: ServerUrl
    token: _JwsText
    #: DPoP-shaped (RFC 9449), for this URL; its `order` is `<move_id> <merchant>`.
    proof: _JwsText


class MoveDocument(Document):
    """A move as it stands."""

    token_id: str
    move_id: str
    merchant: str
    #: pending, moved or refused
    state: str
    #: Why it was refused.
    reason: str | None = None
    #: The token that took the place of the first one.
    token: str | None = None


class _Released(Struct, kw_only=True):
    """A merchant has given up a token, for good, before it said so."""

    token_id: Annotated[str, Meta(max_length=26)]
    move_id: MoveId
    uses: Annotated[int, Meta(ge=1, le=USES_MAX)]
    #: As it came with the request.
    proof: Annotated[str, Meta(max_length=64)]


class _ReleaseRefused(Struct, kw_only=True):
    """A merchant keeps a token."""

    token_id: Annotated[str, Meta(max_length=26)]
    move_id: MoveId
    reason: Literal["token_used", "token_reserved", "token_revoked", "token_moved"]


@endpoint(
    "POST",
    "/v1/tokens/{token_id:str}/moves",
    scope="",
    summary="Move a token to another merchant, or look how far that has come",
    accepts=NewMove,
    accepts_example={
        "move_id": "move-1",
        "merchant": "https://other.example",
        "token": "eyJ0eXAiOiJwcm9tby10b2tlbitqd3QifQ.eyJhdWQiOiIuLi4ifQ.c2lnbmF0dXJl",
        "proof": "eyJ0eXAiOiJkcG9wK2p3dCJ9.eyJodG0iOiJQT1NUIn0.c2lnbmF0dXJl",
    },
    returns=MoveDocument,
    is_about_document=True,
)
async def move_token(hub: "Hub", call: Call) -> MoveDocument:
    """The holder's proof is the authentication. The first merchant must release the token.

    Until it has, the move is pending and the token is good where it was. A registered wallet is
    told how it ends; everybody can ask again with the same `move_id` and a new proof.
    """
    asked: NewMove = call.document
    token_id = call.params["token_id"]
    with hub.base.store.read() as connection:
        held = tokens.get(connection, token_id)
    if held is None or held.jws is None or not codes.is_same(asked.token, held.jws):
        hub.offer_guesses.failed(call.source, hub.base.wall_clock(), field="token")
        raise NotFoundError("there is no such token", field="token")
    verify_proof(
        asked.proof,
        asked.token,
        claims_of(asked.token),
        method="POST",
        url=hub.base.home.url + call.raw_target,
        order=f"{asked.move_id} {asked.merchant}",
        nonce=None,
        now_ms=hub.base.wall_clock(),
    )
    done: MoveDocument = await hub.base.store.write(lambda tx: _move(hub, tx, token_id, asked))
    return done


ENDPOINTS = (move_token,)


def token_released(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Issue the successor, and tell both merchant and wallet. Again: nothing happens.

    The stream has no gap, so everything that was redeemed before the release is known by now.
    """
    check_merchant(hub, source)
    said = from_builtins(data, _Released, what="data", field="data")
    token = _token_at(tx, source, said.token_id)
    merchant = _destination(hub, tx, token, said.move_id, said.proof)
    known = moves.get(tx.connection, token.token_id, said.move_id)
    if known is not None and known.state != "pending":
        return
    if token.status not in ("issued", "redeemed"):
        return  # only after a restore: it ended before, and nothing is left of it
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    uses = uses_of_token(token, terms)
    used = len(reports.uses_taken(tx.connection, token.token_id))
    moved = Move(
        token.token_id,
        said.move_id,
        merchant,
        "moved",
        tx.now_ms,
        uses=min(said.uses, uses - used),
        successor_id=codes.successor_id(
            hub.base.home.secret, token.token_id, said.move_id, token.clipped_at_ms
        ),
    )
    if not moved.uses:
        if known is not None:
            refuse_move(tx, token, known, "token_used")
        return
    if known is None:  # this hub was restored, and has forgotten that it asked
        moves.add(tx, moved)
    else:
        moves.finish(tx, moved)
    tokens.move_away(tx, token, uses - moved.uses)
    if token.status_index is not None:
        shard = token.status_index // STATUS_LIST_SIZE
        tx.after_commit(lambda: hub.forget_status_list(shard))
    _issue_successor(hub, tx, token, moved)


def release_refused(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The merchant keeps the token: the move comes to nothing."""
    check_merchant(hub, source)
    said = from_builtins(data, _ReleaseRefused, what="data", field="data")
    token = _token_at(tx, source, said.token_id)
    known = moves.get(tx.connection, token.token_id, said.move_id)
    if known is not None and known.state == "pending":
        refuse_move(tx, token, known, said.reason)


def merchant_restored(hub: "Hub", tx: Tx, merchant: str) -> None:
    """Tell a merchant what its backup may have forgotten, before it is granted anything."""
    for move, token in moves.away_from(tx.connection, tx.now_ms, merchant):
        _ask(hub, tx, token, move, is_moved=True)
    for move, token in moves.unfinished(tx.connection, tx.now_ms, merchant):
        _ask(hub, tx, token, move)


def hub_restored(hub: "Hub", tx: Tx) -> None:
    """Ask for pending releases again: what was sent after the backup is forgotten."""
    for move, token in moves.unfinished(tx.connection, tx.now_ms):
        _ask(hub, tx, token, move)


EVENT_HANDLERS = {
    "sconto.token.released.v1": token_released,
    "sconto.token.release_refused.v1": release_refused,
}


def _move(hub: "Hub", tx: Tx, token_id: str, asked: NewMove) -> MoveDocument:
    token = tokens.get(tx.connection, token_id)
    if token is None:
        raise NotFoundError("there is no such token", field="token")
    known = moves.get(tx.connection, token_id, asked.move_id)
    if known is not None:
        if known.merchant != asked.merchant:
            raise ConflictError(
                "this move was begun with another merchant",
                code="exists_with_different_merchant",
                field="merchant",
                remedy="make a new move_id for another move",
            )
        return _document(tx, known)
    _check(hub, tx, token, asked.merchant)
    begun = Move(token_id, asked.move_id, asked.merchant, "pending", tx.now_ms)
    moves.add(tx, begun)
    _ask(hub, tx, token, begun)
    return _document(tx, begun)


def _check(hub: "Hub", tx: Tx, token: Token, merchant: str) -> None:
    """What must be true of a token that is to be moved; the first thing that is not is named."""
    if token.status != "issued" or tx.now_ms >= (token.expires_at_ms or 0):
        status = "expired" if token.status == "issued" else token.status
        raise ConflictError(
            f"the token is {status}", code=f"token_{status}", field="token", status_now=status
        )
    pending = moves.in_state(tx.connection, token.token_id, "pending")
    if pending is not None:
        raise ConflictError(
            "the token is on its way to another merchant already",
            code="move_pending",
            field="move_id",
            remedy="wait until its first merchant has answered",
            pending=pending.move_id,
        )
    if merchant == token.merchant:
        raise InvalidInputError("the token is for this merchant", field="merchant")
    if merchant not in offers.merchants_of(tx.connection, token.promotion_id):
        raise ConflictError(
            f"{merchant} does not take part in {token.promotion_id}",
            code="promotion_not_accepted",
            field="merchant",
        )
    promotion = offers.standing(tx.connection, [token.promotion_id])[token.promotion_id]
    if promotion.status != "active":
        raise not_active(promotion, "token")
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    if terms.holdout_basis_points:
        raise ConflictError(
            "the promotion has a control group, which is drawn for each merchant",
            code="token_not_movable",
            field="token",
        )
    if any("token" in limit.per for limit in counted(terms)):
        raise ConflictError(
            "the promotion has a limit by token that the first merchant counts",
            code="token_not_movable",
            field="token",
        )
    _check_limits(tx, token, terms, merchant)


def _check_limits(tx: Tx, token: Token, terms: Terms, merchant: str) -> None:
    """Room at the other merchant, where a limit is by shopper and merchant."""
    uses = uses_of_token(token, terms)
    for limit, is_per_merchant in shopper_limits(terms):
        if not is_per_merchant:
            continue
        held = tokens.uses_of_holder(
            tx.connection, token.promotion_id, token.holder_jkt or "", uses_of(terms), merchant
        )
        if held + uses > limit:
            raise ConflictError(
                f"the shopper may have {limit} uses at this merchant, and has {held}",
                code="shopper_limit_reached",
                field="merchant",
                limit=limit,
                had=held,
            )


def _ask(hub: "Hub", tx: Tx, token: Token, move: Move, *, is_moved: bool = False) -> None:
    """Ask a merchant for its release, with all that it must know of a token to refuse it.

    `is_moved`: it has released the token before; it takes note of that and does not answer.
    """
    data = information(hub, tx, token, claims_of(token.jws or "").uses)
    proof = codes.move_proof(
        hub.base.home.secret, token.token_id, move.move_id, move.merchant or ""
    )
    data |= {"move_id": move.move_id, "proof": proof, "is_moved": is_moved}
    tx.send(token.merchant, RELEASE_REQUESTED, token.token_id, data)


def _token_at(tx: Tx, source: str, token_id: str) -> Token:
    token = tokens.get(tx.connection, token_id)
    if token is None or token.merchant != source or token.jws is None:
        raise NotFoundError("no such token was issued for this merchant", field="data.token_id")
    return token


def _destination(hub: "Hub", tx: Tx, token: Token, move_id: str, proof: str) -> str:
    """Where we have asked to move a token; by the proof, also when we have forgotten it."""
    known = moves.get(tx.connection, token.token_id, move_id)
    taking_part = offers.merchants_of(tx.connection, token.promotion_id)
    for merchant in (*filter(None, (known and known.merchant,)), *taking_part):
        expected = codes.move_proof(hub.base.home.secret, token.token_id, move_id, merchant)
        if codes.is_same(proof, expected):
            return merchant
    raise InvalidInputError(
        "this hub has not asked for this release", code="proof_mismatch", field="data.proof"
    )


def _issue_successor(hub: "Hub", tx: Tx, token: Token, move: Move) -> None:
    """The same right at another merchant, and everybody is told. No clip is recorded again."""
    offered = token._replace(
        token_id=move.successor_id or "",
        # A space, so that it is no clip of any wallet's.
        clip_id=f"moved {token.token_id}",
        merchant=move.merchant or "",
        offer_code_hash=None,
        offer_expires_at_ms=None,
        uses=move.uses,
    )
    uses = move.uses or 0
    issued = make(hub, tx, offered, token.holder_jkt or "", uses)
    tokens.add(tx, issued)
    promotion = promotions.get(tx.connection, token.promotion_id)
    if promotion is not None:
        catalogue.tell_version(tx, issued.merchant, promotion, token.terms_digest)
    data = information(hub, tx, issued, uses) | {"is_moved": True}
    tx.send(issued.merchant, ISSUED, issued.token_id, data)
    if token.wallet is not None:
        told = {
            "token_id": token.token_id,
            "move_id": move.move_id,
            "merchant": issued.merchant,
            "token": issued.jws,
        }
        tx.send(token.wallet, MOVED, token.token_id, told)


def _document(tx: Tx, move: Move) -> MoveDocument:
    successor = tokens.get(tx.connection, move.successor_id) if move.successor_id else None
    return MoveDocument(
        token_id=move.token_id,
        move_id=move.move_id,
        merchant=move.merchant or "",
        state=move.state,
        reason=move.reason,
        token=None if successor is None else successor.jws,
    )
