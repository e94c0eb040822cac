"""The front door: forms of input, what is looked up, one JSON form, UCP's words."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from sconto.base.errors import InvalidInputError, InvariantError
from sconto.cart import (
    Cart,
    HeldCode,
    HeldToken,
    Holder,
    Lane,
    Line,
    Promotion,
    PromotionIndex,
    ReasonCode,
    encode_evaluation,
    evaluate,
)
from sconto.cart.allocate import allocate
from sconto.cart.basket import State
from sconto.cart.evaluation import Applied
from sconto.cart.index import Without
from sconto.cart.model import Shipping, cart_from, decode_cart
from sconto.cart.ucp import UCP_CODES, render, ucp_code
from sconto.cart.worked import cart_of, promotion_of, try_out

OFF = {"type": "amount_off", "amount_minor": 100}
TOKEN = {"type": "token"}


def ids(found: Any) -> list[str]:
    return [one.promotion_id for one in found.applied]


class TestDoor:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ({"quantity": 0, "price_minor": 1}, "lines[0].quantity"),
            ({"quantity": -1, "price_minor": 1}, "lines[0].quantity"),
            ({"quantity": 10**6 + 1, "price_minor": 1}, "lines[0].quantity"),
            ({"quantity": "2", "price_minor": 1}, "lines[0].quantity"),
            ({"price_minor": -1}, "lines[0].price_minor"),
            ({"price_minor": 10**15 + 1}, "lines[0].price_minor"),
            ({"price_minor": 10**15, "quantity": 2}, "lines[0]"),
            ({"price_minor": 1, "amount_minor": 1}, "lines[0]"),
            ({}, "lines[0]"),
            ({"price_minor": True}, "lines[0].price_minor"),
            ({"price_minor": 1, "floor_price_minor": -1}, "lines[0].floor_price_minor"),
            ({"price_minor": 1, "prise": 1}, "lines[0].prise"),
            ({"price_minor": 1, "attributes": {"x": None}}, "lines[0].attributes[...]"),
        ],
    )
    def test_absurd_lines_are_refused_and_the_field_named(
        self, line: dict[str, Any], said: str
    ) -> None:
        value = {"currency": "EUR", "lines": [{"id": "1", "sku": "a", **line}]}
        with pytest.raises(InvalidInputError) as error:
            decode_cart(json.dumps(value).encode())
        assert error.value.field == said

    @pytest.mark.parametrize("number", [b"1.5", b"1e3", b"NaN", b"1" + b"0" * 30])
    def test_numbers_that_are_no_integers_are_refused(self, number: bytes) -> None:
        body = b'{"currency":"EUR","lines":[{"id":"1","sku":"a","price_minor":' + number + b"}]}"
        with pytest.raises(InvalidInputError):
            decode_cart(body)

    def test_two_lines_with_one_id_are_refused(self) -> None:
        lines = [{"id": "x", "sku": "a", "price_minor": 1}] * 2
        with pytest.raises(InvalidInputError, match="two lines have the id 'x'"):
            cart_from({"currency": "EUR", "lines": lines})

    def test_a_cart_that_costs_too_much_is_refused(self) -> None:
        lines = [{"id": i, "sku": "a", "price_minor": 6 * 10**14} for i in "ab"]
        with pytest.raises(InvalidInputError, match="cost more"):
            cart_from({"currency": "EUR", "lines": lines})

    def test_values_made_in_python_are_checked_too(self) -> None:
        with pytest.raises(ValueError, match="quantity"):
            Line(id="1", sku="a", quantity=0, price_minor=1)
        with pytest.raises(ValueError, match="one of them"):
            Line(id="1", sku="a")

    def test_lanes_are_checked(self) -> None:
        with pytest.raises(ValueError, match="scope"):
            Lane(name="x", scope="item")
        for lanes in ([], [Lane(name="x"), Lane(name="x", mode="first")]):
            with pytest.raises(InvalidInputError) as error:
                PromotionIndex(lanes=lanes)
            assert error.value.field == "lanes"


class TestLookup:
    def test_a_token_names_its_version_and_carts_get_the_current_one(self) -> None:
        old = promotion_of(benefit=OFF, access=TOKEN, version=1)
        new = promotion_of(benefit=OFF | {"amount_minor": 200}, access=TOKEN, version=2)
        index = PromotionIndex()
        index.add(old.terms, old.digest, current=False)
        index.add(new.terms, new.digest)
        for promotion, given in ((old, 100), (new, 200)):
            token = HeldToken(token_id="t", terms_digest=promotion.digest)
            found = evaluate(cart_of("a 500"), index, Holder(tokens=(token,)), at_ms=0)
            assert found.discount_minor == given
            assert found.applied[0].token_id == "t"

    def test_a_version_that_is_not_current_answers_no_cart_and_no_code(self) -> None:
        automatic = promotion_of("a", benefit=OFF)
        coded = promotion_of("c", benefit=OFF, access={"type": "code", "code": "x"})
        index = PromotionIndex([replace(one, current=False) for one in (automatic, coded)])
        found = evaluate(cart_of("a 500", codes=["x"]), index, at_ms=0)
        assert not found.applied
        for one in (automatic, coded):
            index.add(one.terms, one.digest)
        assert ids(evaluate(cart_of("a 500", codes=["x"]), index, at_ms=0)) == ["a", "c"]
        for one in (automatic, coded):
            index.add(one.terms, one.digest, current=False)
        assert not evaluate(cart_of("a 500", codes=["x"]), index, at_ms=0).applied

    def test_a_new_current_version_takes_the_place_of_the_one_before(self) -> None:
        """Only what the old one promised to holders of tokens remains."""
        for access in ({"type": "automatic"}, {"type": "code", "code": "x"}):
            old = promotion_of(benefit=OFF, access=access, version=1)
            new = promotion_of(benefit=OFF | {"amount_minor": 200}, access=access, version=2)
            held = promotion_of(benefit=OFF, access=TOKEN, version=3)
            cart = cart_of("a 500", codes=["x"])
            index = PromotionIndex([old])
            index.add(new.terms, new.digest)
            assert [p.current for p in (index.get(old.digest), index.get(new.digest)) if p] == [
                False,
                True,
            ]
            assert evaluate(cart, index, at_ms=0).discount_minor == 200
            index.add(old.terms, old.digest)
            assert evaluate(cart, index, at_ms=0).discount_minor == 100
            index.add(new.terms, new.digest, current=False)
            assert evaluate(cart, index, at_ms=0).discount_minor == 100
            index.add(held.terms, held.digest)
            assert evaluate(cart, index, at_ms=0).discount_minor == 0
            index.remove(held.digest)
            index.add(new.terms, new.digest)
            assert evaluate(cart, index, at_ms=0).discount_minor == 200

    def test_of_two_current_versions_in_a_list_nobody_knows_which_is_meant(self) -> None:
        old, new = (promotion_of(benefit=OFF, version=version) for version in (1, 2))
        with pytest.raises(InvalidInputError, match="two versions") as error:
            evaluate(cart_of("a 500"), [old, new], at_ms=0)
        assert error.value.field == "promotions"
        found = evaluate(cart_of("a 500"), [replace(old, current=False), new, new], at_ms=0)
        assert [one.terms_digest for one in found.applied] == [new.digest]
        held = promotion_of(benefit=OFF, access=TOKEN, version=3)
        assert len(PromotionIndex([held, old])) == len(PromotionIndex([old, held])) == 2

    def test_adding_removing_getting(self) -> None:
        index = PromotionIndex()
        one = promotion_of(benefit=OFF)
        index.add(one.terms, one.digest)
        index.add(one.terms, one.digest)
        assert len(index) == 1
        assert one.digest in index
        assert index.get(one.digest) == one
        assert list(index) == [one]
        assert index.remove(one.digest)
        assert not index.remove(one.digest)
        assert index.get(one.digest) is None
        assert not evaluate(cart_of("a 500"), index, at_ms=0).applied

    def test_thresholds_are_looked_up_and_change_in_place(self) -> None:
        """Three that are just out of reach are told of, the others are not even looked at."""
        index = PromotionIndex()
        steps = [
            promotion_of(
                f"p{least}",
                benefit=OFF,
                conditions=[{"type": "subtotal", "min_minor": least, "basis": "initial"}],
            )
            for least in range(100, 1000, 100)
        ]
        for one in steps:
            index.add(one.terms, one.digest)
        found = evaluate(cart_of("a 299"), index, at_ms=0)
        assert ids(found) == ["p100", "p200"]
        assert [(r.promotion_id, r.missing) for r in found.refused] == [
            ("p300", 1),
            ("p400", 101),
            ("p500", 201),
        ]
        assert [hint.missing for hint in found.hints] == [1, 101, 201]
        index.remove(steps[2].digest)
        found = evaluate(cart_of("a 299"), index, at_ms=0)
        assert [r.promotion_id for r in found.refused] == ["p400", "p500", "p600"]

    def test_a_token_cannot_open_what_is_not_for_tokens(self) -> None:
        coded = promotion_of(benefit=OFF, access={"type": "code", "code": "x"})
        token = HeldToken(token_id="t", terms_digest=coded.digest)
        found = try_out("a 500", coded, holder=Holder(proven=True, tokens=(token,)))
        assert [r.code for r in found.refused] == [ReasonCode.PROMOTION_UNKNOWN]

    @pytest.mark.parametrize(
        ("terms", "is_used", "said"),
        [
            ("unique", False, "applies"),
            ("unique", True, ReasonCode.CODE_USED),
            ("public", False, ReasonCode.CODE_UNKNOWN),
            ("gone", False, ReasonCode.CODE_UNKNOWN),
        ],
    )
    def test_a_unique_code_opens_only_terms_of_unique_codes_and_once(
        self, terms: str, is_used: bool, said: str
    ) -> None:
        kinds = {"unique": {"type": "unique_codes"}, "public": {"type": "code", "code": "other"}}
        every = {name: promotion_of(name, benefit=OFF, access=kind) for name, kind in kinds.items()}
        digest = every[terms].digest if terms in every else "sha-256=:gone:"
        held = HeldCode(code="a-b", terms_digest=digest, is_used=is_used)
        holder = Holder(proven=True, codes=(held,))
        found = try_out("a 500", *every.values(), holder=holder, codes=["AB"])
        told = [r.code for r in found.refused] + ["applies"] * len(found.applied)
        assert told == [said]

    def test_a_token_twice_and_a_token_of_the_control_group(self) -> None:
        one = promotion_of(benefit=OFF, access=TOKEN)
        tokens = [
            HeldToken(token_id="t", terms_digest=one.digest),
            HeldToken(token_id="t", terms_digest=one.digest),
            HeldToken(token_id="u", terms_digest=one.digest, is_control=True),
        ]
        found = try_out("a 500", one, holder=Holder(proven=True, tokens=tuple(tokens)))
        assert [a.token_id for a in found.applied] == ["t"]
        assert [(r.token_id, r.code) for r in found.refused] == [
            ("t", ReasonCode.ALREADY_APPLIED),
            ("u", ReasonCode.CONTROL_GROUP),
        ]

    def test_some_promotions_can_be_left_out(self) -> None:
        pair = [promotion_of(name, benefit=OFF) for name in "ab"]
        coded = promotion_of("c", benefit=OFF, access={"type": "code", "code": "x"})
        token = promotion_of("d", benefit=OFF, access=TOKEN)
        index = Without(PromotionIndex([*pair, coded, token]), {"a", "c", "d"})
        held = HeldToken(token_id="t", terms_digest=token.digest)
        holder = Holder(proven=True, tokens=(held,))
        found = evaluate(cart_of("a 500", codes=["x"]), index, holder, at_ms=0)
        assert ids(found) == ["b"]

    @pytest.mark.parametrize(
        ("fields", "cart"),
        [
            ({"segments": ["g"]}, {}),
            ({}, {"region": "r"}),
            ({}, {"store": "s"}),
            ({}, {"channel": "c"}),
            ({}, {"payment_method": "p"}),
            ({}, {"shipping": {"amount_minor": 1, "method": "m"}}),
        ],
    )
    def test_what_the_sale_is_like_is_looked_up(
        self, fields: dict[str, Any], cart: dict[str, Any]
    ) -> None:
        kinds = {"segment": "g", "region": "r", "store": "s", "channel": "c"}
        kinds |= {"payment_method": "p", "shipping_method": "m"}
        index = PromotionIndex(
            promotion_of(kind, benefit=OFF, conditions=[{"type": kind, "any_of": [value]}])
            for kind, value in kinds.items()
        )
        holder = Holder(client="c", segments=frozenset(fields.get("segments", [])))
        found = evaluate(cart_of("a 500", **cart), index, holder, at_ms=0)
        assert len(found.applied) == 1
        assert not found.refused, "the others were not even candidates"


class TestAnswer:
    def test_two_tokens_on_one_line_take_from_what_is_left(self) -> None:
        one = promotion_of(benefit=OFF, access=TOKEN)
        tokens = tuple(HeldToken(token_id=t, terms_digest=one.digest) for t in ("u", "t"))
        found = try_out("a =150", one, holder=Holder(tokens=tokens))
        assert [(a.token_id, a.amount_minor) for a in found.applied] == [("t", 100), ("u", 50)]

    def test_it_has_one_json_form(self) -> None:
        found = try_out("b 333, a 334", promotion_of(benefit=OFF))
        body = encode_evaluation(found)
        assert json.loads(body) == {
            "currency": "EUR",
            "applied": [
                {
                    "promotion_id": "p",
                    "terms_digest": promotion_of(benefit=OFF).digest,
                    "title": "p",
                    "amount_minor": 100,
                    "method": "across",
                    "priority": 100,
                    "lane": "order",
                    "allocations": [
                        {"line_id": "a", "amount_minor": 50},
                        {"line_id": "b", "amount_minor": 50},
                    ],
                }
            ],
            "refused": [],
            "lines": [
                {"line_id": "a", "amount_minor": 334, "discount_minor": 50},
                {"line_id": "b", "amount_minor": 333, "discount_minor": 50},
            ],
            "totals": {
                "subtotal_minor": 667,
                "discount_minor": 100,
                "shipping_minor": 0,
                "shipping_discount_minor": 0,
                "total_minor": 567,
            },
        }

    def test_an_empty_cart_has_an_answer(self) -> None:
        found = try_out(Cart(currency="EUR", lines=()), promotion_of(benefit=OFF))
        assert found.totals.total_minor == 0
        assert [r.code for r in found.refused] == [ReasonCode.NO_ITEMS_SELECTED]

    def test_every_unmet_condition_is_told_and_the_first_by_precedence_leads(self) -> None:
        one = promotion_of(
            benefit=OFF,
            conditions=[
                {"type": "quantity", "min": 3},
                {"type": "subtotal", "min_minor": 900},
                {"type": "store", "any_of": ["n"]},
            ],
        )
        (refusal,) = try_out("a 500", one).refused
        assert [u.code for u in refusal.unmet] == [
            ReasonCode.STORE_NOT_MATCHED,
            ReasonCode.SUBTOTAL_TOO_LOW,
            ReasonCode.QUANTITY_TOO_LOW,
        ]
        assert (refusal.code, refusal.expected) == (ReasonCode.STORE_NOT_MATCHED, ("n",))
        assert refusal.condition == "conditions[2]"

    def test_conditions_that_hold_are_not_told(self) -> None:
        """Method: one of every kind that holds, and one that does not."""
        holding = [
            {"type": "subtotal", "min_minor": 1},
            {"type": "quantity", "min": 1},
            {"type": "distinct", "min": 1},
            {"type": "segment", "any_of": ["g"]},
            {"type": "order_number", "numbers": [3]},
            {"type": "store", "any_of": ["s"]},
            {"type": "hours", "weekly": [{}]},
            {"type": "attribute", "of": "shopper", "match": {"name": "x", "min": 1}},
            {
                "type": "any",
                "of": [{"type": "channel", "any_of": ["c"]}, {"type": "all", "of": []}],
            },
            {"type": "not", "condition": {"type": "quantity", "min": 99}},
        ]
        one = promotion_of(benefit=OFF, conditions=[*holding, {"type": "quantity", "min": 2}])
        holder = Holder(client="c", segments=frozenset(["g"]), order_number=3, attributes={"x": 1})
        (refusal,) = try_out("a 500", one, holder=holder, store="s").refused
        assert [u.condition for u in refusal.unmet] == ["conditions[10]"]

    def test_units_are_named_where_they_were_chosen(self) -> None:
        found = try_out("6 a 100", promotion_of(benefit={"type": "buy_get", "buy_quantity": 2}))
        (part,) = found.applied[0].allocations
        assert (part.amount_minor, part.quantity) == (200, 2)
        both = promotion_of(
            benefits=[
                {"type": "buy_get", "buy_quantity": 2},
                {"type": "percent_off", "basis_points": 1000},
            ]
        )
        (part,) = try_out("6 a 100", both).applied[0].allocations
        assert (part.amount_minor, part.quantity) == (240, None)

    def test_one_more_and_the_cheapest_is_free(self) -> None:
        items = {"include": [{"skus": ["a"]}]}
        one = promotion_of(benefit={"type": "buy_get", "buy_quantity": 2, "buy": items})
        for units, missing in ((1, 2), (2, 1), (3, None), (4, 2), (5, 1)):
            hints = try_out(f"{units} a 100", one).hints
            assert [(h.kind, h.missing, h.of) for h in hints] == (
                [] if missing is None else [("add_units", missing, "a")]
            )
        capped = promotion_of(
            benefit={"type": "buy_get", "buy_quantity": 2, "buy": items, "repeat_max": 1}
        )
        assert not try_out("5 a 100", capped).hints

    def test_applied_says_whether_it_was_asked_for(self) -> None:
        (one,) = try_out("a 500", promotion_of(benefit=OFF)).applied
        assert isinstance(one, Applied)
        assert one.is_automatic
        assert not replace(one, code="x").is_automatic


class TestUcp:
    def rendered(self, **cart: Any) -> dict[str, Any]:
        promotions: list[Promotion] = [
            promotion_of("items", benefit=OFF),
            promotion_of(
                "code",
                benefits=[
                    {"type": "percent_off", "basis_points": 1000},
                    {"type": "shipping_off", "basis_points": 10_000},
                ],
                access={"type": "code", "code": "BOTH"},
            ),
            promotion_of(
                "near",
                benefit=OFF,
                access={"type": "code", "code": "NEAR"},
                conditions=[{"type": "subtotal", "min_minor": 9000}],
            ),
            promotion_of("token", benefit=OFF, access=TOKEN, schedule={"until": "1970-01-01"}),
        ]
        basket = cart_of(
            "2 b 1000, a =500",
            codes=["both", "Near", "both"],
            shipping={"amount_minor": 400},
            **cart,
        )
        token = HeldToken(token_id="t1", terms_digest=promotions[-1].digest)
        holder = Holder(client="c", proven=True, tokens=(token,))
        return render(basket, try_out(basket, *promotions, holder=holder))

    def test_sums_are_as_ucp_demands(self) -> None:
        shown = self.rendered()
        totals = {one["type"]: one["amount"] for one in shown["totals"]}
        assert totals.pop("total") == sum(totals.values())
        assert totals == {
            "subtotal": 2500,
            "items_discount": -350,
            "fulfillment": 400,
            "discount": -400,
        }
        lines = [
            one["amount"]
            for item in shown["line_items"]
            for one in item["totals"]
            if one["type"] == "items_discount"
        ]
        assert sum(lines) == -350
        for one in shown["discounts"]["applied"]:
            assert one["amount"] > 0
            if "allocations" in one:
                assert sum(part["amount"] for part in one["allocations"]) == one["amount"]

    def test_lines_are_in_the_order_of_the_cart_and_named_by_their_place(self) -> None:
        shown = self.rendered()
        assert [item["id"] for item in shown["line_items"]] == ["b", "a"]
        assert [item["item"] for item in shown["line_items"]] == [
            {"id": "b", "title": "b", "price": 1000},
            {"id": "a", "title": "a", "price": 500},
        ]
        first = next(one for one in shown["discounts"]["applied"] if one.get("automatic"))
        assert first["allocations"] == [
            {"path": "$.line_items[1]", "amount": 20},
            {"path": "$.line_items[0]", "amount": 80},
        ]

    def test_codes_come_back_and_rejected_ones_are_told_by_their_place(self) -> None:
        shown = self.rendered()
        assert shown["discounts"]["codes"] == ["both", "Near", "both"]
        told = [(one["code"], one.get("path")) for one in shown["messages"]]
        assert sorted(told, key=str) == [
            ("discount_code_already_applied", "$.discounts.codes[2]"),
            ("discount_code_minimum_not_met", "$.discounts.codes[1]"),
            ("eligibility_not_accepted", None),
        ]

    def test_one_code_of_two_promotions_is_accepted_if_one_of_them_applies(self) -> None:
        both = [
            promotion_of(
                name,
                benefit=OFF,
                access={"type": "code", "code": "x"},
                conditions=[{"type": "store", "any_of": [name]}],
            )
            for name in "ns"
        ]
        cart = cart_of("a 500", codes=["x"], store="n")
        found = try_out(cart, *both, holder=Holder(proven=True))
        assert [r.promotion_id for r in found.refused] == ["s"]
        assert render(cart, found)["messages"] == []

    def test_automatic_refusals_and_rewards_without_money_are_shown_as_they_are(self) -> None:
        points = promotion_of("pts", benefit={"type": "points", "points": 5})
        none = promotion_of("z", benefit=OFF, conditions=[{"type": "quantity", "min": 9}])
        cart = cart_of("a 500")
        shown = render(cart, try_out(cart, points, none))
        assert shown["messages"] == []
        assert shown["discounts"]["applied"] == [
            {"title": "pts", "priority": 100, "automatic": True, "amount": 0, "method": "across"}
        ]

    def test_every_code_of_ours_has_one_of_the_wire(self) -> None:
        assert set(UCP_CODES) <= set(ReasonCode)
        assert ucp_code(ReasonCode.CODE_UNKNOWN) == "discount_code_invalid"
        assert ucp_code(ReasonCode.EXPIRED) == "discount_code_expired"


#: UCP 2026-08-25: by object the fields that a response must have, and those that it may.
UCP_FIELDS = {
    "": ({"currency", "line_items", "totals"}, {"discounts", "messages"}),
    "line_items": ({"id", "item", "quantity", "totals"}, {"parent_id"}),
    "line_items.item": ({"id", "title", "price"}, {"quantity_unit", "unit_price", "image_url"}),
    "line_items.totals": ({"type", "amount"}, {"display_text"}),
    "totals": ({"type", "amount"}, {"display_text", "lines"}),
    "discounts": (set(), {"codes", "applied"}),
    "discounts.applied": (
        {"title", "amount"},
        {"code", "automatic", "method", "priority", "provisional", "eligibility", "allocations"},
    ),
    "discounts.applied.allocations": ({"path", "amount"}, set()),
    "messages": ({"type", "code", "content"}, {"path", "content_type", "presentation"}),
}  # fmt: skip
#: What UCP (the first six) and ACP (all of them) call a code that does not apply.
DISCOUNT_CODES = {
    f"discount_code_{name}"
    for name in (
        "expired", "invalid", "already_applied", "combination_disallowed", "user_not_logged_in",
        "user_ineligible", "minimum_not_met", "usage_limit_reached",
    )
}  # fmt: skip


def ucp_faults(value: Any, path: str = "") -> list[str]:
    """Fields that are missing or have no name in UCP, at any depth."""
    if isinstance(value, list):
        return [fault for one in value for fault in ucp_faults(one, path)]
    if not isinstance(value, dict):
        return []
    needed, more = UCP_FIELDS[path]
    faults = [f"{path} lacks {name}" for name in sorted(needed - set(value))]
    faults += [f"{path} has {name}" for name in sorted(set(value) - needed - more)]
    return faults + [
        fault
        for name, one in value.items()
        if isinstance(one, dict | list) and name != "codes"
        for fault in ucp_faults(one, f"{path}.{name}".lstrip("."))
    ]


def test_every_field_is_one_of_ucp_and_none_that_it_demands_is_missing() -> None:
    shown = TestUcp().rendered()
    assert ucp_faults(shown) == []
    assert {one["method"] for one in shown["discounts"]["applied"] if "method" in one} <= {
        "each",
        "across",
    }
    assert {ucp_code(code) for code in ReasonCode} == DISCOUNT_CODES
    del shown["line_items"][0]["item"]["title"]
    shown["discounts"]["applied"][0]["funding"] = []
    assert ucp_faults(shown) == [
        "line_items.item lacks title",
        "discounts.applied has funding",
    ]


class TestInvariants:
    def test_an_amount_that_fits_nowhere_is_not_given(self) -> None:
        assert allocate(5, [1, 1], [0, 0]) == [0, 0]
        assert allocate(5, [0, 0], [3, 3]) == [3, 2]

    def test_a_whole_line_discount_falls_on_used_units_by_their_share(self) -> None:
        """Of three units at 100 one is used up at 40; 24 off leaves it its 4 of 24."""
        state = State([300], 0, {}, {})
        state.use_units(0, 1, 100, 60)
        assert state.open_units(0, 3) == (2, 200)
        state.take_line(0, 24)
        assert state.left == [216]
        assert state.open_units(0, 3) == (2, 180)

    def test_our_own_mistakes_are_loud(self) -> None:
        with pytest.raises(InvariantError):
            allocate(-1, [1], [1])

    def test_shipping_is_a_value(self) -> None:
        assert Shipping(amount_minor=1) == Shipping(amount_minor=1)
