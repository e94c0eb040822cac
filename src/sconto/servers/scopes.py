"""What API keys and peers may be allowed; apart, so that the command line starts fast."""

#: Everything that a key may be allowed, and what it means.
SCOPES = {
    "admin": "everything but `replay`, for every tenant of this server",
    "replay": "say at which instant a clip, an evaluation or a redemption happened",
    "promotions:read": "see the tenant's promotions, budgets and statistics",
    "promotions:write": "write, launch, pause and top up the tenant's promotions",
    "frames:write": "distribute and withdraw frames",
    "evaluate": "evaluate carts",
    "checkout": "reserve, redeem and release; see coupon information",
    "reverse": "reverse redemptions",
    "wallet": "act for the account that the key belongs to",
    "accounts:write": "open accounts and act for every account of this wallet server",
}
