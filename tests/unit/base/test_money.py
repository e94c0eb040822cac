"""Money: no cent appears or vanishes, and nobody gets more than his share."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sconto.base.errors import InvariantError
from sconto.base.money import BASIS_POINTS, currency_decimals, format_money, portion, split

amounts = st.integers(0, 10**15)
weights = st.lists(st.integers(0, 10**12), min_size=1, max_size=30)


@given(amounts, weights)
@example(0, [0])
@example(1, [0, 0])
def test_a_split_sums_to_the_whole(amount_minor: int, parts: list[int]) -> None:
    shares = split(amount_minor, parts)
    assert sum(shares) == amount_minor
    assert len(shares) == len(parts)
    assert min(shares) >= 0


@given(st.data(), weights)
def test_no_part_is_above_its_weight_while_the_whole_is_not(
    data: st.DataObject, parts: list[int]
) -> None:
    """So a discount split over lines never makes a line negative."""
    amount_minor = data.draw(st.integers(0, sum(parts)))
    assert all(share <= part for share, part in zip(split(amount_minor, parts), parts, strict=True))


@given(amounts, weights)
def test_a_part_is_within_one_unit_of_its_exact_share(amount_minor: int, parts: list[int]) -> None:
    total = sum(parts)
    if total:
        for share, part in zip(split(amount_minor, parts), parts, strict=True):
            assert abs(share * total - amount_minor * part) < total


def test_ties_go_to_the_earlier_part() -> None:
    assert split(1, [1, 1]) == [1, 0]
    assert split(2, [5, 5, 5]) == [1, 1, 0]


def test_nothing_to_split_over() -> None:
    assert split(0, []) == []
    with pytest.raises(InvariantError):
        split(1, [])
    with pytest.raises(InvariantError):
        split(-1, [1])


@given(amounts, st.integers(0, BASIS_POINTS))
def test_a_portion_is_rounded_half_up_once(amount_minor: int, basis_points: int) -> None:
    exact = amount_minor * basis_points
    rounded = portion(amount_minor, basis_points)
    assert 0 <= rounded <= amount_minor
    assert -BASIS_POINTS <= 2 * (exact - rounded * BASIS_POINTS) < BASIS_POINTS


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (0, "USD", "0.00 USD"),
        (-5, "USD", "-0.05 USD"),
        (-105, "EUR", "-1.05 EUR"),
        (7, "JPY", "7 JPY"),
        (-7, "JPY", "-7 JPY"),
        (1, "KWD", "0.001 KWD"),
        (12345, "CLF", "1.2345 CLF"),
    ],
)
def test_money_is_written_with_its_currency_s_decimals(
    amount_minor: int, currency: str, text: str
) -> None:
    assert format_money(amount_minor, currency) == text


def test_an_unknown_currency_has_two_decimals() -> None:
    assert currency_decimals("XXX") == 2
