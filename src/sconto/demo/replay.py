"""The replay: every basket through its merchant's checkout, in time order.

A basket that redeems coupons is preceded by what its household does: clip each offer from that
merchant's frame, and, the first time there, let the merchant recognise it. The checkout then names
the household's card and no code at all: the coupon information does the rest.

Each merchant's baskets go one after the other. What fails because a server is away is tried again
with the same ids, until it is back: nothing is counted twice, nothing is left out.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from sconto.base.errors import WireError
from sconto.client import ProblemError
from sconto.demo.journey import CURRENCY, Journey, JourneyBasket
from sconto.demo.network import Network
from sconto.demo.publish import FrameIds, account

#: How long a server may be away before the replay gives up.
AWAY_S = 180.0
RETRY_STATUS = {429, 502, 503, 504, 507}


class Replay:
    """Clips, links and checks out; remembers who is linked where, and what was answered."""

    def __init__(self, network: Network, journey: Journey, frames: FrameIds) -> None:
        self.network = network
        self.journey = journey
        self.frames = frames
        self.linked: set[tuple[int, str]] = set()
        self.checkouts = 0
        self.retries = 0

    async def run(self, baskets: list[JourneyBasket], advance: Callable[[], None]) -> float:
        """Check out all baskets; gives the seconds that it took."""
        lanes: list[list[JourneyBasket]] = [[] for _ in self.network.merchants]
        for basket in baskets:
            lanes[basket.merchant].append(basket)

        async def lane(of_merchant: list[JourneyBasket]) -> None:
            for basket in of_merchant:
                for key in basket.redemptions:
                    await self.clip(basket, key)
                await self.check_out(basket)
                advance()

        started = time.perf_counter()
        await asyncio.gather(*(lane(one) for one in lanes))
        return time.perf_counter() - started

    async def clip(self, basket: JourneyBasket, key: str, number: int = 1) -> dict[str, Any]:
        """Clip an offer for a basket, and wait until its merchant knows of it."""
        merchant = self.network.merchant_clients[basket.merchant]
        holder = account(basket.household_id)
        token: dict[str, Any] = await self.again(
            lambda: self.network.wallet_client.clip(
                clip_id=f"{basket.basket_id}-{key}-{number}",
                account_id=holder,
                hub=self.network.hub.url,
                frame_id=self.frames[(basket.merchant, key)],
                promotion_id=key,
                at=at_of(basket),
            )
        )
        while not await self.again(lambda: merchant.coupon_information(token_id=token["token_id"])):
            await asyncio.sleep(0.002)
        if (basket.merchant, holder) not in self.linked:
            await self.link(basket, token["token_id"])
        return token

    async def link(self, basket: JourneyBasket, token_id: str) -> dict[str, Any]:
        """The household, signed in at the merchant, lets its wallet prove who it is."""
        merchant = self.network.merchant_clients[basket.merchant]
        holder = account(basket.household_id)

        async def prove() -> dict[str, Any]:
            nonce = await merchant.link_code(holder)
            linked: dict[str, Any] = await self.network.wallet_client.link(
                token_id=token_id, client=holder, nonce=nonce, account_id=holder
            )
            return linked

        linked: dict[str, Any] = await self.again(prove)
        self.linked.add((basket.merchant, holder))
        return linked

    async def check_out(self, basket: JourneyBasket) -> dict[str, Any]:
        """Redeem what the basket gets, at the instant that it was bought."""
        merchant = self.network.merchant_clients[basket.merchant]
        cart = self.cart(basket)
        order: dict[str, Any] = await self.again(
            lambda: merchant.redeem(
                order_id=basket.basket_id,
                cart=cart,
                client=account(basket.household_id),
                at=at_of(basket),
            )
        )
        self.checkouts += 1
        return order

    def cart(self, basket: JourneyBasket) -> dict[str, Any]:
        """The basket as a cart; line ids count up, so that odd cents go to the earlier line."""
        lines = []
        for number, line in enumerate(basket.lines, 1):
            one: dict[str, Any] = {
                "id": f"{number:04}",
                "sku": line.product_id,
                "quantity": line.quantity,
                "amount_minor": line.amount_minor,
            }
            product = self.journey.products.get(line.product_id)
            if product is not None and product.brand:
                one["brand"] = product.brand
            lines.append(one)
        return {"currency": CURRENCY, "lines": lines, "store": basket.store_id}

    async def again(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """Do something, and again while a server is away."""
        deadline = time.monotonic() + AWAY_S
        pause_s = 0.05
        while True:
            try:
                return await act()
            except (ProblemError, WireError) as error:
                status = getattr(error, "status", 503)
                if status not in RETRY_STATUS or time.monotonic() > deadline:
                    raise
            self.retries += 1
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


def at_of(basket: JourneyBasket) -> datetime:
    """When the basket was bought."""
    return basket.at
