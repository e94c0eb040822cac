"""Who is shopping: the client's coupon information, presented tokens and typed handles.

A presented token is verified offline: the hub's cached keys, audience, dates, status list, and a
proof by its holder's key that is bound to this merchant and this order (RFC 9449). What the hub has
not told yet is then taken from the token itself, so a late hub is no reason to turn anybody away.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from sconto.base.clock import MS_PER_SECOND
from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError
from sconto.base.ids import handle_of, normalise_handle
from sconto.cart import Cart, HeldCode, HeldToken, Holder
from sconto.cart.model import STRANGER
from sconto.store import codes as unique_codes
from sconto.store import coupons, moves
from sconto.store.codes import UniqueCode
from sconto.store.coupons import Coupon
from sconto.tokens import TokenClaims, verify_proof, verify_token
from sconto.tokens.holdout import is_control

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

JwsText = Annotated[str, Meta(min_length=20, max_length=16_384)]
#: What the datastore has room for.
TOKEN_ID_MAX = 26
SUBJECT_MAX = 64


class Presented(Document):
    """A token and the proof that whoever presents it holds its key."""

    token: JwsText
    #: DPoP-shaped (RFC 9449), bound to this request's URL and to the order.
    proof: JwsText


class Holding(NamedTuple):
    """What a checkout knows of its holder."""

    holder: Holder
    cart: Cart
    coupons: dict[str, Coupon]
    #: Tokens and codes that were shown on purpose, whose refusal is worth counting.
    shown: frozenset[str]
    #: Coupons that only the presented token told of.
    learned: tuple[Coupon, ...]
    #: Codes that are neither a coupon's handle nor a unique code here.
    unknown: tuple[str, ...] = ()
    #: Unique codes, used or not, as they were typed.
    codes: Mapping[str, UniqueCode] = MappingProxyType({})


def verify_presented(
    merchant: "Merchant",
    presented: tuple[Presented, ...],
    *,
    method: str,
    path: str,
    order: str,
    at_ms: int | None,
    now_ms: int,
    nonce: str | None = None,
    field: str = "presented[{}].",
) -> list[TokenClaims]:
    """The claims of presented tokens, all of them good; `at_ms` is when the checkout happens.

    Raises InvalidInputError that names the token, the proof or the claim that is wrong, under
    `field` with the token's place in it.
    """
    base = merchant.base
    result = []
    for i, one in enumerate(presented):
        where = field.format(i)
        try:
            claims = verify_token(
                one.token,
                base.directory.keys_of_issuer,
                audience=base.home.url,
                at_ms=at_ms,
            )
            verify_proof(
                one.proof,
                one.token,
                claims,
                method=method,
                url=base.home.url + path,
                order=order,
                nonce=nonce,
                now_ms=now_ms,
            )
        except InvalidInputError as error:
            error.field = f"{where}{error.field or 'token'}"
            raise
        if len(claims.jti) > TOKEN_ID_MAX or len(claims.sub or "") > SUBJECT_MAX:
            raise InvalidInputError(
                "the token's id or subject is longer than any hub of ours makes them",
                code="malformed",
                field=f"{where}token",
            )
        held = merchant.shelf.get(claims.terms_digest)
        if held is not None and (held.hub, held.promotion_id) != (claims.iss, claims.promotion_id):
            raise InvalidInputError(
                "the token is of another hub or promotion than the terms that it names",
                code="terms_mismatch",
                field=f"{where}token",
            )
        if merchant.status_lists.is_revoked(claims):
            with base.store.read() as connection:
                raise ended(connection, claims.jti, f"{where}token")
        result.append(claims)
    return result


def holding(
    connection: sa.Connection,
    cart: Cart,
    client: str | None,
    presented: list[TokenClaims],
    at_ms: int,
    digest: Callable[[str], bytes],
    holdout: Callable[[str], int] = lambda terms_digest: 0,
) -> Holding:
    """The holder of a cart: tokens that were presented, typed as handles, or known of the client.

    `digest` gives what the datastore has of a unique code. Such a code is worth one token, but is
    no proof of who typed it, as it may be short: the answer about it stays the strangers'.
    `holdout` gives the share of shoppers, in basis points, for whom terms hold nothing.
    Raises InvalidInputError when a presented token has no use left.
    """
    known: dict[str, Coupon] = {}
    learned: list[Coupon] = []
    shown: set[str] = set()
    for i, claims in enumerate(presented):
        coupon = coupons.get(connection, claims.jti)
        if coupon is None:
            coupon = _learn(claims, at_ms, holdout(claims.terms_digest))
            learned.append(coupon)
        if coupon.is_revoked:
            raise ended(connection, coupon.token_id, f"presented[{i}].token")
        if coupon.uses_left == 0:
            raise InvalidInputError(
                "the token was used already", code="token_used", field=f"presented[{i}].token"
            )
        known[coupon.token_id] = coupon
        shown.add(coupon.token_id)
    codes: list[str] = []
    unknown: list[str] = []
    unique: dict[str, UniqueCode] = {}
    for code in cart.codes:
        coupon = _of_handle(connection, code)
        if coupon is not None and _is_usable(coupon, at_ms):
            known[coupon.token_id] = coupon
            shown.add(coupon.token_id)
        else:
            codes.append(code)
            shown.add(code)
            if coupon is None:
                found = unique_codes.find(connection, digest(code))
                if found is None:
                    unknown.append(code)
                else:
                    unique[code] = found
    if client is not None:
        for coupon in coupons.usable(connection, client, at_ms):
            known.setdefault(coupon.token_id, coupon)
    tokens = tuple(
        HeldToken(
            token_id=coupon.token_id,
            terms_digest=coupon.terms_digest,
            clipped_at_ms=coupon.clipped_at_ms,
            is_control=coupon.is_control,
        )
        for coupon in known.values()
    )
    held_codes = tuple(
        HeldCode(code=code, terms_digest=one.terms_digest, is_used=not one.uses_left)
        for code, one in unique.items()
    )
    holder = Holder(client=client, proven=bool(known), tokens=tokens, codes=held_codes)
    rest = cart if len(codes) == len(cart.codes) else _with_codes(cart, tuple(codes))
    return Holding(holder, rest, known, frozenset(shown), tuple(learned), tuple(unknown), unique)


def ended(connection: sa.Connection, token_id: str, field: str) -> InvalidInputError:
    """The refusal of a token that is not good any more: it was revoked, or moved away from here."""
    if moves.in_state(connection, token_id, "moved") is None:
        return InvalidInputError("the token was revoked", code="token_revoked", field=field)
    return InvalidInputError(
        "the token was moved to another merchant",
        code="token_moved",
        field=field,
        remedy="present the token that took its place, at the merchant that it names",
    )


def anonymous(cart: Cart) -> Holding:
    """What `holding` gives where nothing was presented or typed and no client is named."""
    return Holding(STRANGER, cart, {}, frozenset(), ())


def _is_usable(coupon: Coupon, at_ms: int) -> bool:
    return coupon.uses_left > 0 and not coupon.is_revoked and at_ms < coupon.expires_at_ms


def _of_handle(connection: sa.Connection, code: str) -> Coupon | None:
    try:
        return coupons.by_handle(connection, normalise_handle(code))
    except InvalidInputError:
        return None  # not a handle: an ordinary code


def _with_codes(cart: Cart, codes: tuple[str, ...]) -> Cart:
    return msgspec.structs.replace(cart, codes=codes)


def _learn(claims: TokenClaims, at_ms: int, holdout_basis_points: int) -> Coupon:
    subject = claims.sub or claims.cnf.jkt
    return Coupon(
        token_id=claims.jti,
        hub=claims.iss,
        subject=subject,
        holder_jkt=claims.cnf.jkt,
        promotion_id=claims.promotion_id,
        terms_digest=claims.terms_digest,
        frame_id=claims.frame,
        handle=handle_of(claims.jti),
        uses=claims.uses,
        uses_left=claims.uses,
        is_revoked=False,
        clipped_at_ms=claims.iat * MS_PER_SECOND,
        expires_at_ms=claims.exp * MS_PER_SECOND,
        received_at_ms=at_ms,
        is_control=is_control(claims.promotion_id, subject, holdout_basis_points),
    )
