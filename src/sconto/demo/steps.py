"""One promotion through the seven steps, with the evidence of each.

The household, basket and coupon are the first of the replay, and they count in it.
"""

from collections.abc import Callable
from typing import Any

from sconto.base.money import format_money
from sconto.demo.journey import Journey, JourneyBasket
from sconto.demo.network import Network
from sconto.demo.publish import account
from sconto.demo.replay import Replay

Say = Callable[[str, dict[str, Any]], None]


async def walk(network: Network, journey: Journey, replay: Replay, say: Say) -> JourneyBasket:
    """Walk the first basket that redeems one coupon; gives it, so that the replay leaves it out.

    `say(step, evidence)` is called once for each step.
    """
    basket = next(one for one in journey.baskets if len(one.redemptions) == 1)
    key = basket.redemptions[0]
    promotion = journey.promotions[key]
    merchant = network.merchant_clients[basket.merchant]
    hub = network.hub_client
    frame_id = replay.frames[(basket.merchant, key)]

    frame = await hub.frame(frame_id)
    say(
        "1. The merchant's script generated a website frame with its signature",
        {"merchant": network.merchants[basket.merchant].url, "signature": frame["signature"]},
    )
    say(
        "2. The merchant distributed it to the hub, which verified it",
        {"frame id": frame_id, "status": frame["status"], "sequence": frame["sequence"]},
    )
    offers = [one for one in frame["offers"] if one["promotion_id"] == key]
    say(
        "3. The wallet connected to the hub and saw the offer in the frame",
        {
            "promotion": key,
            "offer": offers[0]["title"],
            "offers in the frame": len(frame["offers"]),
        },
    )
    token = await replay.clip(basket, key)
    say(
        "4. The shopper clipped; the hub issued a token and sent it to the wallet",
        {
            "token id": token["token_id"],
            "handle": token["handle"],
            "frame": token["frame_id"],
            "merchant": token["merchant"],
        },
    )
    (coupon,) = await merchant.coupon_information(token_id=token["token_id"])
    say("5. The hub sent the merchant the coupon information; stored there", coupon)
    order = await replay.check_out(basket)
    say(
        "6. At checkout the merchant recognised the client, redeemed, and gave a receipt",
        {
            "client": account(basket.household_id),
            "subtotal": format_money(order["subtotal_minor"], order["currency"]),
            "discount": format_money(order["discount_minor"], order["currency"]),
            "because": f"{promotion.title}, token {order['redemptions'][0]['token_id']}",
            "receipt": order["receipt"],
        },
    )
    await network.wait_delivered()
    evidence = {}
    for name, client in (
        ("merchant", merchant),
        ("hub", hub),
        ("wallet", network.wallet_client),
    ):
        statistics = await client.statistics(promotion_id=key)
        evidence[name] = {k: v for k, v in statistics["totals"].items() if v}
    say("7. The journal travelled back; the statistics of all three datastores", evidence)
    return basket
