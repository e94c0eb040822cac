"""Tokens: at a hub those that it offered and issued, at a wallet those that its accounts hold."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.store.prepared import Prepared, insert_into, one_of
from sconto.store.schema import moves, tokens
from sconto.store.writer import Tx
from sconto.tokens import STATUS_LIST_SIZE


class Token(NamedTuple):
    """A token, or the offer of one. What is None is not known yet, or not kept at this server."""

    token_id: str
    clip_id: str
    promotion_id: str
    terms_digest: str
    frame_id: str
    hub: str
    merchant: str
    wallet: str | None
    account_id: str | None
    subject: str | None
    holder_jkt: str | None
    handle: str | None
    #: offered -> issued -> redeemed; offered -> lapsed; issued -> moved;
    #: any -> revoked (hub) or deleted (holder)
    status: str
    status_index: int | None
    jws: str | None
    offer_code_hash: bytes | None
    offer_expires_at_ms: int | None
    clipped_at_ms: int
    not_before_ms: int | None
    expires_at_ms: int | None
    #: How often it can be used, where a move has made that differ from what the terms say.
    uses: int | None = None


_TOKEN = sa.select(*(tokens.c[name] for name in Token._fields))


def get(connection: sa.Connection, token_id: str) -> Token | None:
    """One token."""
    row = _GET.first(connection, token_id=token_id)
    return None if row is None else Token(*row)


_GET = Prepared(_TOKEN.where(tokens.c.token_id == sa.bindparam("token_id")))


def by_clip(connection: sa.Connection, wallet: str | None, clip_id: str) -> Token | None:
    """The token of a clip; clip ids are those of the wallet server that made them."""
    row = connection.execute(
        _TOKEN.where(tokens.c.wallet == wallet, tokens.c.clip_id == clip_id)
    ).first()
    return None if row is None else Token(*row)


def add(tx: Tx, token: Token) -> None:
    """Keep a new token."""
    _ADD.run(tx.changing(), **token._asdict())


_ADD = Prepared(insert_into(tokens, *Token._fields))


def set_status(tx: Tx, token_id: str, status: str) -> None:
    """Move a token to another state; the caller has looked at the state that it was in."""
    _SET_STATUS.run(tx.changing(), id=token_id, after=status)


_SET_STATUS = Prepared(
    sa.update(tokens)
    .where(tokens.c.token_id == sa.bindparam("id"))
    .values(status=sa.bindparam("after"))
)


def set_statuses(tx: Tx, token_ids: Sequence[str], status: str) -> None:
    """`set_status` of many tokens."""
    _SET_STATUSES.run(tx.changing(), ids=token_ids, status=status)


_SET_STATUSES = Prepared(
    sa.update(tokens).where(one_of(tokens.c.token_id, "ids")).values(status=sa.bindparam("status"))
)


# --- at the hub: offering and issuing -------------------------------------------------------------


def offer_again(tx: Tx, token: Token, code_hash: bytes, expires_at_ms: int) -> None:
    """A new code for a token that was offered or issued before; the old one is void."""
    status = "offered" if token.status == "lapsed" else token.status
    tx.write(
        sa.update(tokens)
        .where(tokens.c.token_id == token.token_id)
        .values(offer_code_hash=code_hash, offer_expires_at_ms=expires_at_ms, status=status)
    )


def use_code(tx: Tx, token: Token) -> None:
    """The pre-authorized code of an offer was used; it never works again."""
    used = _USE_CODE.run(tx.changing(), id=token.token_id, code=token.offer_code_hash)
    invariant(used == 1, "a code is used in the transaction that showed it unused")


_USE_CODE = Prepared(
    sa.update(tokens)
    .where(
        tokens.c.token_id == sa.bindparam("id"),
        tokens.c.offer_code_hash == sa.bindparam("code", type_=sa.LargeBinary),
    )
    .values(offer_code_hash=None)
)


def issue(tx: Tx, token: Token) -> None:
    """Keep what the issuing of an offered token has fixed: holder, place in the list, bytes."""
    fixed = {name: getattr(token, name) for name in _FIXED_BY_ISSUING}
    issued = _ISSUE.run(tx.changing(), id=token.token_id, **fixed)
    invariant(issued == 1, "a token is issued once")


_FIXED_BY_ISSUING = (
    "wallet",
    "subject",
    "holder_jkt",
    "handle",
    "status_index",
    "jws",
    "not_before_ms",
    "expires_at_ms",
)
_ISSUE = Prepared(
    sa.update(tokens)
    .where(tokens.c.token_id == sa.bindparam("id"), tokens.c.status == "offered")
    .values(status="issued", **{name: sa.bindparam(name) for name in _FIXED_BY_ISSUING})
)


def uses_of_holder(
    connection: sa.Connection,
    promotion_id: str,
    holder_jkt: str,
    uses: int,
    merchant: str | None = None,
) -> int:
    """Uses of all tokens of a promotion that a holder was ever issued, at one merchant where given.

    A token has `uses`, or what a move has left or brought, so that a moved one counts once. What is
    on its way to the merchant counts there too.
    """
    each = sa.func.coalesce(tokens.c.uses, uses)
    query = sa.select(sa.func.coalesce(sa.func.sum(each), 0)).where(
        tokens.c.promotion_id == promotion_id, tokens.c.holder_jkt == holder_jkt
    )
    if merchant is not None:
        coming = sa.select(moves.c.token_id).where(
            moves.c.merchant == merchant, sa.text("state = 'pending'")
        )
        query = query.where(sa.or_(tokens.c.merchant == merchant, tokens.c.token_id.in_(coming)))
    return int(connection.execute(query).scalar_one())


def count_lapsed(connection: sa.Connection, promotion_id: str, before_ms: int) -> int:
    """Offers of a promotion that ended before an instant and were never taken."""
    query = sa.select(sa.func.count()).where(*_lapsed(promotion_id, before_ms))
    return int(connection.execute(query).scalar_one())


def lapse(tx: Tx, promotion_id: str, before_ms: int) -> None:
    """Take back the offers that `count_lapsed` counted in this transaction."""
    tx.write(sa.update(tokens).where(*_lapsed(promotion_id, before_ms)).values(status="lapsed"))


def _lapsed(promotion_id: str, before_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        tokens.c.promotion_id == promotion_id,
        tokens.c.status == "offered",
        tokens.c.offer_expires_at_ms < before_ms,
    )


def move_away(tx: Tx, token: Token, used: int) -> None:
    """Its merchant has released it; what was used of it stays there."""
    result = tx.write(
        sa.update(tokens)
        .where(tokens.c.token_id == token.token_id, tokens.c.status == "issued")
        .values(status="moved", uses=used)
    )
    invariant(result.rowcount == 1, "a token is moved once")


# --- at the hub: places in the status lists -------------------------------------------------------


def last_shard(connection: sa.Connection) -> int:
    """The newest status list; the first is 0 and is always there."""
    highest = _LAST_PLACE.first(connection)
    return 0 if highest is None or highest[0] is None else int(highest[0]) // STATUS_LIST_SIZE


_LAST_PLACE = Prepared(sa.select(sa.func.max(tokens.c.status_index)))


def is_place_taken(connection: sa.Connection, status_index: int) -> bool:
    """Whether a token has this place, counted through all lists."""
    return _AT_PLACE.first(connection, status_index=status_index) is not None


_AT_PLACE = Prepared(
    sa.select(tokens.c.token_id).where(tokens.c.status_index == sa.bindparam("status_index"))
)


def revoked_places(connection: sa.Connection, shard: int) -> list[int]:
    """Places of one list, counted from its start, whose tokens were revoked, given up or moved."""
    start = shard * STATUS_LIST_SIZE
    query = sa.select(tokens.c.status_index).where(
        tokens.c.status_index >= start,
        tokens.c.status_index < start + STATUS_LIST_SIZE,
        tokens.c.status.in_(("revoked", "deleted", "moved")),
    )
    return [int(place) - start for place in connection.execute(query).scalars()]
