"""Stage 5, allocate: where each cent goes, of an amount over lines and over those who pay it.

Every split is by largest remainder. Ties go to the earlier line, and lines are in the order of
their ids, so that it does not matter how the cart was sorted. The parts always sum to the whole.
"""

from collections.abc import Sequence
from operator import gt

from sconto.base.errors import invariant
from sconto.base.money import split
from sconto.cart.evaluation import FundingPart
from sconto.terms.model import Funding


def allocate(amount_minor: int, weights: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Split an amount by weight, no part above its room.

    What does not fit into a full line is shared by the others in the same way; what fits nowhere
    is not given, so the parts sum to the amount or, where that is less, to the rooms.

    >>> allocate(300, [4300, 1400, 2300], [4300, 1400, 2300])
    [161, 53, 86]
    >>> allocate(300, [4300, 1400, 2300], [100, 1400, 2300])
    [100, 76, 124]
    >>> allocate(9999, [1, 1], [40, 2])
    [40, 2]
    """
    amount = min(amount_minor, sum(rooms))
    parts = split(amount, weights)
    # Of a split by the rooms themselves no part is above its room.
    if weights is not rooms and any(map(gt, parts, rooms)):
        return _fill(amount, weights, rooms)
    return parts


def _fill(amount: int, weights: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Each round settles the lines that overflow; the last round has none."""
    result = [0] * len(rooms)
    open_ = [i for i, room in enumerate(rooms) if room]
    while amount:
        shares = [weights[i] for i in open_]
        parts = split(amount, shares if any(shares) else [1] * len(open_))
        full = {i for i, part in zip(open_, parts, strict=True) if part >= rooms[i]}
        if not full:
            for i, part in zip(open_, parts, strict=True):
                result[i] = part
            break
        for i in full:
            result[i] = rooms[i]
            amount -= rooms[i]
        open_ = [i for i in open_ if i not in full]
        invariant(bool(open_) or amount == 0, "an amount that fits has somewhere to go")
    return result


def share_funding(amount_minor: int, funding: Funding) -> tuple[FundingPart, ...]:
    """What each party pays, in the order of the terms; ties go to the earlier party.

    >>> from sconto.terms.model import Share
    >>> brand, shop = Share(party="b", basis_points=7000), Share(party="s", basis_points=3000)
    >>> [part.amount_minor for part in share_funding(101, Funding(shares=(brand, shop)))]
    [71, 30]
    """
    if not funding.shares:
        return ()
    parts = split(amount_minor, [share.basis_points for share in funding.shares])
    return tuple(
        FundingPart(share.party, part) for share, part in zip(funding.shares, parts, strict=True)
    )
