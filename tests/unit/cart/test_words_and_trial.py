"""An evaluation in plain lines, and drafts beside what is in force."""

from typing import Any

import msgspec
import pytest

from sconto.cart import HeldCode, HeldToken, Holder, Promotion, PromotionIndex, ReasonCode, evaluate
from sconto.cart.evaluation import Evaluation, Hint, Refusal, Totals, Unmet
from sconto.cart.model import STRANGER
from sconto.cart.trial import Beside, holder_of_all
from sconto.cart.words import REASONS, in_words
from sconto.cart.worked import cart_of, promotion_of

OFF = {"type": "amount_off", "amount_minor": 300}
PROVEN = Holder(proven=True)


def said(cart: str, *promotions: Promotion, holder: Holder = PROVEN, **rest: Any) -> list[str]:
    return list(in_words(evaluate(cart_of(cart, **rest), promotions, holder, at_ms=0)))


def answer(**fields: Any) -> Evaluation:
    empty = Evaluation("EUR", (), (), (), Totals(0, 0, 0, 0, 0))
    return msgspec.structs.replace(empty, **fields)


# --- words ----------------------------------------------------------------------------------------


def test_every_cent_is_told_of() -> None:
    """300 over 4300, 1400 and 2300, paid by two: each part stands in a line of its own."""
    shares = {
        "shares": [
            {"party": "brand", "basis_points": 7000},
            {"party": "shop", "basis_points": 3000},
        ]
    }
    off = promotion_of("p", title="3.00 off", benefit=OFF, funding=shares)
    assert said("a =4300, b =1400, c =2300", off) == [
        "Applies: p: 3.00 EUR off, 3.00 off",
        "  line a: 1.61 EUR",
        "  line b: 0.53 EUR",
        "  line c: 0.86 EUR",
        "  paid by brand: 2.10 EUR",
        "  paid by shop: 0.90 EUR",
        "Total: 80.00 EUR - 3.00 EUR = 77.00 EUR",
    ]


def test_units_shipping_gifts_and_rewards_are_told_of() -> None:
    promotion = promotion_of(
        "p",
        title="a bit of everything",
        benefits=[
            {"type": "buy_get", "buy_quantity": 2, "buy": {"include": [{"skus": ["a"]}]}},
            {"type": "shipping_off", "basis_points": 10_000},
            {"type": "gift", "sku": "mug"},
            {"type": "points", "points": 20},
            {"type": "token", "promotion_id": "next"},
            {"type": "custom", "name": "stamp", "values": {"colour": "red", "big": True}},
        ],
        access={"type": "token"},
    )
    token = HeldToken(token_id="t1", terms_digest=promotion.digest)
    lines = said(
        "3 a 200",
        promotion,
        holder=Holder(proven=True, tokens=(token,)),
        shipping={"amount_minor": 490},
    )
    assert lines == [
        "Applies: p (token t1): 6.90 EUR off, a bit of everything",
        "  line a: 2.00 EUR for 1 of its units",
        "  shipping: 4.90 EUR",
        "  gift: 1 mug, of which 1 must be put into the cart",
        "  gives 20 points",
        "  gives 1 token(s) of next",
        "  gives stamp, big: True, colour: red",
        "Total: 6.00 EUR - 2.00 EUR + shipping 4.90 EUR - 4.90 EUR = 4.00 EUR",
    ]


def test_a_code_that_nearly_matches_is_told_what_is_missing() -> None:
    """pain 48, reaction #6727: a refusal says why, and by how much."""
    near = promotion_of(
        "p",
        benefit=OFF,
        access={"type": "code", "code": "SAVE"},
        conditions=[{"type": "subtotal", "min_minor": 2000}],
    )
    lines = said("2 milk 790", near, codes=["save"])
    assert lines[:2] == [
        "Refused: p (code save): subtotal_too_low, the items cost too little",
        "  conditions[0]: needed 20.00 EUR, had 15.80 EUR: spend 4.20 EUR more",
    ]
    stranger = said("2 milk 790", near, codes=["save"], holder=STRANGER)
    assert stranger[0].startswith("Refused: (code save): not_applicable")
    assert "4.20" not in " ".join(stranger)


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        (
            {"type": "quantity", "min": 3, "items": {"include": [{"skus": ["milk"]}]}},
            "  conditions[0]: needed 3, had 2: add 1 more of milk",
        ),
        ({"type": "distinct", "min": 2}, "  conditions[0]: needed 2, had 1: add 1 more different"),
        ({"type": "quantity", "max": 1}, "  conditions[0]: needed 1, had 2"),
        ({"type": "store", "any_of": ["x", "y"]}, "  conditions[0]: needed one of x, y"),
        (
            {"type": "not", "condition": {"type": "quantity", "min": 1}},
            "  conditions[0]: does not hold",
        ),
        ({"type": "segment", "any_of": ["vip"]}, "  conditions[0]: does not hold"),
    ],
)
def test_each_kind_of_condition_has_its_words(condition: dict[str, Any], line: str) -> None:
    lines = said("2 milk 120", promotion_of("p", benefit=OFF, conditions=[condition]))
    assert line in lines, lines


def test_every_condition_that_fails_is_told_of_with_its_own_reason() -> None:
    promotion = promotion_of(
        "p",
        benefit=OFF,
        conditions=[{"type": "subtotal", "min_minor": 500}, {"type": "quantity", "min": 4}],
    )
    assert said("2 milk 120", promotion)[:3] == [
        "Refused: p: subtotal_too_low, the items cost too little",
        "  conditions[0]: needed 5.00 EUR, had 2.40 EUR: spend 2.60 EUR more",
        "  conditions[1]: quantity_too_low, needed 4, had 2: add 2 more",
    ]


def test_the_winner_is_named() -> None:
    compete = {"mode": "compete"}
    small = promotion_of("small", benefit=OFF, combination=compete)
    large = promotion_of("large", benefit={**OFF, "amount_minor": 400}, combination=compete)
    lines = said("milk =1000", small, large)
    assert lines[2].startswith("Refused: small: not_first, another one came first"), lines
    assert lines[2].endswith(" (large)")


def test_what_only_a_ledger_or_a_gift_says() -> None:
    """Answers that the engine gives rarely, or a merchant adds to it."""
    refusal = Refusal("p", ReasonCode.ALLOTMENT_EXHAUSTED, needed=1, had=0, missing=1, unit="uses")
    lines = list(
        in_words(
            answer(
                refused=(
                    refusal,
                    Refusal(
                        "q",
                        ReasonCode.ORDER_NUMBER_NOT_MATCHED,
                        unmet=(
                            Unmet(
                                ReasonCode.ORDER_NUMBER_NOT_MATCHED,
                                "conditions[0]",
                                needed=3,
                                had=1,
                                missing=2,
                                unit="orders",
                            ),
                        ),
                    ),
                    Refusal("r", ReasonCode.EXPIRED),
                ),
                hints=(Hint("s", "S", "add_distinct", 2), Hint("s", "S", "add_units", 1, "a")),
                gifts_to_remove=("g",),
                method="heuristic",
            )
        )
    )
    assert lines == [
        "Refused: p: allotment_exhausted, nothing is left of its budget here just now",
        "  it: needed 1, had 0: 1 more uses are needed",
        "Refused: q: order_number_not_matched, it is not for this order of the shopper",
        "  conditions[0]: needed 3, had 1: after 2 more orders",
        "Refused: r: expired, it is over",
        "Hint: s (S): add 2 more different",
        "Hint: s (S): add 1 more of a",
        "Take out line g: the promotion whose gift it is does not apply",
        "Total: 0.00 EUR",
        "Too many promotions compete to prove that no better set exists.",
    ]


def test_every_reason_has_words() -> None:
    """pain 50, shopware #7765: nothing ever just went wrong."""
    assert list(REASONS) == list(ReasonCode)


# --- drafts beside what is in force ---------------------------------------------------------------


def test_a_draft_stands_in_place_of_the_version_in_force() -> None:
    old = promotion_of("p", benefit=OFF)
    other = promotion_of("q", benefit={**OFF, "amount_minor": 50})
    draft = promotion_of("p", benefit={**OFF, "amount_minor": 400}, version=2)
    index = PromotionIndex([old, other])
    tried = evaluate(cart_of("milk =1000"), Beside(index, [draft]), at_ms=0)
    given = {one.promotion_id: one.amount_minor for one in tried.applied}
    assert given == {"p": 400, "q": 50}
    assert len(index) == 2 and index.get(draft.digest) is None, "the index is as it was"


def test_codes_and_tokens_of_other_versions_keep_their_promise() -> None:
    code = {"type": "code", "code": "SAVE"}
    old = promotion_of("p", benefit=OFF, access=code)
    draft = promotion_of("p", benefit={**OFF, "amount_minor": 400}, version=2, access=code)
    tried = evaluate(
        cart_of("milk =1000", codes=["save"]), Beside(PromotionIndex([old]), [draft]), at_ms=0
    )
    assert [one.amount_minor for one in tried.applied] == [400]
    token = promotion_of("t", benefit=OFF, access={"type": "token"})
    newer = promotion_of("t", benefit=OFF, access={"type": "token"}, version=2)
    held = Holder(
        proven=True,
        tokens=tuple(
            HeldToken(token_id=one.digest, terms_digest=one.digest) for one in (token, newer)
        ),
    )
    tried = evaluate(cart_of("milk =1000"), Beside(PromotionIndex([token]), [newer]), held, at_ms=0)
    assert {one.terms_digest for one in tried.applied} == {token.digest, newer.digest}


def test_whoever_holds_all_has_a_token_of_each_and_the_codes_that_were_typed() -> None:
    promotions = [
        promotion_of("t", benefit=OFF, access={"type": "token"}, schedule={"days_after_clip": 1}),
        promotion_of("u2", benefit=OFF, access={"type": "unique_codes"}),
        promotion_of("u1", benefit=OFF, access={"type": "unique_codes"}),
        promotion_of("c", benefit=OFF, access={"type": "code", "code": "SAVE"}),
    ]
    cart = cart_of("milk =9000", codes=["mine", "Save", "X-1", "X-2", "X-3"])
    own = Holder(
        client="me",
        tokens=(HeldToken(token_id="own", terms_digest=promotions[0].digest),),
        codes=(HeldCode(code="MINE", terms_digest=promotions[1].digest),),
    )
    held = holder_of_all(promotions, cart, at_ms=5, holder=own)
    assert (held.client, held.proven) == ("me", True)
    assert [(x.token_id, x.clipped_at_ms) for x in held.tokens] == [("own", 0), ("token of t", 5)]
    digests = {one.digest: one.terms.promotion_id for one in promotions}
    assert [(x.code, digests[x.terms_digest]) for x in held.codes] == [
        ("MINE", "u2"), ("X-1", "u1"), ("X-2", "u2"), ("X-3", "u2"),
    ]  # fmt: skip
    tried = evaluate(cart, promotions, held, at_ms=5)
    assert len(tried.applied) == 7


def test_without_promotions_for_codes_a_code_stays_unknown() -> None:
    cart = cart_of("milk =9000", codes=["X"])
    held = holder_of_all([], cart, at_ms=0)
    assert held.codes == ()
    (refusal,) = evaluate(cart, [], held, at_ms=0).refused
    assert refusal.code is ReasonCode.CODE_UNKNOWN


def test_a_used_code_is_told_from_an_unknown_one_to_a_proven_holder_only() -> None:
    """pain 49, solidus #3193: machine codes; and public codes of the same text still count."""
    unique = promotion_of("u", benefit=OFF, access={"type": "unique_codes"})
    public = promotion_of("c", benefit=OFF, access={"type": "code", "code": "MINE"})
    used = HeldCode(code="mine", terms_digest=unique.digest, is_used=True)
    cart = cart_of("milk =9000", codes=["Mine"])
    for proven, reason in ((True, ReasonCode.CODE_USED), (False, ReasonCode.NOT_APPLICABLE)):
        held = Holder(proven=proven, codes=(used,))
        (refusal,) = evaluate(cart, [unique], held, at_ms=0).refused
        assert (refusal.code, refusal.presented_code) == (reason, "Mine")
        tried = evaluate(cart, [unique, public], held, at_ms=0)
        assert [one.promotion_id for one in tried.applied] == ["c"]
