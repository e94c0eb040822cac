"""Sconto, an open promotion network.

Brands and retailers promise discounts; shoppers carry them as signed electronic tokens;
retailers redeem them at checkout, exactly as often as was promised. Code follows the data along
the river: `base`, `terms`, `ledger`, `frames`, `tokens`, `cart`, `wallet`, `redemption`,
`statistics`, `clearing`, `federation`, `store`, and then the `servers`. A room imports only rooms
that come before it. Read `sconto.terms` first, then `sconto.redemption`.
"""

__version__ = "0.1.0"
