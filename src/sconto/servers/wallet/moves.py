"""Moving a token to another merchant: asked of its hub, and what becomes of it.

The hub must have the first merchant's release, which takes as long as that merchant is away; until
then the token is used as before. What the hub issues then is kept only if it is the same right at
the merchant that was asked for. It comes by an event, or as the answer to the same request again.
"""

import secrets
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from sconto.base.canonical import b64url
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, PeerError
from sconto.base.fields import Identifier, ServerUrl
from sconto.base.ids import handle_of
from sconto.base.keys import JWS_BYTES_MAX
from sconto.servers.admin import TenantIdText
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.wallet.accounts import acting
from sconto.servers.wallet.course import check_claims
from sconto.servers.wallet.problems import asking
from sconto.servers.wallet.promises import with_current_keys
from sconto.servers.wallet.reports import held_of, read_event
from sconto.servers.wallet.tokens import (
    MoveDocument,
    move_document,
    own_token,
    text_and_claims,
    usable_token,
)
from sconto.store import moves
from sconto.store import tokens as token_store
from sconto.store.moves import Move
from sconto.store.tokens import Token
from sconto.store.wallet import Account
from sconto.store.writer import Tx
from sconto.tokens import TokenClaims, make_proof
from sconto.wallet import claims_of, keep_moved

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

MoveId = Annotated[Identifier, Meta(max_length=100)]


class NewMove(Document):
    """Another merchant for a token."""

    #: Made by the caller and kept until the answer came; the same id is the same move.
    move_id: MoveId
    merchant: ServerUrl
    account_id: TenantIdText | None = None


class _Moved(msgspec.Struct):
    token_id: str
    move_id: MoveId
    merchant: ServerUrl
    token: Annotated[str, Meta(max_length=JWS_BYTES_MAX)]


class _MoveRefused(msgspec.Struct):
    token_id: str
    move_id: str
    reason: Annotated[str, Meta(max_length=64)]


@endpoint(
    "POST",
    "/v1/tokens/{token_id:str}/moves",
    scope="any",
    summary="Move a token to another merchant of its promotion, or see how far that has come",
    accepts=NewMove,
    accepts_example={"move_id": "move-1", "merchant": "https://other.example"},
    returns=MoveDocument,
)
async def move_token(wallet: "Wallet", call: Call) -> MoveDocument:
    """The first merchant must release the token. While it is away, the move is pending and the
    token can be used there; the same request again asks how it stands."""
    new: NewMove = call.document
    token_id = call.params["token_id"]
    account = acting(wallet, call, new.account_id)
    with wallet.base.store.read() as connection:
        token = own_token(connection, account.account_id, token_id)
        known = moves.get(connection, token_id, new.move_id)
        if known is None:
            usable_token(connection, account.account_id, token_id, call.now_ms)
    if known is not None and known.merchant != new.merchant:
        raise ConflictError(
            "this move was begun with another merchant",
            code="exists_with_different_merchant",
            field="merchant",
            remedy="make a new move_id for another move",
        )
    if known is None or known.state == "pending":
        async with asking(token.hub, refused="move_refused"):
            known = await _ask(wallet, account, token, new)
    return move_document(known)


ENDPOINTS = (move_token,)


async def _ask(wallet: "Wallet", account: Account, token: Token, new: NewMove) -> Move:
    """Ask the hub, and keep what it says."""
    jws, claims = text_and_claims(token)
    proof = make_proof(
        wallet.vault.holder_key(account.account_id, account.holder_seed),
        jws,
        method="POST",
        url=f"{token.hub}/v1/tokens/{token.token_id}/moves",
        order=f"{new.move_id} {new.merchant}",
        nonce=None,
        issued_at_ms=wallet.base.wall_clock(),
        proof_id=b64url(secrets.token_bytes(16)),
    )
    document = {"move_id": new.move_id, "merchant": new.merchant, "token": jws, "proof": proof}
    answer = await wallet.issuer(token.hub).move(token.token_id, document)
    text = answer.token or ""
    successor: TokenClaims | None = None
    if answer.state == "moved":
        successor = await with_current_keys(
            wallet.base,
            token.hub,
            lambda keys: keep_moved(text, claims, new.merchant, {token.hub: keys}),
        )
        check_claims(successor)
    said = Move(
        token.token_id,
        new.move_id,
        new.merchant,
        answer.state,
        wallet.base.clock(),
        reason=answer.reason,
    )

    def command(tx: Tx) -> Move:
        if successor is None:
            return _keep(tx, said)
        return _keep_successor(tx, token, said, text, successor)

    kept: Move = await wallet.base.store.write(command)
    return kept


def token_moved(wallet: "Wallet", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The token that takes the place of one that is held; also of a wallet that was restored."""
    event = read_event(data, _Moved)
    token = held_of(tx, source, event.token_id, None)
    known = moves.get(tx.connection, token.token_id, event.move_id)
    if known is not None and known.merchant != event.merchant:
        raise PeerError("the token was to be moved to another merchant", field="merchant")
    keys = {source: wallet.base.directory.known_keys(source)}
    claims = keep_moved(event.token, claims_of(token.jws or ""), event.merchant, keys)
    check_claims(claims)
    said = Move(token.token_id, event.move_id, event.merchant, "moved", tx.now_ms)
    _keep_successor(tx, token, said, event.token, claims)


def move_refused(wallet: "Wallet", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The token stays where it is."""
    event = read_event(data, _MoveRefused)
    held_of(tx, source, event.token_id, None)
    known = moves.get(tx.connection, event.token_id, event.move_id)
    if known is not None and known.state == "pending":
        moves.finish(tx, known._replace(state="refused", reason=event.reason))


EVENT_HANDLERS = {
    "sconto.token.moved.v1": token_moved,
    "sconto.token.move_refused.v1": move_refused,
}


def _keep(tx: Tx, said: Move) -> Move:
    """Take note of how a move stands; what has ended stays as it ended."""
    known = moves.get(tx.connection, said.token_id, said.move_id)
    if known is None:
        moves.add(tx, said)
        return said
    if known.state != "pending":
        return known
    if said.state != "pending":
        moves.finish(tx, said)
    return said


def _keep_successor(tx: Tx, token: Token, said: Move, jws: str, claims: TokenClaims) -> Move:
    """Keep the token that took the place of another. No clip is recorded: it was clipped before."""
    kept = _keep(tx, said._replace(uses=claims.uses, successor_id=claims.jti))
    held = token_store.get(tx.connection, token.token_id)
    if held is not None and held.status in ("issued", "redeemed"):
        token_store.set_status(tx, token.token_id, "moved")
    if token_store.get(tx.connection, claims.jti) is None:
        token_store.add(
            tx,
            token._replace(
                token_id=claims.jti,
                merchant=claims.aud,
                subject=claims.sub,
                handle=handle_of(claims.jti),
                status="issued",
                jws=jws,
            ),
        )
    return kept
