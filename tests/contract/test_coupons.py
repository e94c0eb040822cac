"""Coupon information and redemptions at a merchant: a token's use is spent once."""

import pytest
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import InvariantError
from sconto.store import Store, coupons, orders
from sconto.store.coupons import Client, Coupon
from sconto.store.orders import Order, Redemption
from sconto.store.writer import Tx

HUB = "https://hub.example"
HERE = "https://shop.example"
COUPON = Coupon(
    token_id="t1",
    hub=HUB,
    subject="pseudonym",
    holder_jkt="jkt",
    promotion_id="10-off",
    terms_digest="digest",
    frame_id="frame",
    handle="AAAA-AAAA-AAAA-AAAA",
    uses=2,
    uses_left=2,
    is_revoked=False,
    clipped_at_ms=1000,
    expires_at_ms=2000,
    received_at_ms=1001,
)


def check_out(
    store: Store, order_id: str, token_id: str | None = "t1", promotions: int = 1
) -> int | None:
    """Use a token, or an automatic promotion, in an order; gives the number of the use."""

    def command(tx: Tx) -> int | None:
        number = None if token_id is None else coupons.take_use(tx, token_id)
        used = [
            Redemption(
                redemption_id=f"{order_id}-{place}",
                order_id=order_id,
                merchant=HERE,
                promotion_id="10-off",
                terms_digest="digest",
                token_id=token_id,
                use_number=number,
                code=None,
                allotment_id="a",
                amount_minor=100,
                reversed_minor=0,
                currency="USD",
                state="reserved",
                at_ms=1,
            )
            for place in range(promotions)
        ]
        orders.add(tx, an_order(order_id), used)
        return number

    number: int | None = store.write_now(command)
    return number


def an_order(order_id: str) -> Order:
    known = {
        "order_id": order_id,
        "body_hash": b"hash",
        "state": "reserved",
        "client_ref": "customer 1",
        "currency": "USD",
        "subtotal_minor": 1000,
        "shipping_minor": 0,
        "discount_minor": 100,
        "cart": b"{}",
        "evaluation": b"{}",
        "at_ms": 1,
    }
    return Order(**dict.fromkeys(Order._fields) | known)


def release(store: Store, order_id: str, token_id: str = "t1") -> None:
    def command(tx: Tx) -> None:
        order = orders.get(tx.connection, order_id)
        assert order is not None
        orders.change_state(tx, order, "released")
        coupons.give_use_back(tx, token_id)

    store.write_now(command)


@pytest.fixture(autouse=True)
def _coupon(store: Store) -> None:
    assert store.write_now(lambda tx: coupons.add(tx, COUPON))


def left(store: Store) -> int:
    with store.read() as connection:
        coupon = coupons.get(connection, "t1")
    assert coupon is not None
    return coupon.uses_left


# --- who holds what -------------------------------------------------------------------------------


def test_coupon_information_is_kept_once(store: Store) -> None:
    assert not store.write_now(lambda tx: coupons.add(tx, COUPON._replace(uses_left=1)))
    with store.read() as connection:
        assert coupons.get(connection, "t1") == COUPON
        assert coupons.by_handle(connection, COUPON.handle) == COUPON
        assert coupons.get(connection, "nobody's") is None


def test_a_recognised_client_may_use_its_coupons_until_they_end(store: Store) -> None:
    client = Client("customer 1", HUB, "pseudonym", "jkt", 1)

    def usable(at_ms: int, client_ref: str = "customer 1") -> list[Coupon]:
        with store.read() as connection:
            return coupons.usable(connection, client_ref, at_ms)

    assert usable(1500) == []
    store.write_now(lambda tx: coupons.recognise(tx, client))
    assert usable(1999) == [COUPON]
    assert usable(2000) == []
    assert usable(1500, "customer 2") == []
    store.write_now(lambda tx: coupons.revoke(tx, "t1"))
    assert usable(1500) == []
    with store.read() as connection:
        assert coupons.of_client(connection, "customer 1") == [COUPON._replace(is_revoked=True)]


def test_a_newer_proof_replaces_the_older_one(store: Store) -> None:
    """Goal: a pseudonym is one customer, a customer one pseudonym per hub. Method: prove anew."""

    def prove(client_ref: str, subject: str) -> None:
        client = Client(client_ref, HUB, subject, "jkt", 1)
        store.write_now(lambda tx: coupons.recognise(tx, client))

    def known(client_ref: str) -> list[str]:
        with store.read() as connection:
            return [client.subject for client in coupons.clients_of(connection, client_ref)]

    prove("customer 1", "pseudonym")
    prove("customer 2", "pseudonym")
    assert (known("customer 1"), known("customer 2")) == ([], ["pseudonym"])
    prove("customer 2", "another")
    assert known("customer 2") == ["another"]


# --- uses -----------------------------------------------------------------------------------------


def test_uses_are_numbered_and_end(store: Store) -> None:
    assert [check_out(store, "o1"), check_out(store, "o2")] == [1, 2]
    assert left(store) == 0
    with pytest.raises(InvariantError):
        check_out(store, "o3")
    with store.read() as connection:
        assert orders.get(connection, "o3") is None


def test_a_use_that_was_given_back_comes_again_with_its_number(store: Store) -> None:
    """Goal: a release does not block the token. Method: use both, give the first one back."""
    assert [check_out(store, "o1"), check_out(store, "o2")] == [1, 2]
    release(store, "o1")
    assert left(store) == 1
    assert check_out(store, "o3") == 1
    assert left(store) == 0


def test_no_more_uses_come_back_than_there_were(store: Store) -> None:
    store.write_now(lambda tx: coupons.give_use_back(tx, "t1"))
    assert left(store) == 2


def test_the_database_refuses_a_use_twice(store: Store) -> None:
    """Goal: one token use, one living redemption. Method: write the rows past the guard."""
    check_out(store, "o1")

    def command(tx: Tx) -> None:
        (used,) = orders.redemptions_of(tx.connection, "o1")
        orders.add(tx, an_order("o2"), [used._replace(redemption_id="other", order_id="o2")])

    with pytest.raises(IntegrityError):
        store.write_now(command)
    release(store, "o1")
    store.write_now(command)


def test_the_database_refuses_a_promotion_twice_in_an_order(store: Store) -> None:
    assert check_out(store, "o1", token_id=None) is None
    with pytest.raises(IntegrityError):
        check_out(store, "o2", token_id=None, promotions=2)


def test_an_order_id_is_used_once(store: Store) -> None:
    check_out(store, "o1")
    with pytest.raises(IntegrityError):
        check_out(store, "o1")
    assert left(store) == 1
