"""Money is an integer number of minor units; a rate is an integer number of basis points.

Rounding is half-up, once; a split is by largest remainder, ties to the earlier part, and the
parts always sum to the whole (ADR 0001).
"""

from collections.abc import Sequence

from sconto.base.errors import invariant

#: One hundred per cent.
BASIS_POINTS = 10_000

#: Upper bound of any amount in minor units; fits a signed 64-bit column with room to sum.
AMOUNT_MINOR_MAX = 10**15

#: Decimals of the ISO 4217 currencies that do not have two.
_DECIMALS = {
    "BHD": 3, "BIF": 0, "CLF": 4, "CLP": 0, "DJF": 0, "GNF": 0, "IQD": 3, "ISK": 0, "JOD": 3,
    "JPY": 0, "KMF": 0, "KRW": 0, "KWD": 3, "LYD": 3, "OMR": 3, "PYG": 0, "RWF": 0, "TND": 3,
    "UGX": 0, "UYI": 0, "UYW": 4, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}  # fmt: skip


def currency_decimals(currency: str) -> int:
    """Decimals of an ISO 4217 currency: USD 2, JPY 0, KWD 3."""
    return _DECIMALS.get(currency, 2)


def format_money(amount_minor: int, currency: str) -> str:
    """Amount for a log or a plain text: `format_money(-105, "USD")` is `"-1.05 USD"`.

    >>> format_money(-105, "USD"), format_money(7, "JPY"), format_money(1234, "KWD")
    ('-1.05 USD', '7 JPY', '1.234 KWD')
    """
    decimals = currency_decimals(currency)
    sign = "-" if amount_minor < 0 else ""
    whole, part = divmod(abs(amount_minor), 10**decimals)
    return (
        f"{sign}{whole}.{part:0{decimals}} {currency}" if decimals else f"{sign}{whole} {currency}"
    )


def portion(amount_minor: int, basis_points: int) -> int:
    """`basis_points` of `amount_minor`, rounded half-up, once.

    >>> portion(1005, 1000), portion(1004, 1000), portion(5, 1000)
    (101, 100, 1)
    """
    return (amount_minor * basis_points * 2 + BASIS_POINTS) // (BASIS_POINTS * 2)


def split(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount over weights by largest remainder, ties to the earlier part.

    The parts sum to the amount, each is at least zero and, where the amount is not above the sum
    of the weights, none is above its weight. All weights zero: everything to the first part.

    >>> split(300, [4300, 1400, 2300])
    [161, 53, 86]
    >>> split(100, [1, 1, 1])
    [34, 33, 33]
    """
    total = sum(weights)
    if amount_minor < 0 or total <= 0:
        invariant(amount_minor >= 0, "a split amount is not negative")
        invariant(bool(weights) or amount_minor == 0, "there is a part to split over")
        return [amount_minor, *([0] * (len(weights) - 1))] if weights else []
    parts = [amount_minor * weight // total for weight in weights]
    rest = amount_minor - sum(parts)
    if rest:
        remainders = [amount_minor * weight % total for weight in weights]
        if rest == 1:
            # What is commonest needs no sorting: the first of the largest remainders.
            parts[remainders.index(max(remainders))] += 1
            return parts
        largest = sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)
        for i in largest[:rest]:
            parts[i] += 1
    return parts
