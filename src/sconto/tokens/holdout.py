"""The control group: shoppers whose tokens give nothing, so that a promotion's effect is measured.

Who belongs to it follows from the promotion and the pseudonym alone: the same shopper at the same
merchant always does or never does, and hub and merchant find the same without asking each other.
"""

import hashlib

from sconto.base.canonical import canonical
from sconto.base.money import BASIS_POINTS


def is_control(promotion_id: str, subject: str, basis_points: int) -> bool:
    """Whether a pseudonym is in the control group of a promotion that has so large a share of it.

    >>> is_control("p", "anybody", 0), is_control("p", "anybody", 10_000)
    (False, True)
    >>> 900 < sum(is_control("p", f"shopper {n}", 1000) for n in range(10_000)) < 1100
    True
    """
    drawn = hashlib.sha256(canonical(["holdout", promotion_id, subject])).digest()
    return int.from_bytes(drawn[:8]) % BASIS_POINTS < basis_points
