"""Who is taken, who is refused and by whom: exclusive promotions, caps, competition, fallback."""

from typing import Any

import pytest

from sconto.cart import Evaluation, HeldToken, Holder, Lane, Promotion, PromotionIndex, evaluate
from sconto.cart import best as best_module
from sconto.cart.allocate import allocate
from sconto.cart.basket import Basket, State
from sconto.cart.best import BestSet
from sconto.cart.index import Promotions
from sconto.cart.promotion import Compiled
from sconto.cart.turns import Progress
from sconto.cart.worked import cart_of, promotion_of, try_out

NEVER = [{"type": "subtotal", "min_minor": 10**9}]


def off(name: str, amount_minor: int, /, **fields: Any) -> Promotion:
    benefit = {"type": "amount_off", "amount_minor": amount_minor}
    for key in ("items", "spread"):
        if key in fields:
            benefit[key] = fields.pop(key)
    return promotion_of(name, benefit=benefit, **fields)


def alone(name: str, amount_minor: int, /, **fields: Any) -> Promotion:
    return off(name, amount_minor, combination={"exclusive": True}, **fields)


def told(found: Evaluation) -> dict[str, str]:
    """Each promotion with what it gives, or why not and by whom."""
    given = {one.promotion_id: str(one.amount_minor) for one in found.applied}
    for one in found.refused:
        given[one.promotion_id] = one.code + (f" by {one.beaten_by}" if one.beaten_by else "")
    return dict(sorted(given.items()))


def within(lane: Lane, promotions: list[Promotion], cart: str, *more: Lane) -> dict[str, str]:
    every = Promotions(promotions, lanes=[lane, *more])
    return told(evaluate(cart_of(cart), every, at_ms=0))


class TestExclusive:
    others = (off("o1", 300), off("o2", 200), off("o3", 999, conditions=NEVER))
    never = alone("e0", 5000, conditions=NEVER)

    def test_the_best_of_them_wins_over_less_and_everybody_is_told(self) -> None:
        found = try_out("a 9000", *self.others, self.never, alone("e1", 800), alone("e2", 900))
        assert told(found) == {
            "e0": "subtotal_too_low",
            "e1": "exclusive by e2",
            "e2": "900",
            "o1": "exclusive by e2",
            "o2": "exclusive by e2",
            "o3": "subtotal_too_low",
        }

    def test_against_more_all_of_them_are_refused_by_what_applies(self) -> None:
        found = try_out("a 9000", *self.others, self.never, alone("e1", 400), alone("e2", 499))
        assert told(found) == {
            "e0": "subtotal_too_low",
            "e1": "exclusive by o1",
            "e2": "exclusive by o1",
            "o1": "300",
            "o2": "200",
            "o3": "subtotal_too_low",
        }

    def test_of_equal_ones_the_first_wins(self) -> None:
        found = try_out("a 9000", alone("e2", 900), alone("e1", 900))
        assert told(found) == {"e1": "900", "e2": "exclusive by e1"}

    def test_none_of_them_and_nobody_else_applies(self) -> None:
        found = try_out("a 9000", self.never, off("o", 1, conditions=NEVER))
        assert told(found) == {"e0": "subtotal_too_low", "o": "subtotal_too_low"}

    def test_an_exclusive_one_that_gives_no_money_applies_where_nothing_else_does(self) -> None:
        points = promotion_of(
            "e", benefit={"type": "points", "points": 5}, combination={"exclusive": True}
        )
        assert told(try_out("a 9000", points)) == {"e": "0"}
        assert told(try_out("a 9000", points, off("o", 1))) == {"e": "exclusive by o", "o": "1"}

    def test_to_give_more_than_a_best_that_is_not_proven_is_not_proven_either(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lane = Lane(name="order", mode="best")
        pair = [off(name, 300, combination={"mode": "compete"}) for name in "pq"]
        index = PromotionIndex([*pair, alone("e", 900)], lanes=[lane])
        for nodes, method in ((best_module.NODES_MAX, "exact"), (0, "heuristic")):
            monkeypatch.setattr(best_module, "NODES_MAX", nodes)
            found = evaluate(cart_of("a 9000"), index, at_ms=0)
            assert (told(found)["e"], found.method) == ("900", method)

    @pytest.mark.parametrize(
        ("named", "lanes", "found_in"),
        [
            ("first", ["first", "order", "last"], "first"),
            ("unheard", ["first", "order", "last"], "order"),
            ("unheard", ["first", "last"], "last"),
        ],
    )
    def test_it_applies_in_the_lane_it_names_or_in_that_of_its_benefits_or_in_the_last(
        self, named: str, lanes: list[str], found_in: str
    ) -> None:
        one = off("e", 9, combination={"exclusive": True, "lane": named})
        index = PromotionIndex([one], lanes=[Lane(name=name) for name in lanes])
        assert [a.lane for a in evaluate(cart_of("a 100"), index, at_ms=0).applied] == [found_in]


class TestInOrder:
    def test_the_first_is_named_to_all_others_of_its_lane_only(self) -> None:
        promotions = [
            off("b", 1, items={"include": [{"skus": ["z"]}]}, combination={"lane": "order"}),
            off("c", 5),
            off("d", 7),
            off("e", 9, combination={"lane": "next"}),
        ]
        lane = Lane(name="order", mode="first")
        assert within(lane, promotions, "a 100", Lane(name="next")) == {
            "b": "no_items_selected",
            "c": "5",
            "d": "not_first by c",
            "e": "9",
        }

    def test_two_on_each_item_where_the_lane_says_so(self) -> None:
        """Units that a buy-get reduces count as touched, units that it only uses do not."""
        lane = Lane(name="order", max_per_item=2)
        get = promotion_of(
            "1",
            benefit={
                "type": "buy_get",
                "buy_quantity": 1,
                "buy": {"include": [{"skus": ["a"]}]},
                "get": {"include": [{"skus": ["b"]}]},
                "get_quantity": 2,
            },
            combination={"lane": "order"},
        )
        line = {"spread": "each_line"}
        promotions = [get, off("2", 10, **line), off("3", 20, **line), off("4", 40, **line)]
        found = evaluate(
            cart_of("a 1000, aa 1000, aaa 1000, 2 b 1000, c 1000"),
            PromotionIndex(promotions, lanes=[lane]),
            at_ms=0,
        )
        assert {x.line_id: x.discount_minor for x in found.lines} == {
            "a": 10 + 20,
            "aa": 10 + 20,
            "aaa": 10 + 20,
            "b": 2000,
            "c": 10 + 20,
        }
        assert told(found)["4"] == "too_many by 3"

    def test_as_many_in_the_cart_as_the_lane_says(self) -> None:
        promotions = [off(name, 10) for name in "pqrs"]
        for cap, last in ((1, "p"), (2, "q"), (3, "r")):
            found = within(Lane(name="order", max_per_cart=cap), promotions, "a 1000")
            assert list(found.values()) == ["10"] * cap + [f"too_many by {last}"] * (4 - cap)

    def test_a_promotion_caps_itself_on_each_item(self) -> None:
        for cap, given in ((1, 100), (2, 200), (3, 300), (None, 300)):
            combination = {} if cap is None else {"max_per_item": cap}
            one = off("p", 100, access={"type": "token"}, combination=combination)
            tokens = tuple(HeldToken(token_id=t, terms_digest=one.digest) for t in "xyz")
            found = try_out("a 1000", one, off("q", 5), holder=Holder(tokens=tokens))
            assert found.discount_minor == given + 5, cap

    def test_a_promotion_caps_itself_in_the_cart(self) -> None:
        one = off("p", 100, access={"type": "token"}, combination={"max_per_cart": 2})
        tokens = tuple(HeldToken(token_id=t, terms_digest=one.digest) for t in "xyz")
        found = try_out("a 1000", one, holder=Holder(proven=True, tokens=tokens))
        assert [a.token_id for a in found.applied] == ["x", "y"]
        assert [(r.token_id, r.code, r.beaten_by) for r in found.refused] == [
            ("z", "too_many", "p")
        ]

    def test_closed_lines_are_not_blamed_where_there_was_nothing_to_give(self) -> None:
        lane = Lane(name="order", max_per_item=1)
        nothing = off("q", 5, items={"include": [{"skus": ["z"]}]}, combination={"lane": "order"})
        assert within(lane, [off("p", 5), nothing], "a 100") == {
            "p": "5",
            "q": "no_items_selected",
        }


class TestBest:
    lane = Lane(name="order", mode="best")

    def test_reasons_stay_where_nothing_was_taken(self) -> None:
        nothing = off("q", 5, items={"include": [{"skus": ["z"]}]}, combination={"lane": "order"})
        assert within(self.lane, [nothing], "a 100") == {"q": "no_items_selected"}

    def test_what_lost_names_the_one_in_its_way_else_the_first_taken(self) -> None:
        compete = {"combination": {"mode": "compete"}}
        promotions = [off("b", 30), off("c", 10, **compete), off("d", 90, **compete)]
        assert within(self.lane, promotions, "a 1000") == {
            "b": "30",
            "c": "beaten by d",
            "d": "90",
        }
        nothing_left = [off("p", 100), promotion_of("q", benefit={"type": "percent_off",
                        "basis_points": 10_000})]  # fmt: skip
        assert within(self.lane, nothing_left, "a 100") == {"p": "100", "q": "beaten by p"}

    def test_what_would_not_have_applied_anyhow_says_so_beside_winners(self) -> None:
        items = {"include": [{"skus": ["z"]}]}
        promotions = [off("p", 5), off("q", 5, items=items, combination={"lane": "order"})]
        assert within(self.lane, promotions, "a 100") == {"p": "5", "q": "no_items_selected"}

    def test_a_threshold_that_the_winners_took_away_is_told_beside_the_winner(self) -> None:
        from_90 = [{"type": "subtotal", "min_minor": 90}]
        promotions = [off("p", 20), off("q", 15, conditions=from_90)]
        index = PromotionIndex(promotions, lanes=[self.lane])
        found = evaluate(cart_of("a 100"), index, at_ms=0)
        assert told(found) == {"p": "20", "q": "beaten by p"}
        assert [u.missing for u in found.refused[0].unmet] == [10]

    @pytest.mark.parametrize("scope", ["order", "item"])
    def test_a_lane_before_it_does_not_compete(self, scope: Any) -> None:
        early = off("e", 5, combination={"lane": "early", "mode": "compete"})
        pair = [off(n, a, combination={"mode": "compete"}) for n, a in (("p", 1), ("q", 2))]
        index = PromotionIndex(
            [early, *pair],
            lanes=[Lane(name="early"), Lane(name="order", mode="best", scope=scope)],
        )
        found = evaluate(cart_of("a 100"), index, at_ms=0)
        assert told(found) == {"e": "5", "p": "beaten by q", "q": "2"}

    def test_one_cent_is_worth_taking(self) -> None:
        compete = {"mode": "compete"}
        pair = [off(name, 1, combination=compete) for name in "pq"]
        assert within(self.lane, pair, "a 100") == {"p": "1", "q": "beaten by p"}

    def test_branches_that_cannot_win_are_not_walked(self) -> None:
        """Twelve of which one wins by far: 8,192 nodes without a bound."""
        compete = {"mode": "compete"}
        promotions = [off(f"p{i:02}", 100 - i, combination=compete) for i in range(12)]
        basket = Basket(cart_of("a 1000"), Holder(), 0)
        applications = [Compiled(p.terms, p.digest).automatic for p in promotions]
        start = Progress(State.start(basket))
        search = BestSet(applications, basket, self.lane, start)
        assert sum(t.draft.amount_minor for t in search.run().taken) == 100
        assert search.nodes < 5000

    def test_without_search_the_largest_that_fit_are_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In order 1.00 comes first and keeps 9.00 out; the largest first take 9.00 and 0.50."""
        monkeypatch.setattr(best_module, "NODES_MAX", 0)
        compete = {"mode": "compete"}
        promotions = [
            off("a", 100, combination=compete | {"priority": 1}),
            off("b", 900, combination=compete | {"priority": 2}),
            off("c", 50, combination={"priority": 3}),
            off("d", 1, combination={"priority": 4}),
            off("e", 7, conditions=NEVER),
        ]
        index = PromotionIndex(promotions, lanes=[self.lane])
        found = evaluate(cart_of("x 5000"), index, at_ms=0)
        assert found.method == "heuristic"
        assert told(found) == {
            "a": "beaten by b",
            "b": "900",
            "c": "50",
            "d": "1",
            "e": "subtotal_too_low",
        }

    def test_a_lane_that_is_not_proven_makes_the_whole_answer_heuristic(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(best_module, "NODES_MAX", 0)
        compete = {"mode": "compete"}
        pair = [off(n, 5, combination=compete | {"lane": "first"}) for n in "ab"]
        index = PromotionIndex([*pair, off("c", 5)], lanes=[
            Lane(name="first", mode="best"), self.lane,
        ])  # fmt: skip
        found = evaluate(cart_of("x 5000"), index, at_ms=0)
        assert (found.method, found.discount_minor) == ("heuristic", 10)


class TestBestOfItem:
    lane = Lane(name="order", mode="best", scope="item")

    def test_everyone_has_a_turn(self) -> None:
        """The first is beaten everywhere, the second cannot, the third and fourth share."""
        a, b = ({"include": [{"skus": [sku]}]} for sku in "ab")
        here = {"lane": "order"}
        promotions = [
            off("1", 5, items=a, combination=here),
            off("2", 9, conditions=NEVER),
            off("3", 50, items=a, combination=here),
            off("4", 30, spread="each_line"),
            off("5", 60, items=b, combination=here),
        ]
        assert within(self.lane, promotions, "a 100, b 100, c 100") == {
            "1": "beaten by 3",
            "2": "subtotal_too_low",
            "3": "50",
            "4": "30",
            "5": "60",
        }

    def test_one_that_does_not_go_with_the_winners_so_far_does_not_stop_the_others(self) -> None:
        selectors = [{"include": [{"skus": [sku]}]} for sku in "abc"]
        promotions = [
            off(str(i), 5, items=items, combination={"lane": "order", **more})
            for i, (items, more) in enumerate(
                zip(selectors, ({}, {"combines_with": []}, {}), strict=True)
            )
        ]
        assert within(self.lane, promotions, "a 100, b 100, c 100") == {
            "0": "5",
            "1": "not_combinable by 0",
            "2": "5",
        }

    def test_units_used_and_taken_are_one_sum_for_their_line(self) -> None:
        """60 from one unit and 20 from the whole line are 80: more than 79, less than 81."""
        both = promotion_of(
            "1",
            benefits=[
                {
                    "type": "amount_off",
                    "amount_minor": 60,
                    "spread": "each_unit",
                    "pick": {"quantity": 1},
                },
                {"type": "amount_off", "amount_minor": 20},
            ],
            combination={"lane": "order"},
        )
        for other, given in ((79, "80"), (80, "80"), (81, "beaten by 2")):
            assert within(self.lane, [both, off("2", other)], "3 a 100")["1"] == given
        pick = {"type": "fixed_price", "unit_price_minor": 40, "pick": {"quantity": 1}}
        one = promotion_of("1", benefit=pick, combination={"lane": "order"})
        for other, given in ((60, "60"), (61, "beaten by 2")):
            assert within(self.lane, [one, off("2", other)], "3 a 100")["1"] == given

    def test_a_promotion_keeps_what_it_won_and_loses_the_rest(self) -> None:
        pick = promotion_of(
            "1",
            benefit={
                "type": "percent_off",
                "basis_points": 5000,
                "pick": {"quantity": 2, "choose": "dearest"},
            },
            combination={"lane": "order"},
        )
        only_a = off("2", 150, items={"include": [{"skus": ["a"]}]}, combination={"lane": "order"})
        found = evaluate(
            cart_of("a 200, b 300"), PromotionIndex([pick, only_a], lanes=[self.lane]), at_ms=0
        )
        assert {x.line_id: x.discount_minor for x in found.lines} == {"a": 150, "b": 150}


def test_what_a_full_line_cannot_carry_goes_to_the_others_by_their_weight() -> None:
    assert allocate(300, [4300, 1400, 2300], [100, 1400, 2300]) == [100, 76, 124]
    assert allocate(100, [1, 1, 8], [5, 50, 50]) == [5, 45, 50]
    assert allocate(5, [0, 0, 0], [3, 3, 3]) == [2, 2, 1]
    # A line that is full exactly is settled with those that overflow.
    assert allocate(6, [2, 3, 10, 8], [7, 1, 6, 6]) == [0, 1, 3, 2]
    assert allocate(12, [5, 5, 8, 2, 2], [1, 6, 5, 8, 3]) == [1, 4, 5, 1, 1]
