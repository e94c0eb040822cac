"""At a wallet: accounts with their holder keys, clips under way, uses of tokens and receipts."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from sconto.store.prepared import Prepared, insert_into
from sconto.store.schema import accounts, clips, receipts, redemptions, tenants, tokens
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.wallet import Saving


class Account(NamedTuple):
    """A shopper. `holder_seed` is encrypted; `holder_jkt` names the key in tokens."""

    account_id: str
    holder_seed: bytes
    holder_jkt: str
    created_at_ms: int


class Clip(NamedTuple):
    """How far a clip has come: begun, shown, authorized, issued."""

    account_id: str
    clip_id: str
    hub: str
    #: None, like the promotion: an offer that was accepted by its address; the token will say it.
    frame_id: str | None
    promotion_id: str | None
    #: The instant that the caller gave, None where it gave none.
    said_at_ms: int | None
    at_ms: int
    step: str
    access_sealed: bytes | None
    token_id: str | None


class Use(NamedTuple):
    """One use of a held token, reported by its merchant through the hub."""

    redemption_id: str
    order_id: str
    merchant: str
    promotion_id: str
    terms_digest: str
    token_id: str
    use_number: int | None
    amount_minor: int
    reversed_minor: int
    currency: str
    state: str
    at_ms: int


# --- accounts ------------------------------------------------------------------------------------


def account(connection: sa.Connection, account_id: str) -> Account | None:
    """One account."""
    row = _ACCOUNT.first(connection, account_id=account_id)
    return None if row is None else Account(*row)


_ACCOUNT = Prepared(
    sa.select(*(accounts.c[name] for name in Account._fields)).where(
        accounts.c.account_id == sa.bindparam("account_id")
    )
)


def any_account(connection: sa.Connection) -> Account | None:
    """Some account, None while there is none."""
    query = sa.select(*(accounts.c[name] for name in Account._fields)).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Account(*row)


def tenant_kinds(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """The kinds of those of the ids that are tenants already."""
    query = sa.select(tenants.c.tenant_id, tenants.c.kind).where(tenants.c.tenant_id.in_(ids))
    return {row.tenant_id: row.kind for row in connection.execute(query)}


def known_accounts(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that have an account."""
    query = sa.select(accounts.c.account_id).where(accounts.c.account_id.in_(ids))
    return set(connection.execute(query).scalars())


def add_accounts(tx: Tx, opened: Sequence[Account], names: dict[str, str]) -> None:
    """Open accounts; `names` are of those whose tenant is to be added with them."""
    if not opened:
        return
    added = [
        {
            "tenant_id": one.account_id,
            "kind": "account",
            "name": names[one.account_id],
            "created_at_ms": one.created_at_ms,
        }
        for one in opened
        if one.account_id in names
    ]
    if added:
        tx.write(sa.insert(tenants), added)
    tx.write(sa.insert(accounts), [one._asdict() for one in opened])


# --- clips ---------------------------------------------------------------------------------------


_CLIP = Prepared(
    sa.select(*(clips.c[name] for name in Clip._fields)).where(
        clips.c.account_id == sa.bindparam("account_id"),
        clips.c.clip_id == sa.bindparam("clip_id"),
    )
)


def clip(connection: sa.Connection, account_id: str, clip_id: str) -> Clip | None:
    """A clip, finished or under way."""
    row = _CLIP.first(connection, account_id=account_id, clip_id=clip_id)
    return None if row is None else Clip(*row)


def begin_clip(tx: Tx, begun: Clip) -> None:
    """Write down a clip before anybody is asked for anything."""
    _BEGIN_CLIP.run(tx.changing(), **begun._asdict())


_BEGIN_CLIP = Prepared(insert_into(clips, *Clip._fields))


def move_clip(
    tx: Tx, moved: Clip, step: str, *, access: bytes | None = None, token_id: str | None = None
) -> None:
    """Write down how far a clip has come; its access token is forgotten in the end."""
    _MOVE_CLIP.run(
        tx.changing(),
        account=moved.account_id,
        clip=moved.clip_id,
        to=step,
        access=access,
        token=token_id,
    )


_MOVE_CLIP = Prepared(
    sa.update(clips)
    .where(clips.c.account_id == sa.bindparam("account"), clips.c.clip_id == sa.bindparam("clip"))
    .values(
        step=sa.bindparam("to"),
        access_sealed=sa.bindparam("access", type_=sa.LargeBinary),
        token_id=sa.bindparam("token"),
    )
)


# --- tokens --------------------------------------------------------------------------------------


def held(
    connection: sa.Connection,
    account_id: str,
    at_ms: int,
    *,
    use: str | None = None,
    merchant: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Token]:
    """An account's tokens by id after `after`: of one `sconto.wallet.Use`, else all but deleted."""
    query = sa.select(*(tokens.c[name] for name in Token._fields)).where(
        tokens.c.account_id == account_id, tokens.c.token_id > after
    )
    if use is None:
        query = query.where(tokens.c.status != "deleted")
    else:
        query = query.where(*_use_is(use, at_ms))
    if merchant is not None:
        query = query.where(tokens.c.merchant == merchant)
    return [
        Token(*row) for row in connection.execute(query.order_by(tokens.c.token_id).limit(limit))
    ]


def _use_is(use: str, at_ms: int) -> tuple[sa.ColumnElement[bool], ...]:
    is_issued = tokens.c.status == "issued"
    match use:
        case "expired":
            return is_issued, tokens.c.expires_at_ms <= at_ms
        case "not_yet":
            return is_issued, tokens.c.not_before_ms > at_ms, tokens.c.expires_at_ms > at_ms
        case "usable":
            return is_issued, tokens.c.not_before_ms <= at_ms, tokens.c.expires_at_ms > at_ms
    return (tokens.c.status == use,)


# --- uses and receipts ---------------------------------------------------------------------------


_USE = sa.select(*(redemptions.c[name] for name in Use._fields))


def use(connection: sa.Connection, redemption_id: str) -> Use | None:
    """One use by its permanent id."""
    row = connection.execute(_USE.where(redemptions.c.redemption_id == redemption_id)).first()
    return None if row is None else Use(*row)


def uses_of(connection: sa.Connection, token_id: str) -> list[Use]:
    """The uses of a token, those taken back too, in the order in which they were told."""
    return [Use(*row) for row in _USES_OF.rows(connection, token_id=token_id)]


_USES_OF = Prepared(
    sa.select(*(redemptions.c[name] for name in Use._fields))
    .where(redemptions.c.token_id == sa.bindparam("token_id"))
    .order_by(redemptions.c.use_number)
)


def add_use(tx: Tx, used: Use) -> None:
    """Keep a use that the hub told of; the units are not the wallet's, so no allotment is named."""
    tx.write(sa.insert(redemptions).values(**used._asdict(), allotment_id="", code=None))


def reverse_use(tx: Tx, redemption_id: str, amount_minor: int, state: str) -> None:
    """Take a part of a use back, or all of it (`state` reversed)."""
    tx.write(
        sa.update(redemptions)
        .where(redemptions.c.redemption_id == redemption_id)
        .values(reversed_minor=redemptions.c.reversed_minor + amount_minor, state=state)
    )


def receipt(connection: sa.Connection, merchant: str, order_id: str) -> tuple[str, bool] | None:
    """A merchant's receipt of an order, and whether its signature was verified."""
    row = connection.execute(
        sa.select(receipts.c.receipt, receipts.c.is_verified).where(
            receipts.c.merchant == merchant, receipts.c.order_id == order_id
        )
    ).first()
    return None if row is None else (row.receipt, bool(row.is_verified))


def keep_receipt(tx: Tx, merchant: str, order_id: str, text: str, *, is_verified: bool) -> None:
    """Keep a receipt; one receipt covers all promotions of an order, so it may come again."""
    if receipt(tx.connection, merchant, order_id) is None:
        tx.write(
            sa.insert(receipts).values(
                merchant=merchant, order_id=order_id, receipt=text, is_verified=is_verified
            )
        )


def savings(connection: sa.Connection, account_id: str) -> list[Saving]:
    """Every use of an account's tokens."""
    query = (
        sa.select(redemptions)
        .join(tokens, tokens.c.token_id == redemptions.c.token_id)
        .where(tokens.c.account_id == account_id)
        .order_by(redemptions.c.at_ms, redemptions.c.redemption_id)
    )
    return [
        Saving(
            row.promotion_id,
            row.terms_digest,
            row.at_ms,
            row.amount_minor,
            row.reversed_minor,
            row.currency,
            row.state == "reversed",
        )
        for row in connection.execute(query)
    ]


def token_counts(connection: sa.Connection, account_id: str, at_ms: int) -> dict[str, int]:
    """An account's tokens by status; those that were not used in time count as expired."""
    is_over = sa.and_(tokens.c.status == "issued", tokens.c.expires_at_ms <= at_ms)
    status = sa.case((is_over, "expired"), else_=tokens.c.status).label("status")
    query = (
        sa.select(status, sa.func.count()).where(tokens.c.account_id == account_id).group_by(status)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}
