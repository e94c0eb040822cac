"""What must hold of every evaluation, whatever the cart and the promotions.

Carts and promotions are small and drawn from few names and prices, so that they meet often.
"""

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sconto.base.documents import to_builtins
from sconto.base.errors import InvalidInputError
from sconto.cart import (
    DEFAULT_LANES,
    Cart,
    Evaluation,
    HeldToken,
    Holder,
    Lane,
    Line,
    Promotion,
    PromotionIndex,
    encode_evaluation,
    evaluate,
)
from sconto.cart.basket import Basket, State
from sconto.cart.index import Promotions
from sconto.cart.model import Shipping, decode_cart
from sconto.cart.price import Draft
from sconto.cart.promotion import Application, Compiled
from sconto.cart.returns import Kept, bring_back, keep_all, kept_price
from sconto.cart.turns import Progress, turn
from sconto.terms import (
    Terms,
    decode_terms,
    encode_terms,
    lint,
    sentence,
    terms_digest,
    terms_from,
)

SKUS = list("abcdef")
BRANDS = ["x", "y"]
CATEGORIES = ["food", "drink", "home"]
STORES = ["s1", "s2"]
SEGMENTS = ["gold", "new"]

prices = st.sampled_from([0, 1, 3, 99, 100, 101, 333, 1000, 1999, 4300])


@st.composite
def lines(draw: st.DrawFn, line_id: str) -> Line:
    price, quantity = draw(prices), draw(st.integers(1, 7))
    whole = draw(st.booleans())
    return Line(
        id=line_id,
        sku=draw(st.sampled_from(SKUS)),
        quantity=quantity,
        price_minor=None if whole else price,
        amount_minor=price * quantity + draw(st.integers(0, 2)) if whole else None,
        floor_price_minor=draw(st.sampled_from([0, 0, 0, 1, 50, 5000])),
        lowest_price_minor=draw(st.none() | prices),
        tax_basis_points=draw(st.sampled_from([0, 700, 1900])),
        discountable=draw(st.sampled_from([True, True, True, False])),
        brand=draw(st.sampled_from([None, *BRANDS])),
        categories=draw(st.frozensets(st.sampled_from(CATEGORIES), max_size=2)),
        gift_of=draw(st.sampled_from([*[None] * 9, "p0"])),
    )


@st.composite
def carts(draw: st.DrawFn) -> Cart:
    ids = draw(st.lists(st.sampled_from("klmnopqr"), unique=True, max_size=5))
    return Cart(
        currency="EUR",
        lines=tuple(draw(lines(line_id)) for line_id in ids),
        codes=tuple(draw(st.lists(st.sampled_from(["SAVE", "save", "nope"]), max_size=2))),
        shipping=draw(st.none() | st.builds(Shipping, amount_minor=prices, method=st.just("post"))),
        store=draw(st.sampled_from([None, *STORES])),
        prices_include_tax=draw(st.booleans()),
    )


clauses = st.one_of(
    st.fixed_dictionaries({"skus": st.lists(st.sampled_from(SKUS), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"brands": st.lists(st.sampled_from(BRANDS), min_size=1, max_size=1)}),
    st.fixed_dictionaries(
        {"categories": st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"price_min_minor": st.sampled_from([1, 100, 101])}),
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "include": st.lists(clauses, min_size=1, max_size=2),
        "exclude": st.lists(clauses, min_size=1, max_size=1),
    },
)
picks = st.fixed_dictionaries(
    {"quantity": st.integers(1, 3), "choose": st.sampled_from(["cheapest", "dearest"])}
)


def tagged(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=optional or {})


rates = st.sampled_from([1, 333, 1000, 5000, 10_000])
amounts = st.sampled_from([1, 2, 100, 299, 10_000])
spread = st.sampled_from(["by_value", "by_quantity", "each_unit", "each_line"])
tiers = st.lists(st.sampled_from([0, 2, 5, 100, 1000]), min_size=1, unique=True).flatmap(
    lambda starts: st.tuples(
        *(
            st.one_of(
                st.fixed_dictionaries({"from": st.just(start), "basis_points": rates}),
                st.fixed_dictionaries({"from": st.just(start), "amount_minor": amounts}),
                st.fixed_dictionaries({"from": st.just(start), "unit_price_minor": prices}),
            )
            for start in sorted(starts)
        )
    ).map(list)
)
benefits = st.one_of(
    tagged("percent_off", {"basis_points": rates, "items": selectors}, {"max_minor": amounts}),
    tagged("percent_off", {"basis_points": rates, "items": selectors, "pick": picks}),
    tagged(
        "percent_off",
        {"basis_points": rates, "items": selectors, "basis": st.just("lowest_price")},
    ),
    tagged("amount_off", {"amount_minor": amounts, "items": selectors, "spread": spread}),
    tagged(
        "amount_off",
        {
            "amount_minor": amounts,
            "items": selectors,
            "spread": st.just("each_unit"),
            "pick": picks,
        },
    ),
    tagged("fixed_price", {"unit_price_minor": prices, "items": selectors}, {"pick": picks}),
    tagged(
        "bundle_price",
        {
            "price_minor": prices,
            "parts": st.lists(
                st.fixed_dictionaries({"quantity": st.integers(1, 2), "items": selectors}),
                min_size=1,
                max_size=3,
            ),
        },
        {"repeat_max": st.integers(1, 2)},
    ),
    tagged(
        "tiered",
        {
            "measure": st.sampled_from(["subtotal", "quantity"]),
            "tiers": tiers,
            "items": selectors,
        },
    ),
    tagged(
        "buy_get",
        {
            "buy_quantity": st.integers(1, 3),
            "get_quantity": st.integers(1, 2),
            "buy": selectors,
            "choose": st.sampled_from(["cheapest", "dearest"]),
        },
        {"get": selectors, "repeat_max": st.integers(1, 2), "basis_points": rates},
    ),
    tagged("shipping_off", {"basis_points": rates}),
    tagged("gift", {"sku": st.sampled_from(SKUS), "quantity": st.integers(1, 3)}),
    tagged("points", {"points": st.integers(1, 5)}, {"per_minor": amounts}),
)
leaves = st.one_of(
    tagged(
        "subtotal",
        {
            "min_minor": st.sampled_from([0, 1, 100, 1000, 5000]),
            "items": selectors,
            "basis": st.sampled_from(["initial", "before", "after"]),
        },
        {"max_minor": st.just(9000)},
    ),
    tagged("quantity", {"min": st.integers(0, 4), "items": selectors}, {"max": st.just(6)}),
    tagged("distinct", {"min": st.integers(1, 3), "items": selectors}),
    tagged("store", {"any_of": st.lists(st.sampled_from(STORES), min_size=1, max_size=1)}),
    tagged("segment", {"any_of": st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=1)}),
)
conditions: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        tagged("all", {"of": st.lists(inner, max_size=2)}),
        tagged("any", {"of": st.lists(inner, min_size=1, max_size=2)}),
        tagged("not", {"condition": inner}),
    ),
    max_leaves=3,
)
combinations = st.fixed_dictionaries(
    {"priority": st.integers(1, 3), "basis": st.sampled_from(["initial", "reduced"])},
    optional={
        "exclusive": st.sampled_from([False, False, True]),
        "mode": st.sampled_from(["stack", "compete"]),
        "tags": st.lists(st.sampled_from(["t", "u"]), max_size=2),
        "combines_with": st.lists(st.sampled_from(["t", "u"]), max_size=1),
        "max_per_cart": st.just(1),
        "max_per_item": st.just(1),
    },
)
access = st.sampled_from(
    [*[{"type": "automatic"}] * 3, {"type": "token"}, {"type": "code", "code": "save"}]
)


@st.composite
def promotions(draw: st.DrawFn, number: int) -> Promotion:
    terms = terms_from(
        {
            "promotion_id": f"p{number}",
            "title": "t",
            "currency": "EUR",
            "benefits": draw(st.lists(benefits, min_size=1, max_size=2)),
            "conditions": draw(st.lists(conditions, max_size=2)),
            "combination": draw(combinations),
            "access": draw(access),
            "amounts": draw(st.sampled_from(["as_priced", "tax_included", "tax_excluded"])),
            "on_return": draw(st.sampled_from(["prorate", "reevaluate", "keep"])),
            "no_effect": draw(st.sampled_from(["refuse", "redeem"])),
            "funding": draw(
                st.sampled_from(
                    [
                        {},
                        {
                            "shares": [
                                {"party": "b", "basis_points": 6999},
                                {"party": "s", "basis_points": 3001},
                            ]
                        },
                    ]
                )
            ),
        }
    )
    return Promotion.of(terms)


sets = st.integers(0, 5).flatmap(lambda n: st.tuples(*(promotions(i) for i in range(n))).map(list))
lanes_of = st.sampled_from(
    [
        None,
        (Lane(name="item", mode="best"), Lane(name="order", max_per_item=1)),
        (Lane(name="item", mode="best", scope="item"), Lane(name="order", mode="first")),
        (Lane(name="item", max_per_cart=2), Lane(name="shipping")),
    ]
)


def index_of(promotions: list[Promotion], lanes: tuple[Lane, ...] | None) -> PromotionIndex:
    return PromotionIndex(promotions) if lanes is None else PromotionIndex(promotions, lanes=lanes)


def holder_of(promotions: list[Promotion], segments: frozenset[str] = frozenset()) -> Holder:
    """Two tokens of every promotion that takes tokens."""
    digests = [p.digest for p in promotions if to_builtins(p.terms).get("access")]
    tokens = tuple(
        HeldToken(token_id=f"t{i}{d[8:14]}", terms_digest=d) for d in digests for i in (1, 2)
    )
    return Holder(client="c", proven=True, tokens=tokens, segments=segments)


@given(carts(), sets, lanes_of, st.frozensets(st.sampled_from(SEGMENTS)))
def test_the_parts_sum_to_the_whole_and_nothing_falls_below_its_floor(
    cart: Cart,
    promotions: list[Promotion],
    lanes: tuple[Lane, ...] | None,
    segments: frozenset[str],
) -> None:
    found = evaluate(cart, index_of(promotions, lanes), holder_of(promotions, segments), at_ms=0)
    check_sums(cart, found)


def check_sums(cart: Cart, found: Evaluation) -> None:
    by_line: dict[str | None, int] = {}
    units: dict[str | None, int] = {}
    for one in found.applied:
        assert one.amount_minor == sum(part.amount_minor for part in one.allocations)
        assert len({part.line_id for part in one.allocations}) == len(one.allocations)
        if one.funding:
            assert one.amount_minor == sum(part.amount_minor for part in one.funding)
        for part in one.allocations:
            assert part.amount_minor > 0
            by_line[part.line_id] = by_line.get(part.line_id, 0) + part.amount_minor
            units[part.line_id] = units.get(part.line_id, 0) + (part.quantity or 0)
    lines = {line.id: line for line in cart.lines}
    assert sorted(lines) == [line.line_id for line in found.lines]
    for total in found.lines:
        line = lines[total.line_id]
        assert total.amount_minor == line.initial_minor
        assert total.discount_minor == by_line.get(line.id, 0)
        assert units.get(line.id, 0) <= line.quantity, "a unit takes part once"
        floor = (
            0 if line.gift_of else min(line.floor_price_minor * line.quantity, line.initial_minor)
        )
        assert total.total_minor >= floor
        if not line.discountable and not line.gift_of:
            assert total.discount_minor == 0
    totals = found.totals
    assert totals.subtotal_minor == sum(line.initial_minor for line in cart.lines)
    assert totals.discount_minor == sum(line.discount_minor for line in found.lines)
    assert totals.shipping_discount_minor == by_line.get(None, 0)
    assert 0 <= totals.shipping_discount_minor <= totals.shipping_minor
    paid = totals.subtotal_minor - totals.discount_minor
    assert totals.total_minor == paid + totals.shipping_minor - totals.shipping_discount_minor >= 0


@given(carts(), sets, lanes_of, st.randoms(use_true_random=False))
def test_the_order_of_lines_promotions_and_tokens_changes_nothing(
    cart: Cart, promotions: list[Promotion], lanes: tuple[Lane, ...] | None, random: Any
) -> None:
    holder = holder_of(promotions)
    first = encode_evaluation(evaluate(cart, index_of(promotions, lanes), holder, at_ms=0))
    again = encode_evaluation(evaluate(cart, index_of(promotions, lanes), holder, at_ms=0))
    assert first == again
    shuffled = [*cart.lines], [*promotions], [*holder.tokens], [*cart.codes]
    for one in shuffled:
        random.shuffle(one)
    other = Cart(
        currency="EUR",
        lines=tuple(shuffled[0]),
        codes=tuple(shuffled[3]),
        shipping=cart.shipping,
        store=cart.store,
        prices_include_tax=cart.prices_include_tax,
    )
    holder = Holder(client="c", proven=True, tokens=tuple(shuffled[2]))
    assert first == encode_evaluation(
        evaluate(other, index_of(shuffled[1], lanes), holder, at_ms=0)
    )


@given(carts(), sets, st.frozensets(st.sampled_from(SEGMENTS)), st.data())
def test_the_index_loses_no_match(
    cart: Cart, promotions: list[Promotion], segments: frozenset[str], data: st.DataObject
) -> None:
    """Method: the twin that returns everything gives the same; also after removals."""
    index = PromotionIndex(promotions)
    removed = st.lists(st.sampled_from(promotions), unique_by=id) if promotions else st.just([])
    for gone in data.draw(removed):
        index.remove(gone.digest)
        promotions = [p for p in promotions if p is not gone]
        if data.draw(st.booleans()):
            index.add(gone.terms, gone.digest)
            promotions = [*promotions, gone]
    assert len(index) == len(promotions)
    holder = holder_of(promotions, segments)
    found = evaluate(cart, index, holder, at_ms=0)
    oracle = evaluate(cart, Promotions(promotions), holder, at_ms=0)
    assert found.applied == oracle.applied
    assert found.totals == oracle.totals
    assert {r.promotion_id for r in found.refused} <= {r.promotion_id for r in oracle.refused}


@given(carts(), sets)
def test_the_best_set_is_worth_at_least_what_any_greedy_choice_is(
    cart: Cart, promotions: list[Promotion]
) -> None:
    """Greedy: try the promotions in some order, keep each that still fits; all orders.

    Whatever the order of choosing, a set is worth what it gives in canonical order: the promise of
    `best` is about sets, not about the order in which promotions apply.
    """
    lane = Lane(name="item", mode="best")
    promotions = [
        p
        for p in promotions[:4]
        if not p.terms.combination.exclusive and to_builtins(p.terms).get("access") is None
    ]
    found = evaluate(cart, PromotionIndex(promotions, lanes=[lane]), at_ms=0)
    assert found.method == "exact"
    gifts = {line.id for line in cart.lines if line.gift_of}
    worth = sum(
        part.amount_minor
        for one in found.applied
        for part in one.allocations
        if part.line_id not in gifts
    )
    basket = Basket(cart, Holder(), 0)
    applications = [Compiled(p.terms, p.digest).automatic for p in promotions]
    for order in permutations(applications):
        chosen: list[Application] = []
        for one in order:
            wider = sorted([*chosen, one], key=lambda a: a.key)
            if _worth(wider, basket, lane) is not None:
                chosen = wider
        assert worth >= (_worth(chosen, basket, lane) or 0)


def _worth(applications: list[Application], basket: Basket, lane: Lane) -> int | None:
    """What a set gives in canonical order; None if some of it does not fit or gives nothing."""
    progress = Progress(State.start(basket))
    for one in applications:
        found = turn(one, basket, progress, lane)
        if not isinstance(found, Draft) or not found.amount_minor:
            return None
        progress.take(one, found, lane)
    return sum(taken.draft.amount_minor for taken in progress.taken)


@given(carts(), sets, lanes_of, st.data())
def test_returning_everything_gives_back_exactly_what_was_paid(
    cart: Cart, promotions: list[Promotion], lanes: tuple[Lane, ...] | None, data: st.DataObject
) -> None:
    """Method: bring units back in random steps; the sum of parts holds after each of them."""
    assume(cart.lines)
    holder = holder_of(promotions)
    sale = evaluate(cart, index_of(promotions, lanes), holder, at_ms=0)
    terms = {one.digest: one.terms for one in promotions}
    kept = keep_all(cart, sale)
    refunds, credited = 0, [0] * len(sale.applied)
    funders = [[0] * len(one.funding) for one in sale.applied]
    while any(kept.quantities.values()):
        lines = [i for i, units in kept.quantities.items() if units]
        chosen = data.draw(st.lists(st.sampled_from(lines), min_size=1, unique=True))
        returned = {i: data.draw(st.integers(1, kept.quantities[i])) for i in chosen}
        found = bring_back(
            cart,
            sale,
            kept,
            returned,
            terms,
            holder=holder,
            at_ms=0,
            lanes=DEFAULT_LANES if lanes is None else lanes,
        )
        assert found.refund_minor >= 0
        refunds += found.refund_minor
        for one in found.reversals:
            assert one.amount_minor >= 0
            credited[one.applied] += one.amount_minor
            assert sum(part for _, part in one.funding) in (one.amount_minor, 0)
            for i, (_, part) in enumerate(one.funding):
                assert part >= 0
                funders[one.applied][i] += part
        kept = found.kept
        assert kept.refunded_minor == refunds
        assert refunds + _kept_price(cart, kept) == sale.totals.total_minor
    assert refunds == sale.totals.total_minor
    assert credited == [one.amount_minor for one in sale.applied]
    assert funders == [[part.amount_minor for part in one.funding] for one in sale.applied]
    assert not any(one.is_redeemed for one in kept.discounts)


def _kept_price(cart: Cart, kept: Kept) -> int:
    """Also: no kept line costs less than nothing."""
    if not any(kept.quantities.values()):
        return 0
    total = cart.shipping.amount_minor if cart.shipping else 0
    for line in cart.lines:
        gross = kept_price(line, kept.quantities[line.id])
        net = gross - sum(one.lines.get(line.id, 0) for one in kept.discounts)
        assert 0 <= net <= gross
        total += net
    return total - sum(one.lines.get("", 0) for one in kept.discounts)


@given(st.data())
def test_terms_survive_their_encoding(data: st.DataObject) -> None:
    terms = data.draw(promotions(1)).terms
    body = encode_terms(terms)
    again = decode_terms(body)
    assert again == terms
    assert encode_terms(again) == body
    assert terms_digest(again) == terms_digest(terms)


junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)


def _spoilt(value: Any, data: st.DataObject) -> Any:
    """The value with one part replaced, taken out, or added, anywhere in it."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        name = data.draw(st.sampled_from(sorted(value)))
        kind = data.draw(st.sampled_from(["deeper"] * 6 + ["out", "in", "junk"]))
        rest = {k: v for k, v in value.items() if k != name}
        if kind == "deeper":
            return {**rest, name: _spoilt(value[name], data)}
        if kind == "out":
            return rest
        return {**value, name if kind == "junk" else data.draw(st.text()): data.draw(junk)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [_spoilt(x, data) if i == place else x for i, x in enumerate(value)]
    return data.draw(junk)


@given(carts(), promotions(0), st.data())
def test_spoilt_documents_are_refused_or_work(
    cart: Cart, promotion: Promotion, data: st.DataObject
) -> None:
    """Goal: no input reaches an error that is not about the input. Whatever still decodes can be
    encoded, linted, said and evaluated."""
    if data.draw(st.booleans()):
        value = _spoilt(to_builtins(promotion.terms), data)
        try:
            promotion = Promotion.of(decode_terms(json.dumps(value).encode()))
        except InvalidInputError as error:
            assert error.message
            return
    else:
        try:
            cart = decode_cart(json.dumps(_spoilt(to_builtins(cart), data)).encode())
        except InvalidInputError as error:
            assert error.message
            return
    assert sentence(promotion.terms).endswith(".")
    assert sentence(promotion.terms, "de").endswith(".")
    lint(promotion.terms, [promotion.terms])
    check_sums(cart, evaluate(cart, PromotionIndex([promotion]), holder_of([promotion]), at_ms=0))


@pytest.mark.parametrize("order", list(permutations([0, 1, 2])))
def test_worked_split(order: tuple[int, ...]) -> None:
    """300 over 4300/1400/2300 is 161/53/86, however the cart is sorted."""
    three = [Line(id=i, sku=i, price_minor=p) for i, p in (("a", 4300), ("b", 1400), ("c", 2300))]
    cart = Cart(currency="EUR", lines=tuple(three[i] for i in order))
    terms: Terms = terms_from(
        {
            "promotion_id": "p",
            "title": "t",
            "currency": "EUR",
            "benefits": [{"type": "amount_off", "amount_minor": 300}],
        }
    )
    found = evaluate(cart, [Promotion.of(terms)], at_ms=0)
    assert [line.discount_minor for line in found.lines] == [161, 53, 86]
