"""Coupon information at a merchant: which client holds which token, and who proved to be whom."""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import InvariantError, invariant
from sconto.store.prepared import Prepared
from sconto.store.schema import clients, coupon_information, redemptions
from sconto.store.writer import Tx


class Coupon(NamedTuple):
    """A token that some client of this merchant holds."""

    token_id: str
    hub: str
    subject: str
    holder_jkt: str
    promotion_id: str
    terms_digest: str
    frame_id: str
    handle: str
    uses: int
    uses_left: int
    is_revoked: bool
    clipped_at_ms: int
    expires_at_ms: int
    received_at_ms: int
    #: The shopper is in the promotion's control group: the token gives nothing.
    is_control: bool = False


class Client(NamedTuple):
    """A customer reference of this merchant, proven to be a hub's pseudonym."""

    client_ref: str
    hub: str
    subject: str
    holder_jkt: str
    proven_at_ms: int


_COLUMNS = [coupon_information.c[name] for name in Coupon._fields]
_ADD = Prepared(
    lambda insert: (
        insert(coupon_information)
        .values({name: sa.bindparam(name) for name in Coupon._fields})
        .on_conflict_do_nothing(index_elements=["token_id"])
    )
)
_GET = Prepared(
    sa.select(*_COLUMNS).where(coupon_information.c.token_id == sa.bindparam("token_id"))
)


def add(tx: Tx, coupon: Coupon) -> bool:
    """Keep coupon information; False when the token is known already."""
    return _ADD.run(tx.changing(), **coupon._asdict()) == 1


def get(connection: sa.Connection, token_id: str) -> Coupon | None:
    """The coupon information of a token."""
    row = _GET.first(connection, token_id=token_id)
    return None if row is None else Coupon(*row)


def by_handle(connection: sa.Connection, handle: str) -> Coupon | None:
    """The coupon information of a token that a person typed by its handle."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(coupon_information.c.handle == handle)
    ).first()
    return None if row is None else Coupon(*row)


_OF_CLIENT = (
    sa.select(*_COLUMNS)
    .join(
        clients,
        sa.and_(
            clients.c.hub == coupon_information.c.hub,
            clients.c.subject == coupon_information.c.subject,
        ),
    )
    .where(clients.c.client_ref == sa.bindparam("client_ref"))
    .order_by(coupon_information.c.clipped_at_ms, coupon_information.c.token_id)
)
_USABLE = Prepared(
    _OF_CLIENT.where(
        coupon_information.c.uses_left > 0,
        sa.not_(coupon_information.c.is_revoked),
        coupon_information.c.expires_at_ms > sa.bindparam("at_ms"),
    ).limit(200)
)


def of_client(connection: sa.Connection, client_ref: str) -> list[Coupon]:
    """All coupons of a recognised client, used ones too, oldest first."""
    rows = connection.execute(_OF_CLIENT.limit(1000), {"client_ref": client_ref})
    return [Coupon(*row) for row in rows]


def usable(connection: sa.Connection, client_ref: str, at_ms: int) -> list[Coupon]:
    """The coupons that a recognised client may use at an instant, oldest first."""
    rows = _USABLE.rows(connection, client_ref=client_ref, at_ms=at_ms)
    return [Coupon(*row) for row in rows]


def take_use(tx: Tx, token_id: str) -> int:
    """Use one of a token's uses, shown to be there in this transaction; gives the use's number.

    It is the smallest number that no living redemption has: one that was given back comes again.
    """
    row = _TAKE_USE.first(tx.changing_apart(), token=token_id)
    if row is None:
        raise InvariantError("a token has the use that it showed in the same transaction")
    if row[0] == 1:
        return 1
    taken = {number for (number,) in _USES.rows(tx.connection, token_id=token_id)}
    return next(number for number in range(1, row[0] + 1) if number not in taken)


_TAKE_USE = Prepared(
    sa.update(coupon_information)
    .where(
        coupon_information.c.token_id == sa.bindparam("token"),
        coupon_information.c.uses_left > 0,
    )
    .values(uses_left=coupon_information.c.uses_left - 1)
    .returning(coupon_information.c.uses)
)
_USES = Prepared(
    sa.select(redemptions.c.use_number).where(
        redemptions.c.token_id == sa.bindparam("token_id"),
        sa.text("state IN ('reserved', 'redeemed')"),  # as in the index
    )
)


def give_use_back(tx: Tx, token_id: str) -> None:
    """A reservation ended, or the whole redemption was reversed: the use revives."""
    tx.write(
        sa.update(coupon_information)
        .where(
            coupon_information.c.token_id == token_id,
            coupon_information.c.uses_left < coupon_information.c.uses,
        )
        .values(uses_left=coupon_information.c.uses_left + 1)
    )


def lower(tx: Tx, token_id: str, uses_left: int) -> None:
    """No more uses than these are left; fewer stay fewer."""
    tx.write(
        sa.update(coupon_information)
        .where(
            coupon_information.c.token_id == token_id,
            coupon_information.c.uses_left > max(uses_left, 0),
        )
        .values(uses_left=max(uses_left, 0))
    )


def revoke(tx: Tx, token_id: str) -> None:
    """The hub took the token back."""
    tx.write(
        sa.update(coupon_information)
        .where(coupon_information.c.token_id == token_id)
        .values(is_revoked=True)
    )


def is_reserved(connection: sa.Connection, token_id: str) -> bool:
    """Whether an order that is not finished holds a use of a token."""
    query = sa.select(redemptions.c.state).where(
        redemptions.c.token_id == token_id,
        sa.text("state IN ('reserved', 'redeemed')"),  # as in the index
    )
    return "reserved" in connection.execute(query).scalars()


def release(tx: Tx, coupon: Coupon) -> None:
    """The uses that are left go to another merchant: none can be taken here any more."""
    changed = tx.write(
        sa.update(coupon_information)
        .where(
            coupon_information.c.token_id == coupon.token_id,
            coupon_information.c.uses_left == coupon.uses_left,
        )
        .values(uses=coupon.uses - coupon.uses_left, uses_left=0, is_revoked=True)
    )
    invariant(changed.rowcount == 1, "a token has the uses that it showed in the same transaction")


def recognise(tx: Tx, client: Client) -> None:
    """From now on the customer reference stands for the pseudonym; a newer proof replaces it."""
    tx.write(
        sa.delete(clients).where(
            clients.c.hub == client.hub,
            sa.or_(clients.c.subject == client.subject, clients.c.client_ref == client.client_ref),
        )
    )
    tx.write(sa.insert(clients).values(**client._asdict()))


def clients_of(connection: sa.Connection, client_ref: str) -> list[Client]:
    """The pseudonyms that a customer reference stands for, one for each hub."""
    query = sa.select(*(clients.c[name] for name in Client._fields)).where(
        clients.c.client_ref == client_ref
    )
    return [Client(*row) for row in connection.execute(query)]
