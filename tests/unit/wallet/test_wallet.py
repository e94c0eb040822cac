"""What a wallet decides: keep what was promised, present what is worth it, sum up the savings."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import canonical, digest
from sconto.base.clock import MS_PER_SECOND
from sconto.base.errors import InvalidInputError
from sconto.base.keys import KeySet, SigningKey
from sconto.cart import Cart, Line
from sconto.frames import FrameOffer, build_frame
from sconto.terms import Terms, terms_digest, terms_from
from sconto.tokens import Confirmation, TokenClaims, issue_token
from sconto.wallet import (
    Held,
    Promise,
    Saved,
    Saving,
    choose,
    claims_of,
    keep,
    promise_of,
    read_frame,
    sum_up,
    use_of,
)

HUB, SHOP = "https://hub.example", "https://shop.example"
HUB_KEY, SHOP_KEY, HOLDER, OTHER = (SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3, 4))
NOW_S = 1_795_000_000
NOW_MS = NOW_S * MS_PER_SECOND
TERMS_DIGEST = digest(b"terms")
FRAME = build_frame(
    SHOP_KEY,
    merchant=SHOP,
    hub=HUB,
    not_before_s=NOW_S,
    expires_s=NOW_S + 1000,
    sequence=1,
    offers=[FrameOffer(id="o1", promotion_id="p1", terms_digest=TERMS_DIGEST)],
    files={"index.html": b"<p>"},
)
MANIFEST = msgspec.json.decode(FRAME.manifest_bytes)
PROMISE = Promise(HUB, SHOP, FRAME.frame_id, "p1", TERMS_DIGEST)
CLAIMS = TokenClaims(
    iss=HUB,
    aud=SHOP,
    jti="01JDE3X1J1Z9T1S4W0B3H2M5QK",
    iat=NOW_S,
    nbf=NOW_S,
    exp=NOW_S + 1000,
    promotion_id="p1",
    terms_digest=TERMS_DIGEST,
    frame=FRAME.frame_id,
    cnf=Confirmation(jkt=HOLDER.kid),
)
KEYS = {HUB: KeySet([HUB_KEY.public])}


def code_of(refused: Any) -> tuple[str, str | None]:
    return refused.value.code, refused.value.field


# --- frames and promises -------------------------------------------------------------------------


def test_a_frame_id_names_the_manifest_and_its_offers() -> None:
    manifest = read_frame(MANIFEST, FRAME.frame_id, hub=HUB)
    assert promise_of(manifest, FRAME.frame_id, "p1") == PROMISE
    with pytest.raises(InvalidInputError) as refused:
        promise_of(manifest, FRAME.frame_id, "p2")
    assert code_of(refused) == ("not_offered", "promotion_id")


@pytest.mark.parametrize(
    "changed",
    [{"seq": 2}, {"iss": HUB}, {"exp": NOW_S + 1001}, {"offers": []}, {"note": "new"}],
)
def test_a_changed_manifest_is_another_frame(changed: dict[str, Any]) -> None:
    """Goal: what was shown cannot be changed afterwards. Method: change each kind of field."""
    with pytest.raises(InvalidInputError) as refused:
        read_frame(MANIFEST | changed, FRAME.frame_id, hub=HUB)
    assert code_of(refused) == ("frame_id_mismatch", "frame_id")


def test_a_frame_of_another_hub_is_not_shown_here() -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_frame(MANIFEST, FRAME.frame_id, hub="https://other.example")
    assert code_of(refused) == ("audience_mismatch", "manifest.aud")
    for nonsense in (None, [], "x", 7):
        with pytest.raises(InvalidInputError):
            read_frame(nonsense, FRAME.frame_id, hub=HUB)


# --- keeping -------------------------------------------------------------------------------------


def test_a_promised_token_is_kept() -> None:
    token = issue_token(HUB_KEY, CLAIMS)
    assert keep(token, PROMISE, HOLDER.kid, KEYS, at_ms=NOW_MS) == CLAIMS
    assert claims_of(token) == CLAIMS


def test_a_token_that_begins_later_is_kept() -> None:
    """A promotion may be clipped a month before it is redeemed."""
    later = msgspec.structs.replace(CLAIMS, nbf=NOW_S + 500)
    token = issue_token(HUB_KEY, later)
    assert keep(token, PROMISE, HOLDER.kid, KEYS, at_ms=NOW_MS) == later
    assert use_of("issued", later, NOW_MS) == "not_yet"


@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        ({"frame": FRAME.frame_id[:-2] + "AA"}, "token_not_as_promised", "token.frame"),
        ({"promotion_id": "p2"}, "token_not_as_promised", "token.promotion_id"),
        ({"terms_digest": digest(b"")}, "token_not_as_promised", "token.terms_digest"),
        ({"cnf": Confirmation(jkt=OTHER.kid)}, "token_not_as_promised", "token.cnf.jkt"),
        ({"aud": HUB}, "audience_mismatch", "token.aud"),
        ({"iss": SHOP}, "issuer_unknown", "token.iss"),
        ({"exp": NOW_S + 1, "nbf": NOW_S - 1}, None, None),
        ({"exp": NOW_S, "nbf": NOW_S - 1}, "token_expired", "token.exp"),
    ],
)
def test_a_token_that_differs_is_not_kept(
    changed: dict[str, Any], code: str | None, field: str | None
) -> None:
    """Method: each claim alone says something else; exactly at its end it is over."""
    token = issue_token(HUB_KEY, msgspec.structs.replace(CLAIMS, **changed))
    if code is None:
        keep(token, PROMISE, HOLDER.kid, KEYS, at_ms=NOW_MS)
        return
    with pytest.raises(InvalidInputError) as refused:
        keep(token, PROMISE, HOLDER.kid, KEYS, at_ms=NOW_MS)
    assert code_of(refused) == (code, field)


def test_a_token_of_a_second_known_hub_is_not_this_hubs() -> None:
    """Both hubs are trusted; what one promised the other cannot deliver."""
    second = "https://second.example"
    keys = KEYS | {second: KeySet([OTHER.public])}
    token = issue_token(OTHER, msgspec.structs.replace(CLAIMS, iss=second))
    with pytest.raises(InvalidInputError) as refused:
        keep(token, PROMISE, HOLDER.kid, keys, at_ms=NOW_MS)
    assert code_of(refused) == ("token_not_as_promised", "token.iss")


@given(st.data())
def test_a_mutated_token_is_never_kept(data: st.DataObject) -> None:
    token = issue_token(HUB_KEY, CLAIMS)
    place = data.draw(st.integers(0, len(token) - 1))
    symbol = data.draw(st.characters(codec="utf-8"))
    mutated = token[:place] + symbol + token[place + 1 :]
    if mutated == token:
        return
    with pytest.raises(InvalidInputError):
        keep(mutated, PROMISE, HOLDER.kid, KEYS, at_ms=NOW_MS)


@pytest.mark.parametrize("status", ["redeemed", "revoked", "deleted"])
def test_what_became_of_a_token_outlasts_its_dates(status: str) -> None:
    for at_ms in (0, NOW_MS, NOW_MS + 10**9):
        assert use_of(status, CLAIMS, at_ms) == status


def test_a_token_is_usable_from_its_start_until_its_end() -> None:
    assert use_of("issued", CLAIMS, NOW_MS - 1) == "not_yet"
    assert use_of("issued", CLAIMS, NOW_MS) == "usable"
    assert use_of("issued", CLAIMS, CLAIMS.exp * 1000 - 1) == "usable"
    assert use_of("issued", CLAIMS, CLAIMS.exp * 1000) == "expired"


# --- choosing ------------------------------------------------------------------------------------


def terms(promotion_id: str, amount_minor: int, brand: str = "oaty", **more: Any) -> Terms:
    return terms_from(
        {
            "promotion_id": promotion_id,
            "title": promotion_id,
            "currency": "USD",
            "access": {"type": "token"},
            "benefits": [
                {
                    "type": "amount_off",
                    "amount_minor": amount_minor,
                    "items": {"include": [{"brands": [brand]}]},
                }
            ],
        }
        | more
    )


def held(token_id: str, promised: Terms, merchant: str = SHOP) -> Held:
    return Held(token_id, merchant, terms_digest(promised), promised, NOW_MS)


CART = Cart(currency="USD", lines=(Line(id="1", sku="a", brand="oaty", price_minor=500),))


def chosen(*tokens: Held, cart: Cart = CART, merchant: str = SHOP) -> tuple[str, ...]:
    return choose(cart, tokens, merchant=merchant, at_ms=NOW_MS).token_ids


def test_what_takes_something_off_is_presented() -> None:
    assert chosen(held("t1", terms("p1", 100))) == ("t1",)
    assert chosen(held("t1", terms("p1", 100, brand="other"))) == ()
    assert chosen() == ()


def test_a_token_is_not_used_up_for_nothing() -> None:
    """Its terms say that it is used up where it has no effect; so it stays in the wallet."""
    promised = terms("p1", 100, brand="other", no_effect="redeem")
    assert chosen(held("t1", promised)) == ()


def test_only_tokens_of_the_merchant_at_hand_are_presented() -> None:
    promised = terms("p1", 100)
    assert chosen(held("t1", promised), held("t2", promised, "https://other.example")) == ("t1",)


def test_the_best_of_those_that_exclude_each_other() -> None:
    small = held("t1", terms("p1", 100, combination={"exclusive": True}))
    large = held("t2", terms("p2", 200, combination={"exclusive": True}))
    assert chosen(small, large) == chosen(large, small) == ("t2",)


def test_two_tokens_of_one_promotion_are_two_applications() -> None:
    promised = terms("p1", 100)
    assert set(chosen(held("t1", promised), held("t2", promised))) == {"t1", "t2"}


def test_the_sum_that_is_told_is_what_the_tokens_take_off() -> None:
    choice = choose(
        CART, [held("t1", terms("p1", 100)), held("t2", terms("p2", 50))],
        merchant=SHOP, at_ms=NOW_MS,
    )  # fmt: skip
    assert choice.evaluation.discount_minor == 150


# --- savings -------------------------------------------------------------------------------------


def saving(at_ms: int, amount: int, back: int = 0, **more: Any) -> Saving:
    values = {
        "promotion_id": "p1",
        "terms_digest": "d1",
        "currency": "USD",
        "is_reversed": amount == back,
    }
    return Saving(at_ms=at_ms, amount_minor=amount, reversed_minor=back, **values | more)


NEW_YEAR_MS = 1_514_764_800_000  # 2018-01-01T00:00:00Z


def test_a_month_is_that_of_the_promotions_zone() -> None:
    """Half an hour after midnight UTC is still last year in Chicago."""
    one = [saving(NEW_YEAR_MS + 1_800_000, 100)]
    assert sum_up(one, {})[0] == {("USD", "2018-01"): Saved(1, 100)}
    assert sum_up(one, {"d1": "America/Chicago"})[0] == {("USD", "2017-12"): Saved(1, 100)}


def test_what_was_taken_back_is_not_saved() -> None:
    months, promotions = sum_up(
        [saving(0, 100, 30), saving(1, 100, 100), saving(2, 7, currency="EUR", promotion_id="p2")],
        {},
    )
    assert months == {("USD", "1970-01"): Saved(1, 70), ("EUR", "1970-01"): Saved(1, 7)}
    assert promotions == {("USD", "p1"): Saved(1, 70), ("EUR", "p2"): Saved(1, 7)}


@given(
    st.lists(
        st.builds(
            lambda at, amount, back, promotion: saving(
                at, amount, min(back, amount), promotion_id=promotion
            ),
            st.integers(0, 2**41),
            st.integers(1, 10**9),
            st.integers(0, 10**9),
            st.sampled_from(["p1", "p2", "p3"]),
        )
    )
)
def test_months_and_promotions_sum_to_the_same(savings: list[Saving]) -> None:
    months, promotions = sum_up(savings, {})
    total = sum(one.amount_minor - one.reversed_minor for one in savings)
    assert sum(s.amount_minor for s in months.values()) == total
    assert sum(s.amount_minor for s in promotions.values()) == total
    assert sum(s.uses for s in months.values()) == sum(s.uses for s in promotions.values())


def test_the_manifest_is_what_the_merchant_signed() -> None:
    assert canonical(MANIFEST) == FRAME.manifest_bytes
