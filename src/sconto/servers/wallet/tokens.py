"""The tokens that an account holds: what each promises, where, until when, what became of it."""

import contextlib
from typing import TYPE_CHECKING, get_args

import sqlalchemy as sa

from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, InvariantError, NotFoundError
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.wallet.accounts import acting
from sconto.servers.wallet.course import Course
from sconto.servers.wallet.problems import asking
from sconto.store import moves
from sconto.store import tokens as token_store
from sconto.store import wallet as store
from sconto.store.moves import Move
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import sentence
from sconto.tokens import TokenClaims
from sconto.wallet import Use, claims_of, use_of

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet


class UseDocument(Document):
    """One use of a token, as its merchant reported it."""

    merchant: str
    at: str
    amount_minor: int
    currency: str
    order_id: str
    reversed_minor: int = 0
    #: The merchant's signed receipt of the order (`promo-receipt+jwt`).
    receipt: str | None = None
    #: Whether the receipt's signature was checked with the merchant's own keys.
    receipt_is_verified: bool = False


class MoveDocument(Document):
    """A move of a token to another merchant."""

    move_id: str
    token_id: str
    #: Where to.
    merchant: str
    #: pending: the token can still be used where it was; moved, or refused
    state: str
    #: Why it was refused.
    reason: str | None = None
    #: The token that took its place.
    successor_id: str | None = None


class TokenDocument(Document):
    """A token, in a shopper's words."""

    token_id: str
    #: What a person types at a till.
    handle: str
    #: usable, not_yet, expired, redeemed, revoked, deleted or moved
    status: str
    account_id: str
    promotion_id: str
    title: str
    #: The terms in one plain sentence.
    sentence: str
    #: The one merchant that redeems it.
    merchant: str
    hub: str
    frame_id: str
    terms_digest: str
    clip_id: str
    uses: int
    clipped_at: str
    expires_at: str
    uses_left: int = 0
    valid_from: str | None = None
    used: tuple[UseDocument, ...] = ()
    #: Its newest move to another merchant.
    move: MoveDocument | None = None
    #: The token itself; of no use without the account's key.
    jws: str | None = None


class TokenPage(Document):
    """Tokens in the order in which they were clipped; `next` is the `after` of the next page."""

    tokens: tuple[TokenDocument, ...]
    next: str | None = None


@endpoint(
    "GET",
    "/v1/tokens",
    scope="any",
    summary="The tokens of an account, in the order in which they were clipped",
    returns=TokenPage,
    query={
        "account_id": "whose, for a key that acts for every account",
        "status": "usable, not_yet, expired, redeemed, moved, revoked or deleted; else all others",
        "merchant": "at this merchant only",
        "after": "`next` of the page before",
        "limit": "at most so many, 1 to 1000",
    },
)
async def list_tokens(wallet: "Wallet", call: Call) -> TokenPage:
    account = acting(wallet, call, call.query.get("account_id"))
    use = call.query.get("status")
    if use is not None and use not in get_args(Use):
        raise InvalidInputError(
            f"there is no status {use[:40]!r}",
            field="status",
            remedy=f"use one of: {', '.join(get_args(Use))}",
        )
    limit = call.limit(100)
    with wallet.base.store.read() as connection:
        found = store.held(
            connection,
            account.account_id,
            call.now_ms,
            use=use,
            merchant=call.query.get("merchant"),
            after=call.query.get("after", ""),
            limit=limit,
        )
        listed = tuple(document(wallet, connection, token, call.now_ms) for token in found)
    return TokenPage(tokens=listed, next=found[-1].token_id if len(found) == limit else None)


@endpoint(
    "GET",
    "/v1/tokens/{token_id:str}",
    scope="any",
    summary="One token, with the token itself and what it was used for",
    returns=TokenDocument,
    query={"account_id": "whose, for a key that acts for every account"},
)
async def show_token(wallet: "Wallet", call: Call) -> TokenDocument:
    account = acting(wallet, call, _named(wallet, call))
    with wallet.base.store.read() as connection:
        token = own_token(connection, account.account_id, call.params["token_id"])
        return document(wallet, connection, token, call.now_ms, with_jws=True)


@endpoint(
    "DELETE",
    "/v1/tokens/{token_id:str}",
    scope="any",
    summary="Give a token up",
    status=204,
    query={"account_id": "whose, for a key that acts for every account"},
)
async def delete_token(wallet: "Wallet", call: Call) -> None:
    """The hub revokes it, so that no merchant applies it by itself; what was saved stays.

    Again: nothing happens. While the hub is away: 503, and nothing was changed.
    """
    account = acting(wallet, call, _named(wallet, call))
    token_id = call.params["token_id"]
    with wallet.base.store.read() as connection:
        token = own_token(connection, account.account_id, token_id)
        clip = store.clip(connection, account.account_id, token.clip_id)
        _, claims = text_and_claims(token)
    # The hub knows the clip only where this wallet has made it.
    is_open = use_of(token.status, claims, call.now_ms) in ("usable", "not_yet")
    if is_open and clip is not None and clip.promotion_id is not None:
        with contextlib.suppress(ConflictError, NotFoundError):  # it has ended there already
            async with asking(token.hub):
                await Course(wallet, account, clip).give_up()

    def command(tx: Tx) -> None:
        if own_token(tx.connection, account.account_id, token_id).status != "deleted":
            token_store.set_status(tx, token_id, "deleted")

    await wallet.base.store.write(command)


ENDPOINTS = (list_tokens, show_token, delete_token)


def own_token(connection: sa.Connection, account_id: str, token_id: str) -> Token:
    """An account's token; NotFoundError when it is not there or another account's."""
    token = token_store.get(connection, token_id)
    if token is None or token.account_id != account_id:
        raise NotFoundError(f"there is no token {token_id[:26]}", field="token_id")
    return token


def usable_token(
    connection: sa.Connection, account_id: str, token_id: str, at_ms: int
) -> tuple[Token, str, TokenClaims]:
    """A token that can be presented at an instant, its text and its claims.

    Raises NotFoundError, or ConflictError (`token_expired`, `token_redeemed`, …) saying why not.
    """
    token = own_token(connection, account_id, token_id)
    jws, claims = text_and_claims(token)
    use = use_of(token.status, claims, at_ms)
    if use not in ("usable", "not_yet"):
        raise ConflictError(
            f"the token is {use}", code=f"token_{use}", field="token_id", status_now=use
        )
    return token, jws, claims


def text_and_claims(token: Token) -> tuple[str, TokenClaims]:
    """The token itself and what it says."""
    if token.jws is None:
        raise InvariantError("a wallet keeps the token itself")
    return token.jws, claims_of(token.jws)


def document(
    wallet: "Wallet",
    connection: sa.Connection,
    token: Token,
    now_ms: int,
    *,
    with_jws: bool = False,
) -> TokenDocument:
    """A token as it is shown."""
    jws, claims = text_and_claims(token)
    terms = wallet.promises.of_token(connection, token.terms_digest)
    used = store.uses_of(connection, token.token_id)
    move = moves.latest(connection, token.token_id)
    is_here = token.status != "moved"
    spent = sum(one.state == "redeemed" for one in used)
    return TokenDocument(
        token_id=token.token_id,
        handle=token.handle or "",
        status=use_of(token.status, claims, now_ms),
        account_id=token.account_id or "",
        promotion_id=token.promotion_id,
        title=terms.title,
        sentence=sentence(terms),
        merchant=token.merchant,
        hub=token.hub,
        frame_id=token.frame_id,
        terms_digest=token.terms_digest,
        clip_id=token.clip_id,
        uses=claims.uses,
        uses_left=max(claims.uses - spent, 0) if is_here else 0,
        clipped_at=rfc3339(token.clipped_at_ms),
        valid_from=rfc3339(claims.nbf * 1000) if claims.nbf != claims.iat else None,
        expires_at=rfc3339(claims.exp * 1000),
        used=tuple(_use_document(connection, one) for one in used) if with_jws else (),
        move=None if move is None else move_document(move),
        jws=jws if with_jws else None,
    )


def move_document(move: Move) -> MoveDocument:
    """A move as it is shown."""
    return MoveDocument(
        move_id=move.move_id,
        token_id=move.token_id,
        merchant=move.merchant or "",
        state=move.state,
        reason=move.reason,
        successor_id=move.successor_id,
    )


def _use_document(connection: sa.Connection, used: store.Use) -> UseDocument:
    receipt = store.receipt(connection, used.merchant, used.order_id)
    return UseDocument(
        merchant=used.merchant,
        at=rfc3339(used.at_ms),
        amount_minor=used.amount_minor,
        currency=used.currency,
        order_id=used.order_id,
        reversed_minor=used.reversed_minor,
        receipt=receipt[0] if receipt else None,
        receipt_is_verified=receipt[1] if receipt else False,
    )


def _named(wallet: "Wallet", call: Call) -> str | None:
    """The account of a token's address: an operator may leave it out, the token says it."""
    named = call.query.get("account_id")
    if named is not None or call.principal.tenant_kind == "account":
        return named
    if not call.principal.may("accounts:write"):
        return None
    with wallet.base.store.read() as connection:
        token = token_store.get(connection, call.params["token_id"])
    if token is None:
        raise NotFoundError(f"there is no token {call.params['token_id'][:26]}", field="token_id")
    return token.account_id
