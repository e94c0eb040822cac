"""Redemption decides: what the engine applies must be covered by what this merchant may spend."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import b64url, canonical, digest, parse_json
from sconto.base.documents import to_builtins
from sconto.cart import Cart, HeldToken, Holder, Line, PromotionIndex, ReasonCode
from sconto.cart.model import STRANGER
from sconto.ledger import Amounts
from sconto.redemption import (
    Decision,
    Headroom,
    Receipt,
    Redeemed,
    decide,
    encode_receipt,
    entry_of,
    receipt_of,
    redemption_id,
)
from sconto.terms import terms_digest, terms_from
from sconto.terms.counting import Counter

SHOP = "https://shop.example"


class Used(NamedTuple):
    promotion_id: str
    token_id: str | None
    code: str | None


class Part(NamedTuple):
    allotment_id: str
    left: Amounts


def promotion(promotion_id: str, amount_minor: int, **more: Any) -> Any:
    """So much off the whole cart."""
    return terms_from(
        {
            "promotion_id": promotion_id,
            "title": promotion_id,
            "currency": "USD",
            "benefits": [{"type": "amount_off", "amount_minor": amount_minor}],
            **more,
        }
    )


def index_of(*promotions: Any) -> PromotionIndex:
    index = PromotionIndex()
    for terms in promotions:
        index.add(terms, terms_digest(terms))
    return index


def holder_of(terms: Any, *token_ids: str) -> Holder:
    name = terms_digest(terms)
    tokens = tuple(HeldToken(token_id=one, terms_digest=name) for one in token_ids)
    return Holder(client="c", proven=True, tokens=tokens)


CART = Cart(currency="USD", lines=(Line(id="1", sku="a", price_minor=10_000),))


PLENTY = (Part("plenty", Amounts(10**6, 10**9)),)


def decided(
    index: PromotionIndex,
    parts: Mapping[str, Sequence[Part]],
    holder: Holder = STRANGER,
    rooms: Sequence[Headroom] = (),
) -> Decision:
    def available(ids: Collection[str]) -> Mapping[str, Sequence[Part]]:
        return {i: parts[i] for i in ids if i in parts}

    return decide(
        CART,
        index,
        holder,
        0,
        merchant=SHOP,
        order_id="o",
        available=available,
        headroom_of=lambda applied: rooms,
    )


@pytest.mark.parametrize(
    ("left", "unit", "needed", "had"),
    [
        ([], "uses", 1, 0),
        ([Amounts(0, 1000)], "uses", 1, 0),
        ([Amounts(5, 99)], "minor", 100, 99),
        ([Amounts(5, 99), Amounts(0, 1000)], "minor", 100, 99),
    ],
    ids=["nothing granted", "no use", "a cent too little", "use and money in two parts"],
)
def test_what_is_not_covered_is_refused_with_figures(
    left: list[Amounts], unit: str, needed: int, had: int
) -> None:
    """One use and its whole amount must come from one part; else it is said what is lacking."""
    parts = {"p": [Part(str(i), amounts) for i, amounts in enumerate(left)]}
    decision = decided(index_of(promotion("p", 100)), parts)
    assert decision.spends == () and decision.evaluation.discount_minor == 0
    (refusal,) = decision.evaluation.refused
    assert refusal.code == ReasonCode.ALLOTMENT_EXHAUSTED
    assert (refusal.unit, refusal.needed, refusal.had) == (unit, needed, had)
    assert refusal.missing == needed - had


def test_exactly_enough_is_enough() -> None:
    parts = {"p": [Part("old", Amounts(1, 99)), Part("new", Amounts(1, 100))]}
    decision = decided(index_of(promotion("p", 100)), parts)
    (spend,) = decision.spends
    assert (spend.allotment_id, spend.amounts) == ("new", Amounts(1, 100))
    assert decision.uncovered == ()


def test_the_oldest_part_that_covers_is_used_first() -> None:
    parts = {"p": [Part("a", Amounts(9, 900)), Part("b", Amounts(9, 900))]}
    assert decided(index_of(promotion("p", 100)), parts).spends[0].allotment_id == "a"


def test_two_tokens_share_what_is_left() -> None:
    """Both when there are two uses, also from two parts; one of them when there is one."""
    terms = promotion("p", 100, access={"type": "token"})
    index, holder = index_of(terms), holder_of(terms, "t1", "t2", "t3")
    two = {"p": [Part("a", Amounts(1, 100)), Part("b", Amounts(1, 100))]}
    decision = decided(index, two, holder)
    assert sorted(spend.allotment_id for spend in decision.spends) == ["a", "b"]
    assert len(decision.uncovered) == 1
    one = decided(index, {"p": [Part("a", Amounts(1, 1000))]}, holder)
    assert len(one.spends) == 1 and one.evaluation.discount_minor == 100
    refused = {refusal.token_id for refusal in one.evaluation.refused}
    assert refused | {one.spends[0].applied.token_id} == {"t1", "t2", "t3"}
    none = decided(index, {}, holder)
    assert none.spends == () and len(none.evaluation.refused) == 3


def test_another_promotion_takes_the_place() -> None:
    """The better of two that compete has nothing left: the other one applies, and is covered."""
    compete = {"combination": {"mode": "compete"}}
    index = index_of(promotion("best", 500, **compete), promotion("good", 200, **compete))
    full = [Part("x", Amounts(9, 9000))]
    assert decided(index, {"best": full, "good": full}).evaluation.discount_minor == 500
    decision = decided(index, {"best": [], "good": full})
    assert [spend.applied.promotion_id for spend in decision.spends] == ["good"]
    assert [one.applied.promotion_id for one in decision.uncovered] == ["best"]


@given(
    parts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=4),
    tokens=st.integers(0, 5),
    amount=st.integers(1, 200),
)
def test_nothing_is_promised_that_is_not_there(
    parts: list[tuple[int, int]], tokens: int, amount: int
) -> None:
    """Spends fit into their parts together; every token is spent or refused; the evaluation says
    the same as the spends; and as many are given as the parts can cover."""
    terms = promotion("p", amount, access={"type": "token"})
    names = [f"t{i}" for i in range(tokens)]
    held = [Part(str(i), Amounts(*left)) for i, left in enumerate(parts)]
    decision = decided(index_of(terms), {"p": held}, holder_of(terms, *names))
    for part in held:
        used = [s.amounts for s in decision.spends if s.allotment_id == part.allotment_id]
        assert len(used) <= part.left.uses
        assert sum(one.minor for one in used) <= part.left.minor
    assert [spend.applied for spend in decision.spends] == list(decision.evaluation.applied)
    spent = {spend.applied.token_id for spend in decision.spends}
    refused = {refusal.token_id for refusal in decision.evaluation.refused}
    assert spent | refused == set(names) and not spent & refused
    possible = sum(min(uses, minor // amount) for uses, minor in parts)
    assert len(spent) == min(tokens, possible)


def test_a_redemption_has_one_name_for_ever() -> None:
    """The same for everybody who computes it; another for another merchant, order, promotion or
    token; however ids are cut, two never share one."""
    index = index_of(promotion("p", 100))
    applied = decided(index, {"p": [Part("a", Amounts(1, 100))]}).evaluation.applied[0]
    name = redemption_id(SHOP, "o", applied)
    assert name == redemption_id(SHOP, "o", applied)
    assert len(name) == 24
    others = {
        redemption_id(SHOP, "o2", applied),
        redemption_id("https://other.example", "o", applied),
        redemption_id(SHOP + "o", "", applied),
    }
    assert len(others | {name}) == 4


def test_receipt_and_entry_say_what_was_spent() -> None:
    """The receipt names the basket by its digest only; the entry is what the journal keeps."""
    decision = decided(index_of(promotion("p", 100)), {"p": [Part("a", Amounts(1, 100))]})
    (spend,) = decision.spends
    data = canonical({"cart": 1})
    receipt = receipt_of(
        merchant=SHOP, order_id="o", cart=CART, cart_bytes=data, decision=decision, at_ms=5_999
    )
    claims = parse_json(encode_receipt(receipt), max_bytes=1000)
    assert (claims["iat"], claims["cart"], claims["discount_minor"]) == (5, digest(data), 100)
    assert claims["redemptions"] == [
        {
            "redemption_id": spend.redemption_id,
            "promotion_id": "p",
            "terms_digest": spend.applied.terms_digest,
            "amount_minor": 100,
        }
    ]
    entry = entry_of(
        "reserved",
        spend,
        merchant=SHOP,
        order_id="o",
        currency="USD",
        at_ms=5_999,
        day="1970-01-01",
    )
    assert (entry.kind, entry.amount_minor, entry.allotment_id) == ("reserved", 100, "a")
    assert (entry.token_id, entry.is_direct, entry.is_complete) == ("", False, False)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
MINOR = st.integers(0, 10**15)


@given(
    st.builds(
        Receipt,
        *(TEXT, TEXT, MINOR, MINOR, TEXT, TEXT),
        st.lists(st.builds(Redeemed, MINOR, TEXT, TEXT, TEXT, st.none() | TEXT), max_size=3).map(
            tuple
        ),
        MINOR,
    )
)
def test_a_receipt_is_written_canonically(receipt: Receipt) -> None:
    assert encode_receipt(receipt) == canonical(to_builtins(receipt))


@given(TEXT, TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)
def test_a_redemption_id_is_of_canonical_bytes(
    merchant: str, order_id: str, promotion_id: str, token_id: str | None, code: str | None
) -> None:
    applied: Any = Used(promotion_id, token_id, code)
    written = canonical([merchant, order_id, promotion_id, token_id or code or ""])
    slow = b64url(hashlib.sha256(written).digest()[:18])
    assert redemption_id(merchant, order_id, applied) == slow


def shared(name: str, *left: int) -> Headroom:
    """A counter that merchants share, with parts of so many uses here."""
    parts = [Part(f"{name}{i}", Amounts(uses, 10**6)) for i, uses in enumerate(left)]
    return Headroom(Counter(name, None, None, is_shared=True), parts=parts)


def test_a_redemption_is_taken_from_a_part_of_each_shared_counter() -> None:
    terms = promotion("p", 100)
    rooms = [shared("day", 0, 2), shared("month", 3)]
    decision = decided(index_of(terms), {"p": PLENTY}, rooms=rooms)
    (spend,) = decision.spends
    assert [(counter.name, part) for counter, part in spend.shared] == [
        ("day", "day1"),
        ("month", "month0"),
    ]
    assert spend.counters == ()


def test_what_lacks_a_part_is_refused_and_says_of_what() -> None:
    terms = promotion("p", 100)
    rooms = [shared("day"), shared("week", 1), shared("month", 0)]
    decision = decided(index_of(terms), {"p": PLENTY}, rooms=rooms)
    (missing,) = decision.uncovered
    assert (missing.code, missing.lacking) == (ReasonCode.ALLOTMENT_EXHAUSTED, ("day", "month"))
    (missing,) = decided(index_of(terms), {}, rooms=rooms).uncovered
    assert missing.lacking == ("", "day", "month")
    assert decided(index_of(terms), {}, rooms=rooms).spends == ()


@given(
    st.integers(1, 6),
    st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=3),
)
def test_tokens_in_one_cart_never_take_more_than_a_part_has(
    tokens: int, left: list[list[int]]
) -> None:
    """Goal: the parts are counted down inside the cart. Method: more tokens than there are units;
    what is spent is recounted by part, and no more could have been.
    """
    terms = promotion("p", 100, access={"type": "token"})
    holder = holder_of(terms, *(f"t{i}" for i in range(tokens)))
    rooms = [shared(f"c{i}-", *parts) for i, parts in enumerate(left)]
    decision = decided(index_of(terms), {"p": PLENTY}, holder, rooms)
    taken = [part for spend in decision.spends for _, part in spend.shared]
    has = {part.allotment_id: part.left.uses for room in rooms for part in room.parts}
    assert all(taken.count(part) <= uses for part, uses in has.items())
    assert len(decision.spends) == min(tokens, *(sum(parts) for parts in left))
