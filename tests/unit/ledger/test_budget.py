"""The arithmetic of budgets: how much a holder gets, when it asks again, what never may be."""

import pytest

from sconto.base.errors import InvariantError
from sconto.ledger import UNLIMITED, Amounts, Budget, Refused, grant_size, wants_more

NONE = Amounts(0, 0)


@pytest.mark.parametrize(
    ("free", "needed", "holders", "granted"),
    [
        # half of a fair share, in each dimension for itself
        ((1000, 4000), (1, 1), 1, (500, 2000)),
        ((1000, 4000), (1, 1), 2, (250, 1000)),
        ((1000, 4000), (1, 1), 5, (100, 400)),
        # at least what is needed, exactly when the share is smaller
        ((10, 4000), (7, 1), 2, (7, 1000)),
        ((10, 4000), (1, 3999), 2, (2, 3999)),
        ((1, 1), (1, 1), 100, (1, 1)),
        # a share is rounded down: the last units go out one by one
        ((3, 900), (1, 100), 2, (1, 225)),
        ((3, 900), (0, 0), 2, (0, 225)),
        # without a limit there is a limit that nobody reaches
        ((UNLIMITED, 100), (1, 50), 1, (10**10, 50)),
    ],
)
def test_a_holder_gets_half_of_its_share_and_at_least_its_need(
    free: tuple[int, int], needed: tuple[int, int], holders: int, granted: tuple[int, int]
) -> None:
    assert grant_size(Amounts(*free), Amounts(*needed), holders) == Amounts(*granted)


@pytest.mark.parametrize(
    ("free", "needed"),
    [((0, 100), (1, 1)), ((5, 99), (1, 100)), ((4, 500), (5, 100)), (NONE, (1, 0))],
)
def test_a_refusal_says_what_was_needed_and_what_was_there(
    free: tuple[int, int], needed: tuple[int, int]
) -> None:
    refused = grant_size(Amounts(*free), Amounts(*needed), 1)
    assert refused == Refused("budget_exhausted", Amounts(*needed), Amounts(*free))


@pytest.mark.parametrize(
    ("left", "granted", "asks"),
    [
        ((100, 1000), (100, 1000), False),
        ((26, 1000), (100, 1000), False),
        ((25, 1000), (100, 1000), True),  # exactly a quarter
        ((100, 251), (100, 1000), False),
        ((100, 250), (100, 1000), True),
        ((0, 0), (1, 1), True),
        ((1, 1), (1, 1), False),
    ],
)
def test_a_holder_asks_again_when_a_quarter_is_left(
    left: tuple[int, int], granted: tuple[int, int], asks: bool
) -> None:
    assert wants_more(Amounts(*left), Amounts(*granted)) is asks


@pytest.mark.parametrize(
    ("needed", "there", "fits"),
    [((1, 1), (1, 1), True), ((2, 1), (1, 1), False), ((1, 2), (1, 1), False), (NONE, NONE, True)],
)
def test_an_amount_fits_when_both_dimensions_do(
    needed: tuple[int, int], there: tuple[int, int], fits: bool
) -> None:
    assert Amounts(*needed).fits(Amounts(*there)) is fits


def budget(
    cap: tuple[int, int],
    free: tuple[int, int],
    opened: tuple[int, int],
    spent: tuple[int, int],
    written_off: tuple[int, int],
) -> Budget:
    return Budget(*(Amounts(*part) for part in (cap, free, opened, spent, written_off)))


def test_a_budget_whose_accounts_sum_to_its_cap_stands() -> None:
    whole = budget((10, 100), (4, 40), (3, 30), (2, 20), (1, 10))
    assert whole.accounts() == (Amounts(4, 40), Amounts(3, 30), Amounts(2, 20), Amounts(1, 10))


@pytest.mark.parametrize(
    "accounts",
    [
        ((10, 100), (5, 40), (3, 30), (2, 20), (1, 10)),  # one use too many
        ((10, 100), (4, 40), (3, 30), (2, 19), (1, 10)),  # a cent is lost
        ((10, 100), (11, 100), (-1, 0), (0, 0), (0, 0)),  # the sum is right, an account is not
        ((10, 100), (10, 101), (0, -1), (0, 0), (0, 0)),
    ],
)
def test_any_other_budget_is_our_mistake(accounts: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InvariantError):
        budget(*accounts)
