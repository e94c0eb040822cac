"""What an account has saved, by month and by promotion; and what happened on this whole server."""

from typing import TYPE_CHECKING

from sconto.base.documents import Document
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.promotions import STATISTICS_QUERY, StatisticsDocument, statistics_of
from sconto.servers.wallet.accounts import acting
from sconto.store import wallet as store
from sconto.wallet import sum_up

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet


class MonthSaved(Document):
    """`YYYY-MM` in the promotions' own time zones."""

    month: str
    currency: str
    uses: int
    amount_minor: int


class PromotionSaved(Document):
    promotion_id: str
    title: str
    #: Who pays for the discount, where the terms say it.
    funded_by: tuple[str, ...]
    currency: str
    uses: int
    amount_minor: int


class SavingsDocument(Document):
    """Net of what was taken back; a use that was taken back entirely is not counted."""

    #: Minor units by currency.
    saved_minor: dict[str, int]
    by_month: tuple[MonthSaved, ...]
    by_promotion: tuple[PromotionSaved, ...]
    #: The account's tokens by what became of them: issued, redeemed, expired, revoked, deleted.
    tokens: dict[str, int]


@endpoint(
    "GET",
    "/v1/savings",
    scope="any",
    summary="What an account has saved, by month and by promotion",
    returns=SavingsDocument,
    query={"account_id": "whose, for a key that acts for every account"},
)
async def show_savings(wallet: "Wallet", call: Call) -> SavingsDocument:
    account = acting(wallet, call, call.query.get("account_id"))
    with wallet.base.store.read() as connection:
        savings = store.savings(connection, account.account_id)
        counts = store.token_counts(connection, account.account_id, call.now_ms)
        terms = {
            digest: wallet.promises.of_token(connection, digest)
            for digest in {one.terms_digest for one in savings}
        }
    zones = {digest: one.schedule.time_zone for digest, one in terms.items()}
    by_month, by_promotion = sum_up(savings, zones)
    saved: dict[str, int] = {}
    for (currency, _), sum_ in by_month.items():
        saved[currency] = saved.get(currency, 0) + sum_.amount_minor
    newest = {one.promotion_id: terms[one.terms_digest] for one in savings}
    return SavingsDocument(
        saved_minor=dict(sorted(saved.items())),
        by_month=tuple(
            MonthSaved(
                month=month, currency=currency, uses=sum_.uses, amount_minor=sum_.amount_minor
            )
            for (currency, month), sum_ in sorted(by_month.items())
        ),
        by_promotion=tuple(
            PromotionSaved(
                promotion_id=promotion_id,
                title=newest[promotion_id].title,
                funded_by=tuple(s.party for s in newest[promotion_id].funding.shares),
                currency=currency,
                uses=sum_.uses,
                amount_minor=sum_.amount_minor,
            )
            for (currency, promotion_id), sum_ in sorted(by_promotion.items())
        ),
        tokens=dict(sorted(counts.items())),
    )


@endpoint(
    "GET",
    "/v1/statistics",
    scope="accounts:write",
    summary="Counts of all accounts of this server, folded from the journal",
    returns=StatisticsDocument,
    query=STATISTICS_QUERY,
)
async def show_statistics(wallet: "Wallet", call: Call) -> StatisticsDocument:
    asked = call.query.get("promotion_id")
    with wallet.base.store.read() as connection:
        return statistics_of(connection, call, None if asked is None else [asked], None)


ENDPOINTS = (show_savings, show_statistics)
