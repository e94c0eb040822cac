"""Lanes of mode `best`: the best set is best, and where it is not proven the answer says so."""

from itertools import combinations
from random import Random
from typing import Any, ClassVar

import pytest

from sconto.cart import Evaluation, Lane, Promotion, PromotionIndex, ReasonCode, evaluate
from sconto.cart import best as best_module
from sconto.cart.basket import Basket, State
from sconto.cart.best import EXACT_MAX, NODES_MAX, SEARCH_MAX, BestSet
from sconto.cart.model import STRANGER
from sconto.cart.price import Draft
from sconto.cart.promotion import Application, Compiled
from sconto.cart.turns import Progress, key_of, turn
from sconto.cart.worked import cart_of, promotion_of

BEST = Lane(name="order", mode="best")
SKUS = ["a", "b", "c", "d"]


def run(promotions: list[Promotion], cart: str, lane: Lane = BEST) -> Evaluation:
    return evaluate(cart_of(cart), PromotionIndex(promotions, lanes=[lane]), at_ms=0)


def some_promotions(random: Random, count: int) -> list[Promotion]:
    found = []
    for i in range(count):
        items = {"include": [{"skus": random.sample(SKUS, random.randint(1, 3))}]}
        benefit = random.choice(
            [
                {"type": "percent_off", "basis_points": random.randint(1, 9999), "items": items},
                {"type": "amount_off", "amount_minor": random.randint(1, 900), "items": items},
                {"type": "buy_get", "buy_quantity": random.randint(1, 2), "buy": items},
                {"type": "fixed_price", "unit_price_minor": random.randint(1, 300), "items": items},
                {
                    "type": "bundle_price",
                    "price_minor": random.randint(1, 300),
                    "parts": [{"quantity": 2, "items": items}],
                },
                {
                    "type": "tiered",
                    "measure": random.choice(["subtotal", "quantity"]),
                    "items": items,
                    "tiers": [
                        {"from": 3, "amount_minor": random.randint(1, 900)},
                        {"from": 7, "unit_price_minor": random.randint(1, 300)},
                        {"from": 1200, "basis_points": random.randint(1, 5000)},
                    ],
                },
                {
                    "type": "percent_off",
                    "basis_points": 5000,
                    "items": items,
                    "pick": {"choose": random.choice(["cheapest", "dearest"])},
                },
            ]
        )
        combination = {
            "priority": random.randint(1, 3),
            "mode": random.choice(["stack", "compete"]),
            "basis": random.choice(["initial", "reduced", "reduced"]),
            "tags": random.sample(["x", "y"], random.randint(0, 2)),
        }
        if random.random() < 0.4:
            combination["combines_with"] = random.sample(["x", "y"], random.randint(1, 2))
        least = {"type": "subtotal", "min_minor": random.choice([0, 500, 1500])}
        found.append(
            promotion_of(f"p{i}", benefit=benefit, combination=combination, conditions=[least])
        )
    return found


def worth(applications: tuple[Application, ...], basket: Basket, lane: Lane) -> int:
    """What a set gives in canonical order; nothing if some of it does not fit."""
    progress = Progress(State.start(basket))
    for one in sorted(applications, key=key_of):
        found = turn(one, basket, progress, lane)
        if not isinstance(found, Draft) or not found.amount_minor:
            return 0
        progress.take(one, found, lane)
    return sum(taken.draft.amount_minor for taken in progress.taken)


@pytest.mark.parametrize("seed", range(120))
def test_the_best_set_is_the_best_of_all_subsets(seed: int) -> None:
    """Method: all subsets of six promotions, priced one by one."""
    random = Random(seed)
    promotions = some_promotions(random, 6)
    cart = ", ".join(f"{random.randint(1, 5)} {sku} {random.randint(1, 900)}" for sku in SKUS)
    lane = Lane(name="order", mode="best", max_per_item=random.choice([None, 1, 2]))
    found = run(promotions, cart, lane)
    assert found.method == "exact"
    basket = Basket(cart_of(cart), STRANGER, 0)
    applications = [Compiled(one.terms, one.digest).automatic for one in promotions]
    sets = [s for n in range(len(promotions) + 1) for s in combinations(applications, n)]
    assert found.discount_minor == max(worth(one, basket, lane) for one in sets)


def test_a_better_set_beats_a_better_promotion() -> None:
    """7.00 alone goes with nothing; 4.00 and 4.00 go together."""
    big = promotion_of(
        "big",
        benefit={"type": "amount_off", "amount_minor": 700},
        combination={"combines_with": []},
    )
    small = [
        promotion_of(name, benefit={"type": "amount_off", "amount_minor": 400}) for name in "xy"
    ]
    found = run([big, *small], "a 5000")
    assert found.discount_minor == 800
    assert [(r.promotion_id, r.code, r.beaten_by) for r in found.refused] == [
        ("big", ReasonCode.BEATEN, "x")
    ]


def test_as_many_as_are_promised_are_always_proven() -> None:
    """Twelve that all stand in each other's way, and a search that cannot cut anything."""
    assert 2**EXACT_MAX < NODES_MAX
    random = Random(7)
    promotions = some_promotions(random, EXACT_MAX)
    assert run(promotions, "5 a 901, 4 b 313, 3 c 777, 5 d 99").method == "exact"


def test_where_it_is_not_proven_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Method: allow three steps only; the answer is then at least what the largest first give."""
    promotions = some_promotions(Random(3), 8)
    proven = run(promotions, "5 a 901, 4 b 313, 3 c 777, 5 d 99")
    monkeypatch.setattr(best_module, "NODES_MAX", 3)
    found = run(promotions, "5 a 901, 4 b 313, 3 c 777, 5 d 99")
    assert (proven.method, found.method) == ("exact", "heuristic")
    assert 0 < found.discount_minor <= proven.discount_minor


def test_thirty_that_go_together_are_found_at_once() -> None:
    promotions = [
        promotion_of(f"p{i:02}", benefit={"type": "amount_off", "amount_minor": 10 + i})
        for i in range(30)
    ]
    found = run(promotions, "a 100000")
    assert (found.method, len(found.applied)) == ("exact", 30)


def test_two_thousand_that_stand_in_each_other_s_way_have_an_answer_in_time() -> None:
    """Method: all compete, the best is known; nothing recurses two thousand times."""
    promotions = [
        promotion_of(
            f"p{i:04}",
            benefit={"type": "amount_off", "amount_minor": 1 + (i * 7) % 2003},
            combination={"mode": "compete"},
        )
        for i in range(2000)
    ]
    found = run(promotions, "a 100000")
    assert found.method == "heuristic"
    assert found.discount_minor == max(1 + (i * 7) % 2003 for i in range(2000))


def test_what_gives_something_else_comes_along() -> None:
    points = promotion_of("points", benefit={"type": "points", "points": 5})
    off = promotion_of("off", benefit={"type": "amount_off", "amount_minor": 5})
    assert {one.promotion_id for one in run([points, off], "a 100").applied} == {"points", "off"}


def test_conditions_that_fail_are_told_and_not_called_beaten() -> None:
    off = promotion_of("off", benefit={"type": "amount_off", "amount_minor": 5})
    needs = [{"type": "quantity", "min": 2}]
    more = promotion_of("more", benefit={"type": "amount_off", "amount_minor": 9}, conditions=needs)
    found = run([off, more], "a 100")
    assert [(r.code, r.missing) for r in found.refused] == [(ReasonCode.QUANTITY_TOO_LOW, 1)]


def off(name: str, amount_minor: int, /, **combination: Any) -> Promotion:
    benefit = {"type": "amount_off", "amount_minor": amount_minor}
    return promotion_of(name, benefit=benefit, combination=combination)


def points(name: str, **combination: Any) -> Promotion:
    return promotion_of(name, benefit={"type": "points", "points": 5}, combination=combination)


def search_of(*promotions: Promotion, cart: str = "a 5000") -> BestSet:
    basket = Basket(cart_of(cart), STRANGER, 0)
    applications = sorted((Compiled(p.terms, p.digest).automatic for p in promotions), key=key_of)
    return BestSet(applications, basket, BEST, Progress(State.start(basket)))


def chosen_by(search: BestSet) -> dict[str, int]:
    """What each promotion of the set found gives; the search knows their sum."""
    found = {t.application.promotion.promotion_id: t.draft.amount_minor for t in search.run().taken}
    assert search.best_value == sum(found.values())
    return found


class TestTheStepsOfTheSearch:
    """Two that compete take two steps: the first alone, then the second beside it, which is blocked
    and leaves nothing to come. Without the first there is nothing more to win."""

    pair = (off("p", 300, mode="compete"), off("q", 300, mode="compete"))

    @pytest.mark.parametrize(("limit", "is_exact"), [(3, True), (2, True), (1, False)])
    def test_so_many_are_needed_and_no_more(
        self, limit: int, is_exact: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(best_module, "NODES_MAX", limit)
        search = search_of(*self.pair)
        assert chosen_by(search) == {"p": 300}
        assert (search.nodes, search.is_exact) == (2, is_exact)

    @pytest.mark.parametrize(("limit", "nodes"), [(2, 2), (1, 0)])
    def test_so_many_promotions_are_searched_and_no_more(
        self, limit: int, nodes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(best_module, "SEARCH_MAX", limit)
        search = search_of(*self.pair)
        assert chosen_by(search) == {"p": 300}
        assert (search.nodes, search.is_exact) == (nodes, nodes > 0)

    def test_where_all_reach_the_sum_of_the_ceilings_there_are_none(self) -> None:
        search = search_of(points("a", mode="compete"), off("p", 300, mode="compete"), off("q", 1))
        assert chosen_by(search) == {"p": 300, "q": 1}
        assert (search.nodes, search.is_exact) == (0, True)

    def test_what_gives_no_money_is_in_no_set(self) -> None:
        compete = {"mode": "compete"}
        search = search_of(points("0"), off("a", 100, **compete), off("b", 900, **compete))
        assert chosen_by(search) == {"b": 900}


class TestWithoutProof:
    """No search: in order, or the largest first as long as all chosen still fit."""

    @pytest.fixture(autouse=True)
    def no_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(best_module, "SEARCH_MAX", 4)
        monkeypatch.setattr(best_module, "NODES_MAX", 0)

    compete: ClassVar[dict[str, Any]] = {"mode": "compete"}
    alone: ClassVar[dict[str, Any]] = {"combines_with": []}

    @pytest.mark.parametrize(
        ("promotions", "chosen"),
        [
            # In order a, c, d: 152; the largest first skip a and go on.
            (
                [off("a", 100, **compete), off("b", 900, **compete), off("c", 51), off("d", 1)],
                {"b": 900, "c": 51, "d": 1},
            ),
            # The largest goes with nothing, and the others together are worth more.
            ([off("a", 60), off("b", 100, **alone), off("c", 60)], {"a": 60, "c": 60}),
            # Worth the same either way: the set in order stays.
            (
                [
                    off("a", 40, mode="compete", tags=["x"]),
                    off("b", 100, mode="compete"),
                    off("c", 60, combines_with=["x"]),
                ],
                {"a": 40, "c": 60},
            ),
            # One cent is worth taking.
            ([off("p", 1, **compete), off("q", 1, **compete)], {"p": 1}),
        ],
    )
    def test_the_better_of_both_is_taken(
        self, promotions: list[Promotion], chosen: dict[str, int]
    ) -> None:
        search = search_of(*promotions)
        assert (chosen_by(search), search.is_exact) == (chosen, False)

    @pytest.mark.parametrize("seed", range(12))
    def test_it_is_no_less_than_any_single_one_and_the_same_for_every_order(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """More than are ever searched, by the real limits."""
        monkeypatch.undo()
        random = Random(seed)
        promotions = some_promotions(random, SEARCH_MAX + 6)
        cart = ", ".join(f"{random.randint(1, 5)} {sku} {random.randint(1, 900)}" for sku in SKUS)
        found = run(promotions, cart)
        assert found.method == "heuristic"
        basket = Basket(cart_of(cart), STRANGER, 0)
        singles = [(Compiled(p.terms, p.digest).automatic,) for p in promotions]
        assert found.discount_minor >= max(worth(one, basket, BEST) for one in singles) > 0
        random.shuffle(promotions)
        assert run(promotions, cart) == found

    def test_it_goes_on_from_what_an_earlier_lane_took(self) -> None:
        early = off("e", 5, lane="early", tags=["x"], combines_with=["y"])
        compete = {"mode": "compete", "tags": ["y"]}
        lanes = [Lane(name="early"), BEST]
        promotions = [early, off("a", 10, **compete), off("b", 20, **compete), off("free", 50)]
        found = evaluate(cart_of("a 100"), PromotionIndex(promotions, lanes=lanes), at_ms=0)
        assert found.method == "heuristic"
        assert {x.promotion_id: x.amount_minor for x in found.applied} == {"e": 5, "b": 20}
        assert [(x.promotion_id, x.code, x.beaten_by) for x in found.refused] == [
            ("a", ReasonCode.BEATEN, "b"),
            ("free", ReasonCode.NOT_COMBINABLE, "e"),
        ]


def test_what_has_no_money_left_to_give_still_gives_its_points() -> None:
    all_off = {"type": "percent_off", "basis_points": 10_000}
    both = promotion_of("q", benefits=[all_off, {"type": "points", "points": 5}])
    found = run([off("p", 100), both], "a 100")
    assert {x.promotion_id: x.amount_minor for x in found.applied} == {"p": 100, "q": 0}


class TestBestOfTheItem:
    lane = Lane(name="order", mode="best", scope="item")

    def test_each_line_takes_what_gives_it_most(self) -> None:
        five = promotion_of("five", benefit={"type": "percent_off", "basis_points": 500})
        one_off = promotion_of("one", benefit={"type": "amount_off", "amount_minor": 100,
                                               "spread": "each_line"})  # fmt: skip
        found = run([five, one_off], "cheap 500, dear 9000", self.lane)
        given = {line.line_id: line.discount_minor for line in found.lines}
        assert given == {"cheap": 100, "dear": 450}

    def test_ties_go_to_the_first(self) -> None:
        both = [
            promotion_of(name, benefit={"type": "amount_off", "amount_minor": 5}) for name in "yx"
        ]
        found = run(both, "a 100", self.lane)
        assert [one.promotion_id for one in found.applied] == ["x"]
        assert [(r.promotion_id, r.code, r.beaten_by) for r in found.refused] == [
            ("y", ReasonCode.BEATEN, "x")
        ]

    def test_those_that_do_not_go_together_stay_apart_on_different_lines_too(self) -> None:
        a, b = ({"include": [{"skus": [sku]}]} for sku in "ab")
        first = promotion_of(
            "1", benefit={"type": "amount_off", "amount_minor": 5, "items": a},
            combination={"combines_with": []},
        )  # fmt: skip
        second = promotion_of("2", benefit={"type": "amount_off", "amount_minor": 5, "items": b})
        found = run([first, second], "a 100, b 100", self.lane)
        assert [r.code for r in found.refused] == [ReasonCode.NOT_COMBINABLE]

    def test_units_and_shipping_have_their_winners_too(self) -> None:
        pick = promotion_of("pick", benefit={"type": "buy_get", "buy_quantity": 1})
        some = promotion_of(
            "some",
            benefits=[
                {"type": "percent_off", "basis_points": 1000},
                {"type": "shipping_off", "basis_points": 5000},
            ],
        )
        free = promotion_of("xfree", benefit={"type": "shipping_off", "basis_points": 10_000})
        cart = cart_of("2 a 100, b 500", shipping={"amount_minor": 400})
        index = PromotionIndex([pick, some, free], lanes=[self.lane])
        found = evaluate(cart, index, at_ms=0)
        assert {line.line_id: line.discount_minor for line in found.lines} == {"a": 100, "b": 50}
        assert found.totals.shipping_discount_minor == 400


def test_what_is_used_up_for_nothing_may_make_another_one_worth_something() -> None:
    """Both are used up also without effect; the first uses the unit that has no room, and the next
    cheapest one has. Nothing is in the best set, so nothing stands in anybody's way."""
    benefit = {
        "type": "amount_off",
        "amount_minor": 100,
        "spread": "each_unit",
        "pick": {"quantity": 1},
    }
    twice = [promotion_of(name, benefit=benefit, no_effect="redeem") for name in "pq"]
    found = run(twice, "a 101 floor=5000, b 150")
    assert [(one.promotion_id, one.amount_minor) for one in found.applied] == [("p", 0), ("q", 100)]
    other = promotion_of("r", benefit=benefit, no_effect="redeem", combination={"mode": "compete"})
    third = promotion_of("s", benefit=benefit, no_effect="redeem", combination={"mode": "compete"})
    found = run([other, third], "a 101 floor=5000, b 150")
    assert [(one.code, one.beaten_by) for one in found.refused] == [(ReasonCode.BEATEN, "r")]
