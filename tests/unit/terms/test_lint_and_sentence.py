"""Findings for terms that are probably not meant, and the promise in plain words."""

from typing import Any

import pytest

from sconto.terms import Terms, lint, sentence, terms_from
from sconto.terms.phrases import ENGLISH, GERMAN

OFF = {"type": "amount_off", "amount_minor": 500}
A = {"include": [{"skus": ["a"]}]}


def terms_of(**fields: Any) -> Terms:
    base = {
        "promotion_id": "p",
        "title": "t",
        "currency": "EUR",
        "benefits": [{**OFF, "items": A}],
        "limits": [{"uses": 100}],
        "schedule": {"until": "2030-01-01"},
    }
    return terms_from(base | fields)


def test_good_terms_have_no_finding() -> None:
    assert lint(terms_of()) == []


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"schedule": {"from": "2030-01-01", "until": "2030-01-01"}}, "dates_reversed",
         "schedule.until"),
        ({"schedule": {"from": "2030-01-01", "until": "2030-02-01", "redeem_from": "2030-02-01",
                       "redeem_until": "2030-03-01"}}, "windows_apart", "schedule.redeem_from"),
        ({"schedule": {"redeem_from": "2030-02-01", "redeem_until": "2030-01-01"}},
         "dates_reversed", "schedule.redeem_until"),
        ({"schedule": {}, "limits": []}, "no_end", "schedule.until"),
        ({"benefits": [OFF]}, "applies_to_everything", "conditions"),
        ({"limits": []}, "no_limit", "limits"),
        ({"benefits": [{"type": "percent_off", "basis_points": 10000, "items": A}]},
         "all_for_nothing", "benefits[0]"),
        ({"circulation": 5}, "needs_tokens", "circulation"),
        ({"holdout_basis_points": 5}, "needs_tokens", "holdout_basis_points"),
        ({"limits": [{"uses": 1, "per": ["token"]}]}, "needs_tokens", "limits[0].per"),
        ({"limits": [{"uses": 1, "per": ["code"]}]}, "needs_codes", "limits[0].per"),
        ({"no_effect": "redeem"}, "counts_without_effect", "no_effect"),
        ({"conditions": [{"type": "store", "any_of": ["a"]}, {"type": "store", "any_of": ["b"]}]},
         "never_applies", "conditions[1]"),
        ({"benefits": [{**OFF, "items": {"include": [{"skus": ["a"]}],
                                         "exclude": [{"skus": ["a", "b"]}]}}]},
         "selects_nothing", "benefits[0].items"),
        ({"conditions": [{"type": "subtotal", "min_minor": 500}]}, "discount_reaches_minimum",
         "benefits[0].amount_minor"),
        ({"benefits": [{"type": "tiered", "measure": "subtotal", "items": A, "tiers": [
            {"from": 1, "basis_points": 500}, {"from": 2, "basis_points": 400}]}]},
         "tier_falls", "benefits[0].tiers"),
        ({"benefits": [{"type": "token", "promotion_id": "p"}]}, "token_for_itself",
         "benefits[0].promotion_id"),
        ({"benefits": [{"type": "buy_get", "buy_quantity": 2, "buy": A}]}, "unlimited_repeats",
         "benefits[0].repeat_max"),
        ({"benefits": [{"type": "percent_off", "basis_points": 2000, "basis": "lowest_price",
                        "items": A}]}, "lowest_price_late", "combination.lane"),
        ({"combination": {"combines_with": []}}, "combines_with_nothing",
         "combination.combines_with"),
    ],
)  # fmt: skip
def test_each_finding_is_found_and_named(fields: dict[str, Any], code: str, field: str) -> None:
    found = lint(terms_of(**fields))
    assert (code, field) in [(one.code, one.field) for one in found]
    assert len(found) == 1 or code == "no_end"


@pytest.mark.parametrize(
    ("tiers", "falls"),
    [
        ([{"from": 1, "amount_minor": 2}, {"from": 2, "amount_minor": 1}], True),
        ([{"from": 1, "unit_price_minor": 1}, {"from": 2, "unit_price_minor": 2}], True),
        ([{"from": 1, "amount_minor": 2}, {"from": 2, "basis_points": 1}], False),
        ([{"from": 1, "amount_minor": 1}, {"from": 2, "amount_minor": 2}], False),
    ],
)
def test_tiers_of_one_kind_should_rise(tiers: list[dict[str, int]], falls: bool) -> None:
    benefit = {"type": "tiered", "measure": "quantity", "items": A, "tiers": tiers}
    assert bool(lint(terms_of(benefits=[benefit]))) == falls


def test_an_exclusive_promotion_in_the_same_weeks_is_named() -> None:
    other = terms_of(promotion_id="q", combination={"exclusive": True})
    assert [one.code for one in lint(terms_of(), [other])] == ["overlaps_exclusive"]
    assert [one.code for one in lint(other, [terms_of()])] == ["overlaps_exclusive"]
    later = terms_of(
        promotion_id="q", combination={"exclusive": True}, schedule={"from": "2030-01-01"}
    )
    dollars = terms_of(promotion_id="q", combination={"exclusive": True}, currency="USD")
    assert lint(terms_of(), [later, dollars, terms_of()]) == []


SAID: list[tuple[dict[str, Any], str, str]] = [
    ({"benefits": [OFF]}, "5.00 EUR off everything", "5,00 EUR Rabatt auf alles"),
    ({"benefits": [{**OFF, "spread": "each_unit"}]}, "5.00 EUR off each unit of everything",
     "5,00 EUR Rabatt je Stück auf alles"),
    ({"benefits": [{**OFF, "spread": "each_line"}]}, "5.00 EUR off each kind of everything",
     "5,00 EUR Rabatt je Sorte auf alles"),
    ({"benefits": [{"type": "percent_off", "basis_points": 1250, "max_minor": 123456}]},
     "12.5 % off everything, at most 1,234.56 EUR",
     "12,5 % Rabatt auf alles, höchstens 1.234,56 EUR"),
    ({"benefits": [{"type": "percent_off", "basis_points": 2000, "basis": "lowest_price"}]},
     "20 % off everything, computed from the lowest price of the prior 30 days",
     "20 % Rabatt auf alles, berechnet vom niedrigsten Preis der letzten 30 Tage"),
    ({"benefits": [{"type": "percent_off", "basis_points": 5000, "pick": {}}]},
     "50 % off the cheapest of everything", "50 % Rabatt auf den günstigsten Artikel von: alles"),
    ({"benefits": [{"type": "fixed_price", "unit_price_minor": 99,
                    "pick": {"quantity": 2, "choose": "dearest"}}]},
     "The dearest 2 of everything for 0.99 EUR each",
     "Die teuersten 2 von: alles für je 0,99 EUR"),
    ({"benefits": [{"type": "bundle_price", "price_minor": 500, "repeat_max": 3,
                    "parts": [{"quantity": 1, "items": A}, {"quantity": 2}]}]},
     "1 × a and 2 × everything together for 5.00 EUR, up to 3 times",
     "1 × a und 2 × alles zusammen für 5,00 EUR, bis zu 3-mal"),
    ({"benefits": [{"type": "tiered", "measure": "subtotal", "tiers": [
        {"from": 1000, "basis_points": 500}, {"from": 2000, "amount_minor": 300}]}]},
     "5 % off everything from 10.00 EUR and 3.00 EUR off everything from 20.00 EUR",
     "5 % Rabatt auf alles ab 10,00 EUR und 3,00 EUR Rabatt auf alles ab 20,00 EUR"),
    ({"benefits": [{"type": "tiered", "measure": "quantity", "tiers": [
        {"from": 3, "unit_price_minor": 90}]}]},
     "Everything for 0.90 EUR each from 3 units", "Alles für je 0,90 EUR ab 3 Stück"),
    ({"benefits": [{"type": "buy_get", "buy_quantity": 2, "buy": A, "get_quantity": 2,
                    "choose": "dearest", "repeat_max": 1}]},
     "Buy 2 a, get the dearest 2 free, up to 1 times",
     "2 a kaufen, die teuersten 2 gratis, bis zu 1-mal"),
    ({"benefits": [{"type": "buy_get", "buy_quantity": 1, "buy": A, "basis_points": 5000,
                    "get": {"include": [{"brands": ["Oak"]}]}}]},
     "Buy 1 a, get 1 × items of Oak at 50 % off",
     "1 a kaufen, 50 % Rabatt auf 1 × Artikel von Oak"),
    ({"benefits": [{"type": "gift", "sku": "mug"}, {"type": "points", "points": 5}]},
     "1 × mug as a gift and 5 points", "1 × mug geschenkt und 5 Punkte"),
    ({"benefits": [{"type": "points", "points": 2, "per_minor": 100}]},
     "2 points for every 1.00 EUR", "2 Punkte je 1,00 EUR"),
    ({"benefits": [{"type": "shipping_off", "basis_points": 10000, "methods": ["bike"]}]},
     "Free shipping (bike)", "Kostenloser Versand (bike)"),
    ({"benefits": [{"type": "shipping_off", "basis_points": 5000}]}, "50 % off shipping",
     "50 % Rabatt auf den Versand"),
    ({"benefits": [{"type": "shipping_off", "amount_minor": 100}]}, "1.00 EUR off shipping",
     "1,00 EUR Rabatt auf den Versand"),
    ({"benefits": [{"type": "shipping_off", "price_minor": 100}]}, "Shipping for 1.00 EUR",
     "Versand für 1,00 EUR"),
    ({"benefits": [{"type": "token", "promotion_id": "jam"}]}, "A coupon for jam",
     "Ein Coupon für jam"),
    ({"benefits": [{"type": "custom", "name": "badge"}]}, "Badge", "Badge"),
    ({"benefits": [{**OFF, "items": {
        "include": [{"brands": ["Oak"], "categories": ["food"]}, {"tags": ["new"]}],
        "exclude": [{"price_max_minor": 99}]}}]},
     "5.00 EUR off food and items of Oak or items marked new except items up to 0.99 EUR",
     "5,00 EUR Rabatt auf food und Artikel von Oak oder Artikel mit new außer Artikel bis "
     "0,99 EUR"),
    ({"benefits": [{**OFF, "items": {"include": [{"skus": list("abcdef")}]}}]},
     "5.00 EUR off a, b, c or 3 more", "5,00 EUR Rabatt auf a, b, c oder 3 weitere"),
    ({"benefits": [{**OFF, "items": {"include": [{"price_min_minor": 1, "price_max_minor": 2}]}}]},
     "5.00 EUR off items at 0.01 EUR to 0.02 EUR",
     "5,00 EUR Rabatt auf Artikel zu 0,01 EUR bis 0,02 EUR"),
    ({"benefits": [{**OFF, "items": {"include": [{"price_min_minor": 1, "attributes": [
        {"name": "proof", "min": 40}, {"name": "bio", "any_of": ["yes"]}]}]}}]},
     "5.00 EUR off items from 0.01 EUR, items with proof 40– and items with bio yes",
     "5,00 EUR Rabatt auf Artikel ab 0,01 EUR, Artikel mit proof 40– und Artikel mit bio yes"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "english", "german"), SAID, ids=[s[1][:30] for s in SAID])
def test_every_benefit_can_be_said(fields: dict[str, Any], english: str, german: str) -> None:
    terms = terms_of(**fields, schedule={}, limits=[])
    assert sentence(terms) == f"{english}."
    assert sentence(terms, "de-AT") == f"{german}."
    assert sentence(terms, "fr") == f"{english}."


CONDITIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "subtotal", "min_minor": 1000}, "from 10.00 EUR of everything",
     "ab 10,00 EUR für alles"),
    ({"type": "subtotal", "max_minor": 1000}, "up to 10.00 EUR of everything",
     "bis 10,00 EUR für alles"),
    ({"type": "quantity", "min": 2, "max": 4, "items": A},
     "with at least 2 of a and with at most 4 of a", "ab 2 Stück von: a und bis 4 Stück von: a"),
    ({"type": "distinct", "min": 3}, "with 3 different everything",
     "mit 3 verschiedenen von: alles"),
    ({"type": "segment", "any_of": ["gold"]}, "for gold", "für gold"),
    ({"type": "order_number", "numbers": [1], "every": 10},
     "for order number 1 or for every 10th order",
     "für Bestellung Nummer 1 oder für jede 10. Bestellung"),
    ({"type": "store", "any_of": ["n", "s"]}, "in store n or s", "in Filiale n oder s"),
    ({"type": "region", "any_of": ["NW"]}, "in NW", "in NW"),
    ({"type": "channel", "any_of": ["app"]}, "by app", "per app"),
    ({"type": "shipping_method", "any_of": ["bike"]}, "when shipped by bike",
     "bei Versand mit bike"),
    ({"type": "payment_method", "any_of": ["card"]}, "when paid by card", "bei Zahlung mit card"),
    ({"type": "hours", "weekly": [{"days": ["mon", "tue"], "from": "08:00", "until": "10:00"}]},
     "Mon, Tue 08:00 to 10:00", "Mo, Di 08:00 bis 10:00"),
    ({"type": "attribute", "of": "cart", "match": {"name": "age", "min": 18, "max": 30}},
     "if age 18–30", "wenn age 18–30"),
    ({"type": "not", "condition": {"type": "channel", "any_of": ["app"]}}, "not by app",
     "nicht per app"),
    ({"type": "any", "of": [{"type": "channel", "any_of": ["app"]},
                            {"type": "all", "of": [{"type": "region", "any_of": ["x"]}]}]},
     "by app or in x", "per app oder in x"),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "english", "german"), CONDITIONS)
def test_every_condition_can_be_said(condition: dict[str, Any], english: str, german: str) -> None:
    terms = terms_of(conditions=[condition], schedule={}, limits=[])
    assert sentence(terms).split("; ")[1] == f"{english}."
    assert sentence(terms, "de").split("; ")[1] == f"{german}."


def test_access_limits_and_time_can_be_said() -> None:
    terms = terms_of(
        access={"type": "token"},
        circulation=10_000,
        limits=[
            {"uses": 2, "per": ["shopper"], "period": "day"},
            {"amount_minor": 500_000},
            {"amount_minor": 1000, "per": ["store", "merchant"], "period": "week"},
            {"uses": 1, "per": ["attribute"], "attribute": "device"},
        ],
        schedule={
            "from": "2026-05-01",
            "until": "2026-06-01",
            "days_after_clip": 7,
            "weekly": [{"from": "16:00", "until": "18:00"}],
        },
        combination={"exclusive": True},
    )
    assert sentence(terms).split("; ")[1:] == [
        "with your coupon",
        "2 times per shopper a day",
        "until 5,000.00 EUR are given",
        "up to 10.00 EUR per retailer and store a week",
        "once per device",
        "10,000 coupons in all",
        "daily 16:00 to 18:00",
        "from 1 May 2026 00:00 until 31 May 2026 23:59 UTC time",
        "for 7 days after you save it",
        "not together with other offers.",
    ]


def test_codes_and_one_sided_windows_can_be_said() -> None:
    code = terms_of(access={"type": "code", "code": "MAY"}, schedule={"from": "2026-05-01"})
    assert sentence(code).split("; ")[1:] == [
        "with the code MAY",
        "first 100",
        "from 1 May 2026 00:00 UTC time.",
    ]
    own = terms_of(access={"type": "unique_codes"}, schedule={"days_after_clip": 0})
    assert sentence(own).split("; ")[1:] == [
        "with your own code",
        "first 100",
        "on the day you save it.",
    ]


def test_yen_have_no_decimals() -> None:
    assert sentence(terms_of(currency="JPY")).startswith("500 JPY off a")


def test_the_catalogues_have_the_same_phrases_with_the_same_places() -> None:
    def places(text: str) -> set[str]:
        import string

        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert ENGLISH.keys() == GERMAN.keys()
    for name, text in ENGLISH.items():
        assert places(text) == places(GERMAN[name]), name
