"""The summary: the same counts from every server's own datastore, and whether they agree."""

from collections.abc import Iterable
from typing import Any

from sconto.demo.journey import Journey
from sconto.demo.network import Network

#: A row of statistics without its counters.
_CELL = ("promotion_id", "merchant", "day")


async def summarise(
    network: Network, journey: Journey, *, checkouts: int, seconds: float
) -> dict[str, Any]:
    """Counts per server, the totals, and every difference between the servers."""
    hub_rows = await _cells(network.hub_client)
    merchant_rows = [await _cells(client) for client in network.merchant_clients]
    wallet_rows = await _cells(network.wallet_client)
    orders = [await client.count_orders() for client in network.merchant_clients]
    servers = {"hub": counts(hub_rows, journey)}
    for i, rows in enumerate(merchant_rows):
        servers[f"merchant-{i}"] = {"baskets": orders[i], **counts(rows, journey)}
    servers["wallet"] = counts(wallet_rows, journey)
    of_merchants = [row for rows in merchant_rows for row in rows]
    refused: dict[str, int] = {}
    for client in network.merchant_clients:
        for reason, number in (await client.statistics(by="promotion"))["refused"].items():
            refused[reason] = refused.get(reason, 0) + number
    return {
        "baskets": sum(orders),
        **counts(of_merchants, journey),
        "refused_by_reason": dict(sorted(refused.items())),
        "servers": servers,
        "differences": [
            *differences("hub", hub_rows, "merchants", of_merchants),
            *differences("hub", hub_rows, "wallet", wallet_rows),
        ],
        "checkouts": checkouts,
        "checkouts_per_second": round(checkouts / seconds, 1) if seconds else None,
        "seconds": round(seconds, 1),
    }


def counts(rows: Iterable[dict[str, Any]], journey: Journey) -> dict[str, Any]:
    """Counts of one server, as the summary names them."""
    total = dict.fromkeys(("shown", "clipped", "presented", "applied", "redeemed", "reversed"), 0)
    discount = 0
    by_campaign: dict[str, int] = {}
    by_brand: dict[str, int] = {}
    for row in rows:
        for name in total:
            total[name] += row[name]
        given = row["given_minor"] - row["reversed_minor"]
        discount += given
        promotion = journey.promotions[row["promotion_id"]]
        if row["redeemed"]:
            campaign = str(promotion.campaign)
            by_campaign[campaign] = by_campaign.get(campaign, 0) + row["redeemed"]
            by_brand[promotion.brand] = by_brand.get(promotion.brand, 0) + given
    return {
        **total,
        "redeemed_by_campaign": dict(sorted(by_campaign.items(), key=lambda kv: int(kv[0]))),
        "discount_minor": discount,
        "discount_minor_by_brand": dict(sorted(by_brand.items())),
    }


def differences(
    name: str, rows: Iterable[dict[str, Any]], other_name: str, other: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every counter of every cell in which two servers do not agree."""
    ours, theirs = _by_cell(rows), _by_cell(other)
    found = []
    for cell in sorted(ours.keys() | theirs.keys()):
        one, two = ours.get(cell, {}), theirs.get(cell, {})
        for counter in sorted(one.keys() | two.keys()):
            if one.get(counter, 0) != two.get(counter, 0):
                found.append(
                    {
                        **dict(zip(_CELL, cell, strict=True)),
                        "counter": counter,
                        name: one.get(counter, 0),
                        other_name: two.get(counter, 0),
                    }
                )
    return found


async def _cells(client: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.statistics(by="promotion,merchant,day"))["rows"]
    return rows


def _by_cell(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, int]]:
    return {
        tuple(row[name] for name in _CELL): {k: v for k, v in row.items() if k not in _CELL}
        for row in rows
    }
